"""The bootstrap of items that come in clusters, such as the captions of a species: pure functions of arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 1000
"""Unless another number is given."""
ENDS = (0.025, 0.975)
"""Quantiles of a 95 % interval."""


class Resamples(NamedTuple):
    """What each resample draws of a set of items, a row for each resample."""

    weights: Float[np.ndarray, "resamples items"]
    """How often an item was drawn."""
    copies: Float[np.ndarray, "resamples items"]
    """How often its cluster was drawn."""


def resample_clusters(
    *labels: Int[np.ndarray, " _"], resamples: int = RESAMPLES, rng: np.random.Generator
) -> list[Resamples]:
    """Two-stage bootstrap (Davison and Hinkley 1997, section 3.8): as many clusters as there are, with replacement,
    then of each drawn cluster as many of its items as it has, with replacement.

    Args:
        labels: the cluster of each item of a set. Sets that are named together share their clusters, which are drawn
            once for all; the items of each set are drawn for themselves.
    """
    clusters = np.unique(np.concatenate(labels))
    drawn = rng.multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), size=resamples)
    found = []
    for own in labels:
        weights, copies = np.zeros((resamples, len(own))), np.zeros((resamples, len(own)))
        for cluster, count in zip(clusters, drawn.T, strict=True):
            items = np.flatnonzero(own == cluster)
            if len(items):
                weights[:, items] = rng.multinomial(count * len(items), np.full(len(items), 1 / len(items)))
                copies[:, items] = count[:, None]
        found.append(Resamples(weights, copies))
    return found


def mean_interval(
    values: Float[np.ndarray, " items"], labels: Int[np.ndarray, " items"], *, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the mean of items that come in clusters."""
    (drawn,) = resample_clusters(labels, rng=np.random.default_rng(seed))
    return interval(drawn.weights @ values / drawn.weights.sum(axis=1))


def paired_difference(
    first: Float[np.ndarray, "seeds items"],
    second: Float[np.ndarray, "seeds items"],
    labels: Int[np.ndarray, " items"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """Mean of first - second, of two methods that were trained with the same seeds and asked about the same items, and
    its 95 % interval.

    Each resample draws clusters of items, and then items of each. Seeds are too few to be drawn again: of two, equal
    methods would be called different in every fourth pair, not in every twentieth. So to the mean of each resample is
    added what Student's t says of the mean of the seeds, by as many equally likely values. The interval says how other
    items and other trainings would have come out; that of a single seed, how other items would.
    """
    if first.shape != second.shape:
        raise ValueError(f"pairs need one shape, not {first.shape} and {second.shape}")
    from scipy import stats

    differences = first - second
    n = len(differences)
    (drawn,) = resample_clusters(labels, resamples=resamples, rng=np.random.default_rng(seed))
    weights = drawn.weights / drawn.weights.sum(axis=1, keepdims=True)
    values = weights @ differences.mean(axis=0)
    if n > 1:
        deviation = differences.mean(axis=1).std(ddof=1) / np.sqrt(n)
        likely = stats.t.ppf((np.arange(resamples) + 0.5) / resamples, n - 1)
        values = (values[:, None] + deviation * likely).ravel()
    return float(differences.mean()), interval(values)


def interval(values: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """Ends of the middle 95 % of the values that resamples have; infinite where these are."""
    low, high = np.quantile(values, ENDS, method="nearest")
    return float(low), float(high)
