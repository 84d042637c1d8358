"""How well speech finds images and images find speech: the scores of stage 1, as pure functions of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from s2igan.evaluation.scores import Score
from s2igan.metrics.retrieval import (
    REFERENCE_OFFSET,
    average_precision,
    chance_map,
    cosine_similarity,
    hits_at_k,
    same_label,
)

RECALL_AT = (1, 5, 10)
RECALL_NAMES = {
    ("speech_to_image", "class"): "speech finds an image of the class",
    ("image_to_speech", "class"): "image finds speech of the class",
    ("speech_to_image", "image"): "speech finds its image",
    ("image_to_speech", "image"): "image finds its description",
}
QUERIES_AT_ONCE = 1024
"""Rows of a similarity matrix in memory at a time."""

Ranker = Callable[[slice], Float[np.ndarray, "queries gallery"]]
"""The similarities of some of the queries with the whole gallery."""


@dataclass(frozen=True)
class SearchSet:
    """What is searched: utterances and images, of which each utterance describes one."""

    speech: Float[np.ndarray, "utterances embedding"]
    images: Float[np.ndarray, "images embedding"]
    utterance_image: Int[np.ndarray, " utterances"]
    """Row of ``images`` that each utterance describes."""
    image_class: Int[np.ndarray, " images"] | None
    """None for sets without classes."""
    disagreement: Int[np.ndarray, "utterances images"] | None
    """What the oracle ranks by, fewest first (`attribute_disagreement`); None where attributes are unknown."""


def search_scores(found: SearchSet, protocol: Mapping[str, Any], *, draws: int = 100, seed: int = 0) -> list[Score]:
    """SEN mAP and Recall@k of method.md section 6, each with chance and, where attributes are known, the oracle.

    mAP takes one spoken query per class against all images; since one query a class is few, it is averaged over
    ``draws`` random choices of them, and given for all utterances as queries beside it. Recall@k is given in both
    directions, for items of the same class and for the very image that was described; sets without classes have the
    latter only.
    """
    protocol = {**protocol, "utterances": len(found.speech), "images": len(found.images)}
    scores: list[Score] = []
    if found.image_class is not None:
        labels = found.image_class[found.utterance_image]
        scores += _map_scores(found, labels, found.image_class, protocol, draws=draws, seed=seed)
        scores += _recall_scores(found, "class", labels, found.image_class, protocol)
    scores += _recall_scores(found, "image", found.utterance_image, np.arange(len(found.images)), protocol)
    return scores


def _map_scores(
    found: SearchSet,
    labels: Int[np.ndarray, " utterances"],
    image_class: Int[np.ndarray, " images"],
    protocol: Mapping[str, Any],
    *,
    draws: int,
    seed: int,
) -> list[Score]:
    ap = _per_query(_cosine(found.speech, found.images), labels, image_class, average_precision)
    oracle = None
    if found.disagreement is not None:
        oracle = _per_query(_oracle(found.disagreement), labels, image_class, average_precision)
    rng = np.random.default_rng([seed, 0x3E4])
    classes = np.unique(labels)
    of_class = [np.flatnonzero(labels == label) for label in classes]
    picks = np.stack([[rng.choice(own) for own in of_class] for _ in range(draws)])  # (draws, classes)
    chance = chance_map(same_label(classes, image_class), seed=seed)
    one = {"queries": len(classes), "query_draws": draws, "seed": seed, "chance": "simulated, 200 random rankings"}
    return [
        Score(
            "sen/map",
            "mAP, one spoken query a class",
            float(ap[picks].mean()),
            {**protocol, **one},
            std=float(ap[picks].mean(axis=1).std()),
            chance=chance.mean,
            ceiling=None if oracle is None else float(oracle[picks].mean()),
            ceiling_name=None if oracle is None else "oracle",
            headline=True,
        ),
        Score(
            "sen/map_all",
            "mAP, every utterance a query",
            float(ap.mean()),
            {**protocol, "queries": len(labels), "chance": "expected over all rankings"},
            chance=float(_per_query(_constant(len(image_class)), labels, image_class, average_precision).mean()),
            ceiling=None if oracle is None else float(oracle.mean()),
            ceiling_name=None if oracle is None else "oracle",
        ),
    ]


def _recall_scores(
    found: SearchSet,
    level: str,
    speech_label: Int[np.ndarray, " utterances"],
    image_label: Int[np.ndarray, " images"],
    protocol: Mapping[str, Any],
) -> list[Score]:
    """Recall@k in both directions. Images that no utterance describes are in the gallery but are no queries."""
    described = np.flatnonzero(np.isin(image_label, speech_label))
    forward, backward = _cosine(found.speech, found.images), _cosine(found.images[described], found.speech)
    oracle, backward_oracle = None, None
    if found.disagreement is not None:
        oracle, backward_oracle = _oracle(found.disagreement), _oracle(found.disagreement.T[described])
    scores = []
    for direction, similarity, best, query, gallery in (
        ("speech_to_image", forward, oracle, speech_label, image_label),
        ("image_to_speech", backward, backward_oracle, image_label[described], speech_label),
    ):
        for k in RECALL_AT:
            values = {
                what: float(_per_query(ranker, query, gallery, partial(hits_at_k, k=k)).mean())
                for what, ranker in (("value", similarity), ("chance", _constant(len(gallery))), ("ceiling", best))
                if ranker is not None
            }
            counts = {"queries": len(query), "gallery": len(gallery)}
            scores.append(
                Score(
                    f"sen/recall@{k}/{direction}/{level}",
                    f"Recall@{k}, {RECALL_NAMES[direction, level]}",
                    values["value"],
                    {**protocol, **counts, "chance": "expected over all rankings"},
                    chance=values["chance"],
                    ceiling=values.get("ceiling"),
                    ceiling_name="oracle" if "ceiling" in values else None,
                    headline=(k, direction, level) == (1, "speech_to_image", "class")
                    or (found.image_class is None and (k, direction) == (RECALL_AT[-1], "speech_to_image")),
                )
            )
    return scores


def _cosine(queries: np.ndarray, gallery: np.ndarray) -> Ranker:
    return lambda rows: cosine_similarity(queries[rows], gallery, offset=REFERENCE_OFFSET)


def _oracle(disagreement: np.ndarray) -> Ranker:
    return lambda rows: -disagreement[rows].astype(np.float64)


def _constant(n_gallery: int) -> Ranker:
    """All tied: the expectation over all rankings."""
    return lambda rows: np.zeros((rows.stop - rows.start, n_gallery))


def _per_query(
    similarity: Ranker,
    query_labels: Int[np.ndarray, " queries"],
    gallery_labels: Int[np.ndarray, " gallery"],
    score: Callable[[np.ndarray, Bool[np.ndarray, "queries gallery"]], np.ndarray],
) -> Float[np.ndarray, " queries"]:
    parts = []
    for start in range(0, len(query_labels), QUERIES_AT_ONCE):
        rows = slice(start, min(start + QUERIES_AT_ONCE, len(query_labels)))
        parts.append(score(similarity(rows), same_label(query_labels[rows], gallery_labels)))
    return np.concatenate(parts)
