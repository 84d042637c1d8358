"""Scores of generated images, a function for each group; the arithmetic is in `attributes` and in `s2igan.metrics`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from s2igan.evaluation.attributes import (
    Accuracy,
    AttributeClassifier,
    AttributesSeen,
    Certainty,
    attribute_accuracy,
    certainty,
)
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.extractors import Seen
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.evaluation.paper_queries import PaperQueries
from s2igan.evaluation.scores import Group, Items, Score
from s2igan.evaluation.spaces import INCEPTION, LITE0, LITE2, Space
from s2igan.metrics.bootstrap import mean_interval
from s2igan.metrics.retrieval import (
    REFERENCE_OFFSET,
    average_precision,
    chance_map,
    cosine_similarity,
    hits_at,
    recall_at_k,
    same_label,
)

RANKED_IN = (INCEPTION, LITE2, LITE0)
"""Spaces in which images find generated images; the first of them that there is has the headline."""
MAP_IMAGES = 2
"""Real images of every test class that are queries of the paper's mAP (method.md section 6)."""
FAKE_RECALL_AT = (1, 5, 10, 50)


def attribute_group(
    classifier: AttributeClassifier, split: EvaluationSplit, fakes: Fakes, real: Seen, headlines: Collection[str] = ()
) -> Group:
    """Do generated images show what their captions name? The ceiling asks the same about the captions' real images,
    which are among ``real``, those of the split."""
    scores = attribute_scores("attributes", classifier, split, fakes, real, fakes.protocol, headlines)
    count = len(fakes.captions)
    words = (
        f"{count} images of {count} {split.name} captions, asked only what the caption names; seen by a classifier "
        "trained on drawings with random attributes. The ceiling is its accuracy on the real images of those "
        "captions; normalised: 0 is chance and 1 that ceiling."
    )
    return Group("attributes", "Attributes of the generated images", words, scores)


def attribute_scores(
    group: str,
    classifier: AttributeClassifier,
    split: EvaluationSplit,
    shown: Fakes,
    real_seen: Seen,
    protocol: Mapping[str, Any],
    headlines: Collection[str] = (),
) -> list[Score]:
    """Accuracy of each attribute that captions name in the images that were made for them, and the mean of them."""
    store, utterances = split.store, shown.captions
    described = np.searchsorted(split.images, store.image_index[utterances])
    fake = classifier.by_name(shown.seen["attributes"])
    real = classifier.by_name(real_seen["attributes"][described])
    truths = classifier.codes([store.image_attributes(int(store.image_index[u])) for u in utterances])
    mentions = [store.mentions(int(utterance)) for utterance in utterances]
    n_values = {name: len(values) for name, values in classifier.attributes.items()}
    reached, best = (attribute_accuracy(seen, truths, mentions, n_values) for seen in (fake, real))
    about = {**AttributesSeen(classifier).facts, "classifier": classifier.record, "bootstrap": "species, then captions"}
    protocol = {**split.protocol, **protocol, **about}
    species = store.utterance_class[utterances]

    def score(
        key: str,
        name: str,
        found: Accuracy,
        ceiling: Accuracy,
        sure: Certainty | None,
        items: Items | None = None,
        **more: Any,
    ) -> Score:
        return Score(
            f"{group}/{key}",
            name,
            found.accuracy,
            {**protocol, **more, "shuffled": found.shuffled},
            interval=sure and sure.interval,
            chance=found.chance,
            ceiling=ceiling.accuracy,
            ceiling_name="real images",
            normalised=sure and sure.normalised,
            normalised_interval=sure and sure.normalised_interval,
            headline=key in headlines,
            items=items,
        )

    def right(name: str) -> tuple[Items, Certainty]:
        of = np.array([name in row for row in mentions])
        hits, best_hits = (seen[name][of] == truths[name][of] for seen in (fake, real))
        sure = certainty(hits, best_hits, reached[name].chance, species[of], seed=shown.seed)
        return Items(utterances[of], species[of], hits.astype(np.float64)), sure

    how = "one over the number of values"
    scores = [score("mean", "mean over attributes", Accuracy.mean(reached), Accuracy.mean(best), None)]
    asked = [named(row, fake, real, truths, mentions) for row in range(len(utterances))]
    told = np.array([row for row, share in enumerate(asked) if share is not None])
    shares = np.array([share for share in asked if share is not None])
    often = {name: np.bincount(codes, minlength=n_values[name]) / len(codes) for name, codes in fake.items()}
    shuffled = np.mean([np.mean([often[name][truths[name][row]] for name in mentions[row]]) for row in told])
    scores.append(
        Score(
            f"{group}/per_caption",
            "of what a caption names, mean over captions",
            float(shares[:, 0].mean()),
            {**protocol, "n": len(told), "shuffled": float(shuffled)},
            interval=mean_interval(shares[:, 0], species[told], seed=shown.seed),
            chance=float(np.mean([np.mean([1 / n_values[name] for name in mentions[row]]) for row in told])),
            ceiling=float(shares[:, 1].mean()),
            ceiling_name="real images",
            items=Items(utterances[told], species[told], shares[:, 0]),
        )
    )
    for name, found in reached.items():
        words, more = name.replace("_", " "), {"n": found.n, "chance": how}
        items, sure = right(name)
        scores.append(score(name, words, found, best[name], sure, items, **more))
    return scores


def named(
    row: int,
    fake: Mapping[str, Int[np.ndarray, " captions"]],
    real: Mapping[str, Int[np.ndarray, " captions"]],
    truths: Mapping[str, Int[np.ndarray, " captions"]],
    mentions: list[tuple[str, ...]],
) -> tuple[float, float] | None:
    """Which share of the attributes that a caption names its generated and its real image show; None where it names
    none."""
    names = mentions[row]
    if not names:
        return None
    shown, best = (float(np.mean([seen[name][row] == truths[name][row] for name in names])) for seen in (fake, real))
    return shown, best


Features = Float[np.ndarray, "_ features"]
"""Of the real images of the split, or of generated ones, in their order."""


@dataclass(frozen=True)
class Queries:
    """The real images that are asked about, and the captions whose images they are to find."""

    positions: Int[np.ndarray, " queries"]
    """In `EvaluationSplit.images`."""
    captions: Int[np.ndarray, " captions"]
    paper: PaperQueries | None
    """The paper's list, if it is that."""

    @classmethod
    def of(cls, split: EvaluationSplit, sampled: Int[np.ndarray, " captions"], seed: int) -> Queries:
        """On the paper's sets those that it lists with their captions. On others with classes `MAP_IMAGES` random ones
        of each class, with theirs; without classes the images of the sampled captions, with these alone."""
        store = split.store
        if (paper := PaperQueries.of(split)) is not None:
            return cls(paper.positions, split.captions_of(paper.positions), paper)
        if not store.has_classes:
            described = np.unique(store.image_index[sampled])
            return cls(np.searchsorted(split.images, described), sampled, None)
        rng = np.random.default_rng([seed, 0x9A9])
        classes = store.image_class[split.images]
        described = np.isin(split.images, store.image_index[split.utterances])
        of_class = [np.flatnonzero(described & (classes == label)) for label in np.unique(classes[described])]
        positions = np.concatenate([rng.permutation(own)[:MAP_IMAGES] for own in of_class])
        return cls(positions, split.captions_of(positions), None)


def ranked_in(fakes: Fakes) -> list[Space]:
    """Those of `RANKED_IN` whose features there are."""
    return [space for space in RANKED_IN if space.rows in fakes.seen]


def paper_map_group(evaluation: Evaluation, queries: Queries, fakes: Fakes, real: Seen) -> Group:
    """The paper's mAP: real images as queries, the fakes of their captions as gallery (method.md section 6).

    Its ceiling replaces every fake by a real image of the class that is no query.
    """
    split, store, seed = evaluation.split, evaluation.split.store, evaluation.seed
    classes, asked = store.image_class[split.images], queries.positions
    gallery_class = store.utterance_class[queries.captions]
    relevant = same_label(classes[asked], gallery_class)
    gallery = fakes.of(queries.captions)
    others = np.setdiff1d(np.arange(len(classes)), asked)
    stand_ins = None
    if np.isin(gallery_class, classes[others]).all():
        rng = np.random.default_rng([seed, 0x57D])
        stand_ins = [rng.choice(others[classes[others] == label]) for label in gallery_class]
    chance = chance_map(relevant)
    spaces = ranked_in(fakes)
    scores = []
    for space in spaces:
        features = real[space.rows]

        def score(gallery: Features, features: Features = features) -> Float[np.ndarray, " queries"]:
            """Average precision of each query."""
            similarity = cosine_similarity(features[asked], gallery, offset=REFERENCE_OFFSET)
            return average_precision(similarity, relevant)

        found = score(gallery.seen[space.rows])
        protocol = {
            **split.protocol,
            **_ranking_protocol(evaluation, space, relevant, queries.paper),
            "image_size": fakes.side,
            "seed": seed,
            "chance": "expected over all rankings",
            "bootstrap": "classes, then queries",
        }
        scores.append(
            Score(
                f"fakes/map_{space.rows}",
                f"mAP, real image finds fakes of its class ({space.rows})",
                float(found.mean()),
                protocol,
                interval=mean_interval(found, classes[asked], seed=seed),
                chance=chance,
                ceiling=None if stand_ins is None else float(score(features[stand_ins]).mean()),
                ceiling_name=None if stand_ins is None else "real images",
                headline=space is spaces[0],
                items=Items(split.images[asked], classes[asked], found),
            )
        )
    n_queries, n_fakes = relevant.shape
    if queries.paper is None:
        asked_for = (
            f"{MAP_IMAGES} real images of each {split.name} class; gallery: the images generated from the captions of "
            "those same images"
        )
    else:
        asked_for = (
            f"{n_queries} of the {queries.paper.listed} real images that the paper lists; gallery: the images "
            f"generated from their captions, {n_fakes:,} where the paper has {queries.paper.fakes:,}"
        )
    words = (
        f"Queries: {asked_for}. {_about_features(spaces)} The ceiling has real images of the class in place of the "
        "generated ones."
    )
    evidence = {"queries": split.images[asked], "gallery": queries.captions}
    if stand_ins is not None:
        evidence["stand_ins"] = split.images[stand_ins]
    return Group("fakes", "The paper's mAP", words, scores, evidence)


def _about_features(spaces: list[Space]) -> str:
    names = ", ".join(space.rows for space in spaces)
    if INCEPTION in spaces:
        return f"Features: {names}; the paper's were Inception-v3's."
    return f"Features: {names}; the paper's were Inception-v3's, so its figures do not compare."


def _ranking_protocol(
    evaluation: Evaluation, space: Space, relevant: Bool[np.ndarray, "queries gallery"], paper: PaperQueries | None
) -> dict[str, Any]:
    queries, gallery = relevant.shape
    listed = None if paper is None else f"the paper's, {paper.name}"
    facts = evaluation.extraction[space.rows].facts
    return {**facts, "queries": queries, "gallery": gallery, "query_list": listed}


def fake_recall_group(evaluation: Evaluation, queries: Queries, fakes: Fakes, real: Seen) -> Group:
    """For sets without classes: does a real image find the images generated from its own captions? (method.md 6)

    Recall is the hit rate: the share of queries with at least one image of their own among the first k.
    """
    split, paper = evaluation.split, queries.paper
    gallery = fakes.of(queries.captions)
    order = np.argsort(queries.positions)
    described = np.searchsorted(split.images, split.store.image_index[queries.captions])
    own = order[np.searchsorted(queries.positions, described, sorter=order)]
    relevant = same_label(np.arange(len(queries.positions)), own)
    spaces = ranked_in(fakes)
    scores = []
    for space in spaces:
        protocol = {
            **split.protocol,
            **gallery.protocol,
            **_ranking_protocol(evaluation, space, relevant, paper),
            "chance": "expected over all rankings",
        }
        asked = real[space.rows][queries.positions]
        similarity = cosine_similarity(asked, gallery.seen[space.rows], offset=REFERENCE_OFFSET)
        hits = hits_at(similarity, relevant, FAKE_RECALL_AT)
        for number, k in enumerate(FAKE_RECALL_AT):
            scores.append(
                Score(
                    f"fakes/recall@{k}_{space.rows}",
                    f"Recall@{k}, real image finds a fake of its own ({space.rows})",
                    float(hits[:, number].mean()),
                    protocol,
                    chance=recall_at_k(np.zeros(relevant.shape), relevant, k),
                    headline=k == FAKE_RECALL_AT[-1] and space is spaces[0],
                    items=Items(split.images[queries.positions], np.arange(len(hits)), hits[:, number]),
                )
            )
    if paper is None:
        asked_for = f"{len(relevant)} real {split.name} images rank {len(own)} images generated from their captions"
    else:
        asked_for = (
            f"{len(relevant):,} of the {paper.listed:,} real images that the paper lists rank the images generated "
            f"from their captions, {len(own):,} where the paper has {paper.fakes:,}"
        )
    words = f"{asked_for}. {_about_features(spaces)}"
    evidence = {"queries": split.images[queries.positions], "gallery": queries.captions}
    return Group("fakes", "Finding an image's own fakes", words, scores, evidence)
