"""Do speech and generated images belong together, and how much do images of one description differ?"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int
from rich.console import Console

from s2igan.evaluation.embedding_scores import embedding_scores
from s2igan.evaluation.extractors import Seen
from s2igan.evaluation.generation import Evaluation, Fakes, drawn_in_batches, noise_of
from s2igan.evaluation.independent_encoders import NAME, IndependentEncoders
from s2igan.evaluation.scores import Group, Items, Score
from s2igan.evaluation.spaces import LITE2
from s2igan.metrics.bootstrap import mean_interval
from s2igan.metrics.retrieval import REFERENCE_OFFSET, cosine_similarity
from s2igan.training.frozen import speech_embeddings

MISMATCHING, DRAWS = 99, 10
"""Descriptions of other classes among which an image is to find its own, and how often they are drawn."""
MOST = 1000
"""Generated images that are asked about, drawn at random where there are more: each ranks all descriptions."""
DESCRIPTIONS, SAMPLES = 32, 4
"""Descriptions whose images are compared with each other, and images of each."""


def spoken(evaluation: Evaluation, encoders: IndependentEncoders) -> Float[np.ndarray, "utterances embedding"]:
    """Embeddings of every utterance of the split."""
    split, device = evaluation.split, evaluation.model.device
    console = Console(stderr=True)
    return speech_embeddings(split.store, encoders.speech, split.utterances, device=device, console=console).numpy()


def consistency_group(
    evaluation: Evaluation,
    encoders: IndependentEncoders,
    speech: Float[np.ndarray, "utterances embedding"],
    fakes: Fakes,
    real: Seen,
) -> Group | None:
    """R-precision, and recall both ways between speech and generated images, by encoders that no generator saw.

    None where no description is of another class.

    Args:
        speech: as `spoken` gives it.
    """
    split, store, seed = evaluation.split, evaluation.split.store, evaluation.seed
    rng = np.random.default_rng([seed, 0x29E])
    if len(fakes.captions) > MOST:
        fakes = fakes.of(np.sort(rng.permutation(fakes.captions)[:MOST]))
    own = np.searchsorted(split.utterances, fakes.captions)
    described = np.searchsorted(split.images, store.image_index[fakes.captions])
    classes = store.utterance_class[split.utterances]
    other = classes[own][:, None] != classes[None]
    if not (pool := int(other.sum(axis=1).min())):
        return None
    mismatching = min(MISMATCHING, pool)
    choices = np.stack([draw_mismatching(other, mismatching, rng) for _ in range(DRAWS)])
    protocol = {**split.protocol, **fakes.protocol, **encoders.images.facts}
    shown = {"fakes": fakes.seen[NAME], "real": real[NAME][described]}
    hits = {
        kind: r_precision(cosine_similarity(images, speech, offset=REFERENCE_OFFSET), own, choices)
        for kind, images in shown.items()
    }
    found = hits["fakes"].mean(axis=0)
    scores = [
        Score(
            f"{NAME}/r_precision",
            f"R-precision: an image finds its description among {mismatching + 1}",
            float(found.mean()),
            {**protocol, "mismatching": mismatching, "draws": DRAWS, "chance": "one over the descriptions"},
            std=float(hits["fakes"].mean(axis=1).std()),
            interval=mean_interval(found, classes[own], seed=seed),
            chance=1 / (mismatching + 1),
            ceiling=float(hits["real"].mean()),
            ceiling_name="real images",
            headline=True,
            items=Items(fakes.captions, classes[own], found),
        )
    ]
    image_class = classes[own] if store.has_classes else None
    # A picture that several of the captions describe is the right answer to each of them, wherever it stands.
    pictures = {"fakes": None, "real": described}
    recalls = {
        kind: embedding_scores(
            speech[own],
            images,
            np.arange(len(own)),
            image_class,
            None,
            protocol,
            seed=seed,
            group=NAME,
            pictures=pictures[kind],
        )
        for kind, images in shown.items()
    }
    for score, best in zip(recalls["fakes"], recalls["real"], strict=True):
        if "recall@" in score.key:
            scores.append(replace(score, ceiling=best.value, ceiling_name="real images", headline=False))
    words = (
        f"{len(own)} generated images and the {split.name} utterances that they were generated from; cosine of the "
        f"embeddings by {encoders.images.facts['extractor']}. R-precision: {mismatching} utterances of other classes, "
        f"drawn {DRAWS} times. Recall is the hit rate. The ceiling has the utterances' own real images in place of the "
        "generated ones."
    )
    evidence = {"asked": fakes.captions, "mismatching": split.utterances[choices].astype(np.int32)}
    return Group(NAME, "Do speech and generated images find each other?", words, scores, evidence)


def draw_mismatching(
    other: Bool[np.ndarray, "images utterances"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "images count"]:
    """Of every image so many different utterances of other classes."""
    return np.stack([rng.choice(np.flatnonzero(row), count, replace=False) for row in other])


def r_precision(
    similarity: Float[np.ndarray, "images utterances"],
    own: Int[np.ndarray, " images"],
    mismatching: Int[np.ndarray, "draws images count"],
) -> Float[np.ndarray, "draws images"]:
    """Whether an image is nearer to its own utterance than to all of the mismatching ones: 1 or 0, and where it is as
    near to n of them 1 / (n + 1)."""
    rows = np.arange(len(own))
    right = similarity[rows, own][None, :, None]
    others = similarity[rows[:, None], mismatching]
    found: np.ndarray = np.where((others > right).any(axis=2), 0.0, 1 / (1 + (others == right).sum(axis=2)))
    return found


def diversity_group(evaluation: Evaluation, fakes: Fakes, real: Seen) -> Group:
    """Mean distance in Lite2 between images of one description, beside that between real images of one class."""
    split, store, seed, rows = evaluation.split, evaluation.split.store, evaluation.seed, LITE2.rows
    rng = np.random.default_rng([seed, 0xD1F])
    chosen = np.sort(rng.permutation(fakes.captions)[:DESCRIPTIONS])
    features: dict[int, np.ndarray] = {}
    for some, drawn in drawn_in_batches(
        evaluation.model, store, chosen, lambda some: noise_of(evaluation.model, chosen[some], seed, SAMPLES)
    ):
        seen = evaluation.extraction.of([drawn.reshape(-1, *drawn.shape[2:])], [rows])[rows]
        features |= zip(some.tolist(), seen.reshape(len(some), SAMPLES, -1), strict=True)
        for number, pictures in zip(chosen[some], drawn, strict=True):
            evaluation.keep("diversity", [f"{number:06d}-{sample}" for sample in range(1, SAMPLES + 1)], pictures)
    generated = np.stack([features[row] for row in range(len(chosen))])
    distances = np.array([mean_pairwise_distance(own) for own in generated])
    classes = store.utterance_class[chosen]
    image_class = store.image_class[split.images]
    of_class = [rng.permutation(np.flatnonzero(image_class == label))[:SAMPLES] for label in classes]
    beside = [mean_pairwise_distance(real[rows][own]) for own in of_class if len(own) > 1]
    only = Score(
        "diversity/lite2",
        "mean distance between images of one description (Lite2)",
        float(distances.mean()),
        {
            **split.protocol,
            **evaluation.extraction[rows].facts,
            "descriptions": len(chosen),
            "images_per_description": SAMPLES,
            "image_size": fakes.side,
            "seed": seed,
            "bootstrap": "species, then descriptions",
        },
        interval=mean_interval(distances, classes, seed=seed),
        ceiling=float(np.mean(beside)) if beside else None,
        ceiling_name="real images of one class" if beside else None,
        unit="distance",
        items=Items(chosen, classes, distances),
    )
    words = (
        f"{SAMPLES} images of each of {len(chosen)} {split.name} descriptions, which differ in noise alone: near 0, "
        "one image is drawn for a description. Real images of one class differ in more than a description says."
    )
    of_each = np.full((len(chosen), SAMPLES), -1)  # -1 where a class has fewer images
    for row, own in enumerate(of_class):
        of_each[row, : len(own)] = split.images[own]
    evidence = {"numbers": chosen, rows: generated, "real_numbers": of_each}
    return Group("diversity", "How much do images of one description differ?", words, [only], evidence)


def mean_pairwise_distance(features: Float[np.ndarray, "images features"]) -> float:
    """Euclidean, over all pairs."""
    return float(np.mean([np.linalg.norm(a - b) for a, b in combinations(features.astype(np.float64), 2)]))
