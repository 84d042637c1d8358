"""Trains the upsampler of latent flow, and the decoder on, to draw pictures larger than 64 px. Not in the paper.

The encoder stays as the autoencoder's stage left it, so the latents are the same before and after. The loss is that of
the autoencoder, on a window of each picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.models.autoencoder import BASE_SIDE, Autoencoder, PatchDiscriminator
from s2igan.models.blocks import seeded
from s2igan.models.perceptual import PerceptualFeatures
from s2igan.training.autoencoder import AutoencoderBatch, AutoencoderState, PictureTraining, reconstruction_step
from s2igan.training.optimisation import Ema, adam, adamw

WINDOW = 24
"""Side of the window, in pixels of the picture of 64 px."""


@dataclass(frozen=True)
class UpsamplerTraining(PictureTraining):
    """Settings of the upsampler; not in the paper."""


@dataclass
class UpsamplerBatch(AutoencoderBatch):
    """Pictures of a step, and what is drawn for it."""

    corner: tuple[int, int]
    """Top left of the window, in pixels of the picture of 64 px."""


def make_state(
    config: UpsamplerTraining, autoencoder: Autoencoder, *, seed: int, device: torch.device
) -> AutoencoderState:
    """A copy of a trained autoencoder, whose encoder is frozen; a discriminator with initial weights of the seed, and
    optimisers."""
    with seeded(seed):
        copy, discriminator = Autoencoder(autoencoder.config), PatchDiscriminator()
    copy.load_state_dict(autoencoder.state_dict())
    copy.encoder.requires_grad_(False)
    features = PerceptualFeatures()
    for network in (copy, discriminator, features):
        network.to(device).to(memory_format=torch.channels_last)
    return AutoencoderState(
        copy,
        discriminator,
        Ema(copy, config.ema_decay),
        adamw(drawing_part(copy), config.learning_rate, (0.9, 0.99), config.weight_decay),
        adam(discriminator.parameters(), config.loss.discriminator_learning_rate, (0.5, 0.99)),
        features,
    )


def drawing_part(autoencoder: Autoencoder) -> nn.Module:
    """All of it but the encoder."""
    return nn.ModuleDict({name: part for name, part in autoencoder.named_children() if name != "encoder"})


def step(state: AutoencoderState, batch: UpsamplerBatch, config: UpsamplerTraining) -> dict[str, Tensor]:
    """One step of decoder and upsampler, then one of the discriminator on the same windows."""
    with torch.no_grad():
        latents = state.autoencoder.encode(batch.images) + config.noise * batch.noise
    fake = drawn_window(state.autoencoder, latents, batch.corner)
    return reconstruction_step(state, fake, window(batch.images, batch.corner), config.loss, batch.progress)


def window(images: Float[Tensor, "batch 3 size size"], corner: tuple[int, int]) -> Float[Tensor, "batch 3 side side"]:
    """The window of pictures."""
    n = images.shape[-1] // BASE_SIDE
    rows, columns = (slice(n * at, n * (at + WINDOW)) for at in corner)
    return images[:, :, rows, columns].contiguous(memory_format=torch.channels_last)


def drawn_window(
    network: Autoencoder, latents: Float[Tensor, "batch channels 8 8"], corner: tuple[int, int]
) -> Float[Tensor, "batch 3 side side"]:
    """What `Autoencoder.decode` draws in the window; the upsampler reads no more than it needs around it."""
    assert network.upsampler is not None
    features, image = network.decode_base(latents)
    n, margin = network.config.enlargement, network.upsampler.reach
    top, left = corner
    rows, columns = (slice(max(0, at - margin), at + WINDOW + margin) for at in corner)
    larger = network.upsampler(features[:, :, rows, columns], image[:, :, rows, columns])
    y, x, side = n * (top - rows.start), n * (left - columns.start), n * WINDOW
    return larger[:, :, y : y + side, x : x + side].contiguous(memory_format=torch.channels_last)


def corners() -> int:
    """How many places along a side the window can begin at."""
    return BASE_SIDE - WINDOW + 1
