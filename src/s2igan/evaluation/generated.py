"""Scores of generated images, a function for each group; the arithmetic is in `attributes` and in `s2igan.metrics`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from s2igan.data.dataset import crop_and_flip
from s2igan.evaluation.attributes import Accuracy, AttributeClassifier, attribute_accuracy, normalised_accuracy
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.generation import EXTRACTOR, Evaluation, Fakes
from s2igan.evaluation.paper_queries import PaperQueries
from s2igan.evaluation.scores import Group, Score
from s2igan.metrics.fid import fid, kid
from s2igan.metrics.retrieval import (
    CHANCE_TRIALS,
    REFERENCE_OFFSET,
    chance_map,
    cosine_similarity,
    fake_recall,
    mean_average_precision,
    recall_at_k,
    same_label,
)

NOT_INCEPTION = f"Features: {EXTRACTOR}; the paper's were Inception-v3's, so its figures do not compare."

MAP_IMAGES = 2
"""Real images of every test class that are queries of the paper's mAP (method.md section 6)."""
MAP_DRAWS = 3
"""Choices of those images that it is averaged over; of the noise alone where the paper lists the images."""
FAKE_RECALL_AT = (1, 5, 10, 50)
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
"""Random subsets, and images in each of them unless there are fewer."""


def attribute_group(
    classifier: AttributeClassifier, split: EvaluationSplit, fakes: Fakes, headlines: Collection[str] = ()
) -> Group:
    """Do generated images show what their captions name? The ceiling asks the same about the captions' real images."""
    store, utterances = split.store, fakes.captions
    images, row_of = np.unique(store.image_index[utterances], return_inverse=True)
    real, fake = (
        classifier.predict(crop_and_flip(pictures, fakes.side, None))
        for pictures in (store.images[images], fakes.pictures)
    )
    truths = classifier.codes([store.image_attributes(int(store.image_index[u])) for u in utterances])
    mentions = [store.mentions(int(utterance)) for utterance in utterances]
    n_values = {name: len(values) for name, values in classifier.attributes.items()}
    generated = attribute_accuracy(fake, truths, mentions, n_values)
    ceiling = attribute_accuracy({name: codes[row_of] for name, codes in real.items()}, truths, mentions, n_values)
    protocol = {**split.protocol, **fakes.protocol, "classifier": classifier.record}

    def score(key: str, name: str, found: Accuracy, best: Accuracy, **more: Any) -> Score:
        return Score(
            f"attributes/{key}",
            name,
            found.accuracy,
            {**protocol, **more, "shuffled": found.shuffled},
            chance=found.chance,
            ceiling=best.accuracy,
            ceiling_name="real images",
            headline=key in headlines,
        )

    def normalised(name: str, found: Accuracy) -> dict[str, Any]:
        asked = [name in row for row in mentions]
        truth = truths[name][asked]
        reached = normalised_accuracy(
            fake[name][asked] == truth, real[name][row_of][asked] == truth, found.chance, seed=fakes.seed
        )
        value, interval = (None, None) if reached is None else reached
        return {"normalised": value, "normalised_interval_95": interval and list(interval)}

    how = "one over the number of values"
    scores = [score("mean", "mean over attributes", Accuracy.mean(generated), Accuracy.mean(ceiling))]
    scores += [
        score(name, name.replace("_", " "), found, ceiling[name], n=found.n, chance=how, **normalised(name, found))
        for name, found in generated.items()
    ]
    words = (
        f"{len(utterances)} images of {len(utterances)} {split.name} captions, asked only what the caption "
        "names; seen by a classifier trained on drawings with random attributes. The ceiling is its accuracy on the "
        "real images of those captions."
    )
    return Group("attributes", "Attributes of the generated images", words, scores)


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

    def score(queries: np.ndarray, gallery: np.ndarray, relevant: np.ndarray) -> float:
        return mean_average_precision(cosine_similarity(real[queries], gallery, offset=REFERENCE_OFFSET), relevant)

    values, ceilings = [], []
    for draw in range(MAP_DRAWS):
        if paper is None:
            queries = np.concatenate([rng.permutation(own)[:MAP_IMAGES] for own in of_class])
        else:
            queries = paper.positions
        captions = split.captions_of(queries)
        fakes = evaluation.draw(captions, noise=draw)
        gallery_class = store.class_index[captions]
        relevant = same_label(classes[queries], gallery_class)
        values.append(score(queries, evaluation.fake_features(fakes), relevant))
        others = np.setdiff1d(np.arange(len(real)), queries)
        if np.isin(gallery_class, classes[others]).all():
            stand_ins = [rng.choice(others[classes[others] == label]) for label in gallery_class]
            ceilings.append(score(queries, real[stand_ins], relevant))
    chance, _ = chance_map(relevant, seed=evaluation.seed)
    n_queries, n_fakes = relevant.shape
    protocol = {
        **split.protocol,
        **_ranking_protocol(relevant, paper),
        "query_draws": MAP_DRAWS if paper is None else 1,
        "noise_draws": MAP_DRAWS,
        "image_size": evaluation.model.resolutions[-1],
        "seed": evaluation.seed,
        "chance": f"simulated, {CHANCE_TRIALS} random rankings",
    }
    only = Score(
        "fakes/map",
        "mAP, real image finds fakes of its class",
        float(np.mean(values)),
        protocol,
        std=float(np.std(values)),
        chance=chance,
        ceiling=float(np.mean(ceilings)) if ceilings else None,
        ceiling_name="real images" if ceilings else None,
        headline=True,
    )
    if paper is None:
        asked = (
            f"{MAP_IMAGES} real images of each {split.name} class; gallery: the images generated from the captions of "
            f"those same images; mean of {MAP_DRAWS} choices"
        )
    else:
        asked = (
            f"{n_queries} of the {paper.listed} real images that the paper lists; gallery: the images generated from "
            f"their captions, {n_fakes:,} where the paper has {paper.fakes:,}; mean of {MAP_DRAWS} draws of the noise"
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
            f"{name}, offline features",
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
        score("fid", "Fréchet distance", fid(generated, real), best[0]),
        score("kid", "kernel distance", distance, best[1], spread, subsets=KID_SUBSETS, subset_size=size),
    ]
    words = (
        f"{len(generated)} generated against {len(real)} real {split.name} images. Features: {EXTRACTOR}; FID and "
        "KID are defined on Inception's, so published figures do not compare. Lower is better."
    )
    return Group("distances", "Distance to the real images, on other features", words, scores)
