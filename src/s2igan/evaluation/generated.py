"""Scores of generated images, a function for each group; the arithmetic is in `attributes` and in `s2igan.metrics`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from s2igan.data.dataset import crop_and_flip
from s2igan.evaluation.attributes import Accuracy, AttributeClassifier, Certainty, attribute_accuracy, certainty
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.generation import EXTRACTOR, Evaluation, Fakes
from s2igan.evaluation.paper_queries import PaperQueries
from s2igan.evaluation.scores import Group, Score
from s2igan.metrics.bootstrap import mean_interval
from s2igan.metrics.fid import fid, kid
from s2igan.metrics.retrieval import (
    CHANCE_TRIALS,
    REFERENCE_OFFSET,
    average_precision,
    chance_map,
    cosine_similarity,
    fake_recall,
    recall_at_k,
    same_label,
)

NOT_INCEPTION = f"Features: {EXTRACTOR}; the paper's were Inception-v3's, so its figures do not compare."

MAP_IMAGES = 2
"""Real images of every test class that are queries of the paper's mAP (method.md section 6)."""
FAKE_RECALL_AT = (1, 5, 10, 50)
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
"""Random subsets, and images in each of them unless there are fewer."""


def attribute_group(
    classifier: AttributeClassifier, split: EvaluationSplit, fakes: Fakes, headlines: Collection[str] = ()
) -> Group:
    """Do generated images show what their captions name? The ceiling asks the same about the captions' real images."""
    scores = attribute_scores("attributes", classifier, split, fakes, fakes.protocol, headlines)
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
    protocol: Mapping[str, Any],
    headlines: Collection[str] = (),
) -> list[Score]:
    """Accuracy of each attribute that captions name in the images that were made for them, and the mean of them."""
    store, utterances = split.store, shown.captions
    images, row_of = np.unique(store.image_index[utterances], return_inverse=True)
    real, fake = (
        classifier.predict(crop_and_flip(pictures, shown.side, None))
        for pictures in (store.images[images], shown.pictures)
    )
    real = {name: codes[row_of] for name, codes in real.items()}
    truths = classifier.codes([store.image_attributes(int(store.image_index[u])) for u in utterances])
    mentions = [store.mentions(int(utterance)) for utterance in utterances]
    n_values = {name: len(values) for name, values in classifier.attributes.items()}
    reached, best = (attribute_accuracy(seen, truths, mentions, n_values) for seen in (fake, real))
    protocol = {**split.protocol, **protocol, "classifier": classifier.record, "bootstrap": "species, then captions"}
    species = store.utterance_class[utterances]

    def score(key: str, name: str, found: Accuracy, ceiling: Accuracy, sure: Certainty | None, **more: Any) -> Score:
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
        )

    def sure(name: str, chance: float) -> Certainty:
        asked = np.array([name in row for row in mentions])
        truth = truths[name][asked]
        return certainty(
            fake[name][asked] == truth, real[name][asked] == truth, chance, species[asked], seed=shown.seed
        )

    how = "one over the number of values"
    scores = [score("mean", "mean over attributes", Accuracy.mean(reached), Accuracy.mean(best), None)]
    for name, found in reached.items():
        words, more = name.replace("_", " "), {"n": found.n, "chance": how}
        scores.append(score(name, words, found, best[name], sure(name, found.chance), **more))
    return scores


Features = Float[np.ndarray, "_ features"]
"""By the offline encoder: of the real images of the split, or of generated ones, in their order."""


def paper_map_group(evaluation: Evaluation, real: Features) -> Group:
    """The paper's mAP: real images as queries, the fakes of their captions as gallery (method.md section 6).

    On CUB and Oxford-102 the queries are those that the paper lists, on other sets they are drawn at random. Its
    ceiling replaces every fake by a real image of the class that is no query.
    """
    split, store = evaluation.split, evaluation.split.store
    rng = np.random.default_rng([evaluation.seed, 0x9A9])
    classes = store.image_class[split.images]
    described = np.isin(split.images, store.image_index[split.utterances])
    of_class = [np.flatnonzero(described & (classes == label)) for label in np.unique(classes[described])]
    paper = PaperQueries.of(split)

    def score(queries: np.ndarray, gallery: np.ndarray, relevant: np.ndarray) -> np.ndarray:
        """Average precision of each query."""
        return average_precision(cosine_similarity(real[queries], gallery, offset=REFERENCE_OFFSET), relevant)

    if paper is None:
        queries = np.concatenate([rng.permutation(own)[:MAP_IMAGES] for own in of_class])
    else:
        queries = paper.positions
    captions = split.captions_of(queries)
    gallery_class = store.utterance_class[captions]
    relevant = same_label(classes[queries], gallery_class)
    found = score(queries, evaluation.fake_features(evaluation.draw(captions)), relevant)
    ceiling = None
    others = np.setdiff1d(np.arange(len(real)), queries)
    if np.isin(gallery_class, classes[others]).all():
        stand_ins = [rng.choice(others[classes[others] == label]) for label in gallery_class]
        ceiling = float(score(queries, real[stand_ins], relevant).mean())
    chance, _ = chance_map(relevant, seed=evaluation.seed)
    n_queries, n_fakes = relevant.shape
    protocol = {
        **split.protocol,
        **_ranking_protocol(relevant, paper),
        "image_size": evaluation.model.resolutions[-1],
        "seed": evaluation.seed,
        "chance": f"simulated, {CHANCE_TRIALS} random rankings",
        "bootstrap": "classes, then queries",
    }
    only = Score(
        "fakes/map",
        "mAP, real image finds fakes of its class",
        float(found.mean()),
        protocol,
        interval=mean_interval(found, classes[queries], seed=evaluation.seed),
        chance=chance,
        ceiling=ceiling,
        ceiling_name=None if ceiling is None else "real images",
        headline=True,
    )
    if paper is None:
        asked = (
            f"{MAP_IMAGES} real images of each {split.name} class; gallery: the images generated from the captions of "
            "those same images"
        )
    else:
        asked = (
            f"{n_queries} of the {paper.listed} real images that the paper lists; gallery: the images generated from "
            f"their captions, {n_fakes:,} where the paper has {paper.fakes:,}"
        )
    words = (
        f"Queries: {asked}. {NOT_INCEPTION} The ceiling has real images of the class in place of the generated ones."
    )
    return Group("fakes", "The paper's mAP, on other features", words, [only])


def _ranking_protocol(relevant: Bool[np.ndarray, "queries gallery"], paper: PaperQueries | None) -> dict[str, Any]:
    queries, gallery = relevant.shape
    listed = None if paper is None else f"the paper's, {paper.name}"
    return {"extractor": EXTRACTOR, "queries": queries, "gallery": gallery, "query_list": listed}


def fake_recall_group(evaluation: Evaluation, fakes: Fakes, real: Features, generated: Features) -> Group:
    """For sets without classes: does a real image find the images generated from its own captions? (method.md 6)

    On Flickr8k and Places the images are those that the paper lists, and one image is generated from every caption of
    theirs; on other sets they are those of the captions that ``fakes`` were generated from.
    """
    split = evaluation.split
    paper = PaperQueries.of(split)
    if paper is None:
        queries = np.searchsorted(split.images, np.unique(split.store.image_index[fakes.captions]))
    else:
        queries = paper.positions
        fakes = evaluation.draw(split.captions_of(queries))
        generated = evaluation.fake_features(fakes)
    order = np.argsort(queries)
    described = np.searchsorted(split.images, split.store.image_index[fakes.captions])
    own = order[np.searchsorted(queries, described, sorter=order)]
    relevant = same_label(np.arange(len(queries)), own)
    how = {"chance": "expected over all rankings"}
    protocol = {**split.protocol, **fakes.protocol, **_ranking_protocol(relevant, paper), **how}
    scores = [
        Score(
            f"fakes/recall@{k}",
            f"Recall@{k}, real image finds a fake of its own",
            fake_recall(real[queries], generated, own, k),
            protocol,
            chance=recall_at_k(np.zeros(relevant.shape), relevant, k),
            headline=k == FAKE_RECALL_AT[-1],
        )
        for k in FAKE_RECALL_AT
    ]
    if paper is None:
        asked = f"{len(queries)} real {split.name} images rank {len(own)} images generated from their captions"
    else:
        asked = (
            f"{len(queries):,} of the {paper.listed:,} real images that the paper lists rank the images generated from "
            f"their captions, {len(own):,} where the paper has {paper.fakes:,}"
        )
    return Group("fakes", "Finding an image's own fakes, on other features", f"{asked}. {NOT_INCEPTION}", scores)


def distance_group(evaluation: Evaluation, fakes: Fakes, real: Features, generated: Features) -> Group:
    """FID and KID between the real images of the split and the generated ones, on the offline encoder's features.

    Beside them stands the distance of as many real training images: what remains when the pictures are perfect but
    show other classes.
    """
    split, store, seed = evaluation.split, evaluation.split.store, evaluation.seed
    training = np.unique(store.image_index[store.split_indices("train")])
    training = np.sort(np.random.default_rng([seed, 0xF1D]).permutation(training)[: len(generated)])
    reference = None
    if len(training) >= 2 and split.name != "train":
        reference = evaluation.real_features(training, fakes.side)
    protocol = {
        **split.protocol,
        **fakes.protocol,
        "extractor": EXTRACTOR,
        "real_images": len(real),
        "training_images": 0 if reference is None else len(reference),
        "comparable": "only with runs evaluated by this protocol, not with published Inception figures",
    }
    size = min(KID_SUBSET_SIZE, len(generated), len(real))

    def kernel(a: np.ndarray) -> tuple[float, float]:
        return kid(a, real, subsets=KID_SUBSETS, subset_size=size, seed=seed)

    def score(key: str, name: str, value: float, ceiling: float | None, std: float | None = None, **more: Any) -> Score:
        return Score(
            f"distances/{key}",
            f"{name} ({key})",
            value,
            {**protocol, **more},
            std=std,
            ceiling=ceiling,
            ceiling_name=None if ceiling is None else "real training images",
            unit="distance",
            better="lower",
        )

    distance, spread = kernel(generated)
    best = (None, None) if reference is None else (fid(reference, real), kernel(reference)[0])
    scores = [
        score("fd_lite0", "Fréchet distance", fid(generated, real), best[0]),
        score("kd_lite0", "kernel distance", distance, best[1], spread, subsets=KID_SUBSETS, subset_size=size),
    ]
    words = (
        f"{len(generated)} generated against {len(real)} real {split.name} images. Features: {EXTRACTOR}, which "
        "training used too; FID and KID are defined on Inception's, so published figures do not compare. Lower is "
        "better."
    )
    return Group("distances", "Distance to the real images, in a space that training used", words, scores)
