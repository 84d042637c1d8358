"""Log-mel spectrograms: 40 bands, 100 frames a second, normalised per utterance and band (method.md section 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from s2igan.audio import (
    HOP_LENGTH,
    LOG_FLOOR,
    N_BINS,
    N_FFT,
    STD_FLOOR,
    PadMode,
    Window,
    analysis_window,
    mel_filterbank,
)

FRAMES_AT_ONCE = 256  # whose spectra fit a core's cache


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
    mel = (_power(padded, window) @ torch.from_numpy(mel_filterbank()).T).add_(LOG_FLOOR).log_()
    if normalize:
        std, mean = torch.std_mean(mel, dim=-2, correction=0, keepdim=True)
        mel = (mel - mean) / (std + STD_FLOOR)
    return mel


def _power(padded: Float[Tensor, "*batch padded"], window: Window) -> Float[Tensor, "*batch frames bins"]:
    """The power spectrum, by scipy: 551 is 19 * 29, lengths for which torch's library takes four times as long."""
    from scipy.fft import rfft

    frames = padded.unfold(-1, N_FFT, HOP_LENGTH)
    power = torch.empty(*frames.shape[:-1], N_BINS)
    taper = torch.from_numpy(analysis_window(window))
    for at in range(0, frames.shape[-2], FRAMES_AT_ONCE):
        part = slice(at, at + FRAMES_AT_ONCE)
        spectrum = rfft((frames[..., part, :] * taper).numpy(), overwrite_x=True)
        power[..., part, :] = torch.from_numpy(spectrum.real**2 + spectrum.imag**2)
    return power
