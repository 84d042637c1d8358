"""A run: both stages of a recipe on a prepared store, in one run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from s2igan.checkpoint import load_model
from s2igan.data.dataset import embedding_rows, encoder_input
from s2igan.data.store import Store
from s2igan.files import cache_folder
from s2igan.models.blocks import seeded
from s2igan.models.encoders import Encoder, build_encoder
from s2igan.models.image_encoder import ImageEncoder
from s2igan.models.latent_flow import check_frames
from s2igan.models.precomputed import Precomputed, PrecomputedConfig
from s2igan.run_directory import WARM_START_FOLDER, RunDirectory
from s2igan.training.beyond.warm_start_stage import WarmStartStage
from s2igan.training.distributed import first, rank, start
from s2igan.training.expectation import Expectation
from s2igan.training.initial import ALL, Part, read_initial
from s2igan.training.latent_flow import train_latent_flow, with_autoencoder
from s2igan.training.recipe import Recipe
from s2igan.training.session import Session
from s2igan.training.stage_results import (
    check_sen,
    check_warm_start,
    copy_sen,
    export,
    leave_sen,
    leave_warm_start,
    load_sen,
)
from s2igan.training.stages import RDGStage, SENStage

CONFIG_VERSION = 2
"""Of a run's config.json; s2igan 0.1.0 wrote none."""


def train_run(
    recipe: Recipe,
    *,
    data: str | Path,
    out: str | Path,
    stage: Literal["1", "warm start", "2", "both"] = "both",
    resume: bool = False,
    seed: int = 0,
    sen_from: str | Path | None = None,
    warm_start_from: str | Path | None = None,
    allow_other_data: bool = False,
    init_from: str | Path | None = None,
    init_parts: Sequence[Part] = ALL,
    autoencoder: str | Path | None = None,
    cache: Path | None = None,
    device: str | None = None,
) -> Path:
    """Trains a recipe and exports the model; returns the run directory.

    Args:
        out: run directory to make, or with `resume` to go on with.
        stage: which stage to train; "2" needs a run whose stage 1 is finished, and "warm start" is the part of it that
            comes before the RDG proper.
        resume: go on from the newest checkpoint, if there is one.
        seed: of weights, batches and noise.
        sen_from: another run whose stage 1 to use in place of training it.
        warm_start_from: another run whose warm start to use in place of training it: the same settings of all that it
            depends on, the same seed and the same stage 1 (`check_warm_start`).
        allow_other_data: take the stage 1 of `sen_from` also where it was trained on another store.
        init_from: a run or an exported model whose weights the stages begin with in place of random ones.
        init_parts: what to take of it.
        autoencoder: folder or name on the Hugging Face hub of a pretrained `AutoencoderTiny`, in place of training one.
        cache: folder for what frozen networks give, which runs on one set may share; that of the run unless given.

    Started by torchrun, all processes call it alike and train together (docs/engine.md).

    Raises:
        UserError: the store, the recipe, the other run or the run directory does not fit.
    """
    store = Store.open(Path(data))
    recipe, pretrained = with_autoencoder(recipe, autoencoder)
    config: dict[str, Any] = {
        "version": CONFIG_VERSION,
        "recipe": dataclasses.asdict(recipe),
        "store": store.fingerprint,
        "seed": seed,
    }
    if isinstance(recipe.sen.speech, PrecomputedConfig):
        config["text_embeddings"] = check_text_embeddings(recipe.sen.speech, store)
    if sen_from is not None:
        config["sen_from"] = check_sen(Path(sen_from), recipe, store, allow_other_data=allow_other_data)
    if warm_start_from is not None:
        config["warm_start_from"] = check_warm_start(Path(warm_start_from), recipe, config)
    if recipe.latent_flow is not None:
        check_frames(build_encoder(recipe.sen.speech))
    initial = read_initial(init_from, init_parts, recipe, with_sen_from=sen_from is not None)
    if initial is not None:
        initial.check_store(store)
        config["init_from"] = initial.facts
    where = start(device)
    console = Console(quiet=True) if rank() else Console(stderr=True)
    out = Path(out)
    go_on = (resume or (stage in ("warm start", "2") and sen_from is None)) and (out / "config.json").exists()
    located = config | {"data": str(Path(data).resolve()), "expect": Expectation.of(store).level}
    locked = first(lambda: RunDirectory.resume(out, config) if go_on else RunDirectory.create(out, located))
    with locked if locked is not None else RunDirectory.open(out) as run:
        folder = cache or cache_folder(run.path)
        session = Session(recipe, store, run, seed, where, console, folder, go_on, initial)
        if sen_from is not None:
            first(lambda: copy_sen(Path(sen_from), run, config["sen_from"]))
        elif stage in ("1", "both"):
            sen = SENStage(recipe.sen, *session.splits("sen", recipe.sen.image_size), **session.given)
            if initial is not None:
                initial.begin_sen(sen)
            session.trainer(sen).run(resume=go_on)
            first(lambda: leave_sen(session, sen))
        if stage == "1":
            return out
        speech, image = load_sen(run.path, where)
        if recipe.latent_flow is not None:
            flow, matched = train_latent_flow(session, recipe.latent_flow, speech, pretrained)
            first(lambda: export(session, speech, image, flow, matched))
            return out
        rdg = _rdg_with_warm_start(session, speech, image, None if warm_start_from is None else Path(warm_start_from))
        if stage == "warm start":
            first(lambda: leave_warm_start(session, config, rdg.state.generator))
            return out
        session.trainer(rdg).run(resume=go_on)
        generator = rdg.averaged()
        first(lambda: export(session, rdg.speech, image, generator))
    return out


def _rdg_with_warm_start(session: Session, speech: Encoder, image: ImageEncoder, warm_start: Path | None) -> RDGStage:
    """The paper's stage 2 before its first step, after the warm start where the recipe has one.

    Args:
        warm_start: a run whose warm start takes the place of training it.
    """
    recipe = session.recipe
    assert recipe.rdg is not None
    if recipe.rdg.speech == "scratch":
        with seeded(session.seed):
            speech = build_encoder(speech.config).to(session.device)
    train, validation = session.splits("rdg", recipe.picture_size)
    given = session.given | {"speech": speech, "image": image, "samples": session.run.samples}
    rdg = RDGStage(recipe.rdg, recipe.beyond, train, validation, **given)
    if warm_start is not None:
        rdg.begin_from(load_model(warm_start / WARM_START_FOLDER)[1])
    elif recipe.beyond.warm_start.trains:
        session.trainer(WarmStartStage(recipe.beyond.warm_start, rdg)).run(resume=session.resume)
        rdg.begin_average()
    return rdg


def check_text_embeddings(config: PrecomputedConfig, store: Store) -> str:
    """The fingerprint of the embeddings beside a store.

    Raises:
        UserError: there are none, they have other dimensions, or a caption has none.
    """
    embedding_rows(store, np.arange(len(store)))
    Precomputed(config).eval()(*encoder_input(store, np.arange(1), Precomputed.reads))
    return store.text_embeddings.fingerprint
