"""A run: both stages of a recipe on a prepared store, in one run directory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from s2igan.checkpoint import MODEL_FILES, file_digest, load_model, save_model
from s2igan.data.dataset import SpeechImageData, embedding_rows, encoder_input
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.files import cache_folder
from s2igan.models.blocks import seeded
from s2igan.models.encoders import Encoder, build_encoder, encoder_to_json
from s2igan.models.exported import ExportedModel
from s2igan.models.generator import Generator
from s2igan.models.image_encoder import ImageEncoder
from s2igan.models.latent_flow import LatentFlow, check_frames
from s2igan.models.matchmap import Matchmap
from s2igan.models.precomputed import Precomputed, PrecomputedConfig
from s2igan.models.pretrained_autoencoder import AnyAutoencoder, PretrainedAutoencoder, read_pretrained
from s2igan.run_directory import SEN_FOLDER, RunDirectory, in_words, with_what_was_off
from s2igan.training.beyond.warm_start_stage import WarmStartStage
from s2igan.training.distributed import first, rank, start
from s2igan.training.expectation import Expectation
from s2igan.training.initial import ALL, InitialWeights, Part
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
from s2igan.training.stages import RDGStage, SENStage
from s2igan.training.trainer import Trainer

CONFIG_VERSION = 2
"""Of a run's config.json; s2igan 0.1.0 wrote none."""
SHEET = "autoencoder-00000000.png"
"""Reconstructions of a pretrained autoencoder, which takes no steps."""
WARM_START_FOLDER = "warm_start"
"""Where a run that was asked for its warm start alone leaves the generator, for runs that begin from it."""


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
    console = Console(stderr=True)
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
    began: dict[str, Any] = {}
    if initial is not None:
        initial.check_store(store)
        began = {"init_from": initial.facts}
    config |= began
    where = start(device)
    if rank():
        console = Console(quiet=True)
    out = Path(out)
    go_on = (resume or (stage in ("warm start", "2") and sen_from is None)) and (out / "config.json").exists()
    located = config | {"data": str(Path(data).resolve()), "expect": Expectation.of(store).level}
    locked = first(lambda: RunDirectory.resume(out, config) if go_on else RunDirectory.create(out, located))
    with locked if locked is not None else RunDirectory.open(out) as run:
        given: dict[str, Any] = {"seed": seed, "device": where, "console": console}
        given["cache"] = cache or cache_folder(run.path)
        if sen_from is not None:
            first(lambda: copy_sen(Path(sen_from), run, config["sen_from"]))
        elif stage in ("1", "both"):
            sen = SENStage(recipe.sen, *_splits(store, "sen", recipe.sen.image_size), **given)
            if initial is not None:
                initial.begin_sen(sen)
            Trainer(sen, run, console).run(resume=go_on)
            first(lambda: leave_sen(recipe, sen, run, began))
        if stage != "1":
            splits = _splits(store, "rdg", recipe.picture_size)
            speech, image = load_sen(run.path, where)
            drawer: Generator | LatentFlow
            matched = None
            if recipe.rdg is not None:
                if recipe.rdg.speech == "scratch":
                    with seeded(seed):
                        speech = build_encoder(speech.config).to(where)
                given |= {"speech": speech, "image": image, "samples": run.samples}
                rdg = RDGStage(recipe.rdg, recipe.beyond, *splits, **given)
                if warm_start_from is not None:
                    rdg.begin_from(load_model(Path(warm_start_from) / WARM_START_FOLDER)[1])
                elif recipe.beyond.warm_start.trains:
                    Trainer(WarmStartStage(recipe.beyond.warm_start, rdg), run, console).run(resume=go_on)
                    rdg.begin_average()
                if stage == "warm start":
                    facts = warm_start_facts(recipe, config, file_digest(run.path / SEN_FOLDER / MODEL_FILES[1]))
                    first(lambda: save_model(run.path / WARM_START_FOLDER, facts, rdg.state.generator.state_dict()))
                    return out
                Trainer(rdg, run, console).run(resume=go_on)
                drawer = rdg.averaged()
            else:
                assert recipe.latent_flow is not None
                given |= {"initial": initial, "pretrained": pretrained}
                drawer, matched = _train_latent_flow(recipe.latent_flow, splits, speech, run, resume=go_on, **given)
            first(lambda: export(recipe, speech, image, drawer, matched, store, run, began))
    return out


def _train_latent_flow(
    recipe: LatentFlowRecipe,
    splits: tuple[SpeechImageData, SpeechImageData | None],
    speech: Encoder,
    run: RunDirectory,
    *,
    initial: InitialWeights | None,
    pretrained: PretrainedAutoencoder | None,
    seed: int,
    device: torch.device,
    console: Console,
    cache: Path,
    resume: bool,
) -> tuple[LatentFlow, Matchmap]:
    """Autoencoder, decoder, word embeddings, flow; each goes on from its newest checkpoint."""
    common: dict[str, Any] = {"seed": seed, "device": device}
    autoencoder: AnyAutoencoder
    if pretrained is None:
        encoded = AutoencoderStage(recipe.autoencoder, *splits, samples=run.samples, **common)
        if initial is not None:
            initial.begin_autoencoder(encoded)
        Trainer(encoded, run, console).run(resume=resume)
        autoencoder = own = encoded.normalised()
        if recipe.decoder is not None:
            decoded = DecoderStage(recipe.decoder, *splits, autoencoder=own, samples=run.samples, **common)
            Trainer(decoded, run, console).run(resume=resume)
            autoencoder = decoded.averaged()
    else:
        autoencoder = pretrained
        use_pretrained(pretrained, *splits, run, None if initial is None else initial.normalisation, device)
    common |= {"speech": check_frames(speech), "autoencoder": autoencoder, "cache": cache, "console": console}
    cached: dict[str, Any] = common | {"views": recipe.flow.views, "reach": recipe.flow.reach}
    matched = MatchmapStage(recipe.matchmap, *splits, **cached)
    if initial is not None:
        initial.begin_matchmap(matched)
    Trainer(matched, run, console).run(resume=resume)
    drawn = FlowStage(recipe.flow, *splits, matched=matched.trained(), samples=run.samples, **common)
    if initial is not None:
        initial.begin_flow(drawn)
    Trainer(drawn, run, console).run(resume=resume)
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


def read_initial(
    model: str | Path | None, parts: Sequence[Part], recipe: Recipe, *, with_sen_from: bool = False
) -> InitialWeights | None:
    """The weights that a training begins with, where a model is named.

    Raises:
        UserError: as `InitialWeights.read` does; parts of no model are named; or stage 1 would be from two places.
    """
    if model is None:
        if tuple(parts) != ALL:
            raise UserError(
                f"--init-parts {' '.join(parts)}: no model is named to take it from; add --init-from MODEL."
            )
        return None
    initial = InitialWeights.read(model, parts, recipe)
    if with_sen_from and initial.takes("speech"):
        raise UserError("--sen-from and --init-from both bring a stage 1; choose --init-parts autoencoder.")
    return initial


def check_text_embeddings(config: PrecomputedConfig, store: Store) -> str:
    """The fingerprint of the embeddings beside a store.

    Raises:
        UserError: there are none, they have other dimensions, or a caption has none.
    """
    embedding_rows(store, np.arange(len(store)))
    Precomputed(config).eval()(*encoder_input(store, np.arange(1), Precomputed.reads))
    return store.text_embeddings.fingerprint


def leave_sen(recipe: Recipe, stage: SENStage, run: RunDirectory, began: dict[str, Any]) -> None:
    """Writes the networks of stage 1 with the best validation score to RUN/sen, and how they were trained.

    Args:
        began: what is recorded of the model that training began from; empty where there was none.
    """
    weights = {f"speech_encoder.{key}": value for key, value in stage.best["speech"].items()}
    weights |= {f"image_head.{key}": value for key, value in stage.best["image"].items()}
    store = stage.train.store.fingerprint
    config = {
        **_networks(stage.state.speech, stage.state.image, recipe.sen.image_size),
        "step": stage.best["step"],
        "score": stage.best["score"],
        "front_end": {"window": stage.train.store.window, "pad_mode": "reflect"},
        "trained": {"recipe": recipe.name, "sen": dataclasses.asdict(recipe.sen), "store": store, **began},
    }
    save_model(run.path / SEN_FOLDER, _json(config), weights)
    run.log(f"sen: kept the weights of step {stage.best['step']}")


def export(
    recipe: Recipe,
    speech: Encoder,
    image: ImageEncoder,
    drawer: Generator | LatentFlow,
    matched: Matchmap | None,
    store: Store,
    run: RunDirectory,
    began: dict[str, Any],
) -> None:
    """Writes what use and evaluation need: speech encoder, averaged generator or latent flow, image head, each with its
    own sizes; no optimiser. The whole matchmap is there for trainings that begin from the model."""
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
        **began,
    }
    save_model(run.model, _json(config), networks.state_dict())
    run.log(f"the model is in {run.model}")


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


def finished_sen(run: Path) -> ExportedModel:
    """The networks that stage 1 left in a run; UserError where it is not finished."""
    if not (run / SEN_FOLDER).is_dir():
        raise UserError(f"{run} has no finished stage 1; train it first with s2igan train ... --stage 1.")
    return ExportedModel.read(run / SEN_FOLDER)


def _json(config: dict[str, Any]) -> dict[str, Any]:
    """The config as it will be read back: lists for tuples."""
    return cast(dict[str, Any], json.loads(json.dumps(config)))


def _networks(speech: Encoder, image: ImageEncoder, image_size: int) -> dict[str, Any]:
    """The sizes of the encoders as they are."""
    return {
        "speech_encoder": encoder_to_json(speech.config),
        "image_encoder": dataclasses.asdict(image.config),
        "image_encoder_weights": image.weights_digest,
        "image_size": image_size,
    }


def _splits(
    store: Store, stage: Literal["sen", "rdg"], image_size: int
) -> tuple[SpeechImageData, SpeechImageData | None]:
    train = SpeechImageData(store, store.training_splits(stage), image_size)
    held_out = np.asarray(store.split_indices("validation"))
    return train, SpeechImageData(store, "validation", image_size) if len(held_out) else None
