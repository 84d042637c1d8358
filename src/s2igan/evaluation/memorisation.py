"""Are generated images copies of training pictures? (docs/metrics.md)

The middle of an image, three quarters of its side, is looked for anywhere in every training picture and its mirror
image. Both are reduced to 8 x 8 cells, and each colour channel is brought to mean 0 and variance 1: that forgives
noise, blur, contrast, tint and a shift, which distances of a network's features do not, and still tells two individuals
of a species apart.
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
from s2igan.evaluation.extractors import Extractor, Seen, cached
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.evaluation.scores import Group, Score
from s2igan.evaluation.spaces import LITE2
from s2igan.metrics.distances import nearest_distances

CROP, WINDOW = 64, 48
"""Pixels along a side of a crop of a picture, and of its middle that is looked for; a training picture also has the
margins that it is cropped from."""
CELLS, FEW_CELLS = 8, 4
"""Cells along a side of what is compared, and of what finds the candidates."""
FIRST_STEP, CANDIDATES = 5, 6
"""Pixels between the places that are tried first, and how many training pictures are looked at closely after that."""
CLOSE_STEP, CLOSEST = 2, 2
"""The same there; and the last are compared at every place."""
COPY_PERCENTILE = 0.5
"""Of the distances of training images to the nearest *other* training image: a generated image that is nearer to one
copies it. Of new individuals of training species, which is what a model draws that learnt species and no pictures,
a few pass for copies."""
OTHERS = 1000
"""Training images that these distances are measured for, unless there are fewer."""
SUSPECT = 0.05
"""Share of copies above which a model counts as one that memorised; `benchmarks/memorisation.py` measures what real
pictures, new individuals and changed training pictures give (docs/metrics.md)."""
FLAT = 0.05
"""Deviation of a colour over a window, of 255, below which it is flat."""
SEARCH = [CROP, WINDOW, CELLS, FEW_CELLS, FIRST_STEP, CANDIDATES, CLOSE_STEP, CLOSEST]
"""What the distances that are kept depend on beside the pictures."""
AT_ONCE = 2048
"""Training pictures compared with all images in one pass."""
PAIRS_AT_ONCE = 128
"""Images that are compared with a candidate each in one pass."""
PERCENTILES = (1, 5, 50)
"""Of the distances to the nearest training image in Lite2."""


class Middle(Extractor):
    """The middles of pictures, as cells of mean colour ("middle")."""

    name = "middle"
    facts: Mapping[str, Any] = {
        "extractor": f"the middle in {CELLS} x {CELLS} cells, each colour with mean 0 and variance 1",
        "sha256": None,
    }

    def __call__(self, pictures: UInt8[np.ndarray, "pictures side side 3"]) -> dict[str, np.ndarray]:
        margin = (CROP - WINDOW) // 2
        return {"middle": at(cell_means(_resized(pictures, CROP), CELLS), CELLS, margin, margin).numpy()}


def memorisation_group(evaluation: Evaluation, fakes: Fakes, real: Seen) -> Group:
    """The share of copies and, where Lite2 is installed, percentiles of distances in its space."""
    split, store = evaluation.split, evaluation.split.store
    training = evaluation.training_images
    rng = np.random.default_rng([evaluation.seed, 0xC0B])
    others = np.sort(rng.permutation(len(training))[:OTHERS])

    def beside() -> dict[str, np.ndarray]:
        """What does not depend on the model: distances of real images and of training images to the nearest other."""
        known = evaluation.stored(training[others], ["middle"])["middle"]
        return {
            "real": nearest_middles(real["middle"], store.images, training),
            "training": nearest_middles(known, store.images, training, itself=others),
        }

    asked = {"training": training[others], "real": split.images}
    known = cached(evaluation.extraction.about_stored("middle", store, asked) | {"nearest": SEARCH}, beside)
    of_fakes, of_real, of_training = (
        nearest_middles(fakes.seen["middle"], store.images, training),
        known["real"],
        known["training"],
    )
    counts = [len(fakes.captions), len(split.images)]
    protocol = {**split.protocol, **fakes.protocol, "training_images": len(training), "real_images": len(split.images)}
    scores = [copies(of_fakes, of_real, of_training, {**protocol, **Middle.facts})]
    evidence: dict[str, np.ndarray] = {}
    if LITE2.rows in fakes.seen:
        facts = evaluation.extraction[LITE2.rows].facts
        found, evidence = nearest_scores(evaluation, fakes, real, {**protocol, **facts})
        scores += found
    words = (
        f"{counts[0]} generated and {counts[1]} real {split.name} images, each beside the nearest of "
        f"{len(training)} training images and their mirror images. A copy is nearer to a training image, its middle "
        f"in {CELLS} x {CELLS} cells, than {100 - COPY_PERCENTILE} % of training images are to the nearest other one; "
        f"a model with more than {100 * SUSPECT:.0f} % of them counts as one that memorised."
    )
    evidence |= {"distance": of_fakes, "real_distance": of_real, "training_distance": of_training}
    evidence["training_numbers"] = training[others]
    return Group("memorisation", "Are training pictures drawn again?", words, scores, evidence)


def nearest_scores(
    evaluation: Evaluation, fakes: Fakes, real: Seen, protocol: Mapping[str, Any]
) -> tuple[list[Score], dict[str, np.ndarray]]:
    """Percentiles of the distance to the nearest training image or its mirror image in Lite2, beside those of the real
    images of the split; and these distances."""
    rows, store, images = LITE2.rows, evaluation.split.store, evaluation.training_images
    gallery = [
        evaluation.extraction.of_stored(store, images, crop=fakes.side, mirrored=mirrored, names=[rows])[rows]
        for mirrored in (False, True)
    ]
    training = np.concatenate(gallery)
    of_fakes, of_real = (nearest_distances(features, training) for features in (fakes.seen[rows], real[rows]))
    scores = [
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
    return scores, {"nearest": of_fakes, "real_nearest": of_real}


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


def nearest_middles(
    middles: Float[np.ndarray, "pictures numbers"],
    stored: UInt8[np.ndarray, "_ square square 3"] | StoredImages,
    training: Int[np.ndarray, " images"],
    *,
    itself: Int[np.ndarray, " pictures"] | None = None,
) -> Float[np.ndarray, " pictures"]:
    """Distance of every picture's middle to the nearest window of a training picture or its mirror image: the root of
    the mean squared difference, 0 to 2.

    A few large cells at some places find the candidates, of which small cells at every second place leave the closest,
    and these are compared at every place.

    Args:
        middles: of the pictures, as `Middle` gives them.
        stored: pictures with the margins that training crops from.
        training: which of them are training pictures.
        itself: the position in ``training`` of each picture, which is one of them and is not to find itself.
    """
    queries = torch.from_numpy(middles).unflatten(1, (3, CELLS, CELLS))
    candidates = _candidates(queries, stored, training, itself)
    closeness = _closeness(queries, stored, training[candidates.numpy()], CLOSE_STEP)
    closest = candidates.gather(1, closeness.topk(min(CLOSEST, candidates.shape[1]), dim=1).indices)
    likeness = _closeness(queries, stored, training[closest.numpy()], 1).amax(dim=1)
    return (2 - 2 * likeness).clamp(min=0).sqrt().numpy()


def _candidates(
    queries: Float[Tensor, "pictures 3 cells cells"],
    stored: UInt8[np.ndarray, "_ square square 3"] | StoredImages,
    training: Int[np.ndarray, " images"],
    itself: Int[np.ndarray, " pictures"] | None,
) -> Int[Tensor, "pictures candidates"]:
    """Positions in ``training`` of the pictures that are most alike at a few places, in few cells."""
    few = _unit(F.avg_pool2d(queries, CELLS // FEW_CELLS))
    likeness, positions = torch.empty(len(few), 0), torch.empty(len(few), 0, dtype=torch.long)
    places = range(0, stored_size(CROP) - WINDOW + 1, FIRST_STEP)
    for start in range(0, len(training), AT_ONCE):
        maps = cell_means(_resized(stored[training[start : start + AT_ONCE]], stored_size(CROP)), FEW_CELLS)
        here = torch.arange(start, start + len(maps)).expand(len(few), -1)
        best = torch.full(here.shape, -torch.inf)
        for top, left in itertools.product(places, places):
            shown = at(maps, FEW_CELLS, top, left)
            for gallery in (shown, shown.unflatten(1, (3, FEW_CELLS, FEW_CELLS)).flip(3).flatten(1)):
                best = torch.maximum(best, few @ gallery.T)
        if itself is not None:
            best[here == torch.from_numpy(itself)[:, None]] = -torch.inf
        likeness, positions = torch.cat([likeness, best], dim=1), torch.cat([positions, here], dim=1)
        likeness, kept = likeness.topk(min(CANDIDATES, likeness.shape[1]), dim=1)
        positions = positions.gather(1, kept)
    return positions if itself is None else positions[:, : len(training) - 1]


def _closeness(
    queries: Float[Tensor, "pictures 3 cells cells"],
    stored: UInt8[np.ndarray, "_ square square 3"] | StoredImages,
    pairs: Int[np.ndarray, "pictures candidates"],
    step: int,
) -> Float[Tensor, "pictures candidates"]:
    """How alike each picture and each of its candidates are where they are most alike, 1 or less."""
    count = pairs.shape[1]
    rows, flat = torch.arange(len(queries)).repeat_interleave(count), pairs.flatten()
    found = []
    for start in range(0, len(flat), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        maps = cell_means(_resized(stored[flat[part]], stored_size(CROP)), CELLS)
        found.append(_most_alike(queries[rows[part]], maps, step))
    return torch.cat(found).unflatten(0, (-1, count))


def _most_alike(
    queries: Float[Tensor, "pairs 3 cells cells"], maps: Float[Tensor, "pairs 3 height width"], step: int
) -> Float[Tensor, " pairs"]:
    """The largest correlation, a mean over colours, over the places of a picture and of its mirror image."""
    cell = WINDOW // CELLS
    planes = maps.flatten(0, 1)[:, None]
    both = torch.stack([queries, queries.flip(3)], dim=2).flatten(0, 2)[:, None]
    given: dict[str, Any] = {"dilation": cell, "stride": step}
    products = F.conv2d(planes.transpose(0, 1), both, groups=len(planes), **given)[0].unflatten(0, (-1, 3, 2))
    down, across = torch.full((1, 1, CELLS, 1), 1 / CELLS), torch.full((1, 1, 1, CELLS), 1 / CELLS)

    def mean(x: Tensor) -> Tensor:
        columns = F.conv2d(x, down, dilation=(cell, 1), stride=(step, 1))
        return F.conv2d(columns, across, dilation=(1, cell), stride=(1, step)).unflatten(0, (-1, 3))

    deviation = (mean(planes**2) - mean(planes) ** 2).clamp(min=0).sqrt()
    deviation = torch.where(deviation > FLAT, deviation, torch.inf)
    return (products / deviation).sum(dim=1).amax(dim=(1, 2, 3)) / (3 * CELLS**2)


def cell_means(images: Float[Tensor, "images 3 side side"], cells: int) -> Float[Tensor, "images 3 places places"]:
    """Mean colours of the cells that a window has, wherever its corner is."""
    side = WINDOW // cells
    sums = F.pad(images.cumsum(2).cumsum(3), (1, 0, 1, 0))  # of all that is above and to the left
    rows = sums[:, :, side:] - sums[:, :, :-side]
    return (rows[..., side:] - rows[..., :-side]) / side**2


def at(
    maps: Float[Tensor, "images 3 places places"], cells: int, top: int, left: int
) -> Float[Tensor, "images numbers"]:
    """The cells of the window at a place, each colour with mean 0 and variance 1, as rows; of one that is flat,
    zeros."""
    cell = WINDOW // cells
    return _unit(maps[:, :, top : top + WINDOW : cell, left : left + WINDOW : cell])


def _unit(cells: Float[Tensor, "images 3 rows columns"]) -> Float[Tensor, "images numbers"]:
    flat = cells.flatten(2)
    deviation = flat.std(dim=2, correction=0, keepdim=True)
    return ((flat - flat.mean(dim=2, keepdim=True)) / torch.where(deviation > FLAT, deviation, torch.inf)).flatten(1)


def _resized(pictures: UInt8[np.ndarray, "pictures side side 3"], side: int) -> Float[Tensor, "pictures 3 to to"]:
    images = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=images.shape[-1] > side)
