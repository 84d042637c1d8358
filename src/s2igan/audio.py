"""Sound in, mono waveforms at 22,050 Hz out, and the constants of the log-mel spectrograms that are made of them.

`load_audio` decodes a sound file of nearly any kind, `waveform` also takes its content, or an array. `s2igan-edge` uses
this file too, so here is no PyTorch.
"""

from __future__ import annotations

import functools
import math
import os
import tempfile
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from s2igan.errors import UserError
from s2igan.files import atomic_write, disk_errors
from s2igan.sound_containers import MAX_SECONDS
from s2igan.sound_files import MAX_MISSING_SECONDS, Reader, open_sound

SAMPLE_RATE = 22_050  # Hz
N_FFT = 551  # samples; 25 ms, and the length of the analysis window
HOP_LENGTH = 220  # samples; 10 ms
N_MELS = 40
N_BINS = N_FFT // 2 + 1  # 276 frequency bins from 0 to 11,005 Hz
FRAMES_PER_SECOND = SAMPLE_RATE / HOP_LENGTH  # 100.2
LOG_FLOOR = 1e-6  # added to the mel power before the logarithm
STD_FLOOR = 1e-16  # added to the standard deviation of a band before dividing by it
LOG_MEL = {
    "sample_rate": SAMPLE_RATE,
    "n_fft": N_FFT,
    "hop_length": HOP_LENGTH,
    "n_mels": N_MELS,
    "log_floor": LOG_FLOOR,
    "std_floor": STD_FLOOR,
}
"""What the log-mel spectrograms are, by the names that an exported model's config.json has."""

MIN_FRAMES = 2  # whole windows
MIN_SAMPLES = N_FFT + (MIN_FRAMES - 1) * HOP_LENGTH  # 771 samples, 35 ms
CANCELLED = 0.5  # of the power of unrelated channels, below which they cancel each other in their mean
MAX_CHANNELS = 8  # of an array whose channels come first
MAX_PEAK = 2.0**31  # of whole numbers written as floats; of more no spectrogram in float32 can be made
SILENCE_PEAK = 1e-4  # -80 dB of full scale, measured from the mean

Window = Literal["hann", "hamming"]
PadMode = Literal["reflect", "constant"]


@runtime_checkable
class OpenFile(Protocol):
    """A file opened for reading bytes, or what is read like one."""

    def read(self) -> bytes: ...


Audio = str | os.PathLike[str] | bytes | OpenFile | tuple[np.ndarray, int] | tuple[int, np.ndarray]
"""One recording: the path of a sound file, its content, a file opened for reading, or an array (samples,), (samples,
channels) or (channels, samples) with its sample rate in Hz. A pair in the other order, as other libraries give it, is
refused by name."""


# ---------------------------------------------------------------------------------------------------------------- files


def waveform(audio: Audio | Any, max_seconds: float = MAX_SECONDS) -> Float[np.ndarray, " samples"]:
    """Mono float32 at 22,050 Hz from a sound file, its content, or an array and its rate (integers are scaled by their
    range).

    Raises:
        UserError: as `load_audio` and `check_waveform` do, or it is none of these.
    """
    if isinstance(audio, str | os.PathLike):
        return load_audio(Path(audio), max_seconds=max_seconds)
    given = audio.read() if isinstance(audio, OpenFile) else audio
    if isinstance(given, bytes | bytearray | memoryview):
        return _decoded(bytes(given), max_seconds)
    if not isinstance(given, tuple) or len(given) != 2:
        raise UserError(
            f"{type(given).__name__}: is no recording; give a path, bytes, a file opened for reading bytes, (samples, "
            "rate) with the rate in Hz, or a list of these."
        )
    samples, rate = given
    if isinstance(rate, np.ndarray) and rate.ndim:
        raise UserError("the array comes second, after its sample rate: give (samples, rate) with the rate in Hz.")
    return of_array(np.asarray(samples), float(rate), "the array", max_seconds)


def _decoded(content: bytes, max_seconds: float) -> Float[np.ndarray, " samples"]:
    """The waveform of a sound file's content. It lies on the disk as long as that takes, where only its owner reads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        with disk_errors(path.parent):
            path.write_bytes(content)
        try:
            return load_audio(path, max_seconds=max_seconds)
        except UserError as error:
            raise UserError(str(error).replace(str(path), "the recording")) from None


def load_audio(
    path: str | Path,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Float[np.ndarray, " samples"]:
    """Decode a sound file, or the part between two times, to mono float32 at 22,050 Hz.

    Any kind, sample rate, bit depth and number of channels that `sound_files` reads: wav, flac, ogg, mp3 and more, and
    with the extra `phones` m4a, AMR and what else phones write. Channels become one as `mono` does it.

    Raises:
        UserError: naming the file, if it is missing, no sound, unreadable, empty or cut off, the times do not lie in
            it, the part is longer than `max_seconds`, or its sound fails `check_waveform`.
    """
    wave, rate = decoded(path, start_seconds, end_seconds, max_seconds)
    return resampled(wave, rate, str(path), max_seconds)


def decoded(
    path: str | Path,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> tuple[Float[np.ndarray, " samples"], int]:
    """As `load_audio`, at the file's own rate (Hz), which is given back, and without `check_waveform`."""
    path = Path(path)
    with open_sound(path) as sound:
        rate = sound.rate
        start = 0 if start_seconds is None else round(start_seconds * rate)
        stop = None if end_seconds is None else round(end_seconds * rate)
        if sound.total is not None:
            _check_part(path, start_seconds, end_seconds, rate, sound.total)
        length = sound.total if sound.total is not None else round((sound.seconds or 0.0) * rate)
        expected = (length if stop is None else min(stop, length) if length else stop) - start
        _check_duration(expected / rate, str(path), max_seconds)  # before hours of sound are decoded
        limit = start + round((max_seconds + MAX_MISSING_SECONDS) * rate)  # nor where a header knows nothing
        wave = _mono_of(sound, start, min(limit, stop) if stop is not None else limit)
        if sound.total is None:
            read_to_end = stop is None or len(wave) < stop - start
            _check_part(path, start_seconds, end_seconds, rate, start + len(wave) if read_to_end else stop or 0)
    return wave, rate


def _check_part(path: Path, start_seconds: float | None, end_seconds: float | None, rate: int, total: int) -> None:
    """UserError where the part does not lie in a recording of `total` samples."""
    if total == 0:
        raise UserError(f"{path}: the sound file is empty; record it again or leave it out.")
    start = 0 if start_seconds is None else round(start_seconds * rate)
    end = total if end_seconds is None else round(end_seconds * rate)
    if not 0 <= start < min(end, total):
        first = "the start" if start_seconds is None else f"{start_seconds:g} s"
        last = "the end" if end_seconds is None else f"{end_seconds:g} s"
        raise UserError(
            f"{path}: the part from {first} to {last} does not lie in this recording of {total / rate:.2f} s; "
            "correct start_seconds and end_seconds."
        )
    if end - total > MAX_MISSING_SECONDS * rate:
        raise UserError(
            f"{path}: cut off, or its end_seconds too late: the part ends {(end - total) / rate:.2f} s after "
            f"this recording of {total / rate:.2f} s; copy it from the device again, or correct end_seconds."
        )


def _mono_of(sound: Reader, start: int, stop: int) -> Float[np.ndarray, " samples"]:
    """The samples from `start` to `stop` or the end as one channel; see `mono`."""
    waves, levels = [], _Levels(sound.channels)
    for block in sound.blocks(start, stop):
        waves.append(_mean(block))
        levels.add(block, waves[-1])
    wave = np.concatenate([np.empty(0, np.float32), *waves])
    channel = levels.channel()
    if channel is None:
        return wave
    at = 0
    for block in sound.blocks(start, stop):
        wave[at : at + len(block)] = block[:, channel]
        at += len(block)
    return wave


def mono(channels: Float[np.ndarray, "samples channels"]) -> Float[np.ndarray, " samples"]:
    """The mean of the channels; where they cancel each other in it, as with a plug of reversed poles, the loudest."""
    wave, levels = _mean(channels), _Levels(channels.shape[1])
    levels.add(channels, wave)
    channel = levels.channel()
    return wave if channel is None else np.ascontiguousarray(channels[:, channel])


def _mean(block: Float[np.ndarray, "samples channels"]) -> Float[np.ndarray, " samples"]:
    wave = block[:, 0]
    for channel in range(1, block.shape[1]):  # numpy's mean over a short axis takes longer than decoding
        wave = wave + block[:, channel]
    return wave / np.float32(block.shape[1])


class _Levels:
    """How loud the channels and their mean are."""

    def __init__(self, channels: int) -> None:
        self.samples = 0
        self.sums = np.zeros((2, channels + 1))
        """Of the values and of their squares, of each channel and last of the mean."""

    def add(self, block: Float[np.ndarray, "samples channels"], mean: Float[np.ndarray, " samples"]) -> None:
        """Counts a block and its mean."""
        if block.shape[1] == 1:
            return
        self.samples += len(block)
        for number in range(block.shape[1] + 1):
            values = np.ascontiguousarray(mean if number == block.shape[1] else block[:, number])
            self.sums[:, number] += values.sum(dtype=np.float64), np.dot(values, values)

    def channel(self) -> int | None:
        """The loudest channel, where the mean holds less than half the power that it has of sounds that have nothing to
        do with each other; else None."""
        if self.samples == 0:
            return None
        means, squares = self.sums / self.samples
        power = squares - means**2
        n = len(power) - 1
        if not np.isfinite(power).all() or power[-1] >= CANCELLED * power[:-1].sum() / n**2:
            return None
        return int(power[:-1].argmax())


def of_array(
    samples: np.ndarray, rate: float, name: str, max_seconds: float = MAX_SECONDS
) -> Float[np.ndarray, " resampled"]:
    """Mono float32 at 22,050 Hz of an array (samples,), (samples, channels) or (channels, samples) and its rate in Hz.

    Integers are scaled by their range. Channels come first where axis 0 is the shorter one and at most 8.

    Raises:
        UserError: beginning with `name`, if it is no such array, or fails `check_waveform`.
    """
    if samples.ndim not in (1, 2) or samples.size == 0 or samples.dtype.kind not in "iuf":
        raise UserError(
            f"{name} is {samples.dtype}{list(samples.shape)}: give numbers as (samples,) or (samples, channels)."
        )
    if not math.isfinite(rate) or rate <= 0:
        raise UserError(f"{name} has a sample rate of {rate} Hz: give (samples, rate) with the rate in Hz.")
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1] and samples.shape[0] <= MAX_CHANNELS:
        samples = samples.T
    if samples.dtype.kind == "f":
        wave = samples.astype(np.float32)
    else:
        limits = np.iinfo(samples.dtype)
        half = (limits.max - limits.min + 1) / 2
        wave = ((samples.astype(np.float64) - limits.min) / half - 1.0).astype(np.float32)
    return resampled(mono(wave) if wave.ndim == 2 else wave, rate, name, max_seconds)


def resampled(
    wave: Float[np.ndarray, " samples"], rate: float, name: str, max_seconds: float = MAX_SECONDS
) -> Float[np.ndarray, " resampled"]:
    """A waveform of any rate (Hz) as float32 at 22,050 Hz; UserError as `check_waveform`."""
    if rate != SAMPLE_RATE and len(wave):
        wave = soxr.resample(wave, rate, SAMPLE_RATE)
    wave = np.ascontiguousarray(wave, dtype=np.float32)
    check_waveform(wave, name, max_seconds)
    return wave


def check_waveform(wave: Float[np.ndarray, " samples"], name: str, max_seconds: float = MAX_SECONDS) -> None:
    """Refuse what no spectrogram can be made of.

    Raises:
        UserError: beginning with `name`, if the waveform (22,050 Hz) is shorter than two frames (771 samples) or longer
            than `max_seconds`, holds a value that is not a finite number or beyond any scale (2**31, of whole numbers
            written as floats), or is silent (nothing above -80 dB of full scale).
    """
    if len(wave) < MIN_SAMPLES:
        raise UserError(
            f"{name}: too short, {len(wave) / SAMPLE_RATE:.3f} s where at least {MIN_FRAMES} frames "
            f"({MIN_SAMPLES / SAMPLE_RATE:.3f} s) are needed; record the whole sentence."
        )
    _check_duration(len(wave) / SAMPLE_RATE, name, max_seconds)
    low, high = float(wave.min()), float(wave.max())  # NaN if any sample is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"{name}: holds samples that are not numbers (NaN or infinite); export the recording again.")
    if max(-low, high) > MAX_PEAK:
        raise UserError(
            f"{name}: holds samples of {max(-low, high):.1e}, beyond any scale of sound; export the recording again."
        )
    if high - low < 2 * SILENCE_PEAK:
        raise UserError(f"{name}: silent, nothing was recorded; check the microphone or leave the file out.")


def check_seconds(wave: Float[np.ndarray, " samples"], least: float, name: str) -> None:
    """UserError, beginning with `name`, if the waveform (22,050 Hz) is shorter than `least` seconds."""
    seconds = len(wave) / SAMPLE_RATE
    if seconds < least:
        raise UserError(
            f"{name}: too short, {seconds:.2f} s where a description takes {least:g} s or more; leave it out."
        )


def _check_duration(seconds: float, name: str, max_seconds: float) -> None:
    if seconds > max_seconds + MAX_MISSING_SECONDS / 2:
        raise UserError(
            f"{name}: too long, {seconds:.1f} s where at most {max_seconds:.0f} s are read as one description; "
            "cut it (a manifest may name a part of it by start_seconds and end_seconds)."
        )


def write_recording(path: Path, wave: Float[np.ndarray, " samples"], sample_rate: int) -> None:
    """Writes a 16-bit wav, and its folder; UserError where it cannot be written."""
    with atomic_write(path) as file:
        soundfile.write(file, wave, sample_rate, subtype="PCM_16", format="WAV")


# --------------------------------------------------------------------------------------------------------- spectrograms


def n_frames(n_samples: int) -> int:
    """Frames of the log-mel of a waveform of `n_samples`: one every 220 samples, centred on samples 0, 220, ..."""
    return 1 + (n_samples - 1) // HOP_LENGTH


@functools.cache
def mel_filterbank() -> Float[np.ndarray, "mels bins"]:
    """Slaney-scale, Slaney-normalised triangles, (40, 276), 0 to 11,025 Hz (golden README section 1).

    Mel is linear below 1,000 Hz (200/3 Hz a mel) and logarithmic above (27 mels for a factor of 6.4). Computed in
    float64, returned as float32.
    """
    break_hz, hz_per_mel = 1000.0, 200.0 / 3.0
    break_mel, mels_per_log = break_hz / hz_per_mel, 27.0 / math.log(6.4)
    top_mel = break_mel + mels_per_log * math.log(SAMPLE_RATE / 2 / break_hz)
    mels = np.linspace(0.0, top_mel, N_MELS + 2)
    edges = np.where(mels < break_mel, mels * hz_per_mel, break_hz * np.exp((mels - break_mel) / mels_per_log))
    bins = np.arange(N_BINS) * SAMPLE_RATE / N_FFT
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(min=0.0)
    return (triangles * 2.0 / (right - left)).astype(np.float32)


@functools.cache
def analysis_window(window: Window = "hann") -> Float[np.ndarray, " n_fft"]:
    """The periodic Hann or Hamming window of 551 samples."""
    mean = {"hann": 0.5, "hamming": 0.54}[window]
    return (mean - (1 - mean) * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
