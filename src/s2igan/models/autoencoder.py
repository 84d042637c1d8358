"""The autoencoder of latent flow: pictures to 8 x 8 latents and back, coarse to fine. Not in the paper.

The encoder reads pictures reduced to 64 px, and the decoder draws those first. For larger sizes an upsampler goes on
from its features, as the later stages of the RDG do from the hidden features of the earlier ones. So every size has as
many latents, and costs the flow the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.settings import at_least

GROUPS = 8
"""Of the group norms."""
BASE_SIDE = 64
"""Side in pixels of the pictures that are encoded and drawn first."""
LATENT_SIDE = 8


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder."""

    size: int = 64
    """Side of the pictures in pixels, a multiple of 64."""
    latent_channels: int = 12
    """Numbers at each of the 8 x 8 places."""
    widths: tuple[int, ...] = (24, 48, 96, 128)
    """Channels at 64, 32, 16 and 8 places along a side."""
    upsampler_width: int = 64
    upsampler_blocks: int = 3
    """Residual blocks of the upsampler; only pictures over 64 px have one."""

    def __post_init__(self) -> None:
        at_least(self, BASE_SIDE, "size")
        at_least(self, 1, "latent_channels", "widths", "upsampler_width")
        at_least(self, 0, "upsampler_blocks")
        if self.size % BASE_SIDE:
            raise UserError(f"an autoencoder of {self.size} px is not made here; choose a multiple of {BASE_SIDE}.")
        if len(self.widths) != 4 or any(width % GROUPS for width in (*self.widths, self.upsampler_width)):
            raise UserError(
                f"widths {self.widths} must be four multiples of {GROUPS}, and upsampler_width {self.upsampler_width} "
                "one."
            )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        return (self.latent_channels, LATENT_SIDE, LATENT_SIDE)

    @property
    def enlargement(self) -> int:
        """Pixels of a picture along a side of a pixel of its reduction to 64 px."""
        return self.size // BASE_SIDE


class ResidualBlock(nn.Module):
    """x + convolutions of x; it begins as the identity.

    Args:
        normed: with a group norm in front. Its statistics are those of the whole map, so a network that trains on parts
            of a map and is used on whole ones takes none.
    """

    def __init__(self, channels: int, *, normed: bool = True) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(second.weight)
        norm = nn.GroupNorm(GROUPS, channels) if normed else nn.Identity()
        self.block = nn.Sequential(norm, nn.SiLU(), first, nn.SiLU(), second)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        return x + self.block(x)


class Upsampler(nn.Module):
    """From the decoder's last features and its picture to the larger one: what is added to the enlarged picture."""

    def __init__(self, features: int, config: AutoencoderConfig) -> None:
        super().__init__()
        width, self.enlargement = config.upsampler_width, config.enlargement
        last = nn.Conv2d(width, 3 * self.enlargement**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            nn.Conv2d(features + 3, width, 3, padding=1),
            *(ResidualBlock(width, normed=False) for _ in range(config.upsampler_blocks)),
            nn.SiLU(),
            last,
            nn.PixelShuffle(self.enlargement),
        )

    @property
    def reach(self) -> int:
        """How far around itself, in pixels of its input, a pixel of the output depends on them."""
        return sum(layer.kernel_size[0] // 2 for layer in self.layers.modules() if isinstance(layer, nn.Conv2d))

    def forward(
        self, features: Float[Tensor, "batch features rows columns"], image: Float[Tensor, "batch 3 rows columns"]
    ) -> Float[Tensor, "batch 3 _ _"]:
        larger = F.interpolate(image, scale_factor=self.enlargement, mode="bilinear")
        return larger + self.layers(torch.cat([features, image], dim=1))


class NormalisedLatents(nn.Module):
    """Mean and deviation of every channel of an autoencoder's latents, by which it normalises them."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    @torch.no_grad()
    def normalise(self, latents: Float[Tensor, "pictures channels 8 8"]) -> None:
        """Takes mean and deviation from the latents of the training pictures, as `encode` gave them."""
        whole = latents.double()
        self.mean += self.deviation * whole.mean((0, 2, 3))[:, None, None]
        self.deviation *= whole.std((0, 2, 3))[:, None, None]

    @torch.no_grad()
    def normalise_as(self, mean: Float[Tensor, "channels 1 1"], deviation: Float[Tensor, "channels 1 1"]) -> None:
        """Takes mean and deviation as they are given."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)


class Autoencoder(NormalisedLatents):
    """Convolutional encoder and decoder.

    `encode` and `decode` speak of *normalised* latents: mean 0 and deviation 1 of every channel over the training
    pictures, as `normalise` sets them; until then they are as the encoder gives them.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config.latent_channels)
        self.config = config
        widths = config.widths
        encoder: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for level, (before, after) in enumerate(pairwise(widths)):
            encoder += [nn.SiLU(), nn.Conv2d(before, after, 4, stride=2, padding=1)]
            encoder += [ResidualBlock(after) for _ in range(level)]
        encoder += [nn.GroupNorm(GROUPS, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], config.latent_channels, 1)]
        decoder: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)]
        decoder += [ResidualBlock(widths[-1]) for _ in range(2)]
        for before, after in pairwise(reversed(widths)):
            decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1), ResidualBlock(after)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)
        self.to_rgb = nn.Sequential(nn.GroupNorm(GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 3, 3, padding=1))
        self.upsampler = Upsampler(widths[0], config) if config.enlargement > 1 else None

    def encode(self, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch channels 8 8"]:
        """Normalised latents of images in [-1, 1], which are reduced to 64 px first."""
        encoded: Tensor = self.encoder(reduced(images))
        return (encoded - self.mean) / self.deviation

    def decode_base(
        self, latents: Float[Tensor, "batch channels 8 8"]
    ) -> tuple[Float[Tensor, "batch features 64 64"], Float[Tensor, "batch 3 64 64"]]:
        """The decoder's last features, and the picture of 64 px that they hold."""
        features = self.decoder(latents * self.deviation + self.mean)
        return features, self.to_rgb(features)

    def decode(self, latents: Float[Tensor, "batch channels 8 8"]) -> Float[Tensor, "batch 3 size size"]:
        """Images, about in [-1, 1], of normalised latents."""
        features, image = self.decode_base(latents)
        drawn: Tensor = image if self.upsampler is None else self.upsampler(features, image)
        return drawn


def reduced(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 3 64 64"]:
    """Images at 64 px."""
    if images.shape[-1] == BASE_SIDE:
        return images
    small = F.interpolate(images, size=(BASE_SIDE, BASE_SIDE), mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)


class PatchDiscriminator(nn.Module):
    """Scores of overlapping patches of a picture (Isola et al. 2017), with spectral norm (Miyato et al. 2018)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 1)
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise(channels)):
            kernel, stride = (4, 2) if level < 2 else (3, 1)
            conv = nn.Conv2d(before, after, kernel, stride, padding=1)
            layers += [nn.utils.parametrizations.spectral_norm(conv), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 1 rows columns"]:
        scores: Tensor = self.layers(images)
        return scores
