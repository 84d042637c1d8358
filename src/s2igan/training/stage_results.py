"""What the stages of a run leave in its directory, for the next stage, for other runs, and for use.

`RUN/sen` has the networks of stage 1, `RUN/warm_start` a generator after its warm start, `RUN/model` the exported
model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from s2igan.checkpoint import MODEL_FILES, file_digest, load_model, save_model
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.models.encoders import Encoder, encoder_to_json
from s2igan.models.exported import ExportedModel
from s2igan.models.generator import Generator
from s2igan.models.image_encoder import ImageEncoder
from s2igan.models.latent_flow import LatentFlow
from s2igan.models.matchmap import Matchmap
from s2igan.run_directory import SEN_FOLDER, WARM_START_FOLDER, RunDirectory, in_words, with_what_was_off
from s2igan.training.recipe import Recipe
from s2igan.training.session import Session
from s2igan.training.stages import SENStage

# ------------------------------------------------------------------------------------------------------------- stage 1


def leave_sen(session: Session, stage: SENStage) -> None:
    """Writes the networks of stage 1 with the best validation score to RUN/sen, and how they were trained."""
    recipe, run = session.recipe, session.run
    weights = {f"speech_encoder.{key}": value for key, value in stage.best["speech"].items()}
    weights |= {f"image_head.{key}": value for key, value in stage.best["image"].items()}
    store = stage.train.store.fingerprint
    config = {
        **_networks(stage.state.speech, stage.state.image, recipe.sen.image_size),
        "step": stage.best["step"],
        "score": stage.best["score"],
        "front_end": {"window": stage.train.store.window, "pad_mode": "reflect"},
        "trained": {"recipe": recipe.name, "sen": dataclasses.asdict(recipe.sen), "store": store, **session.began_from},
    }
    save_model(run.path / SEN_FOLDER, _json(config), weights)
    run.log(f"sen: kept the weights of step {stage.best['step']}")


def finished_sen(run: Path) -> ExportedModel:
    """The networks that stage 1 left in a run; UserError where it is not finished."""
    if not (run / SEN_FOLDER).is_dir():
        raise UserError(f"{run} has no finished stage 1; train it first with s2igan train ... --stage 1.")
    return ExportedModel.read(run / SEN_FOLDER)


def load_sen(run: Path, device: torch.device) -> tuple[Encoder, ImageEncoder]:
    """The networks that stage 1 left in a run, in eval mode.

    Raises:
        UserError: stage 1 of the run is not finished.
    """
    stage_1 = finished_sen(run)
    return stage_1.speech_encoder().to(device).eval(), stage_1.image_encoder().to(device).eval()


def check_sen(source: Path, recipe: Recipe, store: Store, *, allow_other_data: bool) -> dict[str, Any]:
    """Whether a recipe can go on with the stage 1 of another run: it was trained with the same settings of stage 1, but
    for those of the trainer, and on the same store.

    Returns:
        What the run records of it: recipe, store, SHA-256 of the weights, and whether the store is another one.

    Raises:
        UserError: it cannot; each difference is named.
    """
    trained = finished_sen(source).config.get("trained")
    if trained is None:
        raise UserError(
            f"{source}: its stage 1 was trained by s2igan 0.1.0, which recorded no settings; train it anew."
        )
    asked = {name: value for name, value in _json(dataclasses.asdict(recipe.sen)).items() if name != "trainer"}
    known = {name: value for name, value in trained["sen"].items() if name != "trainer"}
    if changes := in_words(with_what_was_off(known, asked), asked):
        raise UserError(
            f"{source}: its stage 1 is not that of the recipe {recipe.name} ({changes}); name a run with "
            "the same stage 1, or leave --sen-from out to train it."
        )
    other = trained["store"] != store.fingerprint
    if other and not allow_other_data:
        raise UserError(
            f"{source}: its stage 1 was trained on another store than {store.directory}, and may have met the pictures "
            "that this run is tested on; name a run on the same store, or add --allow-other-data."
        )
    digest = file_digest(source / SEN_FOLDER / MODEL_FILES[1])
    return {"recipe": trained["recipe"], "store": trained["store"], "sha256": digest, "other_data": other}


def copy_sen(source: Path, run: RunDirectory, facts: dict[str, Any]) -> None:
    """Takes over the stage 1 of another run, once: what a run has it keeps when it is resumed."""
    weights_file = run.path / SEN_FOLDER / MODEL_FILES[1]
    if weights_file.exists() and file_digest(weights_file) == facts["sha256"]:
        return
    stage_1 = finished_sen(source)
    save_model(run.path / SEN_FOLDER, dict(stage_1.config), stage_1.weights)
    run.log(f"sen: taken from a run of {facts['recipe']}, weights {facts['sha256'][:16]}")


# ---------------------------------------------------------------------------------------------------------- warm start


def leave_warm_start(session: Session, config: Mapping[str, Any], generator: Generator) -> None:
    """Writes a generator after its warm start to RUN/warm_start, and all that it follows from.

    Args:
        config: of the run, with its store and seed.
    """
    folder = session.run.path
    facts = warm_start_facts(session.recipe, config, file_digest(folder / SEN_FOLDER / MODEL_FILES[1]))
    save_model(folder / WARM_START_FOLDER, facts, generator.state_dict())


def warm_start_facts(recipe: Recipe, config: Mapping[str, Any], stage_1: str) -> dict[str, Any]:
    """All that a warm start follows from.

    Args:
        config: of the run, with its store and seed.
        stage_1: SHA-256 of the weights of stage 1.
    """
    assert recipe.rdg is not None
    beyond = recipe.beyond
    facts = {
        "warm_start": dataclasses.asdict(beyond.warm_start),
        "condition_start": dataclasses.asdict(beyond.condition_start),
        "generator": dataclasses.asdict(recipe.rdg.generator),
        "untrained_speech": recipe.rdg.speech == "scratch",
        "sen": stage_1,
        "store": config["store"],
        "seed": config["seed"],
    }
    return _json(facts)


def check_warm_start(source: Path, recipe: Recipe, config: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a recipe can begin from the warm start of another run: its own would give the same weights.

    Args:
        config: of the run that would begin so.

    Returns:
        What the run records of it: the SHA-256 of the weights.

    Raises:
        UserError: it cannot; each difference is named.
    """
    if recipe.rdg is None or not recipe.beyond.warm_start.trains:
        raise UserError(f"{recipe.name} has no warm start; leave the warm start of {source} out.")
    if "sen_from" not in config:
        raise UserError(f"{source}: a warm start is taken together with its stage 1; name that by sen_from.")
    if not (source / WARM_START_FOLDER).is_dir():
        raise UserError(f"{source} has no finished warm start; train it first.")
    known, _ = load_model(source / WARM_START_FOLDER)
    if changes := in_words(known, warm_start_facts(recipe, config, config["sen_from"]["sha256"])):
        raise UserError(
            f"{source}: its warm start is not that of the recipe {recipe.name} ({changes}); name a run with the same "
            "one, or leave it out to train it."
        )
    return {"sha256": file_digest(source / WARM_START_FOLDER / MODEL_FILES[1])}


# ------------------------------------------------------------------------------------------------------------ the model


def export(
    session: Session,
    speech: Encoder,
    image: ImageEncoder,
    drawer: Generator | LatentFlow,
    matched: Matchmap | None = None,
) -> None:
    """Writes what use and evaluation need: speech encoder, averaged generator or latent flow, image head, each with its
    own sizes; no optimiser. The whole matchmap is there for trainings that begin from the model."""
    recipe, store, run = session.recipe, session.store, session.run
    kind = "generator" if isinstance(drawer, Generator) else "latent_flow"
    networks = nn.ModuleDict({"speech_encoder": speech, kind: drawer, "image_head": image.head})
    if matched is not None:
        networks["matchmap"] = matched
    config: dict[str, Any] = {
        **_networks(speech, image, recipe.sen.image_size),
        kind: dataclasses.asdict(drawer.config),
        "front_end": {"window": store.window, "pad_mode": "reflect"},
        "recipe": recipe.name,
        "store": store.fingerprint,
        **session.began_from,
    }
    save_model(run.model, _json(config), networks.state_dict())
    run.log(f"the model is in {run.model}")


def _networks(speech: Encoder, image: ImageEncoder, image_size: int) -> dict[str, Any]:
    """The sizes of the encoders as they are."""
    return {
        "speech_encoder": encoder_to_json(speech.config),
        "image_encoder": dataclasses.asdict(image.config),
        "image_encoder_weights": image.weights_digest,
        "image_size": image_size,
    }


def _json(config: dict[str, Any]) -> dict[str, Any]:
    """The config as it will be read back: lists for tuples."""
    return cast(dict[str, Any], json.loads(json.dumps(config)))
