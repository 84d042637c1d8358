"""DG, the densely-stacked generator of stage 2: a speech embedding and noise in, one image per scale out.

method.md section 4; Wang et al. 2020, Eq. 7.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.models.blocks import ConcatConv3x3, ResidualBlock, UpBlock, gate
from s2igan.settings import at_least

BASE_RESOLUTION = 4
"""Side in pixels of the map that the first linear layer makes."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of the generator."""

    method: ClassVar[str] = "the paper's RDG"
    """What results are named by."""

    embedding: int = 1024
    """Dimensions of the speech embedding."""
    condition: int = 128
    """Dimensions of mu, logvar and c."""
    z: int = 100
    """Dimensions of the noise."""
    width: int = 64
    """Channels of h_0; every later stage halves them."""
    resolutions: tuple[int, ...] = (64, 128, 256)
    """Sides of the images in pixels, each twice the one before."""
    residual_blocks: int = 2
    """Residual blocks in each refinement stage."""
    dense: Literal["previous", "none", "full"] = "previous"
    """What joins a refinement stage before its up-block: h_{i-1} as in the authors' implementation, nothing
    (StackGAN-v2), or every earlier h as Eq. 7 says."""

    def __post_init__(self) -> None:
        at_least(self, 1, "embedding", "condition", "width", "resolutions")
        at_least(self, 0, "z", "residual_blocks")
        first, ups = self.resolutions[0], self.resolutions[0] / BASE_RESOLUTION
        doubled = tuple(first * 2**i for i in range(len(self.resolutions)))
        if ups < 2 or not math.log2(ups).is_integer() or self.resolutions != doubled:
            raise UserError(
                f"resolutions {self.resolutions} do not fit the generator: start at 8 or a doubling of it, and double"
            )
        if self.width % 2 ** (len(self.resolutions) - 1):
            raise UserError(
                f"width {self.width} cannot be halved for each of the stages after the first: "
                f"choose a multiple of {2 ** (len(self.resolutions) - 1)}"
            )

    @property
    def noise(self) -> int:
        """Normal numbers that a picture is made from: z, and eps of the conditioning augmentation."""
        return self.z + self.condition

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of h_0, h_1, ..."""
        return tuple(self.width // 2**i for i in range(len(self.resolutions)))


class Condition(NamedTuple):
    """What conditioning augmentation makes of a speech embedding."""

    c: Float[Tensor, "batch condition"]
    mu: Float[Tensor, "batch condition"]
    logvar: Float[Tensor, "batch condition"]


class GeneratorOutput(NamedTuple):
    """Images in [-1, 1] from the lowest to the highest resolution, and the condition that they came from."""

    images: tuple[Float[Tensor, "batch 3 _ _"], ...]
    mu: Float[Tensor, "batch condition"]
    logvar: Float[Tensor, "batch condition"]
    c: Float[Tensor, "batch condition"]


class ConditioningAugmentation(nn.Module):
    """F_ca: the speech embedding becomes a normal distribution, from which c is drawn."""

    def __init__(self, embedding: int, condition: int) -> None:
        super().__init__()
        self.fc = nn.Linear(embedding, 4 * condition)

    def forward(
        self, embedding: Float[Tensor, "batch embedding"], eps: Float[Tensor, "batch condition"] | None = None
    ) -> Condition:
        """c = mu + exp(logvar / 2) * eps with standard normal ``eps``; without it, c = mu."""
        mu, logvar = F.glu(self.fc(embedding), dim=1).chunk(2, dim=1)
        c = mu if eps is None else mu + torch.exp(logvar / 2) * eps
        return Condition(c, mu, logvar)


class InitialStage(nn.Module):
    """F_0: c and z become h_0.

    Args:
        condition: dimensions of c.
        z: dimensions of the noise.
        width: channels of h_0.
        n_up: up-blocks between the 4x4 map and h_0; every one halves the channels.
    """

    def __init__(self, condition: int, z: int, width: int, n_up: int) -> None:
        super().__init__()
        self.channels = width * 2**n_up
        size = 2 * self.channels * BASE_RESOLUTION**2
        self.fc = nn.Linear(condition + z, size, bias=False)
        self.norm = nn.BatchNorm1d(size)
        self.ups = nn.ModuleList(UpBlock(self.channels >> i, self.channels >> (i + 1)) for i in range(n_up))

    def forward(
        self, c: Float[Tensor, "batch condition"], z: Float[Tensor, "batch z"]
    ) -> Float[Tensor, "batch width side side"]:
        h = F.glu(self.norm(self.fc(torch.cat((c, z), dim=1))), dim=1)
        h = h.view(-1, self.channels, BASE_RESOLUTION, BASE_RESOLUTION)
        for up in self.ups:
            h = up(h)
        return h


class RefinementStage(nn.Module):
    """F_i, i > 0: c and the hidden features before become h_i with half the channels at twice the side (Eq. 7).

    Args:
        condition: dimensions of c.
        channels: channels of h_{i-1}.
        residual_blocks: residual blocks after c has joined.
        skip_channels: channels of all that is concatenated before the up-block.
    """

    def __init__(self, condition: int, channels: int, residual_blocks: int, skip_channels: int) -> None:
        super().__init__()
        self.joint = ConcatConv3x3(condition, channels, 2 * channels)
        self.joint_norm = nn.BatchNorm2d(2 * channels)
        self.residual = nn.Sequential(*(ResidualBlock(channels) for _ in range(residual_blocks)))
        self.up = UpBlock(channels + skip_channels, channels // 2)

    def forward(
        self,
        c: Float[Tensor, "batch condition"],
        h: Float[Tensor, "batch channels side side"],
        skips: tuple[Float[Tensor, "batch _ side side"], ...],
    ) -> Float[Tensor, "batch fewer 2*side 2*side"]:
        """``h`` is h_{i-1}; ``skips`` are concatenated, in their order, after the residual blocks' output."""
        x = gate(self.joint_norm(self.joint(c, h)))
        x = self.residual(x)
        return self.up(torch.cat((x, *skips), dim=1))


class ToRGB(nn.Module):
    """h_i becomes image I_i: conv3x3 without bias, tanh."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 3, padding=1, bias=False)

    def forward(self, h: Float[Tensor, "batch channels side side"]) -> Float[Tensor, "batch 3 side side"]:
        return torch.tanh(self.conv(h))


class Generator(nn.Module):
    """Conditioning augmentation, an initial stage, refinement stages, and a picture from each stage's features."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.conditioning = ConditioningAugmentation(config.embedding, config.condition)
        n_up = int(math.log2(config.resolutions[0] // BASE_RESOLUTION))
        self.initial = InitialStage(config.condition, config.z, config.width, n_up)
        skips = {"none": lambda i: 0, "previous": lambda i: channels[i], "full": lambda i: sum(channels[: i + 1])}
        self.refinements = nn.ModuleList(
            RefinementStage(config.condition, channels[i], config.residual_blocks, skips[config.dense](i))
            for i in range(len(channels) - 1)
        )
        self.to_rgb = nn.ModuleList(ToRGB(n) for n in channels)

    def hidden(
        self, c: Float[Tensor, "batch condition"], z: Float[Tensor, "batch z"], scales: int | None = None
    ) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Hidden features h_0, h_1, ... from the lowest to the highest resolution, or of the first ``scales``."""
        earlier = [self.initial(c, z)]
        for stage in self.refinements[: None if scales is None else scales - 1]:
            earlier.append(stage(c, earlier[-1], self.skips(earlier)))
        return tuple(earlier)

    def skips(self, earlier: list[Tensor]) -> tuple[Tensor, ...]:
        """What the next stage concatenates before its up-block.

        ``full`` takes every earlier h, the latest first, those of lower resolution enlarged by nearest neighbour, so
        that each stage depends on all of h_0 ... h_{i-1} as Eq. 7 says; with two scales it is the same as ``previous``.
        """
        match self.config.dense:
            case "none":
                return ()
            case "previous":
                return (earlier[-1],)
            case "full":
                side = earlier[-1].shape[-1]
                return tuple(
                    h if h.shape[-1] == side else F.interpolate(h, size=side, mode="nearest") for h in reversed(earlier)
                )

    def forward(
        self,
        embedding: Float[Tensor, "batch embedding"],
        z: Float[Tensor, "batch z"],
        eps: Float[Tensor, "batch condition"] | None = None,
        scales: int | None = None,
    ) -> GeneratorOutput:
        """Generate one image per row and scale.

        Args:
            embedding: speech embeddings.
            z: standard normal noise.
            eps: standard normal noise of the conditioning augmentation; None sets c to its mean, mu.
            scales: how many, from the lowest; None is all.
        """
        c, mu, logvar = self.conditioning(embedding, eps)
        hidden = self.hidden(c, z, scales)
        images = tuple(to_rgb(h) for to_rgb, h in zip(self.to_rgb[: len(hidden)], hidden, strict=True))
        return GeneratorOutput(images, mu, logvar, c)


def noise(
    config: GeneratorConfig, n: int, rng: torch.Generator
) -> tuple[Float[Tensor, "n z"], Float[Tensor, "n condition"]]:
    """Standard normal z and eps for ``n`` images."""
    return torch.randn(n, config.z, generator=rng), torch.randn(n, config.condition, generator=rng)
