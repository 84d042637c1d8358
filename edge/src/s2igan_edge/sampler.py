"""Latents from noise by Euler's method with classifier-free guidance, as `s2igan.models.flow.sample` does it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Velocity = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Of latents x, times t, words, and which of them are inside their utterance; a row each."""


def sample(
    velocity: Velocity,
    noise: Float[np.ndarray, "batch channels side side"],
    words: Float[np.ndarray, "batch frames words"],
    inside: Bool[np.ndarray, "batch frames"],
    *,
    steps: int,
    guidance: float,
    shift: float,
) -> Float[np.ndarray, "batch channels side side"]:
    """Integrates the velocity from noise to latents.

    Args:
        steps: evaluations of the velocity.
        guidance: 1 follows the conditional velocity, more goes beyond it, away from the unconditional one.
        shift: times are t = u / (u + shift (1 - u)) of evenly spaced u.
    """
    u = np.linspace(0, 1, steps + 1, dtype=np.float32)
    times = u / (u + np.float32(shift) * (1 - u))
    both_words, both_inside = np.concatenate([words, words]), np.concatenate([inside, np.zeros_like(inside)])
    x = noise
    for t, after in pairwise(times):
        if guidance == 1:
            v = velocity(x, np.full(len(x), t), words, inside)
        else:
            twice = np.concatenate([x, x])
            told, untold = np.split(velocity(twice, np.full(len(twice), t), both_words, both_inside), 2)
            v = untold + np.float32(guidance) * (told - untold)
        x = x + (after - t) * v
    return x
