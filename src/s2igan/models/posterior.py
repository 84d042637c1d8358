"""What of an image a description leaves open: an approximate posterior of the noise z (VAE-GAN, Larsen et al. 2016).

Not in the paper. `Posterior` only exists while stage 2 trains, where the generator reconstructs real images with it.
What it finds in some of them, a mixture of normal distributions, is where z comes from in use (`NoiseMixture`): no
single normal distribution has a bird that looks left and one that looks right, and none in between.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.models.blocks import LEAKY_SLOPE

SIDE = 32
"""Side in pixels to which images are reduced: enough for pose and surroundings."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in lightness (ITU-R BT.601)."""
NEIGHBOURHOOD = 5
"""Side in pixels of the square that a pixel's contrast is measured in."""
FLOOR = 0.01
"""Standard deviation of lightness below which a neighbourhood counts as even."""
MEAN_CONTOUR = 0.7
"""About the mean of `contours`, taken off before the first convolution."""
FINAL_SIDE = 4
QUANTILE_FLOOR = 1e-6
"""Keeps a quantile from being 0 or 1, whose normal numbers are infinite."""


class PosteriorOutput(NamedTuple):
    """A normal distribution of z."""

    mu: Float[Tensor, "batch z"]
    logvar: Float[Tensor, "batch z"]


def contours(images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 1 small small"]:
    """How far each pixel's lightness is from that around it, in standard deviations of the lightness around it.

    Shapes stay, and neither which side of an edge is the darker one nor by how much: a picture of a dark bird with a
    light belly and one of a light bird with a dark belly are the same.
    """

    def around(x: Tensor) -> Tensor:
        margin = NEIGHBOURHOOD // 2
        padded = F.pad(x, (margin, margin, margin, margin), mode="replicate")
        return F.avg_pool2d(padded, NEIGHBOURHOOD, stride=1)

    reduced = F.interpolate(images.float(), size=(SIDE, SIDE), mode="area")
    lightness = sum(weight * channel for weight, channel in zip(LUMA, reduced.split(1, dim=1), strict=True))
    difference = lightness - around(lightness)
    return difference.abs() / (around(difference.square()) + FLOOR**2).sqrt()


class Posterior(nn.Module):
    """Convolutions with stride 2 down to 4x4, then a linear layer. It sees contours only: colours and shades, which
    descriptions name, have to come from the description.

    Args:
        z: dimensions of the noise.
        width: channels after the first convolution; every later one doubles them.
    """

    def __init__(self, z: int, width: int = 32) -> None:
        super().__init__()
        n = int(math.log2(SIDE // FINAL_SIDE))
        channels = (1, *(4 * width >> i for i in reversed(range(n))))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairwise(channels))
        self.out = nn.Linear(channels[-1] * FINAL_SIDE**2, 2 * z)

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> PosteriorOutput:
        """Mean and log-variance of z for images in [-1, 1]."""
        h = contours(images) - MEAN_CONTOUR
        for conv in self.convs:
            h = F.leaky_relu(conv(h), LEAKY_SLOPE)
        return PosteriorOutput(*self.out(h.flatten(1)).chunk(2, dim=1))


class NoiseMixture(nn.Module):
    """Turns standard normal noise into z of a mixture of normal distributions, all equally likely.

    The first number of a row chooses the component, by the quantile that it is; what is left of it within the
    component's share of the quantiles is again a normal number. So equal noise gives equal z.

    Args:
        components: normal distributions.
        z: dimensions of the noise.
    """

    mu: Float[Tensor, "components z"]
    logvar: Float[Tensor, "components z"]

    def __init__(self, components: int, z: int) -> None:
        super().__init__()
        self.register_buffer("mu", torch.zeros(components, z))
        self.register_buffer("logvar", torch.zeros(components, z))

    def forward(self, noise: Float[Tensor, "batch z"]) -> Float[Tensor, "batch z"]:
        """Standard normal ``noise`` -> z."""
        n = len(self.mu)
        place = torch.special.ndtr(noise[:, 0].double()) * n
        component = place.floor().clamp(0, n - 1)
        rest = torch.special.ndtri((place - component).clamp(QUANTILE_FLOOR, 1 - QUANTILE_FLOOR))
        own = torch.cat((rest[:, None].to(noise.dtype), noise[:, 1:]), dim=1)
        chosen = component.long()
        return self.mu[chosen] + torch.exp(self.logvar[chosen] / 2) * own
