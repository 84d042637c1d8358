"""Scores in a space that no training used: kernel distance over that of training pictures, and the distance to the
nearest training picture."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from s2igan.evaluation.features import image_features, stored_features
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.evaluation.lite2 import EXTRACTOR, Lite2
from s2igan.evaluation.scores import Group, Score
from s2igan.metrics.fid import nearest_distances, paired_kernel_distances

COUNT = 800
"""Fakes, training pictures and test pictures of the kernel distance, unless there are fewer."""
LEAST = 20
"""Pictures of each below which there are no such scores."""
PERCENTILES = (1, 5, 50)


@dataclass(frozen=True)
class FeatureSet:
    """Features of pictures, and the class of each: its species, or of a generated one that of its caption."""

    features: Float[np.ndarray, "pictures features"]
    classes: Int[np.ndarray, " pictures"]

    def some(self, rows: Int[np.ndarray, " rows"]) -> FeatureSet:
        """Those of some rows."""
        return FeatureSet(self.features[rows], self.classes[rows])


@dataclass(frozen=True)
class IndependentSpace:
    """Lite2's features of all that is compared, each computed when it is first asked for."""

    evaluation: Evaluation
    fakes: Fakes

    @cached_property
    def network(self) -> Lite2:
        """The extractor."""
        return Lite2().to(self.evaluation.model.device)

    @cached_property
    def training_images(self) -> Int[np.ndarray, " images"]:
        """Numbers in the store."""
        return training_images(self.evaluation)

    @cached_property
    def generated(self) -> FeatureSet:
        """Of the generated images, in their order."""
        return self.of(self.fakes.pictures, self.evaluation.split.store.utterance_class[self.fakes.captions])

    @cached_property
    def real(self) -> FeatureSet:
        """Of all images of the split, in its order."""
        images = self.evaluation.split.images
        return FeatureSet(self._stored(images), self.evaluation.split.store.image_class[images])

    @cached_property
    def training(self) -> FeatureSet:
        """Of the training images."""
        images = self.training_images
        return FeatureSet(self._stored(images), self.evaluation.split.store.image_class[images])

    @cached_property
    def mirrored(self) -> Float[np.ndarray, "images features"]:
        """Of mirror images of the training images: training flips at random."""
        return self._stored(self.training_images, mirrored=True)

    def of(
        self, pictures: UInt8[np.ndarray, "pictures side side 3"], classes: Int[np.ndarray, " pictures"]
    ) -> FeatureSet:
        """Of pictures that are not in the store."""
        return FeatureSet(image_features(self.network, pictures, description="Lite2 features"), classes)

    def _stored(
        self, images: Int[np.ndarray, " images"], *, mirrored: bool = False
    ) -> Float[np.ndarray, "images features"]:
        return stored_features(
            self.network,
            EXTRACTOR,
            self.evaluation.split.store,
            images,
            crop=self.fakes.side,
            mirrored=mirrored,
            description="Lite2 features of real images",
        )


def training_images(evaluation: Evaluation) -> Int[np.ndarray, " images"]:
    """Numbers in the store of the images of the training split."""
    store = evaluation.split.store
    return np.unique(store.image_index[store.split_indices("train")])


def comparable(evaluation: Evaluation, *pictures: Sized) -> bool:
    """Whether the split is not the training split itself, and it, the training split and the pictures are enough."""
    counts = map(len, (evaluation.split.images, training_images(evaluation), *pictures))
    return evaluation.split.name != "train" and min(counts) >= LEAST


def independent_group(space: IndependentSpace) -> Group:
    """`kd_lite2` and its quotient."""
    split = space.evaluation.split
    rng = np.random.default_rng([space.evaluation.seed, 0x712])
    protocol = {**split.protocol, **space.fakes.protocol}
    scores = kernel_scores("independent", space.generated, space.training, space.real, rng, protocol, headline=True)
    count = scores[0].protocol["pictures_of_each"]
    words = (
        f"{count} generated and {count} training images, each against the same {count} real {split.name} images. "
        f"Features: {EXTRACTOR}, which no training used. Lower is better."
    )
    return Group("independent", "In a space that no training used", words, scores)


def kernel_scores(
    group: str,
    fakes: FeatureSet,
    training: FeatureSet,
    real: FeatureSet,
    rng: np.random.Generator,
    protocol: Mapping[str, Any],
    *,
    headline: bool = False,
) -> list[Score]:
    """The kernel distance of as many of each, chosen at random, and its quotient with that of the training images,
    where that is positive."""
    count = min(COUNT, *(len(part.classes) for part in (fakes, training, real)))
    parts = [part.some(rng.permutation(len(part.classes))[:count]) for part in (fakes, training, real)]
    first, second, third = parts
    found = paired_kernel_distances(
        *(part.features for part in parts),
        classes=(first.classes, second.classes, third.classes),
        seed=int(rng.integers(2**31)),
    )
    protocol = {**protocol, "extractor": EXTRACTOR, "pictures_of_each": count, "bootstrap": "species, then images"}
    best = {**protocol, "ceiling_interval_95": list(found.training_interval)}
    scores = [
        Score(
            f"{group}/kd_lite2",
            "kernel distance (kd_lite2)",
            found.fake,
            best,
            interval=found.fake_interval,
            ceiling=found.training,
            ceiling_name="training images",
            unit="distance",
            better="lower",
        )
    ]
    if found.training > 0:
        low, high = found.ratio_interval
        scores.append(
            Score(
                f"{group}/kd_lite2_ratio",
                "kd_lite2 over that of training images",
                found.fake / found.training,
                protocol,
                interval=(low, high if np.isfinite(high) else None),
                unit="distance",
                better="lower",
                headline=headline,
            )
        )
    return scores


def nearest_scores(space: IndependentSpace, protocol: Mapping[str, Any]) -> list[Score]:
    """Percentiles of the distance to the nearest training image, beside those of the real images of the split."""
    training = np.concatenate([space.training.features, space.mirrored])
    of_fakes, of_real = (nearest_distances(part.features, training) for part in (space.generated, space.real))
    return [
        Score(
            f"memorisation/nearest_p{percentile}",
            f"distance to the nearest training image in Lite2, percentile {percentile}",
            float(np.percentile(of_fakes, percentile)),
            {**protocol, "extractor": EXTRACTOR, "mirror_images": True},
            ceiling=float(np.percentile(of_real, percentile)),
            ceiling_name="real images",
            unit="distance",
        )
        for percentile in PERCENTILES
    ]
