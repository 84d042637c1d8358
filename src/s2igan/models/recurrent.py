"""A bidirectional GRU for the CPU: the numbers of `torch.nn.GRU` on a packed sequence, without its cost.

PyTorch's own runs one time step after the other through autograd, whose backward pass writes a zero tensor of the whole
sequence for every step: its time grows with the square of the length (71 % of a SEN step of 500 frames was that). Here
both directions of a layer share one loop, the backward pass is written out, and what does not depend on the recurrence
(input projections, gradients of all weights) is one matrix product over all steps. Under autocast these products are of
its type and the recurrence stays float32, since a state that is updated hundreds of times needs all of it.
`benchmarks/gru.py` measures the gain.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@torch.compiler.disable  # it would write every time step out, and translate for ten minutes
def bidirectional_gru(
    gru: nn.GRU, x: Float[Tensor, "batch frames in"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch longest twice_hidden"]:
    """What `gru` gives for the packed sequence: forward half first, zeros in padded frames, `longest` = max(lengths).

    Args:
        gru: bidirectional, with biases, without dropout and projections; only its weights are used.
        x: inputs; padded frames may hold anything.
        lengths: valid frames of each row.
    """
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return _bidirectional(gru, x.float(), lengths, torch.get_autocast_dtype(x.device.type))
    return _bidirectional(gru, x, lengths, x.dtype)


def _bidirectional(gru: nn.GRU, x: Tensor, lengths: Tensor, products: torch.dtype) -> Tensor:
    """`bidirectional_gru`; `products` is the type of the products over all steps."""
    frames = int(lengths.max())
    h = x[:, :frames].transpose(0, 1)
    valid = torch.arange(frames, device=x.device)[:, None] < lengths.to(x.device)[None, :]
    mask = valid.to(x.dtype)[:, :, None]
    for layer in range(gru.num_layers):
        weights = (
            torch.stack([getattr(gru, f"{name}_l{layer}"), getattr(gru, f"{name}_l{layer}_reverse")])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        both = _Layer.apply(h, mask, products, *weights)
        h = torch.cat([both[0], both[1].flip(0)], dim=2) * mask
    return h.transpose(0, 1)


class _Layer(torch.autograd.Function):
    """One layer, both directions; the second reads time backwards, and its output is still in that order.

    In padded frames the update gate is held at 1, so that the state stays what it was: zero until the backward
    direction reaches an utterance's last valid frame.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "frames batch in"],
        mask: Float[Tensor, "frames batch 1"],
        products: torch.dtype,
        weight_ih: Float[Tensor, "2 gates in"],
        weight_hh: Float[Tensor, "2 gates hidden"],
        bias_ih: Float[Tensor, "2 gates"],
        bias_hh: Float[Tensor, "2 gates"],
    ) -> Float[Tensor, "2 frames batch hidden"]:
        frames, batch, _ = x.shape
        hidden = weight_hh.shape[2]
        both_x = torch.stack([x, x.flip(0)]).to(products)
        both_mask = torch.stack([mask, mask.flip(0)])
        projected = torch.bmm(both_x.flatten(1, 2), weight_ih.to(products).transpose(1, 2)).to(x.dtype)
        projected = projected.add_(bias_ih[:, None]).view(2, frames, batch, 3 * hidden)

        states = x.new_zeros(2, frames + 1, batch, hidden)
        gates = x.new_empty(2, frames, batch, 2 * hidden)
        candidates = x.new_empty(2, frames, batch, hidden)
        recurrent = x.new_empty(2, frames, batch, hidden)
        recur, bias = weight_hh.transpose(1, 2).contiguous(), bias_hh[:, None]
        h = states[:, 0]
        for t in range(frames):
            from_h = torch.baddbmm(bias, h, recur)
            now = projected[:, t]
            gate = torch.sigmoid_(now[..., : 2 * hidden] + from_h[..., : 2 * hidden])
            reset, update = gate[..., :hidden], gate[..., hidden:]
            candidate = torch.tanh_(torch.addcmul(now[..., 2 * hidden :], reset, from_h[..., 2 * hidden :]))
            keep = torch.addcmul(1 - both_mask[:, t], update, both_mask[:, t])
            h = torch.lerp(candidate, h, keep)
            states[:, t + 1], gates[:, t], candidates[:, t], recurrent[:, t] = (
                h,
                gate,
                candidate,
                from_h[..., 2 * hidden :],
            )
        ctx.save_for_backward(both_x, both_mask, weight_ih, weight_hh, states, gates, candidates, recurrent)
        return states[:, 1:]

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, "2 frames batch hidden"]) -> tuple[Tensor | None, ...]:
        both_x, mask, weight_ih, weight_hh, states, gates, candidates, recurrent = ctx.saved_tensors
        hidden = weight_hh.shape[2]
        frames = gates.shape[1]
        before = states[:, :-1]
        reset, update = gates[..., :hidden], gates[..., hidden:]
        keep = 1 - (1 - update) * mask
        # What multiplies the state's gradient, for all steps at once; the loop below is left with the recurrence.
        to_candidate = (1 - keep) * (1 - candidates**2)
        to_reset = recurrent * reset * (1 - reset)
        to_update = (before - candidates) * mask * update * (1 - update)

        # Gradients of the hidden-to-hidden product (its last third is the candidate's, times the reset gate).
        grad_recurrent = gates.new_empty(2, frames, gates.shape[2], 3 * hidden)
        grad_candidate = torch.empty_like(candidates)
        carried = torch.zeros_like(states[:, 0])
        for t in range(frames - 1, -1, -1):
            total = carried + grad[:, t]
            inner = torch.mul(total, to_candidate[:, t], out=grad_candidate[:, t])
            row = grad_recurrent[:, t]
            torch.mul(inner, to_reset[:, t], out=row[..., :hidden])
            torch.mul(total, to_update[:, t], out=row[..., hidden : 2 * hidden])
            torch.mul(inner, reset[:, t], out=row[..., 2 * hidden :])
            carried = torch.baddbmm(total * keep[:, t], row, weight_hh)

        precise, products = gates.dtype, both_x.dtype
        flat = grad_recurrent.flatten(1, 2)
        grad_bias_hh = flat.sum(1)
        grad_weight_hh = torch.bmm(flat.to(products).transpose(1, 2), before.flatten(1, 2).to(products)).to(precise)
        grad_projected = torch.cat([grad_recurrent[..., : 2 * hidden], grad_candidate], dim=3).flatten(1, 2)
        grad_bias_ih = grad_projected.sum(1)
        grad_projected = grad_projected.to(products)
        grad_weight_ih = torch.bmm(grad_projected.transpose(1, 2), both_x.flatten(1, 2)).to(precise)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_both = torch.bmm(grad_projected, weight_ih.to(products)).to(precise).view_as(both_x)
            grad_x = grad_both[0] + grad_both[1].flip(0)
        return grad_x, None, None, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh
