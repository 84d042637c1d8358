"""Sound files in, log-mel spectrograms out (method.md section 2).

`load_audio` decodes any wav, flac, ogg or mp3 file to mono at 22,050 Hz; `log_mel` turns waveforms into what the speech
encoder reads: 40 log-mel bands, 100 frames a second, normalised per utterance and band.
"""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from s2igan.errors import UserError
from s2igan.wav_header import UNKNOWN_LENGTH, mend_length

SAMPLE_RATE = 22_050  # Hz
N_FFT = 551  # samples; 25 ms, and the length of the analysis window
HOP_LENGTH = 220  # samples; 10 ms
N_MELS = 40
N_BINS = N_FFT // 2 + 1  # 276 frequency bins from 0 to 11,005 Hz
FRAMES_PER_SECOND = SAMPLE_RATE / HOP_LENGTH  # 100.2
LOG_FLOOR = 1e-6  # added to the mel power before the logarithm
STD_FLOOR = 1e-16  # added to the standard deviation of a band before dividing by it
FRAMES_AT_ONCE = 256  # whose spectra fit a core's cache

MIN_FRAMES = 2  # whole windows
MIN_SAMPLES = N_FFT + (MIN_FRAMES - 1) * HOP_LENGTH  # 771 samples, 35 ms
MAX_SECONDS = 60.0
MAX_MISSING_SECONDS = 0.1  # of a file that is cut off: a recorder's last block may be short
MP3_HEADER_BYTES = 1 << 18  # pictures in tags may come before an encoder's header
SHORT_CHUNK = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
SILENCE_PEAK = 1e-4  # -80 dB of full scale, measured from the mean

Window = Literal["hann", "hamming"]
PadMode = Literal["reflect", "constant"]


# ---------------------------------------------------------------------------------------------------------------- files


def load_audio(
    path: str | Path, start_seconds: float | None = None, end_seconds: float | None = None
) -> Float[np.ndarray, " samples"]:
    """Decode a sound file, or the part between two times, to mono float32 at 22,050 Hz.

    Any sample rate, bit depth and number of channels (averaged) that libsndfile reads: wav, flac, ogg, mp3 and more.

    Raises:
        UserError: naming the file, if it is missing, unreadable, empty or cut off, the times do not lie in it, or its
            sound fails `check_waveform`.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        raise UserError(f"{path}: no such sound file; check the path.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the sound file is empty, it has 0 bytes; record it again or leave it out.")
    try:
        with _open(path) as file:
            rate, total = file.samplerate, file.frames
            start = 0 if start_seconds is None else round(start_seconds * rate)
            end = total if end_seconds is None else round(end_seconds * rate)
            stop = min(end, total)
            if total == 0:
                raise UserError(f"{path}: the sound file is empty; record it again or leave it out.")
            if not 0 <= start < stop:
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
            _check_duration((stop - start) / rate, str(path))  # before hours of sound are decoded
            file.seek(start)
            samples = file.read(stop - start, dtype="float32", always_2d=True)
            if end_seconds is None or end > total:
                missing = _missing_frames(file, path, unread=stop - start - len(samples))
                if missing > MAX_MISSING_SECONDS * rate:
                    raise UserError(
                        f"{path}: cut off, its last {missing / rate:.2f} s are missing; copy it from the device again."
                    )
    except (soundfile.SoundFileError, OSError) as error:
        if not os.access(path, os.R_OK):
            raise UserError(f"{path}: no permission to read the file; change its permissions.") from error
        raise UserError(f"{path}: not a readable sound file ({error}); convert it to wav, flac, ogg or mp3.") from error
    wave = samples[:, 0]
    for channel in range(1, samples.shape[1]):  # numpy's mean over a short axis takes longer than decoding
        wave = wave + samples[:, channel]
    return resampled(wave / np.float32(samples.shape[1]), rate, str(path))


def resampled(wave: Float[np.ndarray, " samples"], rate: float, name: str) -> Float[np.ndarray, " resampled"]:
    """A waveform of any rate (Hz) as float32 at 22,050 Hz; UserError as `check_waveform`."""
    if rate != SAMPLE_RATE and len(wave):
        wave = soxr.resample(wave, rate, SAMPLE_RATE)
    wave = np.ascontiguousarray(wave, dtype=np.float32)
    check_waveform(wave, name)
    return wave


@contextlib.contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    """The opened file; a wav that was never closed, whose header still promises nothing, is read to its end."""
    with soundfile.SoundFile(path) as file:
        if file.frames or file.format not in {"WAV", "WAVEX"}:
            yield file
            return
    with path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY) as wav:  # the file stays as it is
        mend_length(wav)
        with soundfile.SoundFile(wav) as file:
            yield file


def _missing_frames(file: soundfile.SoundFile, path: Path, unread: int) -> int:
    """Samples that the header promises and the file does not hold.

    libsndfile's log tells of the headers of wav, aiff and au files. Of others it is what could not be read, but for an
    mp3 file without a header of its encoder, whose length is an estimate.
    """
    for promised, found in (map(int, chunk) for chunk in re.findall(SHORT_CHUNK, file.extra_info)):
        if 0 < found < promised < UNKNOWN_LENGTH:
            return round((promised - found) / found * file.frames)
    if file.format in {"MP3", "MPEG"}:
        with path.open("rb") as raw:
            start = raw.read(MP3_HEADER_BYTES)
        return unread if b"Xing" in start or b"Info" in start else 0
    return unread


def check_waveform(wave: Float[np.ndarray, " samples"], name: str) -> None:
    """Refuse what no spectrogram can be made of.

    Raises:
        UserError: beginning with `name`, if the waveform (22,050 Hz) is shorter than two frames (771 samples) or longer
            than 60 s, holds a value that is not a finite number, or is silent (nothing above -80 dB of full scale).
    """
    if len(wave) < MIN_SAMPLES:
        raise UserError(
            f"{name}: too short, {len(wave) / SAMPLE_RATE:.3f} s where at least {MIN_FRAMES} frames "
            f"({MIN_SAMPLES / SAMPLE_RATE:.3f} s) are needed; record the whole sentence."
        )
    _check_duration(len(wave) / SAMPLE_RATE, name)
    low, high = float(wave.min()), float(wave.max())  # NaN if any sample is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"{name}: holds samples that are not numbers (NaN or infinite); export the recording again.")
    if high - low < 2 * SILENCE_PEAK:
        raise UserError(f"{name}: silent, nothing was recorded; check the microphone or leave the file out.")


def check_seconds(wave: Float[np.ndarray, " samples"], least: float, name: str) -> None:
    """UserError, beginning with `name`, if the waveform (22,050 Hz) is shorter than `least` seconds."""
    seconds = len(wave) / SAMPLE_RATE
    if seconds < least:
        raise UserError(
            f"{name}: too short, {seconds:.2f} s where a description takes {least:g} s or more; leave it out."
        )


def _check_duration(seconds: float, name: str) -> None:
    if seconds > MAX_SECONDS:
        raise UserError(
            f"{name}: too long, {seconds:.1f} s where at most {MAX_SECONDS:.0f} s are read as one description; "
            "cut it, or name a part of it by start_seconds and end_seconds."
        )


# --------------------------------------------------------------------------------------------------------- spectrograms


def n_frames(n_samples: int) -> int:
    """Frames of the log-mel of a waveform of `n_samples`: one every 220 samples, centred on samples 0, 220, ..."""
    return 1 + (n_samples - 1) // HOP_LENGTH


@functools.cache
def mel_filterbank() -> Float[Tensor, "mels bins"]:
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
    return torch.from_numpy(triangles * 2.0 / (right - left)).float()


@functools.cache
def analysis_window(window: Window = "hann") -> Float[Tensor, " n_fft"]:
    """The periodic Hann or Hamming window of 551 samples."""
    make = {"hann": torch.hann_window, "hamming": torch.hamming_window}[window]
    return make(N_FFT, dtype=torch.float64).float()


def log_mel(
    wave: Float[Tensor, "*batch samples"],
    *,
    window: Window = "hann",
    pad_mode: PadMode = "reflect",
    normalize: bool = True,
) -> Float[Tensor, "*batch frames 40"]:
    """Log-mel of one waveform at 22,050 Hz, or of a batch of equally long ones, on the CPU (method.md section 2).

    Natural logarithm of (mel power + 1e-6), one frame every 10 ms; with `normalize` each band has mean 0 and population
    standard deviation 1 over the utterance. `pad_mode` says what stands half a window before and after the waveform:
    its reflection without the edge sample, or zeros. The paper's window is `"hamming"`; its authors' code used the
    defaults.
    """
    half = N_FFT // 2
    padded = F.pad(wave.reshape(-1, wave.shape[-1]), (half, half), mode=pad_mode).reshape(*wave.shape[:-1], -1)
    mel = (_power(padded, window) @ mel_filterbank().T).add_(LOG_FLOOR).log_()
    if normalize:
        std, mean = torch.std_mean(mel, dim=-2, correction=0, keepdim=True)
        mel = (mel - mean) / (std + STD_FLOOR)
    return mel


def _power(padded: Float[Tensor, "*batch padded"], window: Window) -> Float[Tensor, "*batch frames bins"]:
    """The power spectrum, by scipy: 551 is 19 * 29, lengths for which torch's library takes four times as long."""
    from scipy.fft import rfft

    frames = padded.unfold(-1, N_FFT, HOP_LENGTH)
    power = torch.empty(*frames.shape[:-1], N_BINS)
    taper = analysis_window(window)
    for at in range(0, frames.shape[-2], FRAMES_AT_ONCE):
        part = slice(at, at + FRAMES_AT_ONCE)
        spectrum = rfft((frames[..., part, :] * taper).numpy(), overwrite_x=True)
        power[..., part, :] = torch.from_numpy(spectrum.real**2 + spectrum.imag**2)
    return power
