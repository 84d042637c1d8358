"""D_i, the discriminator of one scale: is the image real, and does it fit the speech? (method.md section 4)"""

import math
from dataclasses import dataclass
from itertools import pairwise

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

    def forward(self, x: Float[Tensor, "batch in _ _"]) -> Float[Tensor, "batch out _ _"]:
        return F.leaky_relu(self.norm(convolve(x, self.conv.weight, self.stride)), LEAKY_SLOPE, inplace=True)


class Discriminator(nn.Module):
    """A trunk that ends at 4x4, an unconditional head and a head conditioned on mu. Logits out, never probabilities."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        ladder, features = config.ladder, config.features
        trunk = [ConvBlock(3, ladder[0], batch_norm=False), *(ConvBlock(i, o) for i, o in pairwise(ladder))]
        channels = ladder[-1]
        while channels > features:  # large images climb past 8 widths and come back
            trunk.append(ConvBlock(channels, channels // 2, stride=1))
            channels //= 2
        self.trunk = nn.Sequential(*trunk)
        self.joint = ConcatConv3x3(config.condition, features, features)
        self.joint_norm = nn.BatchNorm2d(features)
        self.conditional_out = nn.Conv2d(features, 1, FEATURE_SIDE)
        self.unconditional_out = nn.Conv2d(features, 1, FEATURE_SIDE)

    def features(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch features 4 4"]:
        """The trunk's last map, which both heads read."""
        features: Tensor = self.trunk(images)
        return features

    def conditional(
        self, features: Float[Tensor, "batch features 4 4"], mu: Float[Tensor, "batch condition"]
    ) -> Float[Tensor, " batch"]:
        """Logit of "a real image that fits mu"."""
        joint = F.leaky_relu(self.joint_norm(self.joint(mu, features)), LEAKY_SLOPE)
        return self.conditional_out(joint).flatten()

    def unconditional(self, features: Float[Tensor, "batch features 4 4"]) -> Float[Tensor, " batch"]:
        """Logit of "a real image"."""
        return self.unconditional_out(features).flatten()

    def forward(
        self, images: Float[Tensor, "batch 3 side side"], mu: Float[Tensor, "batch condition"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Conditional and unconditional logits of images in [-1, 1]."""
        return self.logits(self.features(images), mu)

    def logits(
        self, features: Float[Tensor, "batch features 4 4"], mu: Float[Tensor, "batch condition"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Conditional and unconditional logits of images from the trunk's last map."""
        return self.conditional(features, mu), self.unconditional(features)
