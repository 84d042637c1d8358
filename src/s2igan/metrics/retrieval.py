"""Ranking scores: mAP, recall at k, and their chance levels.

Every function takes a matrix of similarities (rows are queries, columns are gallery items, larger is closer) and a
matrix of the same shape that says which items are right for which query. Swapping the two roles is transposing both.

**Ties.** Items with equal similarity have no order of their own, and taking them as they stand in the gallery would
reward a gallery that happens to be sorted. All functions therefore return the *expected* value over every order of
tied items, in closed form. Without ties this is the usual definition. It makes two things exact that would otherwise
need sampling: the oracle, whose scores are small integers, and chance, which is the case that everything is tied.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

REFERENCE_OFFSET = 1e-10
"""The reference adds this to every component before it normalises, so that a zero vector does not divide by zero."""


def cosine_similarity(
    queries: Float[np.ndarray, "queries features"],
    gallery: Float[np.ndarray, "gallery features"],
    *,
    offset: float = 0.0,
) -> Float[np.ndarray, "queries gallery"]:
    """Cosine of every query with every gallery item, in float64.

    ``offset`` is added to every component first; the reference's mAP uses ``REFERENCE_OFFSET``, its paired recall 0.
    Raises ValueError where a row is zero or not finite.
    """
    unit = []
    for features in (queries, gallery):
        shifted = features.astype(np.float64) + offset
        norms = np.linalg.norm(shifted, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or (norms == 0).any():
            raise ValueError("a row of the features is zero or not finite: its direction is not defined")
        unit.append(shifted / norms)
    return unit[0] @ unit[1].T


def same_label(
    query_labels: Int[np.ndarray, " queries"], gallery_labels: Int[np.ndarray, " gallery"]
) -> Bool[np.ndarray, "queries gallery"]:
    """Which gallery items carry the query's label (its class, or the id of its image)."""
    return query_labels[:, None] == gallery_labels[None, :]


class _Ranking(NamedTuple):
    """A ranking per query, in groups of tied items; by position in the ranking."""

    start: Int[np.ndarray, "queries gallery"]  # position at which this position's group starts
    size: Int[np.ndarray, "queries gallery"]  # items in the group
    hits: Int[np.ndarray, "queries gallery"]  # right items in the group
    hits_before: Int[np.ndarray, "queries gallery"]  # right items above the group
    total: Int[np.ndarray, " queries"]  # right items of the query


def _rank(
    similarity: Float[np.ndarray, "queries gallery"], relevant: Bool[np.ndarray, "queries gallery"], k: int = 1
) -> _Ranking:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if similarity.shape != relevant.shape:
        raise ValueError(f"similarity {similarity.shape} and relevant {relevant.shape} must have one shape")
    if not np.isfinite(similarity).all():
        raise ValueError("similarity holds values that are not finite")
    total = relevant.sum(axis=1)
    if (total == 0).any():
        raise ValueError(f"query {int(np.argmin(total))} has no right item in the gallery: its score is not defined")
    n_queries, n_gallery = similarity.shape
    order = np.argsort(-similarity, axis=1, kind="stable")
    ranked = np.take_along_axis(similarity, order, axis=1)
    edge = np.ones((n_queries, n_gallery + 1), dtype=bool)  # a group starts here; one more column closes the last group
    edge[:, 1:-1] = ranked[:, 1:] != ranked[:, :-1]
    position = np.arange(n_gallery)
    start = np.maximum.accumulate(np.where(edge[:, :-1], position, 0), axis=1)
    end = np.minimum.accumulate(np.where(edge[:, 1:], position + 1, n_gallery)[:, ::-1], axis=1)[:, ::-1]
    hits_until = np.zeros((n_queries, n_gallery + 1), dtype=np.int64)
    np.cumsum(np.take_along_axis(relevant, order, axis=1), axis=1, out=hits_until[:, 1:])
    hits_before = np.take_along_axis(hits_until, start, axis=1)
    hits = np.take_along_axis(hits_until, end, axis=1) - hits_before
    return _Ranking(start, end - start, hits, hits_before, total)


def average_precision(
    similarity: Float[np.ndarray, "queries gallery"], relevant: Bool[np.ndarray, "queries gallery"]
) -> Float[np.ndarray, " queries"]:
    """AP of every query (method.md section 6): the mean, over all its right items, of j / (rank of the j-th).

    At a position of a group of n tied items, m of them right and b right above it: the item there is right with
    probability m / n, and then (p - 1)(m - 1) / (n - 1) of the p - 1 items that share its group and stand above it
    are expected to be. Raises ValueError where a query has no right item.
    """
    r = _rank(similarity, relevant)
    position = np.arange(similarity.shape[1])
    above_in_group = (position - r.start) * (r.hits - 1) / np.maximum(r.size - 1, 1)
    expected = r.hits / r.size * (r.hits_before + above_in_group + 1) / (position + 1)
    ap: np.ndarray = expected.sum(axis=1) / r.total
    return ap


def mean_average_precision(
    similarity: Float[np.ndarray, "queries gallery"], relevant: Bool[np.ndarray, "queries gallery"]
) -> float:
    """mAP, in 0 to 1: the mean of ``average_precision`` over the queries."""
    return float(average_precision(similarity, relevant).mean())


def hits_at(
    similarity: Float[np.ndarray, "queries gallery"], relevant: Bool[np.ndarray, "queries gallery"], ks: Sequence[int]
) -> Float[np.ndarray, "queries _"]:
    """Of every query and every k, 1 where a right item is among the first k, else 0; between them in case of ties.

    Paired sets (item i matches item i) and many-to-one sets (five utterances an image) differ in ``relevant`` only. A
    gallery smaller than k counts as seen whole.
    """
    r = _rank(similarity, relevant, min(ks))
    return np.stack([_hits(r, min(k, similarity.shape[1]) - 1) for k in ks], axis=1)


def _hits(r: _Ranking, last: int) -> Float[np.ndarray, " queries"]:
    """Hits among the positions up to and with the last."""
    start, size, hits, before = (a[:, last] for a in (r.start, r.size, r.hits, r.hits_before))
    # The cut at k falls into a group of n tied items of which d are seen: all of them wrong with C(n-m, d) / C(n, d).
    drawn = last + 1 - start
    missed = np.ones(len(drawn))
    for j in range(int(drawn.max())):
        missed *= np.where(j < drawn, np.maximum(size - hits - j, 0) / np.maximum(size - j, 1), 1.0)
    return np.where(before > 0, 1.0, 1.0 - missed)


def recall_at_k(
    similarity: Float[np.ndarray, "queries gallery"], relevant: Bool[np.ndarray, "queries gallery"], k: int
) -> float:
    """Fraction of queries with at least one right item among the first k: the mean of `hits_at`."""
    return float(hits_at(similarity, relevant, (k,)).mean())


def attribute_disagreement(
    query_mentions: list[dict[str, str]], image_attributes: list[dict[str, str]]
) -> Int[np.ndarray, "queries images"]:
    """How many of the facts that each caption states are false of each image.

    The oracle of the built-in sets ranks by this, fewest first: it hears every word and sees every attribute, and
    knows nothing that the caption does not say. ``query_mentions`` holds, for a caption, the attributes that it names
    with their values. An attribute that an image does not have counts as false of it.
    """
    counts = np.zeros((len(query_mentions), len(image_attributes)), dtype=np.int64)
    names = {name for mentions in query_mentions for name in mentions}
    columns = {name: np.array([image.get(name, "") for image in image_attributes], dtype=object) for name in names}
    for row, mentions in enumerate(query_mentions):
        for name, value in mentions.items():
            counts[row] += columns[name] != value
    return counts


def by_chance(
    score: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, "queries ..."]],
    relevant: Bool[np.ndarray, "queries gallery"],
) -> Float[np.ndarray, "queries ..."]:
    """A score of every query by a ranking that knows nothing: its expectation, that of a gallery of equal items. It
    follows from how many items are right."""
    counts, rows = np.unique(relevant.sum(axis=1), return_inverse=True)
    right = np.arange(relevant.shape[1]) < counts[:, None]
    found: np.ndarray = score(np.zeros(right.shape), right)[rows]
    return found


def chance_map(relevant: Bool[np.ndarray, "queries gallery"]) -> float:
    """mAP of a ranking that knows nothing."""
    return float(by_chance(average_precision, relevant).mean())
