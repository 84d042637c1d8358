"""The written-out GRU is PyTorch's, in values and in every gradient."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2igan.models.recurrent import bidirectional_gru


@pytest.mark.parametrize("lengths", [[9, 9, 9], [4, 9, 1], [6, 2, 5]])
@pytest.mark.parametrize("layers", [1, 2])
def test_equals_the_packed_gru_of_pytorch_with_its_gradients(lengths: list[int], layers: int) -> None:
    torch.manual_seed(0)
    gru = nn.GRU(5, 4, layers, batch_first=True, bidirectional=True).double()
    x = torch.randn(3, 9, 5, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor(lengths)
    packed = pack_padded_sequence(x, sizes, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    weight = torch.randn_like(expected)
    parameters = [x, *gru.parameters()]
    expected_gradients = torch.autograd.grad((expected * weight).sum(), parameters)

    got = bidirectional_gru(gru, x, sizes)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad((got * weight).sum(), parameters), expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_padding_may_hold_anything() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(3, 2, 2, batch_first=True, bidirectional=True)
    x = torch.randn(2, 6, 3)
    changed = x.clone()
    changed[1, 4:] = 1e3
    lengths = torch.tensor([6, 4])
    torch.testing.assert_close(bidirectional_gru(gru, changed, lengths), bidirectional_gru(gru, x, lengths))


def test_under_autocast_it_stays_near_and_in_float32() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(16, 8, 2, batch_first=True, bidirectional=True)
    x = torch.randn(4, 40, 16, requires_grad=True)
    lengths = torch.tensor([40, 31, 12, 5])
    parameters = [x, *gru.parameters()]
    expected = bidirectional_gru(gru, x, lengths)
    weight = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), parameters)
    with torch.autocast("cpu", torch.bfloat16):
        got = bidirectional_gru(gru, x, lengths)
    gradients = torch.autograd.grad((got * weight).sum(), parameters)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=0.01)
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()
        assert not torch.equal(one, other) or one.ndim == 1  # the products are of bfloat16
