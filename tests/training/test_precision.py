"""bf16 where it is wanted and nowhere else."""

import pytest
import torch

from s2igan.losses import matching_loss
from s2igan.training import precision


def test_losses_are_float32_where_networks_are_not():
    """Also their matrix product: rounded to 8 bits, a cosine would be off by a few thousandths."""
    v, a = torch.randn(2, 6, 64, generator=torch.Generator().manual_seed(0))
    expected = matching_loss(v, a)
    with precision.autocast("bf16", torch.device("cpu")):
        actual = matching_loss(v, a)
    for key, value in expected.items():
        assert torch.equal(actual[key], value)


def test_the_peak_is_that_of_the_operation(monkeypatch):
    """A half second's work of a known size: forward, and backward to the input and to the weight."""
    monkeypatch.setattr(precision, "seconds", lambda run, device: (run(), 0.5)[1])
    precision.convolution_gflops.cache_clear()
    found = precision.convolution_gflops(torch.float32, torch.device("cpu"), batch=2, channels=4, side=8)
    assert found == pytest.approx(3 * 2 * 9 * 4 * 4 * 2 * 8 * 8 / 0.5 / 1e9)
    precision.convolution_gflops.cache_clear()
