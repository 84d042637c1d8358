"""The generator begins as the decoder of a conditional variational autoencoder. Not in the paper.

From random weights the RDG shows coloured noise for thousands of steps. So before its first step the generator learns
to rebuild the corpus's own pictures: an encoder reads where a picture has contours, no colours, and gives the
distribution that z is drawn from; c comes from a description of the picture, as in the RDG (Sohn et al. 2015; Larsen et
al. 2016 train a GAN from there). An encoder that sees colours tells them by z, and what is said is ignored. What is
then drawn from z of the standard normal distribution is blurred and has the shapes and colours of the corpus. The
encoder is dropped afterwards; the losses of the RDG are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.losses import kl_loss
from s2igan.models.blocks import init_weights
from s2igan.models.discriminator import FEATURE_SIDE, ConvBlock, DiscriminatorConfig, Trunk
from s2igan.models.generator import Generator
from s2igan.models.perceptual import PerceptualFeatures
from s2igan.settings import at_least
from s2igan.training.autoencoder import perceptual_distance
from s2igan.training.optimisation import adam, backward, optimiser_step, weighted_sum
from s2igan.training.trainer import TrainedState, TrainerConfig


@dataclass(frozen=True)
class WarmStart:
    """How the autoencoder trains; the default is none, as in the paper."""

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    """0 steps leave the generator's initial weights as they are."""
    batch_size: int = 32
    """Of all processes together."""
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    encoder_width: int = 32
    """Channels of the encoder's first convolution."""
    perceptual: float = 0.15
    """Weight of the distance between features of the largest images, beside L1 at all scales."""
    kl_z: float = 0.05
    """Weight of the divergence of z from the standard normal distribution, a mean over its dimensions."""
    kl_c: float = 0.005
    """The same of c."""

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "encoder_width")
        at_least(self, 0, "learning_rate", "warmup_steps", "perceptual", "kl_z", "kl_c")

    @property
    def trains(self) -> bool:
        """Whether there is a warm start."""
        return bool(self.trainer.steps or self.trainer.epochs)


class ContourEncoder(nn.Module):
    """Contours become mu and logvar of z: the trunk of a discriminator and one linear layer.

    Args:
        side: of the pictures; their contours have half of it.
    """

    def __init__(self, side: int, width: int, z: int) -> None:
        super().__init__()
        ladder = DiscriminatorConfig(side // 2, width=width).ladder
        self.trunk = Trunk(ConvBlock(3, ladder[0], batch_norm=False), *(ConvBlock(i, o) for i, o in pairwise(ladder)))
        self.fc = nn.Linear(ladder[-1] * FEATURE_SIDE**2, 2 * z)

    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> tuple[Float[Tensor, "batch z"], Float[Tensor, "batch z"]]:
        edges = contours(images).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        mu, logvar = self.fc(self.trunk(edges).flatten(1)).float().chunk(2, dim=1)
        return mu, logvar


def contours(images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 1 half half"]:
    """How much the colour that changes most changes from a pixel to the next, in both directions together; its mean
    over 2x2 pixels, and over each picture 1."""
    padded = F.pad(images, (0, 1, 0, 1), mode="replicate")
    down, right = padded[..., 1:, :-1] - images, padded[..., :-1, 1:] - images
    change = (down.abs() + right.abs()).amax(dim=1, keepdim=True)
    return F.avg_pool2d(change, 2) / (change.mean(dim=(1, 2, 3), keepdim=True) + 1e-3)


@dataclass
class WarmStartState(TrainedState):
    """What is trained, and the frozen features."""

    generator: Generator
    encoder: ContourEncoder
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


def make_state(
    config: WarmStart, generator: Generator, *, seed: int, device: torch.device, pretrained: bool = True
) -> WarmStartState:
    """A fresh encoder beside a generator that is trained where it is; `pretrained` as of `PerceptualFeatures`."""
    encoder = ContourEncoder(generator.config.resolutions[-1], config.encoder_width, generator.config.z)
    init_weights(encoder, torch.Generator().manual_seed(seed))
    features = PerceptualFeatures(pretrained=pretrained)
    for network in (encoder, features):
        network.to(device).to(memory_format=torch.channels_last)
    parameters = [*generator.parameters(), *encoder.parameters()]
    return WarmStartState(generator, encoder, adam(parameters, config.learning_rate, (0.9, 0.99)), features)


def step(state: WarmStartState, batch: WarmStartBatch, config: WarmStart) -> dict[str, Tensor]:
    """One step of encoder and generator; returns every loss by name."""
    largest = batch.real[max(batch.real)]
    mu, logvar = state.encoder(largest)
    out = state.generator(batch.embedding, mu + torch.exp(logvar / 2) * batch.noise, batch.eps)
    errors = [(fake.float() - real).abs().mean() for fake, real in zip(out.images, batch.real.values(), strict=True)]
    losses = {
        "l1": torch.stack(errors).mean(),
        "perceptual": perceptual_distance(state.features(out.images[-1]), state.features(largest)),
        "kl_z": kl_loss(mu, logvar),
        "kl_c": kl_loss(out.mu, out.logvar),
    }
    weights = {"perceptual": config.perceptual, "kl_z": config.kl_z, "kl_c": config.kl_c}
    backward(weighted_sum(losses, weights))
    norms = optimiser_step({"generator": state.optimiser}, largest_norm=1.0)
    return {name: value.detach() for name, value in losses.items()} | {"mu": out.mu.abs().mean().detach()} | norms
