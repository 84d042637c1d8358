"""Log-mel spectrograms in numpy, as `s2igan.spectrograms` has them: 40 bands, 100 frames a second, normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from s2igan_edge.audio import (
    HOP_LENGTH,
    LOG_FLOOR,
    N_FFT,
    STD_FLOOR,
    PadMode,
    Window,
    analysis_window,
    mel_filterbank,
)

if TYPE_CHECKING:
    from jaxtyping import Float

FRAMES_AT_ONCE = 256  # whose spectra fit a core's cache


def log_mel(
    wave: Float[np.ndarray, " samples"], *, window: Window = "hann", pad_mode: PadMode = "reflect"
) -> Float[np.ndarray, "frames 40"]:
    """Of a waveform at 22,050 Hz: natural logarithm of (mel power + 1e-6), one frame every 10 ms; each band has mean 0
    and population standard deviation 1 over the utterance.

    `pad_mode` says what stands half a window before and after the waveform: its reflection without the edge sample, or
    zeros.
    """
    padded = np.pad(wave, N_FFT // 2, mode=pad_mode)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
    taper, filters = analysis_window(window), mel_filterbank().T
    mel = np.empty((len(frames), filters.shape[1]), np.float32)
    for at in range(0, len(frames), FRAMES_AT_ONCE):
        part = slice(at, at + FRAMES_AT_ONCE)
        spectrum = np.fft.rfft(frames[part] * taper)
        mel[part] = (spectrum.real**2 + spectrum.imag**2) @ filters
    mel = np.log(mel + np.float32(LOG_FLOOR))
    mean, deviation = mel.mean(axis=0, dtype=np.float64), mel.std(axis=0, dtype=np.float64)
    return ((mel - mean) / (deviation + STD_FLOOR)).astype(np.float32)
