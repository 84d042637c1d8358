"""Recurrent networks over padded utterances: PyTorch's GRU and LSTM, each utterance as if it were alone.

On a GPU that is what a packed sequence is for. It runs in float32 within bf16 too: there PyTorch would have cuDNN take
float16, whose range is too small for gradients. On a CPU, PyTorch's backward pass of a packed sequence writes the
gradient of the whole sequence anew for every frame. So there each direction of each layer runs on the padded sequences,
and the second direction reads every utterance from its own end; the numbers are the same. With packed sequences a step
of stage 1 takes 13 % longer in the sizes of `birds`, and 86 % longer at the paper's in bf16 (`benchmarks/tricks.py
birds-sen`, `cub-sen`).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def over_utterances(
    rnn: nn.GRU | nn.LSTM, x: Float[Tensor, "batch frames in"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch longest out"]:
    """Output for every frame, zeros in padded ones; as many frames as the longest utterance has.

    Args:
        rnn: with ``batch_first`` and biases, without dropout and projections.
        x: inputs; padded frames may hold anything.
        lengths: frames of each utterance, on the CPU, in any order.
    """
    x = x[:, : int(lengths.max())]
    if x.device.type == "cpu":
        return _padded(rnn, x, lengths)
    order = lengths.argsort(descending=True)
    there, back = (index.to(x.device, non_blocking=True) for index in (order, order.argsort()))
    with torch.autocast(x.device.type, enabled=False):
        packed = pack_padded_sequence(x[there].to(next(rnn.parameters()).dtype), lengths[order], batch_first=True)
        return pad_packed_sequence(rnn(packed)[0], batch_first=True)[0][back]


def mean_over_utterances(
    rnn: nn.GRU | nn.LSTM, x: Float[Tensor, "batch frames in"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch out"]:
    """Mean of `over_utterances` over the frames of each utterance."""
    return over_utterances(rnn, x, lengths).sum(dim=1) / lengths.to(x.device, non_blocking=True)[:, None]


def inside(x: Float[Tensor, "batch frames *_"], lengths: Int[Tensor, " batch"]) -> Bool[Tensor, "batch frames 1"]:
    """Whether a frame belongs to its utterance, and not to the padding."""
    frames = torch.arange(x.shape[1], device=x.device)
    return (frames < lengths.to(x.device, non_blocking=True)[:, None])[:, :, None]


def _padded(rnn: nn.GRU | nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    is_gru = isinstance(rnn, nn.GRU)
    valid, frames = inside(x, lengths), torch.arange(x.shape[1])[:, None]
    from_its_end = torch.where(valid, lengths[:, None, None] - 1 - frames, frames)
    for layer in range(rnn.num_layers):
        directions = []
        for suffix in ("", "_reverse")[: 1 + rnn.bidirectional]:
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [getattr(rnn, f"{name}_l{layer}{suffix}") for name in names]
            zeros = x.new_zeros(1, len(x), rnn.hidden_size)
            read = x.gather(1, from_its_end.expand_as(x)) if suffix else x
            if is_gru:
                h, _ = torch.gru(read, zeros, weights, True, 1, 0.0, rnn.training, False, True)
            else:
                h, *_ = torch.lstm(read, (zeros, zeros), weights, True, 1, 0.0, rnn.training, False, True)
            directions.append(h.gather(1, from_its_end.expand_as(h)) if suffix else h)
        x = torch.cat(directions, dim=2) * valid
    return x
