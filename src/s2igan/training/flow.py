"""Trains the velocity network of latent flow: conditional flow matching (Lipman et al. 2023). Not in the paper.

Beside the velocity, the tokens of an inner block learn to tell the embeddings of the regions that the picture will have
there, as the matchmap's frozen region encoder gives them (representation alignment, Yu et al. 2025): what is said has
been matched with these embeddings, so the network learns early which words belong where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.models.autoencoder import LATENT_SIDE
from s2igan.models.blocks import seeded
from s2igan.models.flow import FlowNetwork, FlowNetworkConfig
from s2igan.models.matchmap import RegionEncoder
from s2igan.settings import at_least, shares
from s2igan.training.optimisation import Ema, adamw, backward, optimiser_step
from s2igan.training.trainer import TrainedState, TrainerConfig


@dataclass(frozen=True)
class FlowTraining:
    """Settings; not in the paper."""

    trainer: TrainerConfig
    network: FlowNetworkConfig = field(default_factory=FlowNetworkConfig)
    batch_size: int = 32
    """Of all processes together."""
    learning_rate: float = 1.5e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.02
    warmup_steps: int = 200
    time_mean: float = -1.2
    """t is the logistic function of a normal variable with this mean: below 0, more steps see mostly noise, where the
    description decides what will be where."""
    time_deviation: float = 1.2
    alignment: float = 0.5
    """Weight of the alignment of inner tokens with the regions' embeddings; 0 is none."""
    alignment_block: int = 2
    """Whose tokens are aligned, counted from 0."""
    condition_dropout: float = 0.1
    """Share of descriptions that are left out, for classifier-free guidance."""
    ema_decay: float = 0.9995
    views: int = 16
    """Crops and flips of each picture whose latents are computed once."""
    reach: float = 0.5
    """Crops keep to this share of the stored picture's margin around its middle: what a crop cuts off, the flow learns
    to cut off."""
    steps: int = 8
    """In use: evaluations of the velocity for a picture."""
    guidance: float = 2.5
    """In use: strength of classifier-free guidance; 1 is none."""
    shift: float = 3.0
    """In use: how much denser the times are near the noise; 1 spaces them evenly."""

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "views", "steps")
        at_least(self, 0, "learning_rate", "weight_decay", "warmup_steps", "time_deviation")
        at_least(self, 0, "alignment", "alignment_block", "guidance", "shift")
        shares(self, "betas", "condition_dropout", "ema_decay")
        if self.alignment and not 0 <= self.alignment_block < self.network.depth:
            raise UserError(
                f"alignment_block {self.alignment_block} is none of the network's {self.network.depth} blocks; count "
                "from 0."
            )
        if self.alignment and self.network.patch * RegionEncoder.SIDE != LATENT_SIDE:
            raise UserError(f"the matchmap's regions are no patches of {self.network.patch} latents; set alignment 0.")
        if not 0 < self.reach <= 1:
            raise UserError(f"reach {self.reach} is no share of the margin; choose a number over 0 and up to 1.")


@dataclass
class FlowState(TrainedState):
    """What is trained."""

    network: FlowNetwork
    alignment: nn.Module
    """From inner tokens to embeddings of regions; only training needs it."""
    regions: RegionEncoder
    """Frozen."""
    ema: Ema
    optimiser: torch.optim.Optimizer

    def members(self) -> dict[str, Any]:
        """Weights, moving average and optimiser."""
        return {"network": self.network, "alignment": self.alignment, "ema": self.ema, "optimiser": self.optimiser}


@dataclass
class FlowBatch:
    """Latents, the words of a description of each, and the step's draws."""

    latents: Float[Tensor, "batch channels 8 8"]
    noise: Float[Tensor, "batch channels 8 8"]
    t: Float[Tensor, " batch"]
    """Share of the latents in what the network sees."""
    words: Float[Tensor, "batch frames words"]
    inside: Bool[Tensor, "batch frames"]
    """Nowhere true where the description is left out."""


def make_state(
    config: FlowTraining, latent_channels: int, regions: RegionEncoder, *, seed: int, device: torch.device
) -> FlowState:
    """The network with initial weights of the seed, its average and its optimiser.

    Args:
        regions: the trained region encoder of the matchmap.
    """
    width, words = config.network.width, regions.words
    with seeded(seed):
        network = FlowNetwork(config.network, latent_channels, words)
        alignment = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, words))
    trained = nn.ModuleDict({"network": network, "alignment": alignment}).to(device)
    optimiser = adamw(trained, config.learning_rate, config.betas, config.weight_decay)
    return FlowState(network, alignment, regions, Ema(network, config.ema_decay), optimiser)


def step(state: FlowState, batch: FlowBatch, config: FlowTraining) -> dict[str, Tensor]:
    """One step: the velocity from the noise to the latents, at a time of each row's own.

    The squared error counts t^2 + (1 - t)^2 times, which is one for the network's own output (`FlowNetwork`).
    """
    rows = batch.t[:, None, None, None]
    mixed = (1 - rows) * batch.noise + rows * batch.latents
    velocity, tokens = state.network.with_tokens(
        mixed, batch.t, batch.words, batch.inside, block=config.alignment_block
    )
    error = (velocity.float() - (batch.latents - batch.noise)).square().mean((1, 2, 3))
    loss = velocity_loss = (error * (batch.t**2 + (1 - batch.t) ** 2)).mean()
    losses = {"velocity": velocity_loss.detach()}
    if config.alignment:
        with torch.no_grad():
            regions = state.regions(batch.latents)[:, : tokens.shape[1]]
        cosine = F.cosine_similarity(state.alignment(tokens).float(), regions, dim=-1).mean()
        losses["alignment"] = cosine.detach()
        loss = loss - config.alignment * cosine
    backward(loss)
    norms = optimiser_step({"flow": state.optimiser}, largest_norm=1.0)
    state.ema.update(state.network)
    return losses | norms
