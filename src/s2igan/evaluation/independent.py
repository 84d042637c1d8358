"""Scores in a space that no training used: kernel distance over that of training pictures, and memorisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from s2igan.evaluation.features import image_features
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.evaluation.lite2 import EXTRACTOR, Lite2
from s2igan.evaluation.scores import Group, Score
from s2igan.metrics.fid import nearest_distances, paired_kernel_distances

COUNT = 800
"""Fakes, training pictures and test pictures of the kernel distance, unless there are fewer."""
LEAST = 20
"""Pictures of each below which there are no such scores."""
PERCENTILES = (1, 5, 50)
NEAR = 5
"""Percentile of the real pictures' distances: a fake below it is near a training picture."""
SUSPECT = 0.15
"""Share of near fakes above which pictures count as memorised: three times what real pictures have."""


def independent_group(evaluation: Evaluation, fakes: Fakes) -> Group | None:
    """`kd_lite2` and the distances to the nearest training picture; None for the training split, and for sets of fewer
    than `LEAST` pictures."""
    split, store = evaluation.split, evaluation.split.store
    training = np.unique(store.image_index[store.split_indices("train")])
    count = min(COUNT, len(fakes.pictures), len(split.images), len(training))
    if split.name == "train" or count < LEAST:
        return None
    network = Lite2().to(evaluation.model.device)
    of_fakes = image_features(network, fakes.pictures, description="Lite2 features of generated images")
    real, known = (
        image_features(network, store.images, rows, crop=fakes.side, description="Lite2 features of real images")
        for rows in (split.images, training)
    )
    rng = np.random.default_rng([evaluation.seed, 0x712])
    parts = [features[rng.permutation(len(features))[:count]] for features in (of_fakes, known, real)]
    found = paired_kernel_distances(*parts, seed=evaluation.seed)
    protocol = {**split.protocol, **fakes.protocol, "extractor": EXTRACTOR, "pictures_of_each": count}
    ratio = found.fake / found.training if found.training > 0 else float("inf")
    common: dict[str, Any] = {"unit": "distance", "better": "lower"}
    scores = [
        Score(
            "independent/kd_lite2",
            "kernel distance (kd_lite2)",
            found.fake,
            {
                **protocol,
                "interval_95": list(found.fake_interval),
                "ceiling_interval_95": list(found.training_interval),
            },
            ceiling=found.training,
            ceiling_name="real training images",
            **common,
        ),
    ]
    if np.isfinite(ratio):
        spread = {**protocol, "interval_95": [x if np.isfinite(x) else None for x in found.ratio_interval]}
        name = "kd_lite2 over that of training images"
        scores.append(Score("independent/kd_lite2_ratio", name, ratio, spread, headline=True, **common))
    mirrored = store_features_mirrored(network, evaluation, training, fakes.side)
    scores += memorisation_scores(of_fakes, real, np.concatenate([known, mirrored]), {**protocol, "flips": True})
    words = (
        f"{count} generated and {count} training images, each against the same {count} real {split.name} images; "
        f"then the distance of every image to its nearest of {len(training)} training images and their mirror images. "
        f"Features: {EXTRACTOR}, which no training used."
    )
    return Group("independent", "In a space that no training used", words, scores)


def store_features_mirrored(
    network: Lite2, evaluation: Evaluation, images: np.ndarray, side: int
) -> Float[np.ndarray, "images features"]:
    """Features of mirror images of the store's pictures: training flips at random."""
    pictures = evaluation.split.store.images[images][:, :, ::-1]
    return image_features(network, pictures, crop=side, description="Lite2 features of mirror images")


def memorisation_scores(
    fakes: Float[np.ndarray, "fakes features"],
    real: Float[np.ndarray, "real features"],
    training: Float[np.ndarray, "training features"],
    protocol: dict[str, Any],
) -> list[Score]:
    """Distances to the nearest training picture beside those of real pictures, and the share of fakes too near."""
    of_fakes, of_real = nearest_distances(fakes, training), nearest_distances(real, training)
    scores = [
        Score(
            f"independent/nearest_p{percentile}",
            f"distance to the nearest training image, percentile {percentile}",
            float(np.percentile(of_fakes, percentile)),
            protocol,
            ceiling=float(np.percentile(of_real, percentile)),
            ceiling_name="real images",
            unit="distance",
        )
        for percentile in PERCENTILES
    ]
    near = float((of_fakes < np.percentile(of_real, NEAR)).mean())
    found = {**protocol, "memorised": near > SUSPECT, "suspect_above": SUSPECT}
    name = f"nearer to a training image than {100 - NEAR} % of real ones"
    return [*scores, Score("independent/near", name, near, found, chance=NEAR / 100, better="lower")]
