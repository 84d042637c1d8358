"""Are generated images copies of training pictures? (docs/metrics.md)

Compared are pictures reduced to 8 x 8 pixels and brought to mean 0 and variance 1: that forgives noise, blur, contrast
and compression, which distances of a network's features do not, and still tells two individuals of a species apart. A
copy may be of any crop of the training picture and mirrored, as training sees it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from s2igan.data.layout import stored_size
from s2igan.data.store import StoredImages
from s2igan.evaluation.extractors import Extractor, Seen
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.evaluation.scores import Group, Score
from s2igan.evaluation.spaces import LITE2
from s2igan.metrics.distances import nearest_distances

SMALL = 8
"""Pixels along a side of what is compared."""
CROPPED_FROM = 64
"""Pixels along a side of a crop of a training picture, before it is reduced."""
OFFSETS = (0, 3, 6, 9, 12)
"""Of those crops, from the top and from the left of the stored picture, which has 76 px then."""
COPY_PERCENTILE = 1
"""Of the distances of training images to the nearest *other* training image: a generated image that is nearer to one
copies it. Of new individuals of training species, which is what a model draws that learnt species and no pictures,
about as many pass for copies."""
OTHERS = 1000
"""Training images that these distances are measured for, unless there are fewer."""
SUSPECT = 0.05
"""Share of copies above which a model counts as one that memorised. By `benchmarks/memorisation.py` on 250 built-in
birds, real pictures of new species give 0 %, new individuals of training species 2 %, changed training pictures 53 to
100 %."""
NONE = -1
"""The position of what is no training picture."""
AT_ONCE = 128
"""Training pictures compared with all images in one pass."""
PERCENTILES = (1, 5, 50)
"""Of the distances to the nearest training image in Lite2."""


class Small(Extractor):
    """Pictures reduced to `SMALL` pixels ("small")."""

    name = "small"
    facts: Mapping[str, Any] = {"extractor": f"{SMALL} px, each with mean 0 and variance 1", "sha256": None}

    def __call__(self, pictures: UInt8[np.ndarray, "pictures side side 3"]) -> dict[str, np.ndarray]:
        return {"small": reduced(_resized(pictures, CROPPED_FROM)).numpy()}


def memorisation_group(evaluation: Evaluation, fakes: Fakes, real: Seen) -> Group:
    """The share of copies and, where Lite2 is installed, percentiles of distances in its space."""
    split, store = evaluation.split, evaluation.split.store
    training = evaluation.training_images
    rng = np.random.default_rng([evaluation.seed, 0xC0B])
    others = rng.permutation(len(training))[:OTHERS]
    known = evaluation.stored(training[others], ["small"])
    counts = [len(fakes.captions), len(split.images)]
    itself = np.concatenate([np.full(sum(counts), NONE), others])
    queries = np.concatenate([seen["small"] for seen in (fakes.seen, real, known)])
    nearest = nearest_small(queries, store.images, training, itself=itself)
    of_fakes, of_real, of_training = np.split(nearest, np.cumsum(counts))
    protocol = {**split.protocol, **fakes.protocol, "training_images": len(training), "real_images": len(split.images)}
    scores = [copies(of_fakes, of_real, of_training, {**protocol, **Small.facts})]
    if LITE2.rows in fakes.seen:
        scores += nearest_scores(evaluation, fakes, real, {**protocol, **evaluation.extraction[LITE2.rows].facts})
    words = (
        f"{counts[0]} generated and {counts[1]} real {split.name} images, each beside the nearest of "
        f"{len(training)} training images and their mirror images. A copy is nearer to a training image, both at "
        f"{SMALL} px, than {100 - COPY_PERCENTILE} % of training images are to the nearest other one; "
        f"a model with more than {100 * SUSPECT:.0f} % of them counts as one that memorised."
    )
    return Group("memorisation", "Are training pictures drawn again?", words, scores)


def nearest_scores(evaluation: Evaluation, fakes: Fakes, real: Seen, protocol: Mapping[str, Any]) -> list[Score]:
    """Percentiles of the distance to the nearest training image or its mirror image in Lite2, beside those of the real
    images of the split."""
    rows, store, images = LITE2.rows, evaluation.split.store, evaluation.training_images
    gallery = [
        evaluation.extraction.of_stored(store, images, crop=fakes.side, mirrored=mirrored, names=[rows])[rows]
        for mirrored in (False, True)
    ]
    training = np.concatenate(gallery)
    of_fakes, of_real = (nearest_distances(features, training) for features in (fakes.seen[rows], real[rows]))
    return [
        Score(
            f"memorisation/nearest_p{percentile}",
            f"distance to the nearest training image in Lite2, percentile {percentile}",
            float(np.percentile(of_fakes, percentile)),
            {**protocol, "mirror_images": True},
            ceiling=float(np.percentile(of_real, percentile)),
            ceiling_name="real images",
            unit="distance",
        )
        for percentile in PERCENTILES
    ]


def copies(
    of_fakes: Float[np.ndarray, " fakes"],
    of_real: Float[np.ndarray, " real"],
    of_training: Float[np.ndarray, " training"],
    protocol: Mapping[str, Any],
) -> Score:
    """The share of fakes that are copies, beside that of real images of the split.

    Args:
        of_fakes: distances to the nearest training image; so of the others.
        of_training: those of training images to the nearest other one.
    """
    bound = float(np.percentile(of_training, COPY_PERCENTILE))
    share, share_of_real = float((of_fakes < bound).mean()), float((of_real < bound).mean())
    found = {**protocol, "memorised": share > SUSPECT, "suspect_above": SUSPECT, "copy_below": bound}
    return Score(
        "memorisation/copies",
        "copies of training images",
        share,
        found,
        chance=COPY_PERCENTILE / 100,
        ceiling=share_of_real,
        ceiling_name="real images",
        better="lower",
    )


def nearest_small(
    small: Float[np.ndarray, "pictures numbers"],
    stored: UInt8[np.ndarray, "_ square square 3"] | StoredImages,
    training: Int[np.ndarray, " images"],
    *,
    itself: Int[np.ndarray, " pictures"] | None = None,
) -> Float[np.ndarray, " pictures"]:
    """Distance of every picture to the nearest crop or mirrored crop of a training picture, both reduced: the root of
    the mean squared difference, 0 to 2.

    Args:
        small: the pictures as `Small` reduces them.
        stored: pictures with the margins that training crops from.
        training: which of them are training pictures.
        itself: the position in ``training`` of each picture that is one of them and is not to find itself, `NONE` of
            the others; all are others unless given.
    """
    queries = torch.from_numpy(small)
    nearest = torch.full((len(queries),), -torch.inf)
    for start in range(0, len(training), AT_ONCE):
        squares = _resized(stored[training[start : start + AT_ONCE]], stored_size(CROPPED_FROM))
        own = None if itself is None else torch.from_numpy(itself[:, None] == start + np.arange(len(squares)))
        for top, left in itertools.product(OFFSETS, OFFSETS):
            crops = squares[:, :, top : top + CROPPED_FROM, left : left + CROPPED_FROM]
            shown = reduced(crops)
            mirrored = shown.unflatten(1, (3, SMALL, SMALL)).flip(3).flatten(1)
            for gallery in (shown, mirrored):
                likeness = queries @ gallery.T
                if own is not None:
                    likeness = likeness.masked_fill(own, -torch.inf)
                nearest = torch.maximum(nearest, likeness.amax(dim=1))
    return (2 - 2 * nearest / queries.shape[1]).clamp(min=0).sqrt().numpy()


def reduced(images: Float[Tensor, "images 3 side side"]) -> Float[Tensor, "images numbers"]:
    """Images at `SMALL` pixels, each with mean 0 and variance 1, as rows; of one that is flat, zeros."""
    small = F.interpolate(images, size=(SMALL, SMALL), mode="area").flatten(1)
    deviation = small.std(dim=1, correction=0, keepdim=True)
    return (small - small.mean(dim=1, keepdim=True)) / torch.where(deviation > 0, deviation, 1.0)


def _resized(pictures: UInt8[np.ndarray, "pictures side side 3"], side: int) -> Float[Tensor, "pictures 3 to to"]:
    images = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=images.shape[-1] > side)
