"""Words of a description matched with regions of a picture, without text: matchmaps (Harwath et al. 2018). Not in the
paper.

Each frame of speech that knows only the second around it is scored against every region of the picture; the score of a
description is the sum over its frames of the best region ("sum of audio, maximum of image"). Since the frames are local
and their scores are added, a frame learns what its own words look like and not which picture the sentence is about. The
flow attends to these word embeddings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.models.autoencoder import LATENT_SIDE
from s2igan.settings import at_least

GROUPS = 8
"""Of the group norms."""
FIRST_SCALE = 0.2
"""Factor on the similarities where training begins. With 2 the first steps make all words short, and it takes a hundred
steps to leave that."""


@dataclass(frozen=True)
class MatchmapConfig:
    """Sizes of both sides."""

    window: int = 12
    """Steps of the speech encoder's recurrent network that a frame knows: 1.1 s with the strides of `birds`."""
    hop: int = 4
    """Steps between two windows, whose middle ones are kept."""
    words: int = 96
    """Dimensions of a word embedding."""
    hidden: int = 256
    region_width: int = 96
    """Channels of the network that reads the picture's latents."""
    sharpness: float = 8.0
    """Of the smooth maximum over the regions: log of the sum of exponentials, at this scale."""

    def __post_init__(self) -> None:
        at_least(self, 1, "window", "hop", "words", "hidden", "region_width", "sharpness")
        if self.region_width % GROUPS:
            raise UserError(f"region_width {self.region_width} must be a multiple of {GROUPS}.")


class WordEncoder(nn.Module):
    """Local frames of speech to word embeddings: a direction, and a length that says how much the frame tells."""

    def __init__(self, frames: int, config: MatchmapConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            nn.LayerNorm(frames, elementwise_affine=False),
            nn.Linear(frames, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.words + 1),
        )

    def forward(self, frames: Float[Tensor, "*batch frames"]) -> Float[Tensor, "*batch words"]:
        """In float32 within bf16 too, as `Matchmap.similarity`."""
        with torch.autocast(frames.device.type, enabled=False):
            out = self.layers(frames.float())
        return F.normalize(out[..., :-1], dim=-1) * F.softplus(out[..., -1:])


class RegionEncoder(nn.Module):
    """Latents of a picture to embeddings of its 4 x 4 regions, and two of the whole, all of unit length."""

    GLOBAL = 2
    SIDE = LATENT_SIDE // 2
    """Regions along a side; they come first, row by row."""

    def __init__(self, latent_channels: int, config: MatchmapConfig) -> None:
        super().__init__()
        width, side = config.region_width, self.SIDE
        self.words = config.words
        self.first = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(2)
        )
        self.down = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(1, 2 * width, side, side))
        self.region = nn.Conv2d(2 * width, config.words, 1)
        self.whole = nn.Linear(2 * width, self.GLOBAL * config.words)

    def forward(self, latents: Float[Tensor, "batch channels 8 8"]) -> Float[Tensor, "batch regions words"]:
        x = self.first(latents)
        for block in self.blocks:
            x = x + block(x)
        x = F.silu(self.down(F.silu(x)) + self.position)
        whole = self.whole(x.mean((2, 3))).view(len(x), self.GLOBAL, self.words)
        regions = self.region(x).flatten(2).transpose(1, 2)
        return F.normalize(torch.cat([regions, whole], dim=1).float(), dim=-1)


class Matchmap(nn.Module):
    """Both sides, and the scale of their similarity."""

    def __init__(self, frames: int, latent_channels: int, config: MatchmapConfig) -> None:
        super().__init__()
        self.config = config
        self.words = WordEncoder(frames, config)
        self.regions = RegionEncoder(latent_channels, config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    def similarity(
        self,
        words: Float[Tensor, "speech frames words"],
        inside: Bool[Tensor, "speech frames"],
        regions: Float[Tensor, "images regions words"],
    ) -> Float[Tensor, "speech images"]:
        """Score of every description with every picture; frames outside their utterance count nothing.

        In float32 within bf16 too: at first cosines differ by less than bf16 rounds them, and nothing would be learnt
        for a hundred steps.
        """
        told = words[inside]  # padding is not computed
        with torch.autocast(words.device.type, enabled=False):
            every = told @ regions.flatten(0, 1).T
        length = told.norm(dim=-1, keepdim=True)
        cosines = (every / length.clamp(min=1e-6)).view(len(told), *regions.shape[:2])
        sharpness = self.config.sharpness
        best = length * torch.logsumexp(sharpness * cosines, dim=2) / sharpness
        of_speech = torch.nonzero(inside)[:, 0]
        total = torch.zeros(len(words), len(regions), dtype=best.dtype, device=best.device)
        return self.log_scale.exp() * total.index_add(0, of_speech, best)
