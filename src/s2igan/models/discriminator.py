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
    match_dim: int | None = None
    """Dimensions of an additional head that embeds images beside speech; None, as in the paper, leaves it out."""
    embedding: int = 1024
    """Dimensions of the speech embedding, which only the additional head sees."""

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
    if groups == 1 or isinstance(norm, nn.Identity):
        y: Tensor = norm(x)
        return y
    return torch.cat([norm(part) for part in x.chunk(groups)])


class Discriminator(nn.Module):
    """A trunk that ends at 4x4, an unconditional head and a head conditioned on mu. Logits out, never probabilities.

    A batch may be several of equal size, such as real images and then fakes: ``groups`` of them. It costs less than as
    many passes, and batch norms do not mix them.
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
        if config.match_dim is not None:
            self.match_image_out = nn.Conv2d(features, config.match_dim, FEATURE_SIDE)
            self.match_speech_out = nn.Linear(config.embedding, config.match_dim)

    def features(
        self, images: Float[Tensor, "batch 3 side side"], groups: int = 1
    ) -> Float[Tensor, "batch features 4 4"]:
        """The trunk's last map, which every head reads."""
        return self.trunk(images, groups)

    def conditional(
        self, features: Float[Tensor, "batch features 4 4"], mu: Float[Tensor, "batch condition"], groups: int = 1
    ) -> Float[Tensor, " batch"]:
        """Logit of "a real image that fits mu"."""
        joint = F.leaky_relu(normalise(self.joint_norm, self.joint(mu, features), groups), LEAKY_SLOPE)
        return self.conditional_out(joint).flatten()

    def unconditional(self, features: Float[Tensor, "batch features 4 4"]) -> Float[Tensor, " batch"]:
        """Logit of "a real image"."""
        return self.unconditional_out(features).flatten()

    def match(self, features: Float[Tensor, "batch features 4 4"]) -> Float[Tensor, "batch match"]:
        """Images embedded at unit length beside `match_speech`; needs ``match_dim``."""
        return F.normalize(self.match_image_out(features).flatten(1), dim=1)

    def match_speech(self, embedding: Float[Tensor, "batch embedding"]) -> Float[Tensor, "batch match"]:
        """Speech embedded at unit length beside `match`; needs ``match_dim``."""
        return F.normalize(self.match_speech_out(embedding), dim=1)

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
