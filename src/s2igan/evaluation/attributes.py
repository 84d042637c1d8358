"""Which attributes a picture shows, judged by a classifier that has seen drawings only.

It learns from freshly drawn pictures whose attributes are combined at random, never from the corpus: species have
fixed combinations, and a classifier taught on them could read the belly's colour off the wings. The crops and flips
are those that the generator's training sees; blur and noise keep it from relying on the crispness of drawings, which
generated images lack.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from s2igan.checkpoint import load_model, save_model
from s2igan.data.dataset import crop_and_flip
from s2igan.data.layout import stored_size
from s2igan.evaluation.drawings import Drawing, draw_random
from s2igan.models.blocks import seeded

VERSION = 1
"""Of the recipe below beyond its settings; classifiers of another version are trained anew."""

HELD_OUT_SEED_STEP = 1
"""Held-out drawings are drawn from the next seed, whose individuals are other ones."""


@dataclass(frozen=True)
class ClassifierConfig:
    """The attribute classifier and its training."""

    image_size: int = 64
    """Side in pixels of the images it judges: 16 or a multiple; others are resized."""
    width: int = 16
    """Channels of the first convolution."""
    drawings: int = 4000
    """Pictures to learn from."""
    held_out: int = 400
    """Pictures to measure it on, drawn like those but never learnt from."""
    epochs: int = 14
    batch_size: int = 64
    learning_rate: float = 4e-3
    """Peak of a one-cycle schedule."""
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    dropout: float = 0.1
    """In front of the heads."""
    blur_share: float = 0.7
    """Share of the training images that are blurred, by up to a 3 x 3 mean."""
    noise: float = 0.1
    """Largest standard deviation of the noise added, images being in [-1, 1]."""


class AttributeNet(nn.Module):
    """Five convolutions down to a sixteenth of the side, then one linear head per attribute on the whole map."""

    def __init__(self, config: ClassifierConfig, n_values: Sequence[int]) -> None:
        super().__init__()
        self.n_values = list(n_values)
        w = config.width
        side = config.image_size // 16
        self.trunk = nn.Sequential(
            _conv(3, w, stride=2),
            _conv(w, 2 * w, stride=2),
            _conv(2 * w, 4 * w, stride=2),
            _conv(4 * w, 4 * w, stride=1),
            _conv(4 * w, 6 * w, stride=2),
            nn.Flatten(),
            nn.Dropout(config.dropout),
        )
        self.heads = nn.Linear(6 * w * side * side, sum(self.n_values))

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> list[Float[Tensor, "batch _"]]:
        """Logits of every attribute, in order."""
        return list(self.heads(self.trunk(images)).split(self.n_values, dim=1))


def _conv(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    kernel = {1: 3, 2: 4}[stride]
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class AttributeClassifier:
    """A trained net with the names of what it tells apart."""

    def __init__(
        self,
        net: AttributeNet,
        attributes: Mapping[str, tuple[str, ...]],
        config: ClassifierConfig,
        record: Mapping[str, Any],
    ) -> None:
        self.net = net.eval().requires_grad_(False)
        self.attributes = dict(attributes)
        self.config = config
        self.record = dict(record)
        """Accuracy on held-out drawings per attribute, seconds it took, seed, fingerprint of the drawing."""

    @torch.inference_mode()
    def predict(
        self, images: Float[Tensor, "batch 3 side side"], batch_size: int = 128
    ) -> dict[str, Int[np.ndarray, " batch"]]:
        """For every attribute, the number (in ``attributes[name]``) of the value that each image in [-1, 1] shows."""
        size = self.config.image_size
        codes: list[list[Tensor]] = [[] for _ in self.attributes]
        for part in images.split(batch_size):
            if part.shape[-1] != size:
                part = F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
            for column, logits in zip(codes, self.net(part.contiguous(memory_format=torch.channels_last)), strict=True):
                column.append(logits.argmax(dim=1))
        return {name: torch.cat(column).numpy() for name, column in zip(self.attributes, codes, strict=True)}

    def codes(self, facts: Sequence[Mapping[str, str]]) -> dict[str, Int[np.ndarray, " batch"]]:
        """The same numbers for known facts of pictures; -1 where a picture has no such attribute."""
        return {
            name: np.array([values.index(row[name]) if name in row else -1 for row in facts], dtype=np.int64)
            for name, values in self.attributes.items()
        }


def load_or_train_classifier(
    cache_dir: str | Path,
    drawing: Drawing,
    config: ClassifierConfig | None = None,
    *,
    seed: int = 0,
    jobs: int | None = None,
    console: Console | None = None,
) -> AttributeClassifier:
    """The classifier of a drawn set from ``cache_dir``, or a new one, kept there for the next time.

    The cache is keyed by the drawing's source, the settings and the seed: a change to any of them trains anew.

    Args:
        jobs: processes that draw; as many as there are usable cores unless given.
        console: where progress is shown; nowhere unless given.

    Raises:
        UserError: the cached file is damaged, or there is no room for a new one.
    """
    config = config or ClassifierConfig()
    facts = {
        "version": VERSION,
        "drawing": drawing.name,
        "fingerprint": drawing.fingerprint,
        "attributes": {name: list(values) for name, values in drawing.attributes.items()},
        "settings": dataclasses.asdict(config),
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    directory = Path(cache_dir) / f"{drawing.name}-{key}"
    n_values = [len(values) for values in drawing.attributes.values()]
    if directory.is_dir():
        stored, weights = load_model(directory)
        net = AttributeNet(config, n_values)
        net.load_state_dict(weights)
        return AttributeClassifier(net, drawing.attributes, config, stored["record"])
    classifier = train_classifier(drawing, config, seed=seed, jobs=jobs, console=console)
    save_model(directory, {**facts, "record": classifier.record}, classifier.net.state_dict())
    return classifier


def train_classifier(
    drawing: Drawing,
    config: ClassifierConfig,
    *,
    seed: int = 0,
    jobs: int | None = None,
    console: Console | None = None,
) -> AttributeClassifier:
    """Draws the pictures, trains, and measures on held-out drawings; arguments as `load_or_train_classifier`."""
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None or not console.is_terminal) as bar:
        task = bar.add_task("Attribute classifier: drawing", total=config.drawings + config.held_out)
        side = stored_size(config.image_size)

        def draw(count: int, seed: int) -> tuple[np.ndarray, Tensor]:
            pictures, codes = draw_random(
                drawing, count, side, seed=seed, jobs=jobs, advance=lambda done: bar.advance(task, done)
            )
            return pictures, torch.from_numpy(codes)

        pictures, codes = draw(config.drawings, 2 * seed)
        unseen, unseen_codes = draw(config.held_out, 2 * seed + HELD_OUT_SEED_STEP)
        drawn = time.monotonic()
        steps = config.epochs * (config.drawings // config.batch_size)
        task = bar.add_task("Attribute classifier: training", total=steps)
        with seeded(seed):  # the weights and the dropout
            net = AttributeNet(config, [len(values) for values in drawing.attributes.values()])
            _fit(net.to(memory_format=torch.channels_last), pictures, codes, config, seed, lambda: bar.advance(task))
    classifier = AttributeClassifier(net, drawing.attributes, config, {})
    found = classifier.predict(crop_and_flip(unseen, config.image_size, None))
    classifier.record = {
        "held_out_accuracy": {
            name: float((found[name] == unseen_codes[:, i].numpy()).mean()) for i, name in enumerate(drawing.attributes)
        },
        "drawing_seconds": round(drawn - started, 1),
        "training_seconds": round(time.monotonic() - drawn, 1),
        "seed": seed,
        "fingerprint": drawing.fingerprint,
    }
    return classifier


def _fit(
    net: AttributeNet,
    pictures: UInt8[np.ndarray, "count side side 3"],
    codes: Int[Tensor, "count attributes"],
    config: ClassifierConfig,
    seed: int,
    advance: Any,
) -> None:
    rng = np.random.default_rng([seed, 0xC1A5])
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps_per_epoch = len(pictures) // config.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=config.epochs * steps_per_epoch, pct_start=0.2
    )
    net.train()
    for _ in range(config.epochs):
        order = rng.permutation(len(pictures))
        for step in range(steps_per_epoch):
            chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
            images = degrade(crop_and_flip(pictures[chosen], config.image_size, rng), config, rng)
            targets = codes[torch.from_numpy(chosen)]
            loss = torch.stack(
                [
                    F.cross_entropy(logits, target, label_smoothing=config.label_smoothing)
                    for logits, target in zip(net(images), targets.T, strict=True)
                ]
            ).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            advance()


def degrade(
    images: Float[Tensor, "batch 3 side side"], config: ClassifierConfig, rng: np.random.Generator
) -> Float[Tensor, "batch 3 side side"]:
    """Images with a random amount of blur and noise each, channels last."""
    n = len(images)

    def amounts(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).view(n, 1, 1, 1)

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, blurred, amounts(rng.random(n) * (rng.random(n) < config.blur_share)))
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    images = images + noise * amounts(rng.random(n) * config.noise)
    return images.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Accuracy:
    """How often an attribute was right, over the captions that mention it."""

    accuracy: float
    n: int
    """Captions that mention it."""
    chance: float
    """Of guessing among the values: one over their number."""
    shuffled: float
    """Expected accuracy of the same predictions dealt out to the same captions at random: what the generator would
    reach if it drew these pictures without listening."""


def attribute_accuracy(
    predictions: Mapping[str, Int[np.ndarray, " images"]],
    truths: Mapping[str, Int[np.ndarray, " images"]],
    mentions: Sequence[Collection[str]],
    n_values: Mapping[str, int],
) -> dict[str, Accuracy]:
    """Accuracy per attribute, asking of each image only what its caption mentions.

    Args:
        predictions: by attribute, the number of the value that each image shows.
        truths: the same numbers as the caption has it.
        mentions: the attributes that each image's caption names.
        n_values: how many values each attribute has.

    Attributes that no caption mentions are left out.
    """
    found = {}
    for name, predicted in predictions.items():
        asked = np.array([name in row for row in mentions], dtype=bool)
        if not asked.any():
            continue
        p, t = predicted[asked], truths[name][asked]
        shares = [np.bincount(codes, minlength=n_values[name]) / len(codes) for codes in (p, t)]
        found[name] = Accuracy(
            accuracy=float((p == t).mean()),
            n=int(asked.sum()),
            chance=1 / n_values[name],
            shuffled=float(shares[0] @ shares[1]),
        )
    return found
