"""Stage 2 by latent flow: its stages one after the other, with an autoencoder of its own or a pretrained one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s2igan.data.dataset import SpeechImageData
from s2igan.errors import UserError
from s2igan.models.encoders import Encoder
from s2igan.models.latent_flow import LatentFlow, check_frames
from s2igan.models.matchmap import Matchmap
from s2igan.models.pretrained_autoencoder import AnyAutoencoder, PretrainedAutoencoder, read_pretrained
from s2igan.run_directory import RunDirectory
from s2igan.training.distributed import first
from s2igan.training.latent_flow_stages import (
    AutoencoderStage,
    DecoderStage,
    FlowStage,
    MatchmapStage,
    normalise_over,
    score_reconstructions,
)
from s2igan.training.recipe import LatentFlow as LatentFlowRecipe
from s2igan.training.recipe import Recipe
from s2igan.training.session import Session

SHEET = "autoencoder-00000000.png"
"""Reconstructions of a pretrained autoencoder, which takes no steps."""


def train_latent_flow(
    session: Session, recipe: LatentFlowRecipe, speech: Encoder, pretrained: PretrainedAutoencoder | None
) -> tuple[LatentFlow, Matchmap]:
    """Autoencoder, decoder, word embeddings, flow; each goes on from its newest checkpoint.

    Args:
        speech: the speech encoder of stage 1.
        pretrained: takes the place of an autoencoder that is trained.
    """
    splits, initial, samples = session.splits("rdg", session.recipe.picture_size), session.initial, session.run.samples
    common: dict[str, Any] = {"seed": session.seed, "device": session.device}
    autoencoder: AnyAutoencoder
    if pretrained is None:
        encoded = AutoencoderStage(recipe.autoencoder, *splits, samples=samples, **common)
        if initial is not None:
            initial.begin_autoencoder(encoded)
        session.trainer(encoded).run(resume=session.resume)
        autoencoder = own = encoded.normalised()
        if recipe.decoder is not None:
            decoded = DecoderStage(recipe.decoder, *splits, autoencoder=own, samples=samples, **common)
            session.trainer(decoded).run(resume=session.resume)
            autoencoder = decoded.averaged()
    else:
        autoencoder = pretrained
        normalisation = None if initial is None else initial.normalisation
        use_pretrained(pretrained, *splits, session.run, normalisation, session.device)
    frozen: dict[str, Any] = session.given | {"speech": check_frames(speech), "autoencoder": autoencoder}
    matched = MatchmapStage(recipe.matchmap, *splits, views=recipe.flow.views, reach=recipe.flow.reach, **frozen)
    if initial is not None:
        initial.begin_matchmap(matched)
    session.trainer(matched).run(resume=session.resume)
    drawn = FlowStage(recipe.flow, *splits, matched=matched.trained(), samples=samples, **frozen)
    if initial is not None:
        initial.begin_flow(drawn)
    session.trainer(drawn).run(resume=session.resume)
    return drawn.averaged(), matched.trained()


def with_autoencoder(recipe: Recipe, source: str | Path | None) -> tuple[Recipe, PretrainedAutoencoder | None]:
    """The recipe with a pretrained autoencoder, which its name then tells, and the autoencoder.

    Args:
        source: as of `read_pretrained`; None leaves the recipe as it is.

    Raises:
        UserError: as `read_pretrained` does; or the recipe's stage 2 is the RDG, which has no autoencoder.
    """
    if source is None:
        return recipe, None
    if recipe.latent_flow is None:
        raise UserError(
            f"--autoencoder {source}: the stage 2 of {recipe.name} is the RDG, which has none; leave it out, or choose "
            "a recipe of latent flow, such as laptop."
        )
    network = read_pretrained(source, recipe.picture_size)
    flow = dataclasses.replace(recipe.latent_flow, pretrained=network.config)
    name = f"{recipe.name}, autoencoder {network.config.source}"
    return dataclasses.replace(recipe, name=name, latent_flow=flow), network


def use_pretrained(
    network: PretrainedAutoencoder,
    train: SpeechImageData,
    validation: SpeechImageData | None,
    run: RunDirectory,
    normalisation: tuple[Tensor, Tensor] | None,
    device: torch.device,
) -> None:
    """Freezes a pretrained autoencoder and normalises its latents, over the training pictures unless mean and deviation
    are given; the log and a sheet of samples say how well it reconstructs validation pictures."""
    network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    if normalisation is None:
        normalise_over(network, train, device)
    else:
        network.normalise_as(*normalisation)

    shown = train if validation is None else validation

    def compared(positions: np.ndarray) -> tuple[Tensor, Tensor]:
        images = shown.crops(positions, None).to(device, memory_format=torch.channels_last)
        return images, network.decode(network.encode(images))

    def show() -> None:
        error = score_reconstructions(compared, len(shown), run.samples / SHEET)
        run.log(f"autoencoder: {network.config.source} as it is; mean L1 of reconstructions {error:.4f}")

    first(show)
