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
class Embeddings:
    """Of the utterances and images of a split, of which each utterance describes one image."""

    speech: Float[np.ndarray, "utterances embedding"]
    images: Float[np.ndarray, "images embedding"]
    utterance_image: Int[np.ndarray, " utterances"]
    """Row of ``images`` that each utterance describes."""
    image_class: Int[np.ndarray, " images"] | None
    """None for sets without classes."""
    disagreement: Int[np.ndarray, "utterances images"] | None
    """What the oracle ranks by, fewest first (`attribute_disagreement`); None where attributes are unknown."""


def embedding_scores(
    embeddings: Embeddings, protocol: Mapping[str, Any], *, draws: int = 100, seed: int = 0
) -> list[Score]:
    """SEN mAP and Recall@k of method.md section 6, each with chance and, where attributes are known, the oracle.

    mAP takes one spoken query per class against all images; since one query a class is few, it is averaged over
    ``draws`` random choices of them, and given for all utterances as queries beside it. Recall@k is given in both
    directions, for items of the same class and for the very image that was described; sets without classes have the
    latter only.
    """
    protocol = {**protocol, "utterances": len(embeddings.speech), "images": len(embeddings.images)}
    scores: list[Score] = []
    if embeddings.image_class is not None:
        labels = embeddings.image_class[embeddings.utterance_image]
        scores += _map_scores(embeddings, labels, embeddings.image_class, protocol, draws=draws, seed=seed)
        scores += _recall_scores(embeddings, "class", labels, embeddings.image_class, protocol)
    every_image = np.arange(len(embeddings.images))
    return scores + _recall_scores(embeddings, "image", embeddings.utterance_image, every_image, protocol)


def _map_scores(
    embeddings: Embeddings,
    labels: Int[np.ndarray, " utterances"],
    image_class: Int[np.ndarray, " images"],
    protocol: Mapping[str, Any],
    *,
    draws: int,
    seed: int,
) -> list[Score]:
    rankers = _rankers(embeddings.speech, embeddings.images, embeddings.disagreement)
    ap = {what: _per_query(ranker, labels, image_class, average_precision) for what, ranker in rankers.items()}
    rng = np.random.default_rng([seed, 0x3E4])
    classes = np.unique(labels)
    of_class = [np.flatnonzero(labels == label) for label in classes]
    picks = np.stack([[rng.choice(own) for own in of_class] for _ in range(draws)])  # (draws, classes)
    chance = chance_map(same_label(classes, image_class), seed=seed)
    one = {"queries": len(classes), "query_draws": draws, "seed": seed, "chance": "simulated, 200 random rankings"}
    every = {"queries": len(labels), "chance": "expected over all rankings"}
    picked = {what: float(values[picks].mean()) for what, values in ap.items()} | {"chance": chance.mean}
    spread = float(ap["value"][picks].mean(axis=1).std())
    return [
        _score("map", "mAP, one spoken query a class", picked, {**protocol, **one}, std=spread, headline=True),
        _score("map_all", "mAP, every utterance a query", _means(ap), {**protocol, **every}),
    ]


def _recall_scores(
    embeddings: Embeddings,
    level: str,
    speech_label: Int[np.ndarray, " utterances"],
    image_label: Int[np.ndarray, " images"],
    protocol: Mapping[str, Any],
) -> list[Score]:
    """Recall@k in both directions. Images that no utterance describes are in the gallery but are no queries."""
    described = np.flatnonzero(np.isin(image_label, speech_label))
    speech, images, disagreement = embeddings.speech, embeddings.images, embeddings.disagreement
    backward = None if disagreement is None else disagreement.T[described]
    scores = []
    for direction, rankers, query, gallery in (
        ("speech_to_image", _rankers(speech, images, disagreement), speech_label, image_label),
        ("image_to_speech", _rankers(images[described], speech, backward), image_label[described], speech_label),
    ):
        for k in RECALL_AT:
            hits = {
                what: _per_query(ranker, query, gallery, partial(hits_at_k, k=k)) for what, ranker in rankers.items()
            }
            counts = {"queries": len(query), "gallery": len(gallery), "chance": "expected over all rankings"}
            name = f"Recall@{k}, {RECALL_NAMES[direction, level]}"
            headline = direction == "speech_to_image" and (
                (k, level) == (1, "class") or (embeddings.image_class is None and k == RECALL_AT[-1])
            )
            key = f"recall@{k}/{direction}/{level}"
            scores.append(_score(key, name, _means(hits), {**protocol, **counts}, headline=headline))
    return scores


def _score(key: str, name: str, values: Mapping[str, Any], protocol: Mapping[str, Any], **facts: Any) -> Score:
    """From values of what `_rankers` gives."""
    ceiling_name = "oracle" if "ceiling" in values else None
    return Score(f"sen/{key}", name, protocol=protocol, ceiling_name=ceiling_name, **values, **facts)


def _means(per_query: Mapping[str, Float[np.ndarray, " queries"]]) -> dict[str, float]:
    return {what: float(values.mean()) for what, values in per_query.items()}


def _rankers(
    queries: Float[np.ndarray, "queries embedding"],
    gallery: Float[np.ndarray, "gallery embedding"],
    disagreement: Int[np.ndarray, "queries gallery"] | None,
) -> dict[str, Ranker]:
    """The cosine of embeddings; for chance all tied, which gives the expectation over all rankings; the oracle."""
    rankers: dict[str, Ranker] = {
        "value": lambda rows: cosine_similarity(queries[rows], gallery, offset=REFERENCE_OFFSET),
        "chance": lambda rows: np.zeros((rows.stop - rows.start, len(gallery))),
    }
    if disagreement is not None:
        rankers["ceiling"] = lambda rows: -disagreement[rows].astype(np.float64)
    return rankers


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
