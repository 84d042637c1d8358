"""Frames cut into segments, and segments put together: prominence, dynamic programming, k-means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.signal import find_peaks

from s2igan.errors import UserError
from s2igan.evaluation.words.frames import FineFrames, FrameTimes
from s2igan.evaluation.words.options import WordSearch

MOST_SECONDS, MOST_PIECES = 0.8, 5
"""How long a segment may be that is more than one piece between neighbouring peaks, and of how many."""
ROUNDS = 4
"""Of clustering and segmenting."""


def prominent_boundaries(
    frames: Float[np.ndarray, "frames features"], prominence: float, span: int
) -> Int[np.ndarray, " segments"]:
    """The frames that segments begin with, 0 among them: after the steps at which speech changes most, by how far the
    means of the `span` frames before and after are apart."""
    steps = np.arange(1, len(frames))
    first, last = np.maximum(0, steps - span), np.minimum(len(frames), steps + span)
    total = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, axis=0)])
    before = (total[steps] - total[first]) / (steps - first)[:, None]
    after = (total[last] - total[steps]) / (last - steps)[:, None]
    change = np.linalg.norm(after - before, axis=1)
    spread = change.std() if len(change) else 0.0
    if spread < 1e-9:
        return np.zeros(1, np.int64)
    peaks, _ = find_peaks((change - change.mean()) / spread, prominence=prominence)
    return np.concatenate([[0], peaks + 1]).astype(np.int64)


def equal_boundaries(n_frames: int, segments: int) -> Int[np.ndarray, " segments"]:
    """The same number of segments, equally long."""
    return np.floor(np.arange(segments) * n_frames / segments).astype(np.int64)


def shuffled_boundaries(n_frames: int, segments: int, rng: np.random.Generator) -> Int[np.ndarray, " segments"]:
    """The same number of segments that begin anywhere."""
    return np.concatenate([[0], np.sort(rng.choice(np.arange(1, n_frames), segments - 1, replace=False))])


def segmented(
    frames: Float[np.ndarray, "frames features"],
    peaks: Int[np.ndarray, " pieces"],
    centres: Float[np.ndarray, "clusters features"],
    boundary_cost: float,
    most_frames: int,
) -> Int[np.ndarray, " segments"]:
    """Those of the peaks that make the best segments: the least sum, over segments, of their frames times the squared
    distance from the nearest centre, and of the cost of a boundary (dynamic programming).

    Args:
        peaks: frames that a segment may begin with, 0 among them.
        most_frames: of a segment with a peak inside, which has at most `MOST_PIECES` pieces.
    """
    edges = np.append(peaks, len(frames))
    first, last = np.triu_indices(len(edges), 1)
    whole = (last == first + 1) | ((last - first <= MOST_PIECES) & (edges[last] - edges[first] <= most_frames))
    first, last = first[whole], last[whole]
    total = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, axis=0)])
    length = edges[last] - edges[first]
    vectors = (total[edges[last]] - total[edges[first]]) / length[:, None]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    squared = (vectors**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * vectors @ centres.T
    cost = length * squared.min(axis=1) + boundary_cost
    best, begun = np.zeros(len(edges)), np.zeros(len(edges), np.int64)
    for end in range(1, len(edges)):
        ending = np.flatnonzero(last == end)
        so_far = best[first[ending]] + cost[ending]
        best[end], begun[end] = so_far.min(), first[ending[so_far.argmin()]]
    chosen = [len(edges) - 1]
    while chosen[-1]:
        chosen.append(int(begun[chosen[-1]]))
    return edges[chosen[:0:-1]]


def pooled(
    frames: Float[np.ndarray, "frames features"], starts: Int[np.ndarray, " segments"]
) -> Float[np.ndarray, "segments features"]:
    """The mean frame of each segment, of unit length."""
    lengths = np.diff([*starts, len(frames)])
    mean = np.add.reduceat(frames, starts, axis=0) / lengths[:, None]
    return mean / (np.linalg.norm(mean, axis=1, keepdims=True) + 1e-9)


@dataclass(frozen=True)
class Segments:
    """Pieces of several utterances, in their order."""

    utterance: Int[np.ndarray, " segments"]
    """Position among the utterances."""
    start: Float[np.ndarray, " segments"]
    """Seconds, as `end`."""
    end: Float[np.ndarray, " segments"]
    vectors: Float[np.ndarray, "segments features"]

    @classmethod
    def of(
        cls,
        frames: Sequence[Float[np.ndarray, "_ features"]],
        starts: Sequence[Int[np.ndarray, " _"]],
        seconds: Float[np.ndarray, " utterances"],
        times: FrameTimes,
    ) -> Segments:
        begins = [times.starts(each) for each in starts]
        ends = [np.append(each[1:], length) for each, length in zip(begins, seconds, strict=True)]
        return cls(
            np.repeat(np.arange(len(starts)), [len(each) for each in starts]),
            np.concatenate(begins),
            np.concatenate(ends),
            np.concatenate([pooled(each, start) for each, start in zip(frames, starts, strict=True)]),
        )

    def __len__(self) -> int:
        return len(self.utterance)


def clustered(
    vectors: Float[np.ndarray, "items features"], clusters: int, seed: int
) -> tuple[Int[np.ndarray, " items"], Float[np.ndarray, " items"], Float[np.ndarray, "clusters features"]]:
    """k-means: the cluster of each item, its distance from the middle of it, and the middles.

    Raises:
        UserError: scikit-learn is not installed, or there are fewer items than clusters.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise UserError("finding words needs a package: pip install 's2igan[words]'.") from error
    if len(vectors) < clusters:
        raise UserError(
            f"{len(vectors)} segments cannot be put into {clusters} clusters; choose fewer with --clusters."
        )
    found = KMeans(clusters, n_init=1, random_state=seed).fit(vectors)
    labels = found.labels_.astype(np.int64)
    return labels, np.linalg.norm(vectors - found.cluster_centers_[labels], axis=1), found.cluster_centers_


@dataclass(frozen=True)
class Clustering:
    """Segments and their clusters."""

    starts: list[Int[np.ndarray, " _"]]
    """The frames that the segments of each utterance begin with."""
    segments: Segments
    clusters: Int[np.ndarray, " segments"]
    """Of each segment."""
    distances: Float[np.ndarray, " segments"]
    """From the middle of its cluster."""


def segmented_and_clustered(
    frames: Sequence[FineFrames],
    seconds: Float[np.ndarray, " utterances"],
    times: FrameTimes,
    search: WordSearch,
    seed: int,
) -> Clustering:
    """Segments at the most prominent changes, then `ROUNDS` times those that fit the clusters better.

    Args:
        seconds: how long each utterance is.

    Raises:
        UserError: as `clustered` does.
    """
    local = [each.local for each in frames]
    peaks = [prominent_boundaries(each.whole, search.prominence, search.span) for each in frames]
    starts, most = peaks, round(MOST_SECONDS / times.step_seconds)
    segments = Segments.of(local, starts, seconds, times)
    clusters, distances, centres = clustered(segments.vectors, search.clusters, seed)
    for _ in range(ROUNDS):
        starts = [segmented(f, p, centres, search.boundary_cost, most) for f, p in zip(local, peaks, strict=True)]
        segments = Segments.of(local, starts, seconds, times)
        clusters, distances, centres = clustered(segments.vectors, search.clusters, seed)
    return Clustering(starts, segments, clusters, distances)
