"""What was found against the words that were spoken, where these are known: boundaries, clusters, pieces cut out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from s2igan.corpora.builtin.spoken_words import SpokenWord
from s2igan.evaluation.words.segments import Segments

TOLERANCE_SECONDS = 0.05
"""A found boundary is right within this distance of a true one."""


def boundary_scores(
    found: Sequence[Float[np.ndarray, " _"]], true: Sequence[Float[np.ndarray, " _"]], tolerance_seconds: float
) -> dict[str, float]:
    """Precision, recall and F1 of boundaries within utterances; each true one can be met once, by the nearest.

    Args:
        found: of each utterance, seconds, without its beginning; so `true`.
    """
    met = 0
    for here, there in zip(found, true, strict=True):
        left = list(there)
        for time in here:
            near = min(left, key=lambda other: abs(other - time), default=None)
            if near is not None and abs(near - time) <= tolerance_seconds:
                left.remove(near)
                met += 1
    n_found, n_true = sum(map(len, found)), sum(map(len, true))
    precision, recall = met / max(n_found, 1), met / max(n_true, 1)
    f1 = 2 * precision * recall / (precision + recall) if met else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def word_spans(spoken: Sequence[SpokenWord], seconds: float) -> list[tuple[str, float, float]]:
    """Each word with its beginning and end: it lasts until the next begins, the last one until the utterance ends."""
    ends = [*(word.start_seconds for word in spoken[1:]), seconds]
    return [(word.word, word.start_seconds, end) for word, end in zip(spoken, ends, strict=False)]


def most_overlapping(segments: Segments, words: Sequence[Sequence[SpokenWord] | None]) -> list[str]:
    """The word that each segment has most of."""
    said = []
    for utterance, start, end in zip(segments.utterance, segments.start, segments.end, strict=True):
        spans = word_spans(words[utterance] or (), np.inf)
        said.append(max(spans, key=lambda span: min(end, span[2]) - max(start, span[1]))[0])
    return said


def cut_out(
    segments: Segments,
    names: Sequence[str],
    words: Sequence[Sequence[SpokenWord] | None],
    seconds: Float[np.ndarray, " utterances"],
    wanted: Sequence[str],
    tolerance_seconds: float,
) -> dict[str, float]:
    """How well segments named as one of the words asked for are those words, from edge to edge.

    Args:
        names: of each segment, the word of its cluster.

    Returns:
        `time_precision`: the share of their time in which that word is spoken; `time_recall`: the share of the words'
        time that lies in segments so named; `time_f1`; `whole`: the share of the words spoken that one such segment
        has with both edges within the tolerance.
    """
    within = in_segments = in_words = 0.0
    whole = spoken_words = 0
    of_utterance: dict[int, list[int]] = {}
    for i, utterance in enumerate(segments.utterance.tolist()):
        if names[i] in wanted:
            of_utterance.setdefault(utterance, []).append(i)
    for utterance, spoken in enumerate(words):
        if spoken is None:
            continue
        spans = [span for span in word_spans(spoken, float(seconds[utterance])) if span[0] in wanted]
        in_words += sum(end - start for _, start, end in spans)
        spoken_words += len(spans)
        here = of_utterance.get(utterance, [])
        in_segments += sum(float(segments.end[i] - segments.start[i]) for i in here)
        for word, start, end in spans:
            own = [i for i in here if names[i] == word]
            within += sum(max(0.0, min(end, segments.end[i]) - max(start, segments.start[i])) for i in own)
            edges = [max(abs(segments.start[i] - start), abs(segments.end[i] - end)) for i in own]
            whole += min(edges, default=np.inf) <= tolerance_seconds
    precision, recall = within / max(in_segments, 1e-9), within / max(in_words, 1e-9)
    return {
        "time_precision": precision,
        "time_recall": recall,
        "time_f1": 2 * precision * recall / max(precision + recall, 1e-9),
        "whole": whole / max(spoken_words, 1),
    }


@dataclass(frozen=True)
class Named:
    """Clusters named by the word that most of their segments are."""

    word: list[str]
    share: Float[np.ndarray, " clusters"]
    """Of the cluster's segments that are this word."""
    purity: float
    """Share of all segments that are the word of their cluster."""
    wanted_purity: float
    """The same of the segments in clusters of the words asked for."""
    recall: dict[str, float]
    """Of each word asked for, the share of its segments that are in clusters of its name."""


def named(clusters: Int[np.ndarray, " segments"], said: Sequence[str], wanted: Sequence[str], n_clusters: int) -> Named:
    """Score clusters by the words that their segments are; `wanted` are words of interest."""
    words, codes = np.unique(np.asarray(said), return_inverse=True)
    counts = np.zeros((n_clusters, len(words)))
    np.add.at(counts, (clusters, codes), 1)
    best = counts.argmax(axis=1)
    right = best[clusters] == codes
    asked = np.isin(words, wanted)
    in_asked = asked[best[clusters]]
    recall = {str(word): float(right[codes == i].mean()) for i, word in enumerate(words) if asked[i]}
    return Named(
        [str(words[i]) for i in best],
        counts.max(axis=1) / counts.sum(axis=1).clip(1),
        float(right.mean()),
        float(right[in_asked].mean()) if in_asked.any() else 0.0,
        recall,
    )


def scored(
    segments: Segments,
    clusters: Int[np.ndarray, " segments"],
    spoken: Sequence[Sequence[SpokenWord] | None],
    seconds: Float[np.ndarray, " utterances"],
    colours: Sequence[str],
) -> tuple[Named, dict[str, Any]]:
    """Clusters by the words that were spoken, and scores of boundaries and clusters in the utterances of which these
    are known.

    Args:
        seconds: how long each utterance is.
    """
    known = [i for i, words in enumerate(spoken) if words is not None]
    within = np.isin(segments.utterance, known)
    kept = Segments(
        *(values[within] for values in (segments.utterance, segments.start, segments.end, segments.vectors))
    )
    here = [segments.start[(segments.utterance == i) & (segments.start > 0)] for i in known]
    there = [np.array([word.start_seconds for word in (spoken[i] or ())][1:]) for i in known]
    names = named(clusters[within], most_overlapping(kept, spoken), colours, int(clusters.max()) + 1)
    return names, {
        "boundaries": boundary_scores(here, there, TOLERANCE_SECONDS),
        "purity": names.purity,
        "colour_purity": names.wanted_purity,
        "colour_recall": names.recall,
        "colours": cut_out(
            kept, [names.word[c] for c in clusters[within]], spoken, seconds, colours, TOLERANCE_SECONDS
        ),
    }
