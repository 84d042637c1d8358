"""Log-mel: parity with the golden record, invariance to batch and padding."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from s2igan import audio, spectrograms

GOLDEN = Path(__file__).parent / "golden" / "mel.safetensors"
VARIANTS = ("hann_reflect", "hann_constant", "hamming_reflect")


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN)


def tone(seconds: float, rate: int = audio.SAMPLE_RATE, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * math.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


# ----------------------------------------------------------------------------------------------------------- golden


def test_filterbank_and_windows_are_the_recorded_ones(golden):
    assert torch.allclose(torch.from_numpy(audio.mel_filterbank()), golden["mel_filterbank"], rtol=0, atol=1e-8)
    for name in ("hann", "hamming"):
        assert torch.allclose(
            torch.from_numpy(audio.analysis_window(name)), golden[f"window/{name}"], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("utterance", [0, 1])
def test_log_mel_is_the_recorded_one(golden, variant, utterance):
    window, pad_mode = variant.split("_")
    wave = golden[f"wave{utterance}"]
    plain = spectrograms.log_mel(wave, window=window, pad_mode=pad_mode, normalize=False)
    normalised = spectrograms.log_mel(wave, window=window, pad_mode=pad_mode)
    assert plain.dtype == torch.float32
    torch.testing.assert_close(plain, golden[f"logmel{utterance}/{variant}"], rtol=0, atol=1e-4)
    torch.testing.assert_close(normalised, golden[f"cmvn{utterance}/{variant}"], rtol=0, atol=1e-4)


def test_the_defaults_are_the_reference(golden):
    torch.testing.assert_close(spectrograms.log_mel(golden["wave0"]), golden["cmvn0/hann_reflect"], rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------------- properties


def test_a_tone_lights_the_band_around_its_frequency():
    filterbank, hz_of_bins = audio.mel_filterbank(), np.arange(audio.N_BINS) * audio.SAMPLE_RATE / audio.N_FFT
    centres_hz = torch.from_numpy((filterbank @ hz_of_bins) / filterbank.sum(1))
    for hz in (300.0, 1000.0, 4000.0):
        mel = spectrograms.log_mel(torch.from_numpy(tone(0.5, hz=hz)), normalize=False)
        assert mel.mean(0).argmax() == (centres_hz - hz).abs().argmin()


def test_bands_have_mean_zero_and_population_deviation_one():
    wave = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    mel = spectrograms.log_mel(wave)
    torch.testing.assert_close(mel.mean(0), torch.zeros(40), rtol=0, atol=1e-5)
    torch.testing.assert_close(mel.std(0, correction=0), torch.ones(40), rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [771, 880, 881, 22_050])
def test_number_of_frames(samples):
    wave = torch.randn(samples, generator=torch.Generator().manual_seed(1))
    assert spectrograms.log_mel(wave).shape == (audio.n_frames(samples), audio.N_MELS)
    assert audio.n_frames(samples) == 1 + math.floor((samples - 1) / 220)


def test_the_power_spectrum_is_that_of_torch():
    """Across several of the portions that it is computed in."""
    padded = torch.randn(3, 60_000, generator=torch.Generator().manual_seed(0))
    for window in ("hann", "hamming"):
        taper = torch.from_numpy(audio.analysis_window(window))
        spectrum = torch.stft(padded, audio.N_FFT, audio.HOP_LENGTH, window=taper, center=False, return_complex=True)
        expected = spectrum.abs().square().transpose(-1, -2)
        torch.testing.assert_close(
            spectrograms._power(padded, window), expected, rtol=2e-4, atol=2e-4 * float(expected.mean())
        )


def test_a_stack_of_equal_lengths_is_each_of_them(golden):
    stack = torch.stack([golden["wave0"], golden["wave1"][: len(golden["wave0"])]])
    torch.testing.assert_close(spectrograms.log_mel(stack)[1], spectrograms.log_mel(stack[1]), rtol=0, atol=1e-5)


def test_four_seconds_take_milliseconds():
    wave, threads = torch.randn(4 * audio.SAMPLE_RATE), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(10):
            start = time.perf_counter()
            spectrograms.log_mel(wave)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    assert min(times) < 0.015  # 3 ms on an idle core; the bound is for a busy machine
