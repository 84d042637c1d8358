"""Trains the autoencoder of latent flow on the corpus's own pictures at 64 px. Not in the paper.

L1, features of a frozen network (Johnson et al. 2016) and, later, a patch discriminator with the hinge loss, as VQGAN
has it (Esser et al. 2021). Noise on the latents keeps what the flow draws near what the decoder knows. Larger pictures
are made from those of 64 px by an upsampler, which trains afterwards (`training/upsampler.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from s2igan.errors import UserError
from s2igan.models.autoencoder import Autoencoder, AutoencoderConfig, PatchDiscriminator, reduced
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
    discriminator: float = 0.03
    """Weight of the patch discriminator."""
    discriminator_from: float = 0.5
    """Share of the training after which the discriminator counts."""
    discriminator_learning_rate: float = 4e-4

    def __post_init__(self) -> None:
        at_least(self, 0, "perceptual", "discriminator", "discriminator_learning_rate")
        if not 0 <= self.discriminator_from <= 1:
            raise UserError(f"discriminator_from {self.discriminator_from} is no share; choose a number from 0 to 1.")


@dataclass(frozen=True)
class PictureTraining:
    """Settings that the autoencoder and the upsampler share; not in the paper."""

    trainer: TrainerConfig
    batch_size: int = 16
    """Of all processes together."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    warmup_steps: int = 200
    loss: ReconstructionLoss = field(default_factory=ReconstructionLoss)
    noise: float = 0.1
    """Deviation of the noise on the latents."""
    ema_decay: float = 0.998
    reach: float = 1.0
    """Crops keep to this share of the stored picture's margins around its middle."""

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size")
        at_least(self, 0, "learning_rate", "weight_decay", "warmup_steps", "noise")
        shares(self, "ema_decay")
        if not 0 <= self.reach <= 1:
            raise UserError(f"reach {self.reach} is no share; choose a number from 0 to 1.")


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
    """What is trained, here and by the upsampler's stage, and the frozen features."""

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
    """Pictures of a step, and what is drawn for it."""

    images: Float[Tensor, "batch 3 size size"]
    noise: Float[Tensor, "batch channels 8 8"]
    progress: float
    """Share of the training that is over."""


def make_state(config: AutoencoderTraining, *, seed: int, device: torch.device) -> AutoencoderState:
    """Networks with initial weights of the seed, and optimisers; the upsampler stays as it begins."""
    with seeded(seed):
        autoencoder, discriminator = Autoencoder(config.network), PatchDiscriminator()
    features = PerceptualFeatures()
    for network in (autoencoder, discriminator, features):
        network.to(device).to(memory_format=torch.channels_last)
    return AutoencoderState(
        autoencoder,
        discriminator,
        Ema(autoencoder, config.ema_decay),
        adamw(autoencoder, config.learning_rate, (0.9, 0.99), config.weight_decay),
        adam(discriminator.parameters(), config.loss.discriminator_learning_rate, (0.5, 0.99)),
        features,
    )


def step(state: AutoencoderState, batch: AutoencoderBatch, config: AutoencoderTraining) -> dict[str, Tensor]:
    """One step of the autoencoder, then one of the discriminator on the same reconstructions."""
    network = state.autoencoder
    latents = network.encode(batch.images)
    _, drawn = network.decode_base(latents + config.noise * batch.noise)
    size = latents.float().square().mean()
    return {"latent": size.detach()} | reconstruction_step(
        state, drawn, reduced(batch.images), config.loss, batch.progress, also=config.latent * size
    )


def reconstruction_step(
    state: AutoencoderState,
    fake: Float[Tensor, "batch 3 side side"],
    real: Float[Tensor, "batch 3 side side"],
    config: ReconstructionLoss,
    progress: float,
    *,
    also: Tensor | float = 0.0,
) -> dict[str, Tensor]:
    """Makes what drew `fake` draw nearer to `real`, then trains the discriminator on both.

    Args:
        also: a loss to add.
    """
    discriminator = state.discriminator
    losses = {
        "l1": (fake.float() - real).abs().mean(),
        "perceptual": perceptual_distance(state.features(fake), state.features(real)),
    }
    loss = also + losses["l1"] + config.perceptual * losses["perceptual"]
    if progress >= config.discriminator_from:
        with frozen([discriminator]):
            losses["adversarial"] = -discriminator(fake).float().mean()
        loss = loss + config.discriminator * losses["adversarial"]
    backward(loss)
    norms = optimiser_step({"autoencoder": state.optimiser}, largest_norm=1.0)
    if progress >= config.discriminator_from - DISCRIMINATOR_LEAD:
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
