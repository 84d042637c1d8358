"""Convolutions by large weights of maps of few pixels, as products of matrices.

The last maps of a discriminator have few pixels and many channels, and the weight is most of what their convolutions
read and write. On a CPU a product of matrices is faster there: with PyTorch's convolution the step of stage 2 at the
paper's size takes 5 % longer (`benchmarks/tricks.py cub-rdg`: bf16, batch 8). Elsewhere `convolve` is PyTorch's
convolution.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

FEW_PIXELS = 64
"""Pixels of the largest map that is computed as a product."""
LARGE_WEIGHT = 2**22
"""Numbers of the smallest weight that is: with small ones, copying patches costs more than the product saves."""


def as_product(pixels: int, weight: Tensor) -> bool:
    """Whether a map of ``pixels`` is computed as a product."""
    return weight.device.type == "cpu" and pixels <= FEW_PIXELS and weight.numel() >= LARGE_WEIGHT


def convolve(
    x: Float[Tensor, "batch in _ _"], weight: Float[Tensor, "out in k k"], stride: int = 1
) -> Float[Tensor, "batch out _ _"]:
    """Convolution with zero padding 1, without bias."""
    kernel = weight.shape[-1]
    height, width = ((side + 2 - kernel) // stride + 1 for side in x.shape[-2:])
    if not as_product(height * width, weight):
        return F.conv2d(x, weight, stride=stride, padding=1)
    patches = F.unfold(x, kernel, padding=1, stride=stride).unflatten(1, (x.shape[1], -1)).permute(0, 3, 2, 1)
    matrix = weight.permute(0, 2, 3, 1).flatten(1)  # as the weight lies: channels last
    return F.linear(patches.flatten(2), matrix).transpose(1, 2).unflatten(2, (height, width))
