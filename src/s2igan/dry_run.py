"""What a recipe will take, before it is trained: its complete configuration, the networks' parameters, time and memory.

Time and memory are measured: real steps of each stage on made-up data, on this machine. Other programs slow them down,
and the peak that stands beside them: that of a 3x3 convolution, forward and backward.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import save_file
from torch import nn

from s2igan.data.dataset import SpeechImageData
from s2igan.data.layout import HEADER, INDEX, STORE, VERSION, Kind, column_types, shard_name, stored_size
from s2igan.data.pack import write_index
from s2igan.data.store import Store
from s2igan.data.text_embeddings import write_text_embeddings
from s2igan.devices import choose_device
from s2igan.models.encoders import build_encoder, encoder_to_json
from s2igan.models.flow import FlowNetwork
from s2igan.models.image_encoder import ImageEncoder, build_backbone
from s2igan.models.latent_flow import check_frames
from s2igan.models.matchmap import Matchmap
from s2igan.models.precomputed import PrecomputedConfig
from s2igan.models.pretrained_autoencoder import (
    AnyAutoencoder,
    PretrainedAutoencoder,
    build_autoencoder,
)
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.recipes import groups
from s2igan.run_directory import environment
from s2igan.training.beyond.warm_start import ContourEncoder
from s2igan.training.beyond.warm_start_stage import WarmStartStage
from s2igan.training.latent_flow import with_autoencoder
from s2igan.training.latent_flow_stages import AutoencoderStage, DecoderStage, FlowStage, MatchmapStage
from s2igan.training.precision import autocast, choose_precision, convolution_gflops
from s2igan.training.rdg import build_networks
from s2igan.training.recipe import Recipe
from s2igan.training.stages import RDGStage, SENStage
from s2igan.training.train import check_text_embeddings
from s2igan.training.trainer import Stage, TrainerConfig

SMALL_BATCH = 4
"""Images in the first measured steps."""
PATIENCE_SECONDS = 10.0
"""Steps at the recipe's own batch size are measured where they take less than this."""
TYPICAL_FRAMES = 500
"""Length of the made-up utterances where no store tells a mean: 5 s, a spoken sentence of 15 words."""
MADE_UP_CLASSES, MADE_UP_IMAGES = 4, 16
"""Of the made-up set."""


@dataclass(frozen=True)
class DataFacts:
    """What the estimates need to know of a set."""

    images: int | None = None
    """Of the training split; None where no set is known."""
    classes: int | None = None
    """0 where the set has none; None where no set is known."""
    frames: int = TYPICAL_FRAMES
    """Mean length of an utterance."""
    store: str | None = None
    """The prepared store that this was read from."""

    @classmethod
    def of(cls, recipe: Recipe, directory: str | Path | None = None) -> DataFacts:
        """Those of a store's training split; without one, those of the set that the recipe is meant for.

        Raises:
            UserError: there is no store, or one of the recipe's stages cannot use it.
        """
        if directory is None:
            known = recipe.training_set
            return cls() if known is None else cls(known.images, known.classes)
        store = Store.open(Path(directory))
        if isinstance(recipe.sen.speech, PrecomputedConfig):
            check_text_embeddings(recipe.sen.speech, store)
        train = SpeechImageData(store, "train", recipe.image_size)
        frames = round(float(store.n_frames[train.utterances].mean()))
        return cls(len(train), train.n_classes if train.has_classes else 0, frames, str(directory))


def dry_run(
    recipe: Recipe,
    *,
    data: str | Path | None = None,
    autoencoder: str | Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Everything that a training of a recipe would take, ready for JSON.

    Args:
        recipe: the complete configuration.
        data: a prepared store, for its number of images and classes and its utterances' length.
        autoencoder: a pretrained one, as of `train_run`.
        device: where to measure; a GPU if there is one.

    Raises:
        UserError: the store or the device does not exist, or the recipe cannot be trained on the store.
    """
    where = choose_device(device)
    recipe, _ = with_autoencoder(recipe, autoencoder)
    facts = DataFacts.of(recipe, data)
    configuration = dataclasses.asdict(recipe)
    configuration["sen"]["speech"] = encoder_to_json(recipe.sen.speech)
    return {
        "recipe": configuration,
        "data": dataclasses.asdict(facts),
        "parts": parts(recipe, facts.classes),
        "machine": environment(),
        "device": str(where),
        "convolution_gflops": {
            "float32": round(convolution_gflops(torch.float32, where), 1),
            "bf16": round(convolution_gflops(torch.bfloat16, where), 1),
        },
        "measured": measure(recipe, facts, where),
    }


def parts(recipe: Recipe, classes: int | None) -> dict[str, dict[str, dict[str, int | bool]]]:
    """The networks of each stage by name, their parameters and whether they are trained; those that a recipe leaves out
    are not listed.

    Args:
        classes: of the training split; 0 or None leaves out the classifier of stage 1.
    """

    def part(trained: bool, *modules: nn.Module) -> dict[str, int | bool]:
        parameters = sum(p.numel() for module in modules for p in module.parameters())
        return {"parameters": parameters, "trained": trained}

    with torch.device("meta"):  # counted, never filled
        speech = build_encoder(recipe.sen.speech)
        image = ImageEncoder(recipe.sen.image, pretrained=False)
        backbone = build_backbone(recipe.sen.image.backbone)
    trains = takes_steps(recipe.sen.trainer)
    matching = recipe.sen.objective == "matching"
    sen = {
        "speech encoder": part(trains, speech),
        "image head": part(trains and matching, image.head),
        "image backbone": part(False, backbone),
    }
    if matching and recipe.sen.distinctive and classes:
        sen["classifier"] = part(trains, nn.Linear(recipe.sen.speech.embedding, classes, device="meta"))
    if recipe.rdg is None:
        return {"sen": sen, **_latent_flow_parts(recipe, part)}
    with torch.device("meta"):
        generator, discriminators, relation = build_networks(recipe.rdg, recipe.sen.image.embedding)
    start, sizes = recipe.beyond.warm_start, recipe.rdg.generator
    warm: dict[str, dict[str, dict[str, int | bool]]] = {}
    if start.trains:
        with torch.device("meta"):
            encoder = ContourEncoder(sizes.resolutions[-1], start.encoder_width, sizes.z)
        warm = {WarmStartStage.name: {"generator": part(True, generator), "contour encoder": part(True, encoder)}}
    rdg = {"generator": part(True, generator)}
    rdg |= {f"discriminator {side}": part(True, network) for side, network in discriminators.items()}
    if relation is not None:
        rdg["relation supervisor"] = part(True, relation)
    rdg["speech encoder"] = part(recipe.rdg.speech != "frozen", speech)
    rdg["image encoder"] = part(False, image.head, backbone)
    return {"sen": sen, **warm, "rdg": rdg}


def _latent_flow_parts(
    recipe: Recipe, part: Callable[..., dict[str, int | bool]]
) -> dict[str, dict[str, dict[str, int | bool]]]:
    """The networks of latent flow's three stages; discriminators are left out of the count."""
    flow, frames = recipe.latent_flow, recipe.sen.speech.embedding
    assert flow is not None
    channels = flow.latents.latent_channels
    with torch.device("meta"):
        autoencoder = build_autoencoder(flow.latents)
        matchmap = Matchmap(frames, channels, flow.matchmap.network)
        network = FlowNetwork(flow.flow.network, channels, flow.matchmap.network.words)
    return {
        "autoencoder": {"autoencoder": part(flow.pretrained is None, autoencoder)},
        "matchmap": {"word encoder": part(True, matchmap.words), "region encoder": part(True, matchmap.regions)},
        "flow": {"velocity network": part(True, network), "word encoder": part(False, matchmap.words)},
    }


def takes_steps(trainer: TrainerConfig) -> bool:
    """Whether a stage trains at all."""
    return bool(trainer.steps or trainer.epochs)


# ----------------------------------------------------------------------------------------------------------- measuring


def measure(recipe: Recipe, facts: DataFacts, device: torch.device) -> dict[str, dict[str, Any]]:
    """Steps of the stages that train, full-size networks on made-up data.

    Where a step at the recipe's batch size would take longer than `PATIENCE_SECONDS`, a smaller one is measured, and
    the time at the recipe's batch size is in proportion.
    """
    found = {}
    for stage in made_up_stages(recipe, facts, device):
        config = recipe.beyond.warm_start if stage.name == WarmStartStage.name else groups(recipe)[stage.name]
        chosen = choose_precision(config.trainer.precision, device)
        for measured in sorted({min(SMALL_BATCH, config.batch_size), config.batch_size}):
            seconds, memory = _warm_step(stage, measured, chosen)
            seconds *= config.batch_size / measured
            if seconds > PATIENCE_SECONDS:
                break
        found[stage.name] = {
            "precision": chosen,
            "batch_size": config.batch_size,
            "measured_batch_size": measured,
            "seconds_per_step": round(seconds, 4),
            "images_per_second": round(config.batch_size / seconds, 3),
            "peak_memory_gib_at_measured_batch_size": round(memory / 2**30, 2),
        }
        if config.trainer.epochs is None or facts.images is not None:
            steps = config.trainer.in_steps(max(1, (facts.images or 0) // config.batch_size)).steps
            found[stage.name] |= {"steps": steps, "hours": round(steps * seconds / 3600, 3)}
    return found


def _warm_step(stage: Stage, batch: int, precision: Literal["float32", "bf16"]) -> tuple[float, int]:
    """Seconds of the second of two steps at a batch size, and the most memory in bytes until then.

    On a GPU that is the memory of the two steps; on a CPU the most that this process ever held, 0 on Windows, where
    it is unknown.
    """
    device = stage.device
    config: Any = replace(stage.config, batch_size=batch)
    reader = replace(stage.reader, config=config, rows=slice(0, batch))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = 0.0
    for index in range(2):
        started = time.perf_counter()
        with autocast(precision, device):
            stage.update(index)(stage.state, stage.batch(reader.read(index)), config)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    if device.type == "cuda":
        return seconds, torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return seconds, 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def made_up_stages(recipe: Recipe, facts: DataFacts, device: torch.device) -> Iterator[Stage]:
    """The stages that train, one after the other: full-size networks on made-up data."""
    side = recipe.image_size
    with tempfile.TemporaryDirectory(prefix="s2igan-dry-run-") as folder:
        quiet = Console(quiet=True)
        options: dict[str, Any] = {"seed": 0, "device": device, "console": quiet, "cache": Path(folder)}
        store = made_up_store(Path(folder), side, facts, recipe.sen.speech.embedding)
        image = ImageEncoder(recipe.sen.image, pretrained=False).to(device)
        if takes_steps(recipe.sen.trainer):
            train = SpeechImageData(store, "train", recipe.sen.image_size)
            yield SENStage(recipe.sen, train, None, image=image, **options)
        train = SpeechImageData(store, "train", recipe.picture_size)
        speech = build_encoder(recipe.sen.speech).to(device).eval()
        if recipe.rdg is not None:
            options |= {"speech": speech, "image": image.eval(), "samples": Path(folder)}
            rdg = RDGStage(recipe.rdg, recipe.beyond, train, None, **options)
            if recipe.beyond.warm_start.trains:
                yield WarmStartStage(recipe.beyond.warm_start, rdg, pretrained=False)
            yield rdg
            return
        flow = recipe.latent_flow
        assert flow is not None
        common: dict[str, Any] = {"seed": 0, "device": device}
        autoencoder: AnyAutoencoder
        if flow.pretrained is None:
            encoded = AutoencoderStage(flow.autoencoder, train, None, samples=Path(folder), **common)
            yield encoded
            autoencoder = own = encoded.normalised()
            if flow.decoder is not None:
                yield DecoderStage(flow.decoder, train, None, autoencoder=own, samples=Path(folder), **common)
        else:
            autoencoder = PretrainedAutoencoder(flow.pretrained).to(device).eval().requires_grad_(False)
        common |= {"speech": check_frames(speech), "autoencoder": autoencoder}
        common |= {"cache": Path(folder), "console": quiet}
        matched = MatchmapStage(flow.matchmap, train, None, views=flow.flow.views, reach=flow.flow.reach, **common)
        yield matched
        yield FlowStage(flow.flow, train, None, matched=matched.trained(), samples=Path(folder), **common)


def made_up_store(folder: Path, image_size: int, facts: DataFacts, embedding: int = 1024) -> Store:
    """A prepared store of noise: pictures large enough, log-mels of the expected length, classes if there are any.

    It is written as it is, so that measuring needs no library that decodes sound.

    Args:
        embedding: dimensions of the embedding of its one text.
    """
    rng = np.random.default_rng(0)
    n, side, bands = MADE_UP_CLASSES * MADE_UP_IMAGES, stored_size(image_size), SpeechEncoderConfig.n_mels
    rows = np.arange(n, dtype=np.int32)
    noise = rng.standard_normal((n * facts.frames, bands), dtype=np.float32)
    images = {"images": rng.integers(0, 256, (n * side, side, 3), dtype=np.uint8), "wide": np.zeros(n, bool)}
    made: dict[Kind, dict[str, np.ndarray]] = {"images": images, "mels": {"mels": noise.astype(np.float16)}}
    offsets = {"images": side * np.arange(n + 1), "mels": facts.frames * np.arange(n + 1)}
    (folder / STORE).mkdir()
    shards = {}
    for kind, tensors in made.items():
        path = folder / STORE / shard_name(kind, 0)
        save_file(tensors | {"rows": rows, "offsets": offsets[kind]}, path, {HEADER: json.dumps({"rejected": {}})})
        shards[path.name] = path.stat().st_size
    text = "a description of this picture, of about as many words as a sentence has"
    names = [f"{label}-{number}" for label in range(MADE_UP_CLASSES) for number in range(MADE_UP_IMAGES)]
    utterances: dict[str, Any] = {name: [None] * n for name in column_types()[INDEX]}
    utterances |= {"image": rows, "shard": 0 * rows, "offset": offsets["mels"][:-1], "n_frames": [facts.frames] * n}
    utterances |= {"split": ["train"] * n, "audio": [f"{name}.wav" for name in names], "text": [text] * n}
    pictures: dict[str, Any] = {
        "path": [f"{name}.png" for name in names],
        "class": [None if facts.classes == 0 else name[0] for name in names],
        "shard": 0 * rows,
        "offset": offsets["images"][:-1],
        "length": [side] * n,
        "wide": images["wide"],
        "attributes": ["{}"] * n,
    }
    sizes = {"image_size": image_size, "stored_size": side, "window": "hann", "validation_from_train": False}
    counts = {"version": VERSION, "corpus": ".", "rows": n, "rejected": 0, "attributes": {}, "shards": shards}
    write_index(folder, utterances, pictures, counts | sizes)
    write_text_embeddings(folder, [text], rng.standard_normal((1, embedding)).astype(np.float16))
    return Store.open(folder)
