"""The generator begins as the decoder of a conditional variational autoencoder. Not in the paper.

From random weights the RDG shows coloured noise for thousands of steps. So before its first step the generator learns
to rebuild the corpus's own pictures at all scales: an encoder reads a picture and gives the distribution that z is drawn
from, and c comes from a description of the picture, as in the RDG (Sohn et al. 2015; Larsen et al. 2016 train a GAN
from there). What it then draws from z of the standard normal distribution is blurred and has the shapes and colours of
the corpus. The encoder is dropped afterwards; the losses of the RDG are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.losses import kl_loss
from s2igan.models.blocks import init_weights
from s2igan.models.discriminator import FEATURE_SIDE, ConvBlock, DiscriminatorConfig, Trunk
from s2igan.models.generator import Generator
from s2igan.models.perceptual import PerceptualFeatures
from s2igan.training.autoencoder import perceptual_distance
from s2igan.training.optimisation import adam, backward, optimiser_step
from s2igan.training.trainer import TrainedState, TrainerConfig


@dataclass(frozen=True)
class WarmStart:
    """How the autoencoder trains; the default is none, as in the paper."""

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    """0 steps leave the generator's initial weights as they are."""
    batch_size: int = 32
    """Of all processes together."""
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    encoder_width: int = 32
    """Channels of the encoder's first convolution."""
    perceptual: float = 0.15
    """Weight of the distance between features, beside L1."""
    kl: float = 1e-2
    """Weight of the divergence of z and of c from the standard normal distribution, each a mean over its dimensions."""

    @property
    def trains(self) -> bool:
        """Whether there is a warm start."""
        return bool(self.trainer.steps or self.trainer.epochs)


class PictureEncoder(nn.Module):
    """A picture becomes mu and logvar of z: the trunk of a discriminator and one linear layer."""

    def __init__(self, side: int, width: int, z: int) -> None:
        super().__init__()
        ladder = DiscriminatorConfig(side, width=width).ladder
        self.trunk = Trunk(ConvBlock(3, ladder[0], batch_norm=False), *(ConvBlock(i, o) for i, o in pairwise(ladder)))
        self.fc = nn.Linear(ladder[-1] * FEATURE_SIDE**2, 2 * z)

    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> tuple[Float[Tensor, "batch z"], Float[Tensor, "batch z"]]:
        mu, logvar = self.fc(self.trunk(images).flatten(1)).float().chunk(2, dim=1)
        return mu, logvar


@dataclass
class WarmStartState(TrainedState):
    """What is trained, and the frozen features."""

    generator: Generator
    encoder: PictureEncoder
    optimiser: torch.optim.Optimizer
    features: PerceptualFeatures

    def members(self) -> dict[str, Any]:
        """Weights and their optimiser."""
        return {"generator": self.generator, "encoder": self.encoder, "optimiser": self.optimiser}


@dataclass
class WarmStartBatch:
    """Pictures by resolution, a description of each, and what is drawn for the step."""

    real: dict[int, Float[Tensor, "batch 3 _ _"]]
    embedding: Float[Tensor, "batch embedding"]
    noise: Float[Tensor, "batch z"]
    """Of z, around what the encoder gives."""
    eps: Float[Tensor, "batch condition"]


def make_state(config: WarmStart, generator: Generator, *, seed: int, device: torch.device) -> WarmStartState:
    """A fresh encoder beside a generator that is trained where it is."""
    encoder = PictureEncoder(generator.config.resolutions[-1], config.encoder_width, generator.config.z)
    init_weights(encoder, torch.Generator().manual_seed(seed))
    features = PerceptualFeatures()
    for network in (encoder, features):
        network.to(device).to(memory_format=torch.channels_last)
    parameters = [*generator.parameters(), *encoder.parameters()]
    return WarmStartState(generator, encoder, adam(parameters, config.learning_rate, (0.9, 0.99)), features)


def step(state: WarmStartState, batch: WarmStartBatch, config: WarmStart) -> dict[str, Tensor]:
    """One step of encoder and generator; returns every loss by name, means over the scales."""
    mu, logvar = state.encoder(batch.real[max(batch.real)])
    out = state.generator(batch.embedding, mu + torch.exp(logvar / 2) * batch.noise, batch.eps)
    pairs = list(zip(out.images, batch.real.values(), strict=True))
    losses = {
        "l1": torch.stack([(fake.float() - real).abs().mean() for fake, real in pairs]).mean(),
        "perceptual": torch.stack(
            [perceptual_distance(state.features(fake), state.features(real)) for fake, real in pairs]
        ).mean(),
        "kl_z": kl_loss(mu, logvar),
        "kl_c": kl_loss(out.mu, out.logvar),
    }
    divergence = losses["kl_z"] + losses["kl_c"]
    backward(losses["l1"] + config.perceptual * losses["perceptual"] + config.kl * divergence)
    norms = optimiser_step({"generator": state.optimiser}, largest_norm=1.0)
    return {name: value.detach() for name, value in losses.items()} | {"mu": out.mu.abs().mean().detach()} | norms
