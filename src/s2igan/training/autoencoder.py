"""Trains the autoencoder of latent flow on the corpus's own pictures. Not in the paper.

At each scale L1, features of a frozen network (Johnson et al. 2016) and, later, a patch discriminator with the hinge
loss, as VQGAN has it (Esser et al. 2021). Noise on the latents keeps what the flow draws near what the decoder knows.
Pictures of 64 px come first; for larger sizes the upsampler joins them later, and sees a window of each picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from s2igan.errors import UserError
from s2igan.models.autoencoder import BASE_SIDE, Autoencoder, AutoencoderConfig, PatchDiscriminator, reduced
from s2igan.models.blocks import seeded
from s2igan.models.perceptual import PerceptualFeatures
from s2igan.training.optimisation import Ema, adam, adamw, backward, frozen, optimiser_step
from s2igan.training.trainer import TrainedState, TrainerConfig

DISCRIMINATOR_LEAD = 0.05
"""Share of the training in which a discriminator trains before the decoder hears of it."""
WINDOW, WINDOW_MARGIN = 24, 8
"""Side of the window of the 64 px picture that the upsampler is scored in, and what it sees around it: as far as three
residual blocks reach."""


@dataclass(frozen=True)
class AutoencoderTraining:
    """Settings; not in the paper."""

    trainer: TrainerConfig
    network: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    batch_size: int = 16
    """Of all processes together."""
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 4e-4
    weight_decay: float = 1e-3
    warmup_steps: int = 200
    perceptual: float = 0.15
    """Weight of the distance between features."""
    latent: float = 8e-4
    """Weight of the latents' mean square."""
    noise: float = 0.1
    """Deviation of the noise on the latents."""
    discriminator: float = 0.03
    """Weight of the patch discriminators."""
    discriminator_from: float = 0.5
    """Share of the training after which the discriminator of 64 px counts."""
    upsampler_from: float = 0.5
    """Share of the training after which the upsampler trains; its discriminator counts half way from there to the
    end."""
    ema_decay: float = 0.998
    reach: float = 1.0
    """Crops keep to this share of the stored picture's margins around its middle."""

    def __post_init__(self) -> None:
        for name in ("discriminator_from", "upsampler_from", "reach"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)} is no share; choose a number from 0 to 1.")

    @property
    def upsampler_discriminator_from(self) -> float:
        """Share of the training after which the upsampler's discriminator counts."""
        return (1 + self.upsampler_from) / 2


@dataclass
class AutoencoderState(TrainedState):
    """What is trained, and the frozen features."""

    autoencoder: Autoencoder
    discriminator: PatchDiscriminator
    """Of 64 px."""
    upsampler_discriminator: PatchDiscriminator | None
    ema: Ema
    optimiser: torch.optim.Optimizer
    discriminator_optimiser: torch.optim.Optimizer
    features: PerceptualFeatures

    def members(self) -> dict[str, Any]:
        """Weights, moving average and optimisers."""
        return {
            "autoencoder": self.autoencoder,
            "discriminator": self.discriminator,
            "upsampler_discriminator": self.upsampler_discriminator,
            "ema": self.ema,
            "optimiser": self.optimiser,
            "discriminator_optimiser": self.discriminator_optimiser,
        }


@dataclass
class AutoencoderBatch:
    """Pictures of a step, and what is drawn for it."""

    images: Float[Tensor, "batch 3 size size"]
    noise: Float[Tensor, "batch channels 8 8"]
    corner: tuple[int, int]
    """Top left of the window, in pixels of the 64 px picture."""
    progress: float
    """Share of the training that is over."""


def make_state(config: AutoencoderTraining, *, seed: int, device: torch.device) -> AutoencoderState:
    """Networks with initial weights of the seed, and optimisers."""
    with seeded(seed):
        autoencoder, discriminator = Autoencoder(config.network), PatchDiscriminator()
        upsampler_discriminator = None if autoencoder.upsampler is None else PatchDiscriminator()
    discriminators = [network for network in (discriminator, upsampler_discriminator) if network is not None]
    features = PerceptualFeatures()
    for network in (autoencoder, *discriminators, features):
        network.to(device).to(memory_format=torch.channels_last)
    return AutoencoderState(
        autoencoder,
        discriminator,
        upsampler_discriminator,
        Ema(autoencoder, config.ema_decay),
        adamw(autoencoder, config.learning_rate, (0.9, 0.99), config.weight_decay),
        adam(
            (p for network in discriminators for p in network.parameters()),
            config.discriminator_learning_rate,
            (0.5, 0.99),
        ),
        features,
    )


def step(state: AutoencoderState, batch: AutoencoderBatch, config: AutoencoderTraining) -> dict[str, Tensor]:
    """One step of the autoencoder, then one of the discriminators on the same reconstructions."""
    network, progress = state.autoencoder, batch.progress
    latents = network.encode(batch.images)
    features, drawn = network.decode_base(latents + config.noise * batch.noise)
    losses = {"latent": latents.float().square().mean()}
    loss = config.latent * losses["latent"]
    scales = [("", reduced(batch.images), drawn, state.discriminator, config.discriminator_from)]
    if network.upsampler is not None and progress >= config.upsampler_from:
        assert state.upsampler_discriminator is not None
        real, fake = window(network, batch.images, features, drawn, batch.corner)
        later = config.upsampler_discriminator_from
        scales.append(("upsampler_", real, fake, state.upsampler_discriminator, later))

    for name, real, fake, discriminator, begins in scales:
        losses[f"{name}l1"] = (fake.float() - real).abs().mean()
        losses[f"{name}perceptual"] = perceptual_distance(state.features(fake), state.features(real))
        loss = loss + losses[f"{name}l1"] + config.perceptual * losses[f"{name}perceptual"]
        if progress >= begins:
            with frozen([discriminator]):
                losses[f"{name}adversarial"] = -discriminator(fake).float().mean()
            loss = loss + config.discriminator * losses[f"{name}adversarial"]
    backward(loss)
    norms = optimiser_step({"autoencoder": state.optimiser}, largest_norm=1.0)

    seen = [scale for scale in scales if progress >= scale[-1] - DISCRIMINATOR_LEAD]
    for name, real, fake, discriminator, _ in seen:
        losses[f"{name}discriminator"] = hinge_loss(discriminator(real), discriminator(fake.detach()))
        backward(losses[f"{name}discriminator"])
    if seen:
        norms |= optimiser_step({"discriminator": state.discriminator_optimiser})
    state.ema.update(network)
    return {name: value.detach() for name, value in losses.items()} | norms


def window(
    network: Autoencoder, images: Tensor, features: Tensor, drawn: Tensor, corner: tuple[int, int]
) -> tuple[Float[Tensor, "batch 3 side side"], Float[Tensor, "batch 3 side side"]]:
    """A window of the pictures, and of what the upsampler makes of it, which sees a little more than is scored."""
    assert network.upsampler is not None
    n = network.config.enlargement
    top, left = corner
    rows, columns = (slice(max(0, at - WINDOW_MARGIN), at + WINDOW + WINDOW_MARGIN) for at in corner)
    larger = network.upsampler(features[:, :, rows, columns], drawn[:, :, rows, columns])
    y, x = n * (top - rows.start), n * (left - columns.start)
    side = n * WINDOW
    fake = larger[:, :, y : y + side, x : x + side]
    real = images[:, :, n * top : n * top + side, n * left : n * left + side]
    return real.contiguous(memory_format=torch.channels_last), fake.contiguous(memory_format=torch.channels_last)


def corners() -> int:
    """How many places along a side the window can begin at."""
    return BASE_SIDE - WINDOW + 1


def perceptual_distance(fake: list[Tensor], real: list[Tensor]) -> Float[Tensor, ""]:
    """Sum over the maps of the mean squared difference, in units of the real map's variance."""
    pairs = ((a.float(), b.float()) for a, b in zip(fake, real, strict=True))
    return torch.stack([(a - b).square().mean() / (b.var() + 1e-3) for a, b in pairs]).sum()


def hinge_loss(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """Of a discriminator (Lim & Ye 2017)."""
    return (1 - real.float()).relu().mean() + (1 + fake.float()).relu().mean()
