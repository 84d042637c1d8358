"""The normal numbers are those of PyTorch's generator on a CPU."""

import numpy as np
import pytest
import torch

from s2igan_edge.noise import normal_numbers, truncated


@pytest.mark.parametrize("n", [1, 2, 12, 15, 16, 17, 31, 128, 3072, 3079])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32 + 7, 2**63 - 1])
def test_a_seed_gives_the_numbers_of_torch(n, seed):
    expected = torch.randn(n, generator=torch.Generator().manual_seed(seed)).numpy()
    found = normal_numbers(n, seed)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)


def test_the_numbers_are_cut_off_as_torch_does_it():
    noise = normal_numbers(1000, 3)
    cut = torch.special.ndtr(torch.tensor(-0.7, dtype=torch.float64))
    whole = torch.from_numpy(noise).double()
    expected = torch.special.ndtri(cut + (1 - 2 * cut) * torch.special.ndtr(whole)).float().numpy()
    found = truncated(noise, 0.7)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.abs(found).max() <= 0.7
