"""Discriminators stay smooth around real pictures: R1 by a second forward pass. Not in the paper.

R1 (Mescheder et al. 2018) is the squared norm of the gradient of D at real images, which needs the gradient of a
gradient. A difference in a random direction n does without: the mean of ((D(x + s n) - D(x)) / s)^2 over n is that
norm where s is small (Lin et al. 2025, "Diffusion adversarial post-training", call it approximated R1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from s2igan.errors import UserError
from s2igan.losses import LogitPair
from s2igan.settings import at_least


@dataclass(frozen=True)
class NoisePenalty:
    """How much it counts; the default is the paper's."""

    weight: float = 0.0
    """Of the penalty in the loss of each discriminator; 0 leaves it out."""
    deviation: float = 0.1
    """Of the noise on real images in [-1, 1]. In bf16 a tenth of it is within the rounding of the logits."""
    every: int = 4
    """It is taken in one of so many steps, with so many times the weight."""

    def __post_init__(self) -> None:
        at_least(self, 0, "weight", "deviation")
        at_least(self, 1, "every")
        if self.deviation == 0:
            raise UserError("deviation 0 would divide by nothing; choose a number above it.")

    def due(self, step: int) -> bool:
        """Whether a step has the penalty."""
        return self.weight > 0 and step % self.every == 0


def unit_noise(resolutions: tuple[int, ...], n: int, rng: torch.Generator) -> dict[int, Float[Tensor, "n 3 _ _"]]:
    """Standard normal noise at every scale."""
    return {side: torch.randn(n, 3, side, side, generator=rng) for side in resolutions}


def noise_penalty(clean: LogitPair, noisy: LogitPair, deviation: float) -> Float[Tensor, ""]:
    """Mean over a batch of the squared slope of a discriminator, the conditional and the unconditional head added.

    Args:
        clean: logits of real images.
        noisy: those of the same images with noise of the deviation.
    """
    slopes = [(b.float() - a.float()) / deviation for a, b in zip(clean, noisy, strict=True)]
    return torch.stack([slope.square().mean() for slope in slopes]).sum()
