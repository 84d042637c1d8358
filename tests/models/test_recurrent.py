"""Padded utterances through a recurrent network are PyTorch's packed sequences, in values and in every gradient."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2igan.models.recurrent import inside, mean_over_utterances, over_utterances


@pytest.mark.parametrize("lengths", [[9, 9, 9], [4, 9, 1], [6, 2, 5]])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_equals_a_packed_sequence_with_its_gradients(kind, bidirectional, layers, lengths) -> None:
    torch.manual_seed(0)
    rnn = kind(5, 4, layers, batch_first=True, bidirectional=bidirectional).double()
    x = torch.randn(3, 9, 5, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor(lengths)
    packed = pack_padded_sequence(x, sizes, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(rnn(packed)[0], batch_first=True)
    weight = torch.randn_like(expected)
    parameters = [x, *rnn.parameters()]
    expected_gradients = torch.autograd.grad((expected * weight).sum(), parameters)

    got = over_utterances(rnn, x, sizes)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad((got * weight).sum(), parameters), expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("function", [over_utterances, mean_over_utterances])
def test_padding_may_hold_anything(function) -> None:
    torch.manual_seed(0)
    gru = nn.GRU(3, 2, 2, batch_first=True, bidirectional=True)
    x = torch.randn(2, 6, 3)
    changed = x.clone()
    changed[1, 4:] = 1e3
    lengths = torch.tensor([6, 4])
    torch.testing.assert_close(function(gru, changed, lengths), function(gru, x, lengths))


def test_the_mean_is_over_the_frames_of_each_utterance() -> None:
    torch.manual_seed(0)
    rnn = nn.LSTM(3, 2, batch_first=True)
    x, lengths = torch.randn(2, 6, 3), torch.tensor([2, 5])
    alone = [rnn(x[i : i + 1, :n])[0].mean(dim=1)[0] for i, n in enumerate(lengths)]
    torch.testing.assert_close(mean_over_utterances(rnn, x, lengths), torch.stack(alone))


def test_inside() -> None:
    assert inside(torch.zeros(3, 3, 2), torch.tensor([1, 3, 2])).squeeze(2).tolist() == [
        [True, False, False],
        [True, True, True],
        [True, True, False],
    ]


def test_under_autocast_it_stays_near_and_its_state_in_float32() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(16, 8, 2, batch_first=True, bidirectional=True)
    x = torch.randn(4, 40, 16, requires_grad=True)
    lengths = torch.tensor([40, 31, 12, 5])
    parameters = [x, *gru.parameters()]
    expected = over_utterances(gru, x, lengths)
    weight = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), parameters)
    with torch.autocast("cpu", torch.bfloat16):
        got = over_utterances(gru, x, lengths)
    gradients = torch.autograd.grad((got * weight).sum(), parameters)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=0.01)
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()
        assert not torch.equal(one, other)  # the products are of bfloat16
