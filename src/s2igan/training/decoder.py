"""Trains the decoder of latent flow on, when the autoencoder is done. Not in the paper.

The encoder stays as the autoencoder's stage left it, so the latents, and what words and flow learn of them, are the
same before and after. The loss is that of the autoencoder, its discriminator from the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from s2igan.models.autoencoder import Autoencoder, PatchDiscriminator
from s2igan.models.blocks import seeded
from s2igan.training.autoencoder import (
    AutoencoderBatch,
    AutoencoderState,
    PictureTraining,
    ReconstructionLoss,
    reconstruction_step,
    trained_state,
)


@dataclass(frozen=True)
class DecoderTraining(PictureTraining):
    """Settings of the decoder; not in the paper."""

    loss: ReconstructionLoss = field(default_factory=lambda: ReconstructionLoss(discriminator_from=0.0))


def make_state(
    config: DecoderTraining, autoencoder: Autoencoder, *, seed: int, device: torch.device
) -> AutoencoderState:
    """A copy of a trained autoencoder, whose encoder is frozen; a discriminator with initial weights of the seed, and
    optimisers."""
    with seeded(seed):
        copy, discriminator = Autoencoder(autoencoder.config), PatchDiscriminator()
    copy.load_state_dict(autoencoder.state_dict())
    copy.encoder.requires_grad_(False)
    return trained_state(copy, discriminator, copy.decoder, config, device)


def step(state: AutoencoderState, batch: AutoencoderBatch, config: DecoderTraining) -> dict[str, Tensor]:
    """One step of the decoder, then one of the discriminator on the same pictures."""
    with torch.no_grad():
        latents = state.autoencoder.encode(batch.images)
    return reconstruction_step(state, latents, batch, config)
