"""Convolutions of maps of few pixels by large weights, as products of matrices.

The last maps of a large network have few pixels and many channels, and the weight is most of what their convolutions
read and write. On a CPU, convolutions as such then reach a fifth to a half of the speed that products of matrices do,
which write the weight's gradient as they need it (docs/engine.md). Elsewhere `convolve` is the usual one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEW_PIXELS = 64
"""Pixels of the largest map that is computed as a product."""
LARGE_WEIGHT = 2**22
"""Numbers of the smallest weight that is: with small ones, copying patches costs more than the product saves."""


def convolve(
    x: Float[Tensor, "batch in _ _"], weight: Float[Tensor, "out in k k"], bias: Tensor | None = None, stride: int = 1
) -> Float[Tensor, "batch out _ _"]:
    """Convolution with zero padding 1."""
    kernel = weight.shape[-1]
    height, width = ((side + 2 - kernel) // stride + 1 for side in x.shape[-2:])
    if x.device.type != "cpu" or height * width > FEW_PIXELS or weight.numel() < LARGE_WEIGHT:
        return F.conv2d(x, weight, bias, stride, padding=1)
    channels_last = is_channels_last(weight)
    matrix = (weight.permute(0, 2, 3, 1) if channels_last else weight).flatten(1)  # the weight as it lies
    y = F.linear(_Patches.apply(x, kernel, stride, channels_last), matrix, bias)
    y = y.view(len(x), height, width, -1).permute(0, 3, 1, 2)
    return y if channels_last else y.contiguous()


def project(x: Float[Tensor, "batch in side side"], conv: nn.Conv2d) -> Float[Tensor, "batch out"]:
    """What a convolution without padding makes of a map of its kernel's size: one product, on every device."""
    weight = conv.weight  # read once: a parametrisation computes it at every access
    if is_channels_last(weight):
        x, weight = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)  # the weight as it lies
    return F.linear(x.flatten(1), weight.flatten(1), conv.bias)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a map or weight lie side by side, and not its pixels."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def layout(weight: Tensor) -> torch.memory_format:
    """How a weight lies in memory, and with it the maps that it makes."""
    return torch.channels_last if is_channels_last(weight) else torch.contiguous_format


class _Patches(torch.autograd.Function):
    """What each pixel of a convolution with zero padding 1 sees: (batch, in, height, width) -> one row for each of
    its pixels, with columns (k, k, in) or, unless channels last, (in, k, k)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int, channels_last: bool) -> Tensor:
        ctx.shape, ctx.kernel, ctx.stride, ctx.channels_last = x.shape, kernel, stride, channels_last
        windows = F.pad(x, (1, 1, 1, 1)).unfold(2, kernel, stride).unfold(3, kernel, stride)
        order = (0, 2, 3, 4, 5, 1) if channels_last else (0, 2, 3, 1, 4, 5)
        return windows.permute(order).flatten(0, 2).flatten(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (batch, channels, height, width), kernel, stride = ctx.shape, ctx.kernel, ctx.stride
        rows, columns = ((side + 2 - kernel) // stride + 1 for side in (height, width))
        precise = torch.promote_types(grad.dtype, torch.float32)
        padded = grad.new_zeros((batch, height + 2, width + 2, channels), dtype=precise)
        if ctx.channels_last:
            windows = grad.view(batch, rows, columns, kernel, kernel, channels)
        else:
            windows = grad.view(batch, rows, columns, channels, kernel, kernel).permute(0, 1, 2, 4, 5, 3)
        for i in range(kernel):
            for j in range(kernel):
                seen = padded[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
                seen += windows[:, :, :, i, j]
        x = padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2).to(grad.dtype)
        lies = torch.channels_last if ctx.channels_last else torch.contiguous_format
        return x.contiguous(memory_format=lies), None, None, None


def enlarge_and_convolve(
    h: Float[Tensor, "batch in height width"], weight: Float[Tensor, "out in 3 3"]
) -> Float[Tensor, "batch out 2*height 2*width"]:
    """Nearest-neighbour enlargement by 2, then a 3x3 convolution with zero padding 1, in under half the products."""
    few = h.device.type == "cpu" and h.shape[-2] * h.shape[-1] <= FEW_PIXELS
    return _taps(h, weight) if few and weight.numel() * 16 // 9 >= LARGE_WEIGHT else _transposed(h, weight)


def _transposed(
    h: Float[Tensor, "batch in height width"], weight: Float[Tensor, "out in 3 3"]
) -> Float[Tensor, "batch out 2*height 2*width"]:
    """Every pixel of ``h`` becomes 2x2 equal ones, so of the nine taps several see the same value: the two operations
    are one transposed convolution with stride 2, whose 4x4 kernel is the mirrored 3x3 kernel convolved with 2x2 ones.
    """
    n_out, n_in = weight.shape[:2]
    sums = torch.tensor(_TAPS_OF_FOUR, dtype=weight.dtype, device=weight.device)
    with torch.autocast(weight.device.type, enabled=False):  # rounded once, as a weight
        kernel = weight.transpose(0, 1).reshape(-1, 9) @ sums
    kernel = kernel.view(n_in, n_out, 4, 4).contiguous(memory_format=layout(weight))
    return F.conv_transpose2d(h.contiguous(memory_format=layout(weight)), kernel, stride=2, padding=1)


_SIDES_OF_FOUR = ((2,), (1, 2), (0, 1), (0,))
"""Which of three taps along a line each of the transposed kernel's four sums up."""
_TAPS_OF_FOUR = tuple(
    tuple(float(i in rows and j in columns) for rows in _SIDES_OF_FOUR for columns in _SIDES_OF_FOUR)
    for i in range(3)
    for j in range(3)
)


def _taps(
    h: Float[Tensor, "batch in height width"], weight: Float[Tensor, "out in 3 3"]
) -> Float[Tensor, "batch out 2*height 2*width"]:
    """What each tap of the kernel makes of each pixel of ``h``, one product of matrices; then their sums."""
    matrix = weight.permute(2, 3, 0, 1).flatten(0, 2)
    taps = F.linear(h.permute(0, 2, 3, 1).flatten(0, 2), matrix)
    taps = taps.view(len(h), *h.shape[-2:], 3, 3, -1)
    rows = _sums(taps.unbind(3), dim=1)
    y = _sums(rows.unbind(3), dim=2).permute(0, 3, 1, 2)
    return y if is_channels_last(weight) else y.contiguous()


def _sums(taps: tuple[Tensor, ...], dim: int) -> Tensor:
    """Along one dimension: the lines of the enlarged map, an even and an odd one for every line of the taps.

    The three taps of an even line see the line before and its own twice; those of an odd one its own twice and the one
    after.
    """
    first, middle, last = taps
    behind = [0, 0] * (first.dim() - 1 - dim)
    even = F.pad(first, (*behind, 1, -1)) + middle + last
    odd = first + middle + F.pad(last, (*behind, -1, 1))
    return torch.stack((even, odd), dim + 1).flatten(dim, dim + 1)
