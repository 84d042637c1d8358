"""D_i, the discriminator of one scale: is the image real, and does it fit the speech? (method.md section 4)"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.models.blocks import LEAKY_SLOPE, ConcatConv3x3
from s2igan.models.small_maps import convolve

FEATURE_SIDE = 4
"""Side in pixels of the trunk's last map."""

MAX_HALVINGS = 10
"""Stride-2 convolutions at the largest images, of 4,096 pixels a side."""

FEATURE_MULTIPLE = 8
"""Channels of the trunk's last map, in widths."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of one discriminator."""

    resolution: int
    """Side of its images in pixels: 8 or a doubling of it."""
    width: int = 64
    """Channels of the first convolution of the 64 px ladder."""
    condition: int = 128
    """Dimensions of mu."""

    def __post_init__(self) -> None:
        if self.resolution not in (FEATURE_SIDE * 2**halvings for halvings in range(1, MAX_HALVINGS + 1)):
            raise UserError(f"resolution {self.resolution} does not fit a discriminator: choose 8 or a doubling of it")

    @property
    def halvings(self) -> int:
        """Stride-2 convolutions between the image and the 4x4 map."""
        return int(math.log2(self.resolution // FEATURE_SIDE))

    @property
    def ladder(self) -> tuple[int, ...]:
        """Channels after each stride-2 convolution. Small images enter the 64 px ladder (w, 2w, 4w, 8w) late."""
        last = max(FEATURE_MULTIPLE * self.width, self.width * 2 ** (self.halvings - 1))
        return tuple(last // 2 ** (self.halvings - 1 - i) for i in range(self.halvings))

    @property
    def features(self) -> int:
        """Channels of the trunk's last map."""
        return FEATURE_MULTIPLE * self.width


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm unless it is the first, leaky ReLU. ``stride`` 2 is a 4x4 kernel, 1 a 3x3
    kernel."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 2, batch_norm: bool = True) -> None:
        super().__init__()
        self.stride = stride
        kernel = {1: 3, 2: 4}[stride]
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity()

    def forward(self, x: Float[Tensor, "batch in _ _"], groups: int = 1) -> Float[Tensor, "batch out _ _"]:
        x = convolve(x, self.conv.weight, self.stride)
        return F.leaky_relu(normalise(self.norm, x, groups), LEAKY_SLOPE, inplace=True)


class Trunk(nn.Sequential):
    """Convolution blocks, one after the other."""

    def forward(self, x: Float[Tensor, "batch 3 side side"], groups: int = 1) -> Float[Tensor, "batch features 4 4"]:
        for block in self:
            x = block(x, groups)
        return x


def normalise(norm: nn.Module, x: Float[Tensor, "batch channels _ _"], groups: int) -> Tensor:
    """Batch norm of each of ``groups`` equal parts of the batch by itself, in their order."""
    return torch.cat([norm(part) for part in x.chunk(groups)]) if groups > 1 else norm(x)


def project(x: Float[Tensor, "batch in side side"], conv: nn.Conv2d) -> Float[Tensor, "batch out"]:
    """A convolution whose kernel covers the whole map, as one product. Without it the step takes 2 % longer in the
    sizes of `birds`, 5 % at full size (`benchmarks/tricks.py birds-rdg`, `cub-rdg`)."""
    flat, weight = (values.permute(0, 2, 3, 1).flatten(1) for values in (x, conv.weight))
    return F.linear(flat, weight, conv.bias)


class Discriminator(nn.Module):
    """A trunk that ends at 4x4, an unconditional head and a head conditioned on mu. Logits out, never probabilities.

    Several batches of one size, such as real images and fakes, go through it as ``groups`` of one: batch norms see each
    by itself. Three passes make the step in the sizes of `birds` 4 % longer, 8 % at full size
    (`benchmarks/tricks.py birds-rdg`, `cub-rdg`).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        ladder, features = config.ladder, config.features
        trunk = [ConvBlock(3, ladder[0], batch_norm=False), *(ConvBlock(i, o) for i, o in pairwise(ladder))]
        channels = ladder[-1]
        while channels > features:  # large images climb past 8 widths and come back
            trunk.append(ConvBlock(channels, channels // 2, stride=1))
            channels //= 2
        self.trunk = Trunk(*trunk)
        self.joint = ConcatConv3x3(config.condition, features, features)
        self.joint_norm = nn.BatchNorm2d(features)
        self.conditional_out = nn.Conv2d(features, 1, FEATURE_SIDE)
        self.unconditional_out = nn.Conv2d(features, 1, FEATURE_SIDE)

    def features(
        self, images: Float[Tensor, "batch 3 side side"], groups: int = 1
    ) -> Float[Tensor, "batch features 4 4"]:
        """The trunk's last map, which both heads read."""
        features: Tensor = self.trunk(images, groups)
        return features

    def forward(
        self, images: Float[Tensor, "batch 3 side side"], mu: Float[Tensor, "batch condition"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Conditional and unconditional logits of images in [-1, 1]."""
        return self.logits(self.features(images), mu)

    def logits(
        self, features: Float[Tensor, "batch features 4 4"], mu: Float[Tensor, "batch condition"], groups: int = 1
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """From the trunk's last map, the logits of "a real image that fits mu" and of "a real image"."""
        joint = F.leaky_relu(normalise(self.joint_norm, self.joint(mu, features), groups), LEAKY_SLOPE)
        return project(joint, self.conditional_out).flatten(), project(features, self.unconditional_out).flatten()

    def each(
        self, *batches: tuple[Float[Tensor, "batch 3 side side"], Float[Tensor, "batch condition"]]
    ) -> list[tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]]:
        """As `forward` of several batches of (images, mu), in one pass; batch norms see each batch by itself, in this
        order."""
        n = len(batches)
        features = self.features(torch.cat([images for images, _ in batches]), n)
        logits = self.logits(features, torch.cat([mu for _, mu in batches]), n)
        return list(zip(*(logit.chunk(n) for logit in logits), strict=True))
