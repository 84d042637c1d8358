"""What a recipe will take, before it is trained: the resolved configuration, the networks' sizes, memory and time.

The last two are measured: real steps of each stage, full-size networks on made-up data, on this machine, at small
batches. Memory is a straight line through two batches, time per image that of the larger one. Machines gain from larger
batches, and other programs slow them down: read the time as an order of magnitude.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from s2igan.audio import FRAMES_PER_SECOND, SAMPLE_RATE
from s2igan.data.dataset import SpeechImageData
from s2igan.data.manifest import Utterance, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.data.text_embeddings import write_text_embeddings
from s2igan.models.encoders import build_encoder, encoder_to_json
from s2igan.models.image_encoder import ImageEncoder, build_backbone
from s2igan.models.precomputed import PrecomputedConfig
from s2igan.recipes import Recipe, resolve
from s2igan.training.distributed import first, tell
from s2igan.training.rdg_stage import RDGStage
from s2igan.training.rdg_state import build_networks
from s2igan.training.sen_stage import SENStage
from s2igan.training.train import check_text_embeddings
from s2igan.training.trainer import LoopConfig

MEASURED_BATCHES = {"sen": (8, 16), "rdg": (2, 4)}
"""Images in the two measured steps; the first is the warm-up of the second, which is timed."""
TYPICAL_FRAMES = 500
"""Length of the made-up utterances where no store tells a mean: 5 s, a spoken sentence of 15 words."""
MADE_UP_CLASSES, MADE_UP_IMAGES = 4, 4
"""Classes of the made-up set, and images of each."""
BUSY = 0.8
"""Share of one processor below which a measured time says more about other programs."""
BYTES = 4
"""Of a number: everything is float32."""
ADAM_MOMENTS = 2
"""Averages that the optimiser keeps of every trained number."""


@dataclass(frozen=True)
class DataFacts:
    """What the estimates need to know of a set."""

    images: int | None
    classes: int | None
    frames: int
    source: str


@dataclass(frozen=True)
class Measurement:
    """Two steps of a stage."""

    seconds: float
    """Of the larger one."""
    busy: float
    """Processor time over time, of the larger one; under 1 on a CPU that others use as well."""
    kept_bytes: dict[int, int]
    """Most that autograd kept for backward passes at one time, parameters not counted, by the images in the step."""

    @property
    def batch(self) -> int:
        """Images in the larger step."""
        return max(self.kept_bytes)

    def kept_at(self, batch: int) -> int:
        """Bytes kept at any batch, on the line through the two."""
        (small, less), (large, more) = sorted(self.kept_bytes.items())
        return round(less + (more - less) / (large - small) * (batch - small))


@dataclass(frozen=True)
class Part:
    """A network's parameters."""

    name: str
    count: int
    trained: bool
    averaged: bool = False


def plan(
    recipe: str | Recipe, *, size: str | None = None, data: str | Path | None = None, device: str | None = None
) -> str:
    """Everything that a training of a recipe would take, as text.

    Args:
        recipe: name of a recipe, or a complete one.
        size: the size that a method is applied to.
        data: a prepared store, for its number of images and classes and its utterances' length.
        device: where to measure; a GPU if there is one.

    Raises:
        UserError: the recipe or the store does not exist, or does not fit the other.
    """
    chosen = resolve(recipe, size) if isinstance(recipe, str) else recipe
    facts = facts_of_store(chosen, Path(data)) if data is not None else facts_of_recipe(chosen)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return "\n".join([*tree(resolved(chosen)), "", *report(chosen, facts, measure(chosen, facts, where), where)])


def facts_of_recipe(recipe: Recipe) -> DataFacts:
    """What the paper's set has, as far as the recipe names one."""
    known = recipe.training_set
    if known is None:
        return DataFacts(None, None, TYPICAL_FRAMES, f"no set, with utterances of {TYPICAL_FRAMES} frames")
    classes = f" in {known.classes:,} classes" if known.classes else ""
    source = f"{known.images:,} training images{classes}, with utterances of {TYPICAL_FRAMES} frames"
    return DataFacts(known.images, known.classes, TYPICAL_FRAMES, source)


def facts_of_store(recipe: Recipe, directory: Path) -> DataFacts:
    """What the training split of a store has; both stages must be able to use it."""
    store = Store.open(directory)
    if isinstance(recipe.sen.speech, PrecomputedConfig):
        check_text_embeddings(recipe.sen.speech, store)
    train = SpeechImageData(store, "train", max(recipe.sen.image_size, recipe.rdg.generator.resolutions[-1]))
    frames = round(float(store.n_frames[train.utterances].mean()))
    classes = train.n_classes if train.has_classes else 0
    source = f"{len(train):,} training images, {classes:,} classes, utterances of {frames} frames on average"
    return DataFacts(len(train), classes, frames, f"{directory}: {source}")


# ----------------------------------------------------------------------------------------------------------- measuring


class SavedTensors:
    """Counts what autograd keeps for backward passes, every storage once, while `hooks` are in place."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._parameters = {p.untyped_storage().data_ptr() for module in modules for p in module.parameters()}
        self._users: dict[int, int] = {}
        self._bytes = 0
        self.peak_bytes = 0

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        """A context in which every saved tensor is counted."""
        return torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Kept(tensor, self), lambda kept: kept.tensor)

    def add(self, storage: torch.UntypedStorage) -> None:
        """One more node of the graph keeps this storage."""
        key = storage.data_ptr()
        if key in self._parameters:
            return
        self._users[key] = self._users.get(key, 0) + 1
        if self._users[key] == 1:
            self._bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self._bytes)

    def remove(self, storage: torch.UntypedStorage) -> None:
        """One node less."""
        key = storage.data_ptr()
        if key in self._parameters:
            return
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._bytes -= storage.nbytes()


class _Kept:
    """A saved tensor; the graph drops it when its backward pass is done."""

    def __init__(self, tensor: Tensor, ledger: SavedTensors) -> None:
        self.tensor, self._ledger = tensor, ledger
        ledger.add(tensor.untyped_storage())

    def __del__(self) -> None:
        self._ledger.remove(self.tensor.untyped_storage())


def measure(recipe: Recipe, facts: DataFacts, device: torch.device) -> dict[str, Measurement]:
    """Steps of the stages that train, at full size on made-up data."""
    two_steps = LoopConfig(steps=2)
    recipe = replace(
        recipe,
        sen=replace(recipe.sen, loop=two_steps if takes_steps(recipe.sen.loop) else LoopConfig()),
        rdg=replace(recipe.rdg, loop=two_steps),
    )
    with made_up_stages(recipe, facts, device) as stages:
        return {stage.name: _two_steps(stage, networks, device) for stage, networks in stages}


def takes_steps(loop: LoopConfig) -> bool:
    """Whether a stage trains at all."""
    return bool(loop.steps or loop.epochs)


@contextmanager
def made_up_stages(
    recipe: Recipe, facts: DataFacts, device: torch.device, *, images: int = MADE_UP_IMAGES
) -> Iterator[Iterator[tuple[SENStage | RDGStage, list[nn.Module]]]]:
    """The stages that train, one after the other, with all networks of each, at full size on made-up data.

    Args:
        images: pictures of each made-up class.
    """

    def build(folder: Path) -> Iterator[tuple[SENStage | RDGStage, list[nn.Module]]]:
        quiet = Console(quiet=True)
        size = max(recipe.sen.image_size, recipe.rdg.generator.resolutions[-1])
        made = first(lambda: made_up_store(folder, size, facts, images, recipe.sen.speech.embedding))
        store = made if made is not None else Store.open(folder)
        image = ImageEncoder(recipe.sen.image, pretrained=False).to(device)
        if takes_steps(recipe.sen.loop):
            train = SpeechImageData(store, "train", recipe.sen.image_size)
            sen_stage = SENStage(recipe.sen, train, None, seed=0, device=device, console=quiet, image=image)
            yield sen_stage, [sen_stage.state.speech, image]
        train = SpeechImageData(store, "train", recipe.rdg.generator.resolutions[-1])
        speech = build_encoder(recipe.sen.speech).to(device).eval()
        rdg_stage = RDGStage(
            replace(recipe.rdg, practice_steps=0, scale_steps=()),  # measured are whole steps, which most are
            train,
            None,
            speech=speech,
            image=image.eval(),
            samples=folder,
            seed=0,
            device=device,
            console=quiet,
        )
        state = rdg_stage.state
        networks = [state.generator, *state.discriminators.values(), speech, image, state.relation, state.posterior]
        yield rdg_stage, [network for network in networks if network is not None]

    with tempfile.TemporaryDirectory(prefix="s2igan-plan-") as folder:
        yield build(Path(tell(folder)))  # the first process's, in all


def _two_steps(stage: SENStage | RDGStage, networks: list[nn.Module], device: torch.device) -> Measurement:
    kept: dict[int, int] = {}
    seconds = busy = 0.0
    for index, batch in enumerate(MEASURED_BATCHES[stage.name]):
        stage.config = replace(stage.config, batch_size=batch)
        ledger = SavedTensors(networks)
        started, processed = time.monotonic(), time.process_time()
        with ledger.hooks():
            stage.step(index)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.monotonic() - started
        busy = (time.process_time() - processed) / seconds
        kept[batch] = ledger.peak_bytes
    return Measurement(seconds, busy, kept)


def made_up_store(
    folder: Path, image_size: int, facts: DataFacts, images: int = MADE_UP_IMAGES, embedding: int = 1024
) -> Store:
    """A prepared store of noise: pictures large enough, utterances of the expected length, classes if there are any.

    The embedding of its one text has so many dimensions.
    """
    rng = np.random.default_rng(0)
    text = "a description of this picture, of about as many words as a sentence has"
    rows = []
    for label in range(MADE_UP_CLASSES):
        for number in range(images):
            name = f"{label}-{number}"
            pixels = rng.integers(0, 256, (image_size, image_size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.png")
            wave = 0.1 * rng.standard_normal(round(facts.frames / FRAMES_PER_SECOND * SAMPLE_RATE))
            soundfile.write(folder / f"{name}.wav", wave, SAMPLE_RATE)
            class_name = None if facts.classes == 0 else str(label)
            rows.append(Utterance(f"{name}.wav", f"{name}.png", class_name=class_name, split="train", text=text))
    write_manifest(folder / "manifest.jsonl", rows)
    build_store(folder / "manifest.jsonl", image_size=image_size, jobs=1, progress=False)
    write_text_embeddings(folder, [text], rng.standard_normal((1, embedding)).astype(np.float16))
    return Store.open(folder)


# ----------------------------------------------------------------------------------------------------------- reporting


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The configuration as nested dicts, with the kind of the encoder."""
    values = dataclasses.asdict(recipe)
    values["sen"]["speech"] = encoder_to_json(recipe.sen.speech)
    return values


def tree(values: Mapping[str, Any], indent: int = 0) -> Iterator[str]:
    """Nested dicts as the lines of a YAML document."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{'  ' * indent}{key}:"
            yield from tree(value, indent + 1)
        else:
            yield f"{'  ' * indent}{key}: {_plain(value)}"


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return str(value)


def parts(recipe: Recipe, facts: DataFacts) -> dict[str, list[Part]]:
    """The networks of each stage; those that a recipe leaves out are not listed."""
    with torch.device("meta"):  # counted, never filled
        speech = build_encoder(recipe.sen.speech)
        image = ImageEncoder(recipe.sen.image, pretrained=False)
        backbone = build_backbone(recipe.sen.image.backbone)
        generator, discriminators, relation, posterior = build_networks(recipe.rdg, recipe.sen.image.embedding)
    trains = takes_steps(recipe.sen.loop)
    matching = recipe.sen.objective == "matching"
    sen = [
        Part("speech encoder", _count(speech), trains),
        Part("image head", _count(image.head), trains and matching),
        Part("image backbone", _count(backbone), False),
    ]
    if matching and recipe.sen.distinctive and facts.classes:
        sen.append(Part("classifier", (recipe.sen.speech.embedding + 1) * facts.classes, trains))
    rdg = [Part("generator", _count(generator), True, averaged=True)]
    rdg += [Part(f"discriminator {side}", _count(network), True) for side, network in discriminators.items()]
    if relation is not None:
        rdg.append(Part("relation supervisor", _count(relation), True))
    if posterior is not None:
        rdg.append(Part("posterior of z", _count(posterior), True))
    rdg.append(Part("speech encoder", _count(speech), recipe.rdg.speech != "frozen"))
    rdg.append(Part("image encoder", _count(image.head) + _count(backbone), False))
    return {"sen": sen, "rdg": rdg}


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def report(recipe: Recipe, facts: DataFacts, measured: dict[str, Measurement], device: torch.device) -> Iterator[str]:
    """Parameters, memory and time, line by line."""
    networks = parts(recipe, facts)
    yield "Parameters"
    for stage, listed in networks.items():
        for part in listed:
            yield f"  {stage}  {part.name:20} {part.count:>12,}{'' if part.trained else '  frozen'}"
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    yield ""
    yield f"Data: {facts.source}"
    yield f"Measured on this machine ({machine}, float32): steps of each stage at full size, on made-up data"
    for stage, config in (("sen", recipe.sen), ("rdg", recipe.rdg)):
        yield ""
        if stage not in measured:
            yield f"{stage}: takes no step"
            continue
        yield from _stage_report(stage, config.batch_size, config.loop, networks[stage], facts, measured[stage])


def _stage_report(
    stage: str, batch: int, loop: LoopConfig, networks: list[Part], facts: DataFacts, measured: Measurement
) -> Iterator[str]:
    weights = BYTES * sum(part.count * (1 + part.averaged) for part in networks)
    trained = BYTES * sum(part.count for part in networks if part.trained)
    kept = measured.kept_at(batch)
    seconds = measured.seconds / measured.batch * batch
    points = " and ".join(f"{_size(size)} at {n}" for n, size in measured.kept_bytes.items())
    yield f"{stage}: batch {batch}"
    yield f"  measured: {measured.seconds:.2f} s at batch {measured.batch}; kept for backward passes {points}"
    yield f"  memory  {_size(weights):>9}  weights and moving averages"
    yield f"          {_size(trained):>9}  gradients"
    yield f"          {_size(ADAM_MOMENTS * trained):>9}  optimiser"
    yield f"          {_size(kept):>9}  kept for backward passes, on the line through the measured batches"
    total = weights + (1 + ADAM_MOMENTS) * trained + kept
    yield f"          {_size(total):>9}  in total; buffers of single operations come on top"
    yield f"  time    {seconds:.1f} s a step at the measured time per image ({batch / seconds:.2f} images/s)"
    if measured.busy < BUSY:
        yield f"          too long: other programs left {measured.busy:.0%} of a processor while it was measured"
    if loop.epochs is None:
        yield f"          {loop.steps:,} steps: {_duration(loop.steps * seconds)}"
    elif facts.images is None:
        yield f"          {loop.epochs} epochs; name a store with --data to learn how long they take"
    else:
        steps = loop.in_steps(max(1, facts.images // batch)).steps
        yield f"          {loop.epochs} epochs = {steps:,} steps: {_duration(steps * seconds)}"


def _size(n_bytes: int) -> str:
    mib = n_bytes / 2**20
    return f"{mib / 1024:.2f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"about {seconds / length:.1f} {unit}"
    return f"about {seconds:.0f} seconds"
