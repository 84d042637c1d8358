"""Pictures are shifted at random before discriminators see them (Zhao et al. 2020). Not in the paper.

Real, mismatched and fake pictures alike, so that a discriminator cannot learn a few training pictures by heart. Colours
stay as they are, since descriptions name them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from s2igan.errors import UserError


@dataclass(frozen=True)
class Translation:
    """How far pictures are shifted; the default is the paper's."""

    share: float = 0.0
    """Of the side, at most, up or down and left or right; 0 shifts nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise UserError(f"share {self.share} is no shift within a picture; choose a number from 0 to below 1.")


def draw_shifts(config: Translation, n: int, rng: torch.Generator) -> Float[Tensor, "n 3 2"]:
    """Down and right, in sides of the picture, of n real, mismatched and fake pictures each."""
    return config.share * (2 * torch.rand(n, 3, 2, generator=rng) - 1)


def translated(
    images: Float[Tensor, "batch 3 side side"], shifts: Float[Tensor, "batch 2"]
) -> Float[Tensor, "batch 3 side side"]:
    """Images moved down and right by whole pixels; zeros, a middle grey, come in. Gradients reach the images."""
    side = images.shape[-1]
    place = torch.arange(side, device=images.device)
    origin = place - (side * shifts).round().long()[:, :, None]
    rows, columns = (origin[:, :, :, None] == place).to(images.dtype).unbind(1)
    moved = rows[:, None] @ images @ columns[:, None].mT
    return moved.contiguous(memory_format=torch.channels_last)
