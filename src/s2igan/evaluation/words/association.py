"""What goes with a cluster of segments: the attribute of the pictures that its presence tells most about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

PERMUTATIONS = 50
"""Of the pictures, to see what chance tells."""


def mutual_information(
    present: Bool[np.ndarray, "utterances clusters"], labels: Int[np.ndarray, " utterances"]
) -> Float[np.ndarray, " clusters"]:
    """Bits that the presence of each cluster in an utterance tells about a label of its picture."""
    joint = _joint(present, labels)
    expected = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log2(joint / expected), 0.0)
    return terms.sum(axis=(1, 2))


def likeliest(
    present: Bool[np.ndarray, "utterances clusters"], labels: Int[np.ndarray, " utterances"]
) -> tuple[Int[np.ndarray, " clusters"], Float[np.ndarray, " clusters"]]:
    """The label that goes with each cluster (whose share of the mutual information is largest), and how many times as
    often it is the picture's where the cluster is heard."""
    joint = _joint(present, labels)
    heard, of_label = joint[:, 1], joint.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = heard / (heard.sum(axis=1, keepdims=True) * of_label)
        share = np.where(heard > 0, heard * np.log2(lift), 0.0)
    best = share.argmax(axis=1)
    return best, lift[np.arange(len(best)), best]


def _joint(
    present: Bool[np.ndarray, "utterances clusters"], labels: Int[np.ndarray, " utterances"]
) -> Float[np.ndarray, "clusters 2 labels"]:
    """Shares of the utterances: absent or present, by label."""
    kinds = np.eye(int(labels.max()) + 1)[labels]
    heard = present.T.astype(np.float64) @ kinds
    return np.stack([kinds.sum(axis=0) - heard, heard], axis=1) / len(labels)


@dataclass(frozen=True)
class Ranked:
    """What each cluster goes with."""

    bits: Float[np.ndarray, " clusters"]
    """Mutual information with the attribute, or the kind of picture, that it tells most about."""
    attribute: list[str]
    value: list[str]
    lift: Float[np.ndarray, " clusters"]
    """How many times as often pictures have the value where the cluster is heard."""
    chance_bits: float
    """The most that any cluster tells of pictures in another order, 95th percentile over `PERMUTATIONS`."""


def ranked(present: Bool[np.ndarray, "utterances clusters"], facts: Mapping[str, Sequence[str]], seed: int) -> Ranked:
    """For each cluster the attribute that it tells most about, and the value that goes with it."""
    names = list(facts)
    values = {name: sorted(set(facts[name])) for name in names}
    codes = {name: np.array([values[name].index(value) for value in facts[name]]) for name in names}
    bits = np.stack([mutual_information(present, codes[name]) for name in names])
    best = bits.argmax(axis=0)
    with_each = [likeliest(present, codes[name]) for name in names]
    rng = np.random.default_rng([seed, 0xC4A])
    orders = [rng.permutation(len(present)) for _ in range(PERMUTATIONS)]
    chance = [max(float(mutual_information(present, codes[name][order]).max()) for name in names) for order in orders]
    clusters = range(present.shape[1])
    return Ranked(
        bits.max(axis=0),
        [names[best[c]] for c in clusters],
        [values[names[best[c]]][with_each[best[c]][0][c]] for c in clusters],
        np.array([with_each[best[c]][1][c] for c in clusters]),
        float(np.percentile(chance, 95)),
    )
