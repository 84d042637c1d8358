"""The autoencoder of latent flow: pictures to latents and back. Not in the paper.

Pictures are unfolded to 64 x 64 places first (8 x 8 pixels of a picture of 512 px are one place), so every size costs
about the same. Those of 64 px become 8 x 8 latents, larger ones 16 x 16, which are folded to 8 x 8 places with four
times the numbers: what comes after is of one shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.settings import at_least

BASE_SIDE = 64
"""Places along a side that pictures are unfolded to."""
LATENT_SIDE = 8


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder."""

    size: int = 64
    """Side of the pictures in pixels, a multiple of 64."""
    channels: int = 12
    """Numbers at each place of its own latents, before they are folded."""
    widths: tuple[int, ...] = (32, 64, 128, 160)
    """Channels at 64, 32, 16 and 8 places along a side; pictures over 64 px use the first three."""

    def __post_init__(self) -> None:
        at_least(self, 1, "channels", "widths")
        at_least(self, BASE_SIDE, "size")
        if self.size % BASE_SIDE:
            raise UserError(f"an autoencoder of {self.size} px is not made here; choose a multiple of {BASE_SIDE}.")
        if len(self.widths) != 4:
            raise UserError(f"widths {self.widths} must be four.")

    @property
    def fold(self) -> int:
        """Its own latents along a side of one of the 8 x 8 places."""
        return 1 if self.size == BASE_SIDE else 2

    @property
    def latent_channels(self) -> int:
        """Numbers at each of the 8 x 8 places."""
        return self.channels * self.fold**2

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        return (self.latent_channels, LATENT_SIDE, LATENT_SIDE)


class ResidualBlock(nn.Module):
    """x + convolutions of x; it begins as the identity.

    Its norm is over the channels of each place alone, so a network that trains on parts of pictures draws whole ones
    alike.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(second.weight)
        self.block = nn.Sequential(PlaceNorm(channels), nn.SiLU(), first, nn.SiLU(), second)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        return x + self.block(x)


class PlaceNorm(nn.Module):
    """Root mean square norm over the channels of each place (Zhang & Sennrich 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt() * self.weight


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
    pictures, as `normalise` sets them; until then they are as the encoder gives them. Both take windows of pictures,
    too, a multiple of 1 / 8 of their side large.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config.latent_channels)
        self.config = config
        enlargement = config.size // BASE_SIDE
        widths = config.widths[: 5 - config.fold]
        colours, channels = 3 * enlargement**2, config.channels
        encoder: list[nn.Module] = [nn.PixelUnshuffle(enlargement), nn.Conv2d(colours, widths[0], 3, padding=1)]
        for level, (before, after) in enumerate(pairwise(widths)):
            encoder += [nn.SiLU(), nn.Conv2d(before, after, 4, stride=2, padding=1)]
            encoder += [ResidualBlock(after) for _ in range(1 + level)]
        encoder += [
            PlaceNorm(widths[-1]),
            nn.SiLU(),
            nn.Conv2d(widths[-1], channels, 1),
            nn.PixelUnshuffle(config.fold),
        ]
        decoder: list[nn.Module] = [nn.PixelShuffle(config.fold), nn.Conv2d(channels, widths[-1], 3, padding=1)]
        decoder += [ResidualBlock(widths[-1]) for _ in range(2)]
        for before, after in pairwise(reversed(widths)):
            decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1), ResidualBlock(after)]
        decoder += [PlaceNorm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], colours, 3, padding=1)]
        decoder += [nn.PixelShuffle(enlargement)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows columns"]:
        """Normalised latents of images in [-1, 1]."""
        encoded: Tensor = self.encoder(images)
        return (encoded - self.mean) / self.deviation

    def decode(self, latents: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        """Images, about in [-1, 1], of normalised latents."""
        drawn: Tensor = self.decoder(latents * self.deviation + self.mean)
        return drawn


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
