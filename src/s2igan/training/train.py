"""A run: both stages of a recipe on a prepared store, in one run directory."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from rich.console import Console

from s2igan.checkpoint import load_model, save_model
from s2igan.data.dataset import SpeechImageData, embedding_rows, encoder_input
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.models.blocks import seeded
from s2igan.models.encoders import Encoder, build_encoder, encoder_from_json, encoder_to_json
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.models.precomputed import Precomputed, PrecomputedConfig
from s2igan.recipes import Recipe, resolve
from s2igan.run_directory import RunDirectory
from s2igan.training.distributed import first, rank, start
from s2igan.training.rdg_stage import RDGStage
from s2igan.training.sen_stage import SENStage
from s2igan.training.trainer import run_stage

SEN_FOLDER = "sen"
"""Where a run keeps the networks of stage 1 that stage 2 and evaluation use."""


def train_run(
    recipe: str | Recipe,
    *,
    data: str | Path,
    out: str | Path,
    stage: Literal["sen", "rdg", "both"] = "both",
    resume: bool = False,
    seed: int = 0,
    size: str | None = None,
    sen_from: str | Path | None = None,
    device: str | None = None,
) -> Path:
    """Trains a recipe and exports the model; returns the run directory.

    Args:
        recipe: name of a recipe, or a complete one.
        data: directory with a prepared store.
        out: run directory to make, or with `resume` to go on with.
        stage: which stage to train; "rdg" needs a run whose stage 1 is finished.
        seed: of weights, batches and noise.
        size: the size that a method is applied to.
        sen_from: another run whose stage 1 to use in place of training it.
        device: where to compute; a GPU if there is one.

    Started by torchrun, all processes call it alike and train together (docs/engine.md).

    Raises:
        UserError: the store, the recipe or the run directory does not fit.
    """
    console = Console(stderr=True)
    chosen = resolve(recipe, size) if isinstance(recipe, str) else recipe
    store = Store.open(Path(data))
    config = {"recipe": dataclasses.asdict(chosen), "data": str(data), "store": store.fingerprint, "seed": seed}
    if isinstance(chosen.sen.speech, PrecomputedConfig):
        config["text_embeddings"] = check_text_embeddings(chosen.sen.speech, store)
    where = start(device)
    if rank():
        console = Console(quiet=True)
    out = Path(out)
    go_on = (resume or (stage == "rdg" and sen_from is None)) and (out / "config.json").exists()
    locked = first(lambda: RunDirectory.resume(out, config) if go_on else RunDirectory.create(out, config))
    with locked if locked is not None else RunDirectory.open(out) as run:
        if sen_from is not None:
            first(lambda: copy_sen(Path(sen_from), run.path))
        elif stage in ("sen", "both"):
            train_sen(chosen, store, run, resume=go_on, seed=seed, device=where, console=console)
        if stage in ("rdg", "both"):
            train_rdg(chosen, store, run, resume=go_on, seed=seed, device=where, console=console)
    return out


def check_text_embeddings(config: PrecomputedConfig, store: Store) -> str:
    """The fingerprint of the embeddings beside a store.

    Raises:
        UserError: there are none, they have other dimensions, or a caption has none.
    """
    embedding_rows(store, np.arange(len(store)))
    Precomputed(config).eval()(*encoder_input(store, np.arange(1), Precomputed.reads))
    return store.text_embeddings.fingerprint


def train_sen(
    recipe: Recipe, store: Store, run: RunDirectory, *, resume: bool, seed: int, device: torch.device, console: Console
) -> None:
    """Stage 1; leaves the networks with the best validation score in RUN/sen."""
    started = time.monotonic()
    train, validation = _splits(store, recipe.sen.image_size)
    stage = SENStage(recipe.sen, train, validation, seed=seed, device=device, console=console)
    run_stage(stage, stage.config.loop, run, resume=resume, console=console)
    weights = {f"speech_encoder.{key}": value for key, value in stage.best["speech"].items()}
    weights |= {f"image_head.{key}": value for key, value in stage.best["image"].items()}
    facts = {"step": stage.best["step"], "score": stage.best["score"]}

    def leave() -> None:
        save_model(run.path / SEN_FOLDER, _json({**_networks(recipe), **facts}), weights)
        run.log(f"sen: {time.monotonic() - started:.0f} s; kept the weights of step {stage.best['step']}")

    first(leave)


def train_rdg(
    recipe: Recipe, store: Store, run: RunDirectory, *, resume: bool, seed: int, device: torch.device, console: Console
) -> None:
    """Stage 2; leaves the model for use in RUN/model."""
    started = time.monotonic()
    train, validation = _splits(store, recipe.rdg.generator.resolutions[-1])
    speech, image = load_sen(run.path, device)
    if recipe.rdg.speech == "scratch":
        with seeded(seed):
            speech = build_encoder(recipe.sen.speech).to(device)
    stage = RDGStage(
        recipe.rdg,
        train,
        validation,
        speech=speech,
        image=image,
        samples=run.samples,
        seed=seed,
        device=device,
        console=console,
    )
    run_stage(stage, stage.config.loop, run, resume=resume, console=console)

    def leave() -> None:
        export(recipe, stage, run)
        run.log(f"rdg: {time.monotonic() - started:.0f} s; the model is in {run.model}")

    first(leave)


def export(recipe: Recipe, stage: RDGStage, run: RunDirectory) -> None:
    """Writes what use and evaluation need: speech encoder, averaged generator, image head; no optimiser."""
    generator = stage.averaged()
    weights = {f"speech_encoder.{key}": value for key, value in stage.speech.state_dict().items()}
    weights |= {f"generator.{key}": value for key, value in generator.state_dict().items()}
    weights |= {f"image_head.{key}": value for key, value in stage.image.head.state_dict().items()}
    front_end = {"window": stage.train.store.window, "pad_mode": "reflect"}
    config: dict[str, Any] = {
        **_networks(recipe),
        "generator": dataclasses.asdict(generator.config),
        "front_end": front_end,
        "candidates": recipe.rdg.candidates,
        "recipe": recipe.name,
    }
    save_model(run.model, _json(config), {key: value.detach().cpu().contiguous() for key, value in weights.items()})


def load_sen(run: Path, device: torch.device) -> tuple[Encoder, ImageEncoder]:
    """The networks that stage 1 left in a run, in eval mode.

    Raises:
        UserError: stage 1 of the run is not finished.
    """
    directory = run / SEN_FOLDER
    if not directory.is_dir():
        raise UserError(f"{run} has no finished stage 1; train it first with s2igan train ... --stage sen.")
    config, weights = load_model(directory)
    speech = build_encoder(encoder_from_json(config["speech_encoder"], directory / "config.json"))
    image = ImageEncoder(ImageEncoderConfig(**config["image_encoder"]))
    speech.load_state_dict(_below(weights, "speech_encoder."))
    image.head.load_state_dict(_below(weights, "image_head."))
    return speech.to(device).eval(), image.to(device).eval()


def copy_sen(source: Path, target: Path) -> None:
    """Takes over stage 1 of another run.

    Raises:
        UserError: that run has no finished stage 1.
    """
    if not (source / SEN_FOLDER).is_dir():
        raise UserError(f"{source} has no finished stage 1; name a run whose stage sen is finished.")
    config, weights = load_model(source / SEN_FOLDER)
    save_model(target / SEN_FOLDER, config, weights)


def _below(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _json(config: dict[str, Any]) -> dict[str, Any]:
    """The config as it will be read back: lists for tuples."""
    return cast(dict[str, Any], json.loads(json.dumps(config)))


def _networks(recipe: Recipe) -> dict[str, Any]:
    return {
        "speech_encoder": encoder_to_json(recipe.sen.speech),
        "image_encoder": dataclasses.asdict(recipe.sen.image),
        "image_size": recipe.sen.image_size,
    }


def _splits(store: Store, image_size: int) -> tuple[SpeechImageData, SpeechImageData | None]:
    train = SpeechImageData(store, "train", image_size)
    held_out = np.asarray(store.split_indices("validation"))
    return train, SpeechImageData(store, "validation", image_size) if len(held_out) else None
