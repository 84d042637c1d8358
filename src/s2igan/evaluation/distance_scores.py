"""How far the generated images are from the real ones of the split, in each space (`spaces`), and how varied they are.

Beside each distance stands that of real training images to the same real images, which perfect images of other classes
would reach, and in the record that of one half of the real images to the other half, which perfect images of the same
classes would reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from s2igan.evaluation.extractors import Seen
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.evaluation.scores import Group, Score
from s2igan.evaluation.spaces import INCEPTION, LITE2, Space
from s2igan.metrics.distances import (
    NEIGHBOURS,
    frechet_distance,
    inception_score,
    kernel_distance,
    paired_kernel_distances,
    precision_and_recall,
)

SUBSETS, SUBSET_SIZE = 100, 1000
"""Random subsets of the kernel distance, and images in each of them unless there are fewer."""
COUNT = 800
"""Generated, training and real images of the kernel distance that has an interval, unless there are fewer."""
LEAST = 20
"""Images of each below which there is neither an interval nor precision and recall."""
IS_SPLITS, LEAST_FOR_IS = 10, 100
"""Splits of the inception score, and images below which there is none."""

Features = Float[np.ndarray, "_ _"]
HALVES = "one random half of the real images of the split against the other"


@dataclass(frozen=True)
class FeatureSet:
    """Features of pictures, and the class of each: its species, or of a generated one that of its caption."""

    features: Features
    classes: Int[np.ndarray, " pictures"]
    numbers: Int[np.ndarray, " pictures"]
    """Of the pictures in the store, or of the captions of generated ones."""

    def some(self, rows: Int[np.ndarray, " rows"]) -> FeatureSet:
        """Those of some rows."""
        return FeatureSet(self.features[rows], self.classes[rows], self.numbers[rows])


@dataclass(frozen=True)
class Compared:
    """The images of an evaluation in one space."""

    space: Space
    fakes: FeatureSet
    real: FeatureSet
    training: FeatureSet | None
    """Of all training images; None where the training split itself is scored, or has too few."""
    protocol: Mapping[str, Any]

    @classmethod
    def of(cls, evaluation: Evaluation, space: Space, extractor: str, fakes: Fakes, real: Seen) -> Compared:
        """``extractor`` is the name of the one that gives the space's rows."""
        split, store = evaluation.split, evaluation.split.store
        images, training = evaluation.training_images, None
        if len(images) >= 2 and split.name != "train":
            seen = evaluation.stored(images, [extractor])
            training = FeatureSet(seen[space.rows], store.image_class[images], images)
        return cls(
            space,
            FeatureSet(fakes.seen[space.rows], store.utterance_class[fakes.captions], fakes.captions),
            FeatureSet(real[space.rows], store.image_class[split.images], split.images),
            training,
            {**split.protocol, **fakes.protocol, "crop": "centre", **evaluation.extraction[extractor].facts},
        )

    @property
    def comparable(self) -> bool:
        """Whether there are enough images of each for an interval."""
        counts = [0 if part is None else len(part.classes) for part in (self.fakes, self.real, self.training)]
        return min(counts) >= LEAST


def distance_group(
    evaluation: Evaluation, compared: Compared, logits: tuple[Features, Features] | None = None, *, paper: bool = False
) -> Group | None:
    """Every score of a space that the counts allow; None below two images.

    Args:
        logits: of generated and of real images, for the inception score.
        paper: the Fréchet distance is wanted also where a covariance is singular, as papers give it.
    """
    space, seed, split = compared.space, evaluation.seed, evaluation.split
    generated, real = compared.fakes.features, compared.real.features
    if min(len(generated), len(real)) < 2:
        return None
    rng = np.random.default_rng([seed, 0xF1D])
    training = None
    evidence: dict[str, np.ndarray] = {}
    if compared.training is not None:
        rows = np.sort(rng.permutation(len(compared.training.classes))[: len(generated)])
        training = compared.training.features[rows]
        evidence |= {"training": training, "training_numbers": compared.training.numbers[rows]}
    first, second = np.array_split(rng.permutation(len(real)), 2)
    halves = real[first], real[second]
    evidence |= {"half_numbers": compared.real.numbers[first], "other_half_numbers": compared.real.numbers[second]}
    protocol = {
        **compared.protocol,
        "real_images": len(real),
        "training_images": 0 if training is None else len(training),
        "halves": f"{HALVES} ({len(first)} and {len(second)})",
    }
    if space is not INCEPTION:
        protocol["comparable"] = "only with models evaluated by this protocol, not with published Inception figures"
    scores: list[Score] = []
    missing: list[str] = []

    def distance(
        name: str, words: str, measure: Callable[[Features, Features], tuple[float, float | None]], **more: Any
    ) -> None:
        value, spread = measure(generated, real)
        scores.append(
            Score(
                f"{space.group}/{name}_{space.rows}",
                f"{words} ({name}_{space.rows})",
                value,
                {**protocol, **more, "real_against_real": measure(*halves)[0] if min(map(len, halves)) >= 2 else None},
                std=spread,
                ceiling=None if training is None else measure(training, real)[0],
                ceiling_name=None if training is None else "real training images",
                unit="distance",
                better="lower",
                headline=space is INCEPTION and name == "fid",
            )
        )

    features = real.shape[1]
    fewest = min(len(generated), len(real))
    if fewest > features or paper:
        more = {"covariance": "singular: fewer images than features"} if fewest <= features else {}
        distance(space.frechet, "Fréchet distance", lambda a, b: (frechet_distance(a, b), None), **more)
    else:
        missing.append(
            f"{space.frechet}_{space.rows}, since {fewest:,} images for {features:,} features leave a covariance "
            "singular"
        )
    if space is LITE2 and compared.comparable:
        kernel = np.random.default_rng([seed, 0x712])
        floor, _ = kernel_distance(*halves, subsets=1, subset_size=len(real), seed=seed)
        found, drawn = kernel_scores(
            space.group, compared, kernel, {**protocol, "real_against_real": floor}, headline=True
        )
        scores += found
        evidence |= drawn
    else:
        size = min(SUBSET_SIZE, len(generated), len(real))

        def mmd(a: Features, b: Features) -> tuple[float, float]:
            return kernel_distance(a, b, subsets=SUBSETS, subset_size=size, seed=seed)

        distance(space.kernel, "kernel distance", mmd, subsets=SUBSETS, subset_size=size)
    if fewest >= LEAST:
        scores += _precision_and_recall(space, generated, real, training, halves, protocol)
    else:
        missing.append(f"precision and recall, which need {LEAST} images")
    if logits is not None and min(map(len, logits)) >= LEAST_FOR_IS:
        scores.append(_inception_score(space, *logits, seed, protocol))
    elif logits is not None:
        missing.append(f"the inception score, which needs {LEAST_FOR_IS} images")
    words = (
        f"{len(generated):,} generated against {len(real):,} real {split.name} images. Features: "
        f"{protocol['extractor']}; {space.about}."
    )
    if space is not INCEPTION:
        words += " FID, KID and IS are defined on Inception's, so published figures do not compare."
    if missing:
        words += f" Left out: {'; '.join(missing)}."
    return Group(space.group, space.title, words, scores, evidence)


def _precision_and_recall(
    space: Space,
    generated: Features,
    real: Features,
    training: Features | None,
    halves: tuple[Features, Features],
    protocol: Mapping[str, Any],
) -> list[Score]:
    floor = precision_and_recall(*halves) if min(map(len, halves)) >= NEIGHBOURS + 2 else (None, None)
    best = (None, None) if training is None or len(training) < LEAST else precision_and_recall(training, real)
    values = precision_and_recall(generated, real)
    words = ("generated images that are near to real ones", "real images that generated ones are near to")
    return [
        Score(
            f"{space.group}/{name}_{space.rows}",
            f"{name}: {meaning}",
            value,
            {**protocol, "neighbours": NEIGHBOURS, "real_against_real": of_halves},
            ceiling=ceiling,
            ceiling_name=None if ceiling is None else "real training images",
        )
        for name, meaning, value, ceiling, of_halves in zip(
            ("precision", "recall"), words, values, best, floor, strict=True
        )
    ]


def _inception_score(
    space: Space, generated: Features, real: Features, seed: int, protocol: Mapping[str, Any]
) -> Score:
    value, spread = inception_score(generated, splits=IS_SPLITS, seed=seed)
    ceiling, _ = inception_score(real, splits=IS_SPLITS, seed=seed)
    return Score(
        f"{space.group}/is_{space.rows}",
        f"inception score (is_{space.rows})",
        value,
        {**protocol, "splits": IS_SPLITS, "classes": generated.shape[1]},
        std=spread,
        chance=1.0,
        ceiling=ceiling,
        ceiling_name="real images",
        unit="number",
    )


def kernel_scores(
    group: str, compared: Compared, rng: np.random.Generator, protocol: Mapping[str, Any], *, headline: bool = False
) -> tuple[list[Score], dict[str, np.ndarray]]:
    """The kernel distance of as many of each, chosen at random, and its quotient with that of the training images,
    where that is positive; and the numbers of those chosen, with the features of the training images."""
    assert compared.training is not None
    sets = compared.fakes, compared.training, compared.real
    count = min(COUNT, *(len(part.classes) for part in sets))
    first, second, third = (part.some(rng.permutation(len(part.classes))[:count]) for part in sets)
    found = paired_kernel_distances(
        first.features,
        second.features,
        third.features,
        classes=(first.classes, second.classes, third.classes),
        seed=int(rng.integers(2**31)),
    )
    protocol = {**protocol, "pictures_of_each": count, "bootstrap": "species, then images"}
    name = f"kd_{compared.space.rows}"
    scores = [
        Score(
            f"{group}/{name}",
            f"kernel distance ({name})",
            found.fake,
            {**protocol, "ceiling_interval_95": list(found.training_interval)},
            interval=found.fake_interval,
            ceiling=found.training,
            ceiling_name="real training images",
            unit="distance",
            better="lower",
        )
    ]
    if found.training > 0:
        low, high = found.ratio_interval
        scores.append(
            Score(
                f"{group}/{name}_ratio",
                f"{name} over that of training images",
                found.fake / found.training,
                protocol,
                interval=(low, high if np.isfinite(high) else None),
                unit="distance",
                better="lower",
                headline=headline,
            )
        )
    evidence = {
        "kernel_numbers": first.numbers,
        "kernel_training_numbers": second.numbers,
        "kernel_real_numbers": third.numbers,
        "kernel_training": second.features,
        "kernel_training_classes": second.classes,
    }
    return scores, evidence
