"""How fast features are: decoding, log-mels beside librosa's, and both from files on disk; prints one JSON object.

    OMP_NUM_THREADS=1 python benchmarks/features.py [--seconds 4.9] [--files 40] [--repeats 7]

Needs librosa and PyAV (the extras `benchmarks` and `phones`). All is measured on one core in one process, taken in
turns, as processor time, which other programs on the machine lengthen less than wall-clock time; the load of the
machine is in the result. A figure is the median over the repeats of the mean over the files. Warm: what is measured is
not the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import torch

from s2igan import audio, spectrograms

FORMATS = {
    "22050_mono_16_bit": (22_050, 1, "PCM_16"),
    "16000_mono_16_bit": (16_000, 1, "PCM_16"),
    "44100_stereo_16_bit": (44_100, 2, "PCM_16"),
    "48000_mono_24_bit": (48_000, 1, "PCM_24"),
}


def speech_like(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Noise and a gliding tone, in syllables."""
    t = np.arange(round(seconds * rate)) / rate
    voiced = np.sin(2 * np.pi * (150 * t + 20 * np.sin(3 * t)))
    wave = np.sin(2 * np.pi * 2.1 * t) ** 2 * (0.2 * voiced + 0.05 * rng.standard_normal(len(t)))
    return wave.astype(np.float32)


def write_m4a(path: Path, wave: np.ndarray, rate: int) -> None:
    """AAC in mp4, mono, as phones record."""
    import av

    frame = av.AudioFrame.from_ndarray((wave[None] * 32767).astype(np.int16), format="s16", layout="mono")
    frame.sample_rate = rate
    with av.open(str(path), "w", format="ipod") as file:
        stream = file.add_stream("aac", rate=rate, layout="mono")
        size = stream.codec_context.frame_size
        parts = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate, frame_size=size)
        for part in [*parts.resample(frame), *parts.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


def ours(wave: np.ndarray) -> np.ndarray:
    return spectrograms.log_mel(torch.from_numpy(wave)).numpy()


def librosas(wave: np.ndarray) -> np.ndarray:
    """The same features as one writes them with librosa."""
    mel = librosa.feature.melspectrogram(
        y=wave,
        sr=audio.SAMPLE_RATE,
        n_fft=audio.N_FFT,
        hop_length=audio.HOP_LENGTH,
        win_length=audio.N_FFT,
        window="hann",
        center=True,
        pad_mode="reflect",
        power=2.0,
        n_mels=audio.N_MELS,
        fmin=0.0,
        fmax=audio.SAMPLE_RATE / 2,
    )
    mel = np.log(mel + audio.LOG_FLOOR).T
    return (mel - mel.mean(axis=0)) / (mel.std(axis=0) + audio.STD_FLOOR)


def in_turns(works: dict[str, Callable[[Any], Any]], items: list[Any], repeats: int) -> dict[str, float]:
    """Processor seconds an item of each work."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            started = time.process_time()
            for item in items:
                work(item)
            if repeat:  # the first is cold
                spent[name].append((time.process_time() - started) / len(items))
    return {name: statistics.median(values) for name, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.9, help="of an utterance; CUB's are 4.9 on average")
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)

    waves = [speech_like(rng, options.seconds, audio.SAMPLE_RATE) for _ in range(options.files)]
    difference = max(float(np.abs(ours(wave) - librosas(wave)[: len(ours(wave))]).max()) for wave in waves[:3])
    arrays = in_turns({"ours": ours, "librosa": librosas}, waves, options.repeats)
    files, decoding = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (rate, channels, subtype) in FORMATS.items():
            paths = [Path(folder) / f"{name}-{i}.wav" for i in range(options.files)]
            for path in paths:
                wave = speech_like(rng, options.seconds, rate)
                soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate, subtype=subtype)
            spent = in_turns({"decoding": audio.decoded, "waveform": audio.load_audio}, paths, options.repeats)
            decoding[name] = {work: round(options.seconds / each) for work, each in spent.items()}
            works = {
                "ours": lambda path: ours(audio.load_audio(path)),
                "librosa": lambda path: librosas(librosa.load(path, sr=audio.SAMPLE_RATE)[0]),
            }
            spent = in_turns(works, paths, options.repeats)
            files[name] = {
                "ours_times_real_time": round(options.seconds / spent["ours"]),
                "librosa_times_real_time": round(options.seconds / spent["librosa"]),
                "speed_up": round(spent["librosa"] / spent["ours"], 2),
            }
        for rate in (16_000, 44_100):
            phones = [Path(folder) / f"{rate}-{i}.m4a" for i in range(options.files)]
            for path in phones:
                write_m4a(path, speech_like(rng, options.seconds, rate), rate)
            spent = in_turns({"decoding": audio.decoded, "waveform": audio.load_audio}, phones, options.repeats)
            decoding[f"{rate}_mono_m4a"] = {work: round(options.seconds / each) for work, each in spent.items()}
    result = {
        "seconds_per_utterance": options.seconds,
        "log_mel": {
            "ours_ms": round(1000 * arrays["ours"], 3),
            "librosa_ms": round(1000 * arrays["librosa"], 3),
            "speed_up": round(arrays["librosa"] / arrays["ours"], 2),
            "largest_difference": difference,
        },
        "times_real_time": decoding,
        "from_wav_files": files,
        "threads": torch.get_num_threads(),
        "load_of_the_machine": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
