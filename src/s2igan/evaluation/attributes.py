"""Which attributes a picture shows, by a classifier that has seen drawings only.

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
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from s2igan.checkpoint import load_model, save_model
from s2igan.corpora.builtin.drawn import DrawnSet
from s2igan.data.dataset import crop_and_flip
from s2igan.data.layout import stored_size
from s2igan.evaluation.drawings import draw_random, fingerprint
from s2igan.evaluation.extractors import Extractor
from s2igan.files import cache_folder
from s2igan.metrics.bootstrap import interval, resample_clusters
from s2igan.models.blocks import seeded
from s2igan.models.image_encoder import digest_of
from s2igan.parallel import track

VERSION = 1
"""Of the recipe below beyond its settings; classifiers of another version are trained anew."""
SEED, HELD_OUT_SEED = 0, 1
"""Of the training and its drawings, and of the held-out drawings, whose individuals are other ones."""


@dataclass(frozen=True)
class ClassifierConfig:
    """The attribute classifier and its training."""

    image_size: int = 64
    """Side in pixels of the images it sees: 16 or a multiple; others are resized."""
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


class AttributeClassifier(nn.Module):
    """Five convolutions down to a sixteenth of the side, then one linear head per attribute on the whole map."""

    def __init__(self, attributes: Mapping[str, tuple[str, ...]], config: ClassifierConfig) -> None:
        super().__init__()
        self.attributes = dict(attributes)
        self.config = config
        self.record: dict[str, Any] = {}
        """Accuracy on held-out drawings per attribute, seconds it took, seed, fingerprint of the drawing."""
        w, side = config.width, config.image_size // 16
        self.trunk = nn.Sequential(
            Conv2dNormActivation(3, w, 4, stride=2, padding=1),
            Conv2dNormActivation(w, 2 * w, 4, stride=2, padding=1),
            Conv2dNormActivation(2 * w, 4 * w, 4, stride=2, padding=1),
            Conv2dNormActivation(4 * w, 4 * w, 3),
            Conv2dNormActivation(4 * w, 6 * w, 4, stride=2, padding=1),
            nn.Flatten(),
            nn.Dropout(config.dropout),
        )
        self.heads = nn.Linear(6 * w * side * side, sum(map(len, attributes.values())))

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> list[Float[Tensor, "batch _"]]:
        """Logits of every attribute, in order."""
        return list(self.heads(self.trunk(images)).split([len(values) for values in self.attributes.values()], dim=1))

    @torch.inference_mode()
    def read(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> tuple[Int[np.ndarray, "batch attributes"], Float[np.ndarray, "batch features"]]:
        """Of images in [-1, 1], for every attribute the number (in ``attributes[name]``) of the value that each shows;
        and the features that this is read off."""
        size = self.config.image_size
        if images.shape[-1] != size:
            images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        features = self.trunk(images.contiguous(memory_format=torch.channels_last))
        logits = self.heads(features).split([len(values) for values in self.attributes.values()], dim=1)
        return torch.stack([values.argmax(dim=1) for values in logits], dim=1).numpy(), features.numpy()

    def predict(
        self, images: Float[Tensor, "batch 3 side side"], batch_size: int = 128
    ) -> dict[str, Int[np.ndarray, " batch"]]:
        """The same numbers by attribute."""
        return self.by_name(np.concatenate([self.read(part)[0] for part in images.split(batch_size)]))

    def by_name(self, codes: Int[np.ndarray, "batch attributes"]) -> dict[str, Int[np.ndarray, " batch"]]:
        """The columns of what `read` gives."""
        return dict(zip(self.attributes, codes.T, strict=True))

    def codes(self, facts: Sequence[Mapping[str, str]]) -> dict[str, Int[np.ndarray, " batch"]]:
        """The same numbers for known facts of pictures; -1 where a picture has no such attribute."""
        return {
            name: np.array([values.index(row[name]) if name in row else -1 for row in facts], dtype=np.int64)
            for name, values in self.attributes.items()
        }


class AttributesSeen(Extractor):
    """What a classifier sees of pictures ("attributes", a column for each), and its features ("drawings")."""

    name = "attributes"

    def __init__(self, classifier: AttributeClassifier) -> None:
        self.classifier = classifier
        words = f"the classifier of attributes, trained on drawings, at {classifier.config.image_size} px"
        self.facts = {"extractor": words, "sha256": digest_of(classifier)}

    def __call__(self, pictures: UInt8[np.ndarray, "pictures side side 3"]) -> dict[str, np.ndarray]:
        codes, features = self.classifier.read(crop_and_flip(pictures, pictures.shape[1], None))
        return {"attributes": codes, "drawings": features}


def load_or_train_classifier(drawn: DrawnSet, config: ClassifierConfig | None = None) -> AttributeClassifier:
    """The classifier of a drawn set from the user's cache folder, or a new one, kept there for the next time.

    It is keyed by the drawing's source and the settings: a change to either trains anew.

    Raises:
        UserError: the cached file is damaged, or there is no room for a new one.
    """
    config = config or ClassifierConfig()
    facts = {
        "version": VERSION,
        "drawing": drawn.name,
        "fingerprint": fingerprint(drawn),
        "attributes": {name: list(values) for name, values in drawn.attributes.items()},
        "settings": dataclasses.asdict(config),
        "seed": SEED,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    directory = cache_folder(None) / "attribute_classifiers" / f"{drawn.name}-{key}"
    if directory.is_dir():
        stored, weights = load_model(directory)
        classifier = AttributeClassifier(drawn.attributes, config)
        classifier.load_state_dict(weights)
        classifier.record = stored["record"]
        return classifier.eval().requires_grad_(False)
    classifier = train_classifier(drawn, config)
    save_model(directory, {**facts, "record": classifier.record}, classifier.state_dict())
    return classifier


def train_classifier(drawn: DrawnSet, config: ClassifierConfig) -> AttributeClassifier:
    """Draws the pictures, trains, and measures on held-out drawings."""
    started = time.monotonic()
    side, steps_per_epoch = stored_size(config.image_size), config.drawings // config.batch_size
    pictures, codes = draw_random(drawn, config.drawings, side, seed=SEED)
    unseen, unseen_codes = draw_random(drawn, config.held_out, side, seed=HELD_OUT_SEED)
    drawing_seconds = time.monotonic() - started
    rng = np.random.default_rng([SEED, 0xC1A5])
    with seeded(SEED):  # the weights and the dropout
        classifier = AttributeClassifier(drawn.attributes, config).to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(classifier.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=config.epochs * steps_per_epoch, pct_start=0.2
        )
        for _ in track(range(config.epochs), "Training the attribute classifier"):
            order = rng.permutation(len(pictures))[: steps_per_epoch * config.batch_size]
            for chosen in order.reshape(steps_per_epoch, config.batch_size):
                images = degrade(crop_and_flip(pictures[chosen], config.image_size, rng), config, rng)
                losses = [
                    F.cross_entropy(logits, target, label_smoothing=config.label_smoothing)
                    for logits, target in zip(classifier(images), torch.from_numpy(codes[chosen].T), strict=True)
                ]
                optimiser.zero_grad(set_to_none=True)
                torch.stack(losses).sum().backward()
                optimiser.step()
                schedule.step()
    seen = classifier.eval().requires_grad_(False).predict(crop_and_flip(unseen, config.image_size, None))
    classifier.record = {
        "held_out_accuracy": {
            name: float((seen[name] == known).mean()) for name, known in zip(seen, unseen_codes.T, strict=True)
        },
        "drawing_seconds": round(drawing_seconds, 1),
        "training_seconds": round(time.monotonic() - started - drawing_seconds, 1),
        "seed": SEED,
        "fingerprint": fingerprint(drawn),
    }
    return classifier


def degrade(
    images: Float[Tensor, "batch 3 side side"], config: ClassifierConfig, rng: np.random.Generator
) -> Float[Tensor, "batch 3 side side"]:
    """Images with a random amount of blur and noise each, channels last."""
    n = len(images)
    shares = rng.random(n) * (rng.random(n) < config.blur_share)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, blurred, torch.from_numpy(shares.astype(np.float32)).view(n, 1, 1, 1))
    noise = rng.standard_normal(tuple(images.shape), dtype=np.float32)
    images = images + torch.from_numpy(noise * (rng.random((n, 1, 1, 1)) * config.noise).astype(np.float32))
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

    @classmethod
    def mean(cls, accuracies: Mapping[str, Accuracy]) -> Accuracy:
        """The unweighted mean over attributes; ``n`` is their sum."""
        rows = [dataclasses.astuple(accuracy) for accuracy in accuracies.values()]
        accuracy, n, chance, shuffled = zip(*rows, strict=True)
        return cls(float(np.mean(accuracy)), sum(n), float(np.mean(chance)), float(np.mean(shuffled)))


def attribute_accuracy(
    predictions: Mapping[str, Int[np.ndarray, " images"]],
    truths: Mapping[str, Int[np.ndarray, " images"]],
    mentions: Sequence[Collection[str]],
    n_values: Mapping[str, int],
) -> dict[str, Accuracy]:
    """Accuracy per attribute that some caption mentions, asking of each image only what its own caption does.

    Args:
        predictions: by attribute, the number of the value that each image shows.
        truths: the same numbers as the caption has it.
        mentions: the attributes that each image's caption names.
        n_values: how many values each attribute has.
    """
    found = {}
    for name, predicted in predictions.items():
        asked = [name in row for row in mentions]
        if any(asked):
            p, t = predicted[asked], truths[name][asked]
            shares = [np.bincount(codes, minlength=n_values[name]) / len(codes) for codes in (p, t)]
            found[name] = Accuracy(float((p == t).mean()), len(p), 1 / n_values[name], float(shares[0] @ shares[1]))
    return found


class Certainty(NamedTuple):
    """An accuracy's 95 % interval; and (accuracy - chance) / (accuracy on real pictures - chance) with its own.

    The latter are None where real pictures are not above chance, also in a resample: the quotient means nothing then.
    """

    interval: tuple[float, float]
    normalised: float | None
    normalised_interval: tuple[float, float] | None


def certainty(
    right: Bool[np.ndarray, " captions"],
    right_real: Bool[np.ndarray, " captions"],
    chance: float,
    species: Int[np.ndarray, " captions"],
    *,
    seed: int = 0,
) -> Certainty:
    """How sure an accuracy is, and how much of the way from guessing to real pictures it reached.

    The bootstrap draws species, then captions of each: captions of one species are about pictures that are much alike,
    so that to draw captions alone would give too narrow an interval.
    """
    (drawn,) = resample_clusters(species, rng=np.random.default_rng(seed))
    weights = drawn.weights / drawn.weights.sum(axis=1, keepdims=True)
    values, real = weights @ right, weights @ right_real
    if min(real.min(), right_real.mean()) <= chance:
        return Certainty(interval(values), None, None)
    normalised = float((right.mean() - chance) / (right_real.mean() - chance))
    return Certainty(interval(values), normalised, interval((values - chance) / (real - chance)))
