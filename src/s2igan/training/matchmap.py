"""Trains word embeddings by matching frames of speech with regions of pictures. Not in the paper.

Within a batch each description is told from the others by its picture, and each picture by its description (InfoNCE,
van den Oord et al. 2018), as Eqs. 1 to 4 do with whole embeddings; other pictures of the same class are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from s2igan.models.blocks import seeded
from s2igan.models.matchmap import Matchmap, MatchmapConfig
from s2igan.settings import at_least
from s2igan.training.optimisation import adamw, backward, optimiser_step
from s2igan.training.trainer import TrainedState, TrainerConfig


@dataclass(frozen=True)
class MatchmapTraining:
    """Settings; not in the paper."""

    trainer: TrainerConfig
    network: MatchmapConfig = field(default_factory=MatchmapConfig)
    batch_size: int = 128
    """Of all processes together; each tells the descriptions of its own share apart."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 60

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size")
        at_least(self, 0, "learning_rate", "weight_decay", "warmup_steps")


@dataclass
class MatchmapState(TrainedState):
    """What is trained."""

    matchmap: Matchmap
    optimiser: torch.optim.Optimizer

    def members(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"matchmap": self.matchmap, "optimiser": self.optimiser}


@dataclass
class MatchmapBatch:
    """Descriptions and their pictures, row by row."""

    frames: Float[Tensor, "batch frames dims"]
    """Local frames of the speech encoder."""
    inside: Bool[Tensor, "batch frames"]
    latents: Float[Tensor, "batch channels 8 8"]
    class_ids: Int[Tensor, " batch"] | None
    """None where the set has no classes."""


def make_state(
    config: MatchmapTraining, frames: int, latent_channels: int, *, seed: int, device: torch.device
) -> MatchmapState:
    """Networks with initial weights of the seed, and the optimiser.

    Args:
        frames: dimensions of a local frame.
    """
    with seeded(seed):
        matchmap = Matchmap(frames, latent_channels, config.network)
    matchmap.to(device).to(memory_format=torch.channels_last)
    return MatchmapState(matchmap, adamw(matchmap, config.learning_rate, (0.9, 0.999), config.weight_decay))


def step(state: MatchmapState, batch: MatchmapBatch, config: MatchmapTraining) -> dict[str, Tensor]:
    """One step on a batch."""
    matchmap = state.matchmap
    words = matchmap.words(batch.frames).float()
    similarity = matchmap.similarity(words, batch.inside, matchmap.regions(batch.latents))
    loss = info_nce(similarity, batch.class_ids)
    backward(loss)
    accuracy = (similarity.argmax(1) == torch.arange(len(similarity), device=similarity.device)).float().mean()
    norms = optimiser_step({"matchmap": state.optimiser})
    return {"matching": loss.detach(), "accuracy": accuracy} | norms


def info_nce(similarity: Float[Tensor, "batch batch"], class_ids: Int[Tensor, " batch"] | None) -> Float[Tensor, ""]:
    """Cross-entropy of finding the own picture by the description and the own description by the picture; pairs of one
    class that do not belong together are no candidates."""
    rows = torch.arange(len(similarity), device=similarity.device)
    if class_ids is not None:
        other = (class_ids[:, None] == class_ids) & (rows[:, None] != rows)
        similarity = similarity.masked_fill(other, -torch.inf)
    return F.cross_entropy(similarity, rows) + F.cross_entropy(similarity.T, rows)
