"""Trains the autoencoder of latent flow on windows of the corpus's own pictures. Not in the paper.

L1, features of a frozen network (Johnson et al. 2016) and, later, a patch discriminator with the hinge loss, as VQGAN
has it (Esser et al. 2021). Noise on the latents keeps what the flow draws near what the decoder knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.models.autoencoder import Autoencoder, AutoencoderConfig, PatchDiscriminator
from s2igan.models.blocks import seeded
from s2igan.models.perceptual import PerceptualFeatures
from s2igan.settings import at_least, shares
from s2igan.training.optimisation import Ema, adam, adamw, backward, frozen, optimiser_step
from s2igan.training.trainer import TrainedState, TrainerConfig

DISCRIMINATOR_LEAD = 0.05
"""Share of the training in which a discriminator trains before what it judges hears of it."""


@dataclass(frozen=True)
class ReconstructionLoss:
    """What a picture is compared by with the one that it should be: L1, and these."""

    perceptual: float = 0.15
    """Weight of the distance between features."""
    discriminator: float = 0.05
    """Weight of the patch discriminator."""
    discriminator_from: float = 0.4
    """Share of the training after which the discriminator counts."""
    discriminator_learning_rate: float = 4e-4

    def __post_init__(self) -> None:
        at_least(self, 0, "perceptual", "discriminator", "discriminator_learning_rate")
        if not 0 <= self.discriminator_from <= 1:
            raise UserError(f"discriminator_from {self.discriminator_from} is no share; choose a number from 0 to 1.")


@dataclass(frozen=True)
class PictureTraining:
    """Settings that the autoencoder and the decoder share; not in the paper."""

    trainer: TrainerConfig
    window: int = 128
    """Side in pixels of the part of a picture that a step trains on; smaller pictures are taken whole."""
    batch_size: int = 16
    """Of all processes together."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    warmup_steps: int = 200
    loss: ReconstructionLoss = field(default_factory=ReconstructionLoss)
    noise: float = 0.1
    """Deviation of the noise on the latents."""
    ema_decay: float = 0.998

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "window")
        at_least(self, 0, "learning_rate", "weight_decay", "warmup_steps", "noise")
        shares(self, "ema_decay")


@dataclass(frozen=True)
class AutoencoderTraining(PictureTraining):
    """Settings of the autoencoder; not in the paper."""

    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    latent: float = 8e-4
    """Weight of the latents' mean square."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "latent")


@dataclass
class AutoencoderState(TrainedState):
    """What is trained, here and by the decoder's stage, and the frozen features."""

    autoencoder: Autoencoder
    discriminator: PatchDiscriminator
    ema: Ema
    optimiser: torch.optim.Optimizer
    discriminator_optimiser: torch.optim.Optimizer
    features: PerceptualFeatures

    def members(self) -> dict[str, Any]:
        """Weights, moving average and optimisers."""
        return {
            "autoencoder": self.autoencoder,
            "discriminator": self.discriminator,
            "ema": self.ema,
            "optimiser": self.optimiser,
            "discriminator_optimiser": self.discriminator_optimiser,
        }


@dataclass
class AutoencoderBatch:
    """Windows of pictures for a step, and what is drawn for it."""

    images: Float[Tensor, "batch 3 side side"]
    noise: Float[Tensor, "batch channels rows columns"]
    progress: float
    """Share of the training that is over."""


def make_state(config: AutoencoderTraining, *, seed: int, device: torch.device) -> AutoencoderState:
    """Networks with initial weights of the seed, and optimisers."""
    with seeded(seed):
        autoencoder, discriminator = Autoencoder(config.network), PatchDiscriminator()
    return trained_state(autoencoder, discriminator, autoencoder, config, device)


def trained_state(
    autoencoder: Autoencoder,
    discriminator: PatchDiscriminator,
    trained: nn.Module,
    config: PictureTraining,
    device: torch.device,
) -> AutoencoderState:
    """The networks on a device, with optimisers.

    Args:
        trained: the part of the autoencoder that takes steps.
    """
    features = PerceptualFeatures()
    for network in (autoencoder, discriminator, features):
        network.to(device).to(memory_format=torch.channels_last)
    return AutoencoderState(
        autoencoder,
        discriminator,
        Ema(autoencoder, config.ema_decay),
        adamw(trained, config.learning_rate, (0.9, 0.99), config.weight_decay),
        adam(discriminator.parameters(), config.loss.discriminator_learning_rate, (0.5, 0.99)),
        features,
    )


def step(state: AutoencoderState, batch: AutoencoderBatch, config: AutoencoderTraining) -> dict[str, Tensor]:
    """One step of the autoencoder, then one of the discriminator on the same reconstructions."""
    latents = state.autoencoder.encode(batch.images)
    size = latents.float().square().mean()
    return {"latent": size.detach()} | reconstruction_step(state, latents, batch, config, also=config.latent * size)


def reconstruction_step(
    state: AutoencoderState,
    latents: Float[Tensor, "batch channels rows columns"],
    batch: AutoencoderBatch,
    config: PictureTraining,
    *,
    also: Tensor | float = 0.0,
) -> dict[str, Tensor]:
    """Makes what is decoded of latents and noise nearer to the pictures, then trains the discriminator on both.

    Args:
        also: a loss to add.
    """
    real, weights, discriminator = batch.images, config.loss, state.discriminator
    fake = state.autoencoder.decode(latents + config.noise * batch.noise)
    losses = {
        "l1": (fake.float() - real).abs().mean(),
        "perceptual": perceptual_distance(state.features(fake), state.features(real)),
    }
    loss = also + losses["l1"] + weights.perceptual * losses["perceptual"]
    if batch.progress >= weights.discriminator_from:
        with frozen([discriminator]):
            losses["adversarial"] = -discriminator(fake).float().mean()
        loss = loss + weights.discriminator * losses["adversarial"]
    backward(loss)
    norms = optimiser_step({"autoencoder": state.optimiser}, largest_norm=1.0)
    if batch.progress >= weights.discriminator_from - DISCRIMINATOR_LEAD:
        losses["discriminator"] = hinge_loss(discriminator(real), discriminator(fake.detach()))
        backward(losses["discriminator"])
        norms |= optimiser_step({"discriminator": state.discriminator_optimiser})
    state.ema.update(state.autoencoder)
    return {name: value.detach() for name, value in losses.items()} | norms


def perceptual_distance(fake: list[Tensor], real: list[Tensor]) -> Float[Tensor, ""]:
    """Sum over the maps of the mean squared difference, in units of the real map's variance."""
    pairs = ((a.float(), b.float()) for a, b in zip(fake, real, strict=True))
    return torch.stack([(a - b).square().mean() / (b.var() + 1e-3) for a, b in pairs]).sum()


def hinge_loss(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """Of a discriminator (Lim & Ye 2017)."""
    return (1 - real.float()).relu().mean() + (1 + fake.float()).relu().mean()
