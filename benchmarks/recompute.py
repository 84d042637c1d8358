"""Computes the figures of an evaluation again from what it left behind, by code that shares nothing with s2igan's.

    python benchmarks/recompute.py RUN/evaluation     # one evaluation with --keep-images
    python benchmarks/recompute.py OUT                # a folder of `s2igan reproduce`: its tables, and every row

Needs numpy, scipy and safetensors alone. Prints every figure that differs and every one that cannot be computed again,
then how many there are; the exit status is 1 where a figure differs. Intervals come from other random numbers than the
recorded ones, so their ends may differ by a fifth of their width.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file
from scipy.spatial.distance import cdist, pdist
from scipy.special import log_softmax
from scipy.stats import hypergeom

RESAMPLES = 400
"""Of an interval."""
OF_KERNEL = 100
"""Of the interval of a kernel distance."""
TOLERANCE = 1e-4
"""Of a figure, as a share of it; of one below 1, absolute."""
AT_MOST = 5000
"""Images whose kernel of all pairs is in memory at once."""
OF_WIDTH = 0.2
"""By which share of its width an end of an interval may differ."""
Array = np.ndarray


class Figure(NamedTuple):
    """A number of the record, and the same computed again."""

    key: str
    part: str
    recorded: float
    found: float
    width: float | None = None
    """Of the interval that it is an end of."""

    @property
    def agrees(self) -> bool:
        allowed = TOLERANCE * max(1.0, abs(self.recorded)) if self.width is None else OF_WIDTH * self.width + TOLERANCE
        return abs(self.recorded - self.found) <= allowed


@dataclass(frozen=True)
class Left:
    """What an evaluation left behind."""

    record: Mapping[str, Any]
    features: Mapping[str, Array]
    described: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Left:
        """From the folder of an evaluation."""
        record, described = (json.loads((folder / name).read_bytes()) for name in ("metrics.json", "described.json"))
        return cls(record, load_file(folder / "features.safetensors"), described)

    def __getitem__(self, name: str) -> Array:
        values = self.features[name]
        return values.astype(np.float64) if values.dtype == np.float32 else values

    def rows(self, kind: str, name: str, numbers: Array) -> Array:
        """Rows of `kind/name`, of the images or utterances with these numbers."""
        place = {int(number): row for row, number in enumerate(self.features[f"{kind}/numbers"])}
        return self[f"{kind}/{name}"][[place[int(number)] for number in numbers]]

    def pictures_of(self, captions: Array) -> Array:
        """Numbers of the pictures that captions describe."""
        known = {row["number"]: row["picture"] for row in self.described["captions"]}
        return np.array([known[int(number)] for number in captions])

    def classes_of(self, pictures: Array) -> Array:
        """Of pictures."""
        known = {row["number"]: row["class"] for row in self.described["pictures"]}
        return np.array([known[int(number)] for number in pictures])

    def score(self, key: str) -> Mapping[str, Any]:
        """The record of a score."""
        return next(score for score in self.record["scores"] if score["key"] == key)


# Rankings


def cosine(a: Array, b: Array) -> Array:
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    return np.round(unit[0] @ unit[1].T, 12)  # what is equal stays equal, in whatever order it was added up


def average_precision(similarity: Array, right: Array) -> float:
    """Of one query, as the expectation over the orders of equal items."""
    total, place, before = 0.0, 0, 0
    for value in np.unique(similarity)[::-1]:
        tied = similarity == value
        n, m = int(tied.sum()), int(right[tied].sum())
        if m:
            at = np.arange(n)
            above = at * (m - 1) / max(n - 1, 1)
            total += float((m / n * (before + above + 1) / (place + at + 1)).sum())
        place, before = place + n, before + m
    return total / before


def average_precisions(similarity: Array, right: Array) -> Array:
    """Of every query; where no right item is equal to another one, by its rank alone."""
    found = []
    for row, wanted in zip(similarity, right, strict=True):
        order = np.argsort(-row)
        if (np.diff(row[order]) == 0).any():
            found.append(average_precision(row, wanted))
        else:
            ranks = np.flatnonzero(wanted[order]) + 1
            found.append(float((np.arange(1, len(ranks) + 1) / ranks).mean()))
    return np.array(found)


def hits(similarity: Array, right: Array, k: int) -> Array:
    """Of every query, whether a right item is among the first k, as the expectation over the orders of equal items."""
    k = min(k, similarity.shape[1])
    last = -np.partition(-similarity, k - 1, axis=1)[:, k - 1 : k]
    above, tied = similarity > last, similarity == last
    missed = hypergeom.pmf(0, tied.sum(axis=1), (tied & right).sum(axis=1), k - above.sum(axis=1))
    return np.where((above & right).any(axis=1), 1.0, 1.0 - missed)


def chance_of_precision(right: Array) -> float:
    """Expected average precision of a random ranking of n items, r of them right: (H + (r - 1) / (n - 1) (n - H)) / n,
    where H is 1 + 1/2 + ... + 1/n."""
    n, r = right.shape[1], right.sum(axis=1)
    harmonic = (1 / np.arange(1, n + 1)).sum()
    return float(((harmonic + (r - 1) / max(n - 1, 1) * (n - harmonic)) / n).mean())


def chance_of_hits(right: Array, k: int) -> float:
    n = right.shape[1]
    return float((1 - hypergeom.pmf(0, n, right.sum(axis=1), min(k, n))).mean())


# Distances


def mean_kernel(x: Array, y: Array) -> Array:
    return (x @ y.T / x.shape[1] + 1) ** 3


def squared_mmd(x: Array, y: Array) -> float:
    """Unbiased, with the kernel (x . y / d + 1)^3."""

    def within(a: Array) -> float:
        kernel = mean_kernel(a, a)
        return float((kernel.sum() - np.trace(kernel)) / (len(a) * (len(a) - 1)))

    return within(x) + within(y) - 2 * float(mean_kernel(x, y).mean())


def subset_mmds(x: Array, y: Array, subsets: int, size: int, seed: int) -> Array:
    """Of random subsets, in the order in which torch-fidelity draws them."""
    rng = np.random.RandomState(seed)
    sides, size = (x, y), min(size, len(x), len(y))
    pairs = ((0, 0), (1, 1), (0, 1))
    whole = max(len(x), len(y)) <= AT_MOST
    kernels = [mean_kernel(sides[a], sides[b]) for a, b in pairs] if whole else []
    found = []
    for _ in range(subsets):
        rows = [rng.choice(len(side), size, replace=False) for side in sides]
        if whole:
            parts = [kernel[np.ix_(rows[a], rows[b])] for kernel, (a, b) in zip(kernels, pairs, strict=True)]
        else:
            parts = [mean_kernel(sides[a][rows[a]], sides[b][rows[b]]) for a, b in pairs]
        within = sum((part.sum() - np.trace(part)) / (size * (size - 1)) for part in parts[:2])
        found.append(within - 2 * parts[2].mean())
    return np.array(found)


def frechet(x: Array, y: Array) -> float:
    """|m - w|^2 + tr(C) + tr(W) - 2 tr((C W)^(1/2)). Of fewer images than features the last is the sum of the singular
    values of X Y', where X and Y are the centred features over the root of their number less one."""
    centred = [(part - part.mean(axis=0)) / np.sqrt(len(part) - 1) for part in (x, y)]
    squares = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + sum((part**2).sum() for part in centred)
    if min(len(x), len(y)) <= x.shape[1]:
        return float(squares - 2 * np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum())
    covariances = [part.T @ part for part in centred]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return float(squares - 2 * np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariances[1] @ root), 0, None)).sum())


def covered(asked: Array, reference: Array, neighbours: int) -> float:
    """Share of what is asked that lies within the distance of a reference to its nearest neighbours."""

    def in_parts(rows: Array) -> Iterator[Array]:
        return (cdist(rows[start : start + 1000], reference) for start in range(0, len(rows), 1000))

    radius = np.concatenate([np.sort(part, axis=1)[:, neighbours] for part in in_parts(reference)])
    return float(np.concatenate([(part <= radius * (1 + 1e-9)).any(axis=1) for part in in_parts(asked)]).mean())


def inception_score(logits: Array, splits: int, seed: int) -> Array:
    """Of each split of the images in random order."""
    logits = log_softmax(logits[np.random.RandomState(seed).permutation(len(logits))], axis=1)
    found = []
    for part in range(splits):
        own = logits[part * len(logits) // splits : (part + 1) * len(logits) // splits]
        found.append(np.exp((np.exp(own) * (own - np.log(np.exp(own).mean(axis=0)))).sum(axis=1).mean()))
    return np.array(found)


# Intervals


def resampled_means(values: Array, classes: Array, seed: int = 1) -> Array:
    """Means of resamples that draw classes, and of each drawn class as many items as it has."""
    rng = np.random.default_rng(seed)
    labels = np.unique(classes)
    times = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=RESAMPLES)
    sums, counts = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for label, drawn in zip(labels, times.T, strict=True):
        own = values[classes == label]
        picked = own[rng.integers(0, len(own), (RESAMPLES, drawn.max(), len(own)))].sum(axis=2)
        sums += (picked * (np.arange(drawn.max()) < drawn[:, None])).sum(axis=1)
        counts += drawn * len(own)
    return sums / counts


def resampled_mmds(x: Array, y: Array, of_x: Array, of_y: Array, seed: int = 1) -> Array:
    """Kernel distances of resamples that draw classes, the same for both sets, and items of each drawn class. Compared
    are two items of one draw of a class, if they are not the same item, or items of two classes."""
    rng = np.random.default_rng(seed)
    labels = np.unique(np.concatenate([of_x, of_y]))
    kernels = mean_kernel(x, x), mean_kernel(y, y), mean_kernel(x, y)
    members = [[np.flatnonzero(of == label) for label in labels] for of in (of_x, of_y)]
    found = []
    for _ in range(OF_KERNEL):
        chosen = rng.integers(0, len(labels), len(labels))
        sides = []
        for own in members:
            rows = [own[c][rng.integers(0, len(own[c]), len(own[c]))] if len(own[c]) else own[c] for c in chosen]
            draws = np.repeat(np.arange(len(chosen)), [len(part) for part in rows])
            sides.append((np.concatenate(rows), draws, chosen[draws]))
        means = []
        for kernel, (a, b) in zip(kernels, ((0, 0), (1, 1), (0, 1)), strict=True):
            (rows, draw, label), (rows_b, draw_b, label_b) = sides[a], sides[b]
            counts = (draw[:, None] == draw_b) | (label[:, None] != label_b)
            if a == b:
                counts &= rows[:, None] != rows_b
            if counts.any():  # of a few images one may be drawn alone
                means.append(kernel[np.ix_(rows, rows_b)][counts].mean())
        if len(means) == len(kernels):
            found.append(means[0] + means[1] - 2 * means[2])
    return np.array(found)


def ends(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def with_interval(key: str, score: Mapping[str, Any], values: Array, classes: Array) -> Iterator[Figure]:
    """The mean of items, and its interval where the record has one."""
    yield Figure(key, "value", score["value"], float(values.mean()))
    if score["interval"] is not None:
        yield from interval_of(key, score["interval"], ends(resampled_means(values, classes)))


def interval_of(key: str, recorded: list[float], found: tuple[float, float]) -> Iterator[Figure]:
    width = recorded[1] - recorded[0]
    for name, old, new in zip(("low", "high"), recorded, found, strict=True):
        yield Figure(key, f"interval, {name}", old, new, width)


# The groups of an evaluation


def recalls(
    left: Left,
    group: str,
    similarity: Array,
    ceiling: Array | None,
    described: Array,
    pictures: Array,
    own: tuple[Array, Array] | None = None,
) -> Iterator[Figure]:
    """Recall both ways between utterances (rows) and images (columns).

    Args:
        ceiling: the similarities by the best possible answer.
        described: number of the picture that each utterance describes.
        pictures: number of the picture of each image.
        own: what says which image is an utterance's own where that is not its picture: generated ones.
    """
    labels = {"image": (described, pictures), "class": (described, pictures)}
    if left.described["classes"]:
        labels["class"] = left.classes_of(described), left.classes_of(pictures)
    for score in left.record["scores"]:
        key = score["key"]
        if not key.startswith(f"{group}/recall@"):
            continue
        _, recall, direction, level = key.split("/")
        k = int(recall.removeprefix("recall@"))
        sides = {"value": (similarity, own if own and level == "image" else labels[level])}
        if ceiling is not None:
            sides["ceiling"] = ceiling, labels[level]
        for part, (shown, (of_speech, of_images)) in sides.items():
            right = of_speech[:, None] == of_images
            if direction == "image_to_speech":
                right, shown = right.T, shown.T
                asked = right.any(axis=1)
                right, shown = right[asked], shown[asked]
            yield Figure(key, part, score[part], float(hits(shown, right, k).mean()))
            if part == "value":
                yield Figure(key, "chance", score["chance"], chance_of_hits(right, k))


def by_the_facts(left: Left, pictures: Array) -> Array | None:
    """Similarities of all utterances and pictures by how many of the attributes that one names the other lacks; None
    where none is named."""
    facts = {row["number"]: row["attributes"] for row in left.described["pictures"]}
    named = [row["names"] for row in left.described["captions"]]
    lacking = np.zeros((len(named), len(pictures)))
    for name in {name for row in named for name in row}:
        said = np.array([row.get(name, "") for row in named])[:, None]
        lacking += (said != "") & (said != np.array([facts[int(number)].get(name) for number in pictures]))
    return -lacking if any(named) else None


def sen(left: Left) -> Iterator[Figure]:
    """Stage 1: its embeddings of all utterances and of all pictures of the split."""
    utterances = np.array([row["number"] for row in left.described["captions"]])
    pictures = np.array([row["number"] for row in left.described["pictures"]])
    of_speech = left.pictures_of(utterances)
    similarity, best = cosine(left["sen/speech"], left["sen/images"]), by_the_facts(left, pictures)
    if "sen/queries" in left.features:
        right = left.classes_of(of_speech)[:, None] == left.classes_of(pictures)
        precision = average_precisions(similarity, right)
        place = {int(number): row for row, number in enumerate(utterances)}
        queries = np.vectorize(place.__getitem__)(left["sen/queries"])
        one, every = left.score("sen/map"), left.score("sen/map_all")
        yield Figure("sen/map", "value", one["value"], float(precision[queries].mean()))
        yield Figure("sen/map", "std", one["std"], float(precision[queries].mean(axis=1).std()))
        yield Figure("sen/map", "chance", one["chance"], chance_of_precision(right[queries[0]]))
        yield Figure("sen/map_all", "value", every["value"], float(precision.mean()))
        yield Figure("sen/map_all", "chance", every["chance"], chance_of_precision(right))
        if best is not None:
            precision = average_precisions(best, right)
            yield Figure("sen/map", "ceiling", one["ceiling"], float(precision[queries].mean()))
            yield Figure("sen/map_all", "ceiling", every["ceiling"], float(precision.mean()))
    yield from recalls(left, "sen", similarity, best, of_speech, pictures)


def attributes(left: Left, group: str, captions: Array, kind: str) -> Iterator[Figure]:
    """Of each attribute that captions name, whether the pictures that were made for them show it.

    Args:
        kind: `generated`, or `reconstructions`: of the pictures that captions describe.
    """
    values = left.described["attributes"]
    named = {row["number"]: row["names"] for row in left.described["captions"]}
    pictures = left.pictures_of(captions)
    classes, real = left.classes_of(pictures), left.rows("real", "attributes", pictures)
    seen = left.rows(kind, "attributes", captions if kind == "generated" else pictures)
    right, right_real, asked = (np.zeros((len(captions), len(values)), dtype=bool) for _ in range(3))
    for row, number in enumerate(map(int, captions)):
        for column, (name, known) in enumerate(values.items()):
            if name in named[number]:
                code = known.index(named[number][name])
                asked[row, column] = True
                right[row, column] = seen[row, column] == code
                right_real[row, column] = real[row, column] == code
    chances = np.array([1 / len(known) for known in values.values()])
    found = {}
    for column, name in enumerate(values):
        own = asked[:, column]
        if own.any():
            key = f"{group}/{name}"
            score = left.score(key)
            found[name] = right[own, column].mean(), right_real[own, column].mean(), chances[column]
            yield from with_interval(key, score, right[own, column], classes[own])
            yield Figure(key, "ceiling", score["ceiling"], found[name][1])
            yield Figure(key, "chance", score["chance"], chances[column])
            if score["normalised"] is not None:
                value, best, chance = found[name]
                yield Figure(key, "normalised", score["normalised"], (value - chance) / (best - chance))
    means = np.mean(list(found.values()), axis=0)
    score = left.score(f"{group}/mean")
    for part, mean in zip(("value", "ceiling", "chance"), means, strict=True):
        yield Figure(f"{group}/mean", part, score[part], float(mean))
    told = asked.any(axis=1)
    counts = asked[told].sum(axis=1)
    score = left.score(f"{group}/per_caption")
    # The images as they are, dealt to the captions at random: how often each value is shown.
    often = [
        np.bincount(seen[:, column], minlength=len(known)) / len(seen) for column, known in enumerate(values.values())
    ]
    dealt = np.zeros(asked.shape)
    for row, number in enumerate(map(int, captions)):
        for column, (name, known) in enumerate(values.items()):
            if asked[row, column]:
                dealt[row, column] = often[column][known.index(named[number][name])]
    shuffled = float((dealt[told].sum(axis=1) / counts).mean())
    yield Figure(f"{group}/per_caption", "shuffled", score["protocol"]["shuffled"], shuffled)
    yield from with_interval(f"{group}/per_caption", score, right[told].sum(axis=1) / counts, classes[told])
    yield Figure(f"{group}/per_caption", "ceiling", score["ceiling"], (right_real[told].sum(axis=1) / counts).mean())
    yield Figure(f"{group}/per_caption", "chance", score["chance"], (asked[told] @ chances / counts).mean())


def figure3(left: Left) -> Iterator[Figure]:
    """The changed word, and what the rest of the sentence says."""
    values = left.described["attributes"]
    names = list(values)
    for name in (key.split("/")[1] for key in left.features if key.startswith("figure3/")):
        seen = left[f"figure3/{name}/attributes"]
        each = len(seen) // len(values[name])
        words = np.arange(len(seen)) // each
        score = left.score(f"figure3/{name}")
        yield from with_interval(f"figure3/{name}", score, seen[:, names.index(name)] == words, words)
        yield Figure(f"figure3/{name}", "chance", score["chance"], 1 / len(values[name]))
        key = f"figure3/{name}/stays"
        if key in {score["key"] for score in left.record["scores"]}:
            score = left.score(key)
            kept = score["protocol"]["kept"]
            right = [seen[:, names.index(other)] == values[other].index(value) for other, value in kept.items()]
            yield from with_interval(key, score, np.mean(right, axis=0), words)
            yield Figure(key, "chance", score["chance"], float(np.mean([1 / len(values[other]) for other in kept])))


def distances(left: Left, group: str) -> Iterator[Figure]:
    """Of one space."""
    own = [score for score in left.record["scores"] if score["group"] == group]
    rows = own[0]["key"].rpartition("_")[2] if not own[0]["key"].endswith("_ratio") else "lite2"
    scored = left["scored/numbers"]
    generated, real = left.rows("generated", rows, scored), left[f"real/{rows}"]
    training = left[f"{group}/training"] if f"{group}/training" in left.features else None
    first, second = (left.rows("real", rows, left[f"{group}/{half}_numbers"]) for half in ("half", "other_half"))
    halves = first, second
    for score in own:
        key, protocol = score["key"], score["protocol"]
        name = key.partition("/")[2].removesuffix(f"_{rows}")
        if name in ("fd", "fid"):
            pairs = {"value": (generated, real), "ceiling": (training, real), "floor": halves}
            found = {part: frechet(*pair) for part, pair in pairs.items() if pair[0] is not None}
        elif name in ("kd", "kid") and "subsets" in protocol:
            pairs = {"value": (generated, real), "floor": halves, "ceiling": (training, real)}
            mmds = {
                part: subset_mmds(*pair, protocol["subsets"], protocol["subset_size"], protocol["seed"])
                for part, pair in pairs.items()
                if pair[0] is not None
            }
            yield Figure(key, "std", score["std"], float(mmds["value"].std()))
            found = {part: float(values.mean()) for part, values in mmds.items()}
        elif name in ("kd", "kd_lite2_ratio"):
            drawn = {part: left[f"{group}/kernel_{part}numbers"] for part in ("", "training_", "real_")}
            fakes, others = left.rows("generated", rows, drawn[""]), left.rows("real", rows, drawn["real_"])
            value, beside = squared_mmd(fakes, others), squared_mmd(left[f"{group}/kernel_training"], others)
            if name != "kd":
                yield Figure(key, "value", score["value"], value / beside)
                continue
            found = {"value": value, "ceiling": beside}
            if protocol.get("real_against_real") is not None:
                found["floor"] = float(subset_mmds(*halves, 1, len(real), protocol["seed"])[0])
            classes = left.classes_of(left.pictures_of(drawn[""])), left.classes_of(drawn["real_"])
            yield from interval_of(key, score["interval"], ends(resampled_mmds(fakes, others, *classes)))
        elif name in ("precision", "recall"):
            k = protocol["neighbours"]
            pairs = {"value": (generated, real), "floor": halves}
            if training is not None:
                pairs["ceiling"] = training, real
            found = {part: covered(*(pair if name == "precision" else pair[::-1]), k) for part, pair in pairs.items()}
        elif name in ("is",):
            logits = left.rows("generated", f"{rows}_logits", scored), left[f"real/{rows}_logits"]
            values, best = (inception_score(part, protocol["splits"], protocol["seed"]) for part in logits)
            yield Figure(key, "std", score["std"], float(values.std()))
            found = {"value": float(values.mean()), "ceiling": float(best.mean())}
        else:
            continue
        for part, value in found.items():
            recorded = protocol["real_against_real"] if part == "floor" else score[part]
            if recorded is not None:
                yield Figure(key, "real against real" if part == "floor" else part, recorded, value)


def reconstructions(left: Left) -> Iterator[Figure]:
    """What a latent flow's autoencoder makes of the pictures that captions describe."""
    group = "reconstructions"
    if f"{group}/attributes" in left.features:
        yield from attributes(left, group, left["scored/numbers"], group)
    for score in (score for score in left.record["scores"] if score["key"].startswith(f"{group}/kd_")):
        rows = score["key"].removesuffix("_ratio").rpartition("_")[2]
        numbers = left[f"{group}/kernel_numbers"], left[f"{group}/kernel_real_numbers"]
        made, others = left.rows(group, rows, numbers[0]), left.rows("real", rows, numbers[1])
        value = squared_mmd(made, others)
        if score["key"].endswith("_ratio"):
            value /= squared_mmd(left[f"{group}/kernel_training"], others)
        else:
            classes = (left.classes_of(part) for part in numbers)
            yield from interval_of(score["key"], score["interval"], ends(resampled_mmds(made, others, *classes)))
        yield Figure(score["key"], "value", score["value"], value)


def memorisation(left: Left) -> Iterator[Figure]:
    """From the distances to the nearest training picture."""
    key = "memorisation/copies"
    score = left.score(key)
    bound = np.percentile(left["memorisation/training_distance"], 0.5)
    classes = left.classes_of(left.pictures_of(left["scored/numbers"]))
    copied = (left["memorisation/distance"] < bound).astype(np.float64)
    yield from with_interval(key, score, copied, classes)
    yield Figure(key, "ceiling", score["ceiling"], float((left["memorisation/real_distance"] < bound).mean()))
    for score in left.record["scores"]:
        key = score["key"]
        if key.startswith("memorisation/nearest_p"):
            percentile = float(key.rpartition("_p")[2])
            for part, name in (("value", "nearest"), ("ceiling", "real_nearest")):
                yield Figure(key, part, score[part], float(np.percentile(left[f"memorisation/{name}"], percentile)))


def diversity(left: Left) -> Iterator[Figure]:
    """Mean distance between images of one description."""
    score = left.score("diversity/lite2")
    values = np.array([pdist(own).mean() for own in left["diversity/lite2"]])
    classes = left.classes_of(left.pictures_of(left["diversity/numbers"]))
    yield from with_interval("diversity/lite2", score, values, classes)
    beside = [
        pdist(left.rows("real", "lite2", own[own >= 0])).mean()
        for own in left["diversity/real_numbers"]
        if (own >= 0).sum() > 1
    ]
    if beside:
        yield Figure("diversity/lite2", "ceiling", score["ceiling"], float(np.mean(beside)))


def fakes(left: Left) -> Iterator[Figure]:
    """Real images rank the images that were generated from captions of those images."""
    queries, gallery = left["fakes/queries"], left["fakes/gallery"]
    described = left.pictures_of(gallery)
    for score in (score for score in left.record["scores"] if score["group"] == "fakes"):
        key, rows = score["key"], score["key"].rpartition("_")[2]
        asked = left.rows("real", rows, queries)
        similarity = cosine(asked, left.rows("generated", rows, gallery))
        if "map_" in key:
            classes = left.classes_of(queries)
            right = classes[:, None] == left.classes_of(described)
            yield from with_interval(key, score, average_precisions(similarity, right), classes)
            yield Figure(key, "chance", score["chance"], chance_of_precision(right))
            if score["ceiling"] is not None:
                others = cosine(asked, left.rows("real", rows, left["fakes/stand_ins"]))
                yield Figure(key, "ceiling", score["ceiling"], float(average_precisions(others, right).mean()))
        else:
            k = int(key.partition("@")[2].partition("_")[0])
            right = queries[:, None] == described
            yield Figure(key, "value", score["value"], float(hits(similarity, right, k).mean()))
            yield Figure(key, "chance", score["chance"], chance_of_hits(right, k))


def consistency(left: Left) -> Iterator[Figure]:
    """R-precision, and recall both ways, by encoders that no generator saw."""
    asked, mismatching = left["consistency/asked"], left["consistency/mismatching"]
    described = left.pictures_of(asked)
    speech = left.rows("speech", "consistency", asked)
    shown = {
        "value": left.rows("generated", "consistency", asked),
        "ceiling": left.rows("real", "consistency", described),
    }
    place = {int(number): row for row, number in enumerate(left["speech/numbers"])}
    own = np.array([place[int(number)] for number in asked])
    others = np.vectorize(place.__getitem__)(mismatching)
    score = left.score("consistency/r_precision")
    for part, images in shown.items():
        similarity = cosine(images, left["speech/consistency"])
        rows = np.arange(len(own))
        right = similarity[rows, own][None, :, None]
        against = similarity[rows[:, None], others]
        found = np.where((against > right).any(axis=2), 0.0, 1 / (1 + (against == right).sum(axis=2)))
        if part == "value":
            yield Figure("consistency/r_precision", "std", score["std"], float(found.mean(axis=1).std()))
            yield from with_interval("consistency/r_precision", score, found.mean(axis=0), left.classes_of(described))
        else:
            yield Figure("consistency/r_precision", part, score[part], float(found.mean()))
    yield Figure("consistency/r_precision", "chance", score["chance"], 1 / (mismatching.shape[2] + 1))
    generated, best = (cosine(speech, images) for images in shown.values())
    yield from recalls(left, "consistency", generated, best, described, described, own=(asked, asked))


def figures(folder: Path) -> tuple[list[Figure], list[str]]:
    """All figures of an evaluation, and the keys of scores that none is of."""
    left = Left.read(folder)
    groups = {
        "sen": lambda: sen(left),
        "attributes": lambda: attributes(left, "attributes", left["scored/numbers"], "generated"),
        "reconstructions": lambda: reconstructions(left),
        "figure3": lambda: figure3(left),
        "memorisation": lambda: memorisation(left),
        "diversity": lambda: diversity(left),
        "fakes": lambda: fakes(left),
        "consistency": lambda: consistency(left),
        **{
            name: (lambda name=name: distances(left, name))
            for name in ("inception", "independent", "drawings", "distances")
        },
    }
    found = [figure for name, compute in groups.items() if name in left.record["groups"] for figure in compute()]
    known = {figure.key for figure in found if figure.part == "value"}
    return found, [score["key"] for score in left.record["scores"] if score["key"] not in known]


# The tables of a reproduction


def table_figures(out: Path) -> list[Figure]:
    """Means, deviations and verdicts, from the records and the items of the rows."""
    content = json.loads((out / "reproduction.json").read_bytes())
    folders = {row["name"]: {seed: _folder(out, row["name"], seed) for seed in row["seeds"]} for row in content["rows"]}
    found = []
    for row in content["rows"]:
        records = [json.loads((folder / "metrics.json").read_bytes()) for folder in folders[row["name"]].values()]
        for key, cell in row["scores"].items():
            values = [next(s["value"] for s in record["scores"] if s["key"] == key) for record in records]
            found.append(Figure(f"{row['name']} {key}", "mean", cell["mean"], sum(values) / len(values)))
            if len(values) > 1:
                found.append(Figure(f"{row['name']} {key}", "std", cell["std"], float(np.std(values, ddof=1))))
    for pair in content["verdicts"]:
        key, label = pair["score"], f"{pair['row']} - {pair['against']} {pair['score']}"
        sides = []
        for name in (pair["row"], pair["against"]):
            sides.append({seed: load_file(folder / "items.safetensors") for seed, folder in folders[name].items()})
        seeds = sorted(sides[0].keys() & sides[1].keys())
        values, classes = [], None
        for seed in seeds:
            both = [dict(zip(s[seed][f"{key}/numbers"], s[seed][f"{key}/values"], strict=True)) for s in sides]
            numbers = sorted(both[0].keys() & both[1].keys())
            values.append([both[0][number] - both[1][number] for number in numbers])
            of = dict(zip(sides[0][seed][f"{key}/numbers"], sides[0][seed][f"{key}/clusters"], strict=True))
            classes = np.array([of[number] for number in numbers])
        differences = np.array(values)
        found.append(Figure(label, "difference", pair["difference"], float(differences.mean())))
        assert classes is not None
        means = resampled_means(differences.mean(axis=0), classes)
        if len(seeds) > 1:
            deviation = differences.mean(axis=1).std(ddof=1) / np.sqrt(len(seeds))
            rng = np.random.default_rng(2)
            means = (means[:, None] + deviation * rng.standard_t(len(seeds) - 1, (len(means), 500))).ravel()
        found += interval_of(label, pair["interval_95"], ends(means))
    return found


def _folder(out: Path, row: str, seed: int) -> Path:
    return out / "rows" / f"{row}-{seed}" / "evaluation"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    tables = (folder / "reproduction.json").exists()
    all_found, lacking = (table_figures(folder) if tables else []), list[str]()
    for evaluation in sorted(folder.glob("rows/*/evaluation")) if tables else [folder]:
        name = f"{evaluation.parent.name} " if tables else ""
        if not (evaluation / "described.json").exists():
            lacking.append(f"{name}any score: {evaluation} has no described.json; run s2igan evaluate --keep-images")
            continue
        found, left_out = figures(evaluation)
        all_found += [figure._replace(key=name + figure.key) for figure in found]
        lacking += [name + key for key in left_out]
    for figure in (figure for figure in all_found if not figure.agrees):
        print(f"differs: {figure.key}, {figure.part}: {figure.recorded:.6g} recorded, {figure.found:.6g} found")
    for key in lacking:
        print(f"not computed again: {key}")
    differ = sum(not figure.agrees for figure in all_found)
    print(f"{len(all_found)} figures computed again, {differ} differ; {len(lacking)} scores not computed again")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
