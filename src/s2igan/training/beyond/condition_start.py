"""A condition that begins at full strength. Not in the paper.

Of an embedding of unit length the paper's initial weights make a mu of about 0.03 beside noise of deviation 1: for
thousands of steps neither generator nor discriminators can tell descriptions apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from s2igan.models.generator import Generator


@dataclass(frozen=True)
class ConditionStart:
    """Where the conditioning augmentation begins; the defaults are the paper's initialisation."""

    gain: float = 1.0
    """Factor on the initial weights that give mu. Twice the square root of the embedding's dimensions starts with a mu
    of about 1."""
    logvar: float = 0.0
    """Where logvar begins; 0 is a deviation of 1."""


@torch.no_grad()
def start_condition(generator: Generator, config: ConditionStart) -> None:
    """Changes the initial weights of the conditioning augmentation.

    Its linear layer has rows for mu and logvar, and as many again for the gates of the GLU, which begin at one half.
    """
    fc, n = generator.conditioning.fc, generator.config.condition
    fc.weight[:n] *= config.gain
    fc.bias[n : 2 * n] += 2 * config.logvar
