"""Log-mels in numpy are those of s2igan, of files of any rate."""

import numpy as np
import pytest
import soundfile
import torch

from s2igan import audio as torch_audio
from s2igan.spectrograms import log_mel as torch_log_mel
from s2igan_edge.audio import waveform
from s2igan_edge.log_mel import log_mel


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_of_a_file(rate, channels, tmp_path):
    rng = np.random.default_rng(rate)
    t = np.arange(round(1.7 * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (200 * t + 40 * np.sin(5 * t))) + 0.02 * rng.standard_normal(len(t))
    soundfile.write(tmp_path / "said.wav", np.stack([wave] * channels, axis=1), rate)
    expected = torch_audio.load_audio(tmp_path / "said.wav")
    found = waveform(tmp_path / "said.wav")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(log_mel(found), torch_log_mel(torch.from_numpy(expected)).numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("window", ["hann", "hamming"])
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
@pytest.mark.parametrize("samples", [771, 22_050, 22_050 * 45 + 13])
def test_of_every_front_end_and_length(window, pad_mode, samples):
    wave = (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    expected = torch_log_mel(torch.from_numpy(wave), window=window, pad_mode=pad_mode).numpy()
    found = log_mel(wave, window=window, pad_mode=pad_mode)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
