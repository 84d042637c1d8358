"""How well speech finds images and images find speech: the scores of stage 1, as pure functions of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from s2igan.evaluation.scores import Items, Score
from s2igan.metrics.bootstrap import mean_interval
from s2igan.metrics.retrieval import (
    REFERENCE_OFFSET,
    average_precision,
    by_chance,
    chance_map,
    cosine_similarity,
    hits_at,
    same_label,
)

RECALL_AT = (1, 5, 10)
RECALL_NAMES = {
    ("speech_to_image", "class"): "speech finds an image of the class",
    ("image_to_speech", "class"): "image finds speech of the class",
    ("speech_to_image", "image"): "speech finds its image",
    ("image_to_speech", "image"): "image finds its description",
}
QUERY_DRAWS = 100
"""Random choices of one query a class, which mAP is averaged over."""
QUERIES_AT_ONCE = 1024
"""Rows of a similarity matrix in memory at a time."""
EXPECTED = "expected over all rankings"

PerQuery = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A score of every query, or several, from similarities and what is relevant."""


def embedding_scores(
    speech: Float[np.ndarray, "utterances embedding"],
    images: Float[np.ndarray, "images embedding"],
    utterance_image: Int[np.ndarray, " utterances"],
    image_class: Int[np.ndarray, " images"] | None,
    disagreement: Int[np.ndarray, "utterances images"] | None,
    protocol: Mapping[str, Any],
    *,
    numbers: Int[np.ndarray, " utterances"] | None = None,
    seed: int = 0,
    group: str = "sen",
    pictures: Int[np.ndarray, " images"] | None = None,
) -> list[Score]:
    """SEN mAP and Recall@k of method.md section 6, each with chance and, where attributes are known, the oracle.

    mAP takes one spoken query per class against all images; since one query a class is few, it is averaged over
    `QUERY_DRAWS` random choices of them, with an interval that draws other classes, and given for all utterances as
    queries beside it. Recall@k is given in both directions, for items of the same class and for the very image that
    was described; sets without classes have the latter only. Images that no utterance describes are in the gallery but
    are no queries.

    Args:
        speech: of the utterances.
        images: of the images.
        utterance_image: the row of ``images`` that each utterance describes.
        image_class: the class of each image; None for sets without classes.
        disagreement: what the oracle ranks by, fewest first (`attribute_disagreement`); None where attributes are
            unknown.
        protocol: what the record of every score says.
        numbers: of the utterances in the store, under which the average precision of each is kept.
        seed: of the choices of queries, and of the interval.
        group: of the scores.
        pictures: the picture that each image is; each is one of its own unless given.
    """
    protocol = {**protocol, "utterances": len(speech), "images": len(images)}
    pictures = np.arange(len(images)) if pictures is None else pictures
    levels = {"image": (pictures[utterance_image], pictures)}
    scores: list[Score] = []
    if image_class is not None:
        labels = image_class[utterance_image]
        levels = {"class": (labels, image_class), **levels}
        ap = _per_query(speech, images, disagreement, same_label(labels, image_class), average_precision)
        scores += _map_scores(ap, labels, image_class, numbers, protocol, group, seed=seed)
    for level, (speech_label, image_label) in levels.items():
        described = np.flatnonzero(np.isin(image_label, speech_label))
        forward = speech, images, disagreement, same_label(speech_label, image_label)
        backward = (
            images[described],
            speech,
            None if disagreement is None else disagreement.T[described],
            same_label(image_label[described], speech_label),
        )
        for direction, sides in (("speech_to_image", forward), ("image_to_speech", backward)):
            n_queries, n_gallery = sides[3].shape
            counts = {"queries": n_queries, "gallery": n_gallery, "chance": EXPECTED}
            hits = _per_query(*sides, partial(hits_at, ks=RECALL_AT))
            for number, k in enumerate(RECALL_AT):
                headline = direction == "speech_to_image" and (
                    (k, level) == (1, "class") or (image_class is None and k == RECALL_AT[-1])
                )
                name = f"Recall@{k}, {RECALL_NAMES[direction, level]}"
                key = f"{group}/recall@{k}/{direction}/{level}"
                values = _means({what: at[:, number] for what, at in hits.items()})
                scores.append(_score(key, name, values, {**protocol, **counts}, headline=headline))
    return scores


def _map_scores(
    ap: Mapping[str, Float[np.ndarray, " utterances"]],
    labels: Int[np.ndarray, " utterances"],
    image_class: Int[np.ndarray, " images"],
    numbers: Int[np.ndarray, " utterances"] | None,
    protocol: Mapping[str, Any],
    group: str,
    *,
    seed: int,
) -> list[Score]:
    """From the average precision of every utterance as a query."""
    classes, picks = np.unique(labels), query_draws(labels, seed)
    chance = chance_map(same_label(classes, image_class))
    one = {
        "queries": len(classes),
        "query_draws": QUERY_DRAWS,
        "seed": seed,
        "chance": EXPECTED,
        "bootstrap": "classes",
    }
    every = {"queries": len(labels), "chance": EXPECTED}
    picked = {what: float(values[picks].mean()) for what, values in ap.items()} | {"chance": chance}
    sure = {
        "std": float(ap["value"][picks].mean(axis=1).std()),
        "interval": mean_interval(
            np.array([ap["value"][labels == label].mean() for label in classes]), np.arange(len(classes)), seed=seed
        ),
    }
    items = None if numbers is None else Items(numbers, labels, ap["value"])
    return [
        _score(f"{group}/map", "mAP, one spoken query a class", picked, {**protocol, **one}, headline=True, **sure),
        _score(f"{group}/map_all", "mAP, every utterance a query", _means(ap), {**protocol, **every}, items=items),
    ]


def query_draws(labels: Int[np.ndarray, " utterances"], seed: int) -> Int[np.ndarray, "draws classes"]:
    """Positions of the utterances that are the queries of each draw of `sen/map`, one of each class."""
    rng = np.random.default_rng([seed, 0x3E4])
    of_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.stack([[rng.choice(own) for own in of_class] for _ in range(QUERY_DRAWS)])


def _per_query(
    queries: Float[np.ndarray, "queries embedding"],
    gallery: Float[np.ndarray, "gallery embedding"],
    disagreement: Int[np.ndarray, "queries gallery"] | None,
    relevant: Bool[np.ndarray, "queries gallery"],
    score: PerQuery,
) -> dict[str, Float[np.ndarray, "queries ..."]]:
    """As the fields of `Score`: by the cosine of embeddings; by chance, where all is tied; and by the oracle."""
    found: dict[str, list[np.ndarray]] = {"value": [], "chance": [], "ceiling": []}
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        right = relevant[rows]
        similarity = cosine_similarity(queries[rows], gallery, offset=REFERENCE_OFFSET)
        found["value"].append(score(similarity, right))
        found["chance"].append(by_chance(score, right))
        if disagreement is not None:
            found["ceiling"].append(score(-disagreement[rows].astype(np.float64), right))
    return {what: np.concatenate(parts) for what, parts in found.items() if parts}


def _means(per_query: Mapping[str, Float[np.ndarray, " queries"]]) -> dict[str, float]:
    return {what: float(values.mean()) for what, values in per_query.items()}


def _score(key: str, name: str, values: Mapping[str, Any], protocol: Mapping[str, Any], **facts: Any) -> Score:
    ceiling_name = "oracle" if "ceiling" in values else None
    return Score(key, name, protocol=protocol, ceiling_name=ceiling_name, **values, **facts)
