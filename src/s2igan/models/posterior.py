"""What of an image a description leaves open: an approximate posterior of the noise z (VAE-GAN, Larsen et al. 2016).

Not in the paper. It only exists while stage 2 trains, where it lets the generator practise on real images.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.models.blocks import LEAKY_SLOPE

SIDE = 32
"""Side in pixels to which images are reduced: enough for pose, light and surroundings."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in lightness (ITU-R BT.601)."""
FINAL_SIDE = 4


class PosteriorOutput(NamedTuple):
    """A normal distribution of z."""

    mu: Float[Tensor, "batch z"]
    logvar: Float[Tensor, "batch z"]


class Posterior(nn.Module):
    """Convolutions with stride 2 down to 4x4, then a linear layer. It sees lightness only: colours, which descriptions
    name, have to come from the description.

    Args:
        z: dimensions of the noise.
        width: channels after the first convolution; every later one doubles them.
    """

    def __init__(self, z: int, width: int = 32) -> None:
        super().__init__()
        channels = (1, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairwise(channels))
        self.out = nn.Linear(channels[-1] * FINAL_SIDE**2, 2 * z)

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> PosteriorOutput:
        """Mean and log-variance of z for images in [-1, 1]."""
        h = F.interpolate(images, size=(SIDE, SIDE), mode="area")
        h = (h * h.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        for conv in self.convs:
            h = F.leaky_relu(conv(h), LEAKY_SLOPE)
        return PosteriorOutput(*self.out(h.flatten(1)).chunk(2, dim=1))
