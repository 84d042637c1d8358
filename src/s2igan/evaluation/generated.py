"""Scores of generated images, a function for each group; the arithmetic is in `attributes`, `retrieval` and `fid`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from rich.console import Console
from rich.progress import track
from torch import Tensor

from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.attributes import Accuracy, AttributeClassifier, attribute_accuracy
from s2igan.evaluation.drawings import Drawing
from s2igan.evaluation.evaluation_split import Subject
from s2igan.evaluation.features import as_images, image_features
from s2igan.evaluation.paper_queries import PaperImages, PaperQueries
from s2igan.evaluation.sample_sheet import change_word, followed, write_changed
from s2igan.evaluation.scores import Group, Score
from s2igan.metrics.fid import fid, kid
from s2igan.metrics.retrieval import (
    REFERENCE_OFFSET,
    chance_map,
    cosine_similarity,
    fake_recall,
    mean_average_precision,
    recall_at_k,
    same_label,
)
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.pipeline import SpeechToImage
from s2igan.speech import parse_voice
from s2igan.training.frozen import speech_embeddings

METRIC_SIDE = 128
"""Side in pixels at which the offline encoder sees images here, whatever side a recipe chose for training: so the
scores of different recipes are on the same features."""
EXTRACTOR = f"EfficientNet-Lite0 (ImageNet), mean of the last map, 1280-d, at {METRIC_SIDE} px"

MAP_IMAGES = 2
"""Real images of every test class that are queries of the paper's mAP (method.md section 6)."""
MAP_DRAWS = 3
"""Choices of those images that it is averaged over; of the noise alone where the paper lists the images."""
FAKE_RECALL_AT = (1, 5, 10, 50)
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
"""Random subsets, and images in each of them unless there are fewer."""

CHANGED_SAMPLES = 16
"""Images of every sentence of Figure 3 that its score counts."""
DEFAULT_VOICE = "espeak:en-us"
"""Speaks Figure 3 where the split's speakers are no voices that can be synthesized."""


@dataclass(frozen=True)
class Fakes:
    """Images generated for captions."""

    captions: Int[np.ndarray, " captions"]
    """Numbers of the utterances in the store."""
    per_caption: int
    pictures: UInt8[np.ndarray, "images side side 3"]
    """``per_caption`` of each caption after the other."""
    seed: int
    """Of the noise."""
    candidates: int = 1
    """Images that each picture was chosen among by the encoders of stage 1."""

    @classmethod
    def draw(
        cls,
        model: SpeechToImage,
        store: Store,
        captions: Int[np.ndarray, " captions"],
        per_caption: int,
        *,
        seed: int,
        console: Console,
    ) -> Fakes:
        """Has the model hear the captions, and draw ``per_caption`` images of each at the highest resolution."""
        embedded = speech_embeddings(store, model.speech_encoder, captions, device=model.device, console=console)
        pictures = draw_pictures(model, embedded.repeat_interleave(per_caption, dim=0), seed=seed, console=console)
        return cls(captions, per_caption, pictures, seed, model.candidates)

    @property
    def utterances(self) -> Int[np.ndarray, " images"]:
        """The caption of each image."""
        return np.repeat(self.captions, self.per_caption)

    @property
    def side(self) -> int:
        """Pixels."""
        return int(self.pictures.shape[1])

    @property
    def protocol(self) -> dict[str, Any]:
        """What scores of these images have in their record."""
        return {
            "captions": len(self.captions),
            "images_per_caption": self.per_caption,
            "chosen_among": self.candidates,
            "image_size": self.side,
            "seed": self.seed,
        }


@torch.inference_mode()
def draw_pictures(
    model: SpeechToImage, embeddings: Float[Tensor, "images embedding"], *, seed: int, console: Console | None = None
) -> UInt8[np.ndarray, "images side side 3"]:
    """One picture per embedding at the highest resolution, each with noise of its own from ``seed``."""
    config = model.generator.config
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(embeddings) * model.candidates, config.z + config.condition, generator=stream)
    z, eps = noise.split([config.z, config.condition], dim=1)
    silent = console is None or not console.is_terminal
    parts = []
    for start in track(range(0, len(embeddings), 64), description="Generating", console=console, disable=silent):
        rows = slice(start * model.candidates, (start + 64) * model.candidates)
        parts.append(model.draw(embeddings[start : start + 64], z[rows], eps[rows])[-1])
    return np.concatenate(parts)


# ------------------------------------------------------------------------------------------- judged by the classifier


def attribute_group(
    classifier: AttributeClassifier, subject: Subject, fakes: Fakes, headlines: Collection[str] = ()
) -> Group:
    """Do generated images show what their captions name? The ceiling asks the same about the captions' real images."""
    store, utterances = subject.store, fakes.utterances
    mentions = [store.mentions(int(utterance)) for utterance in utterances]
    truths = classifier.codes([store.image_attributes(int(store.image_index[u])) for u in utterances])
    n_values = {name: len(values) for name, values in classifier.attributes.items()}
    images, row_of = np.unique(store.image_index[utterances], return_inverse=True)
    seen = classifier.predict(as_images(store.images[images], fakes.side))
    real = {name: codes[row_of] for name, codes in seen.items()}
    generated = attribute_accuracy(classifier.predict(as_images(fakes.pictures)), truths, mentions, n_values)
    ceiling = attribute_accuracy(real, truths, mentions, n_values)
    protocol = {**subject.protocol, **fakes.protocol, "classifier": classifier.record}
    scores = [_mean_accuracy(generated, ceiling, protocol)]
    for name, accuracy in generated.items():
        scores.append(
            Score(
                f"attributes/{name}",
                name.replace("_", " "),
                accuracy.accuracy,
                {**protocol, "n": accuracy.n, "shuffled": accuracy.shuffled, "chance": "one over the number of values"},
                chance=accuracy.chance,
                ceiling=ceiling[name].accuracy,
                ceiling_name="real images",
                headline=name in headlines,
            )
        )
    words = (
        f"{len(utterances)} images of {len(fakes.captions)} {subject.split} captions, asked only what the caption "
        "names; judged by a classifier trained on drawings with random attributes. The ceiling is its accuracy on the "
        "real images of those captions."
    )
    return Group("attributes", "Attributes of the generated images", words, scores)


def _mean_accuracy(
    generated: Mapping[str, Accuracy], ceiling: Mapping[str, Accuracy], protocol: Mapping[str, Any]
) -> Score:
    names = list(generated)
    return Score(
        "attributes/mean",
        "mean over attributes",
        float(np.mean([generated[name].accuracy for name in names])),
        {**protocol, "shuffled": float(np.mean([generated[name].shuffled for name in names]))},
        chance=float(np.mean([generated[name].chance for name in names])),
        ceiling=float(np.mean([ceiling[name].accuracy for name in names])),
        ceiling_name="real images",
    )


def changed_group(
    model: SpeechToImage,
    classifier: AttributeClassifier,
    drawing: Drawing,
    subject: Subject,
    folder: Path,
    *,
    seed: int,
    console: Console,
) -> Group | None:
    """The paper's Figure 3: one word changed through all its values.

    None where no voice can be synthesized, and of the baseline that reads text and cannot hear.
    """
    if model.speech_encoder.reads != "speech":
        return None
    try:
        voice = parse_voice(_voice_of(subject))
    except UserError as error:
        console.print(f"Figure 3 is left out: {error}", highlight=False)
        return None
    scores: list[Score] = []
    for name, template in drawing.changed_sentences.items():
        values = drawing.attributes[name]
        changed = change_word(model, voice, name, template, values, samples=CHANGED_SAMPLES, seed=seed)
        if not scores:
            write_changed(folder, changed, voice.name, seed)
        protocol = {
            "sentence": template,
            "voice": voice.name,
            "images_per_value": CHANGED_SAMPLES,
            "image_size": model.resolutions[-1],
            "seed": seed,
            "chance": "one over the number of values",
        }
        scores.append(
            Score(
                f"figure3/{name}",
                f"{name.replace('_', ' ')} followed",
                followed(changed, classifier),
                protocol,
                chance=1 / len(values),
                ceiling=classifier.record["held_out_accuracy"][name],
                ceiling_name="held-out drawings",
            )
        )
    words = (
        f"One sentence spoken by {voice.name} with every value in turn, {CHANGED_SAMPLES} images each with the same "
        "noise: how often the classifier sees the value spoken. The ceiling is its accuracy on held-out drawings."
    )
    return Group("figure3", "One word changed (Figure 3)", words, scores)


def _voice_of(subject: Subject) -> str:
    """A voice of this split, if its utterances were synthesized by voices that are known here."""
    speaker = subject.store.speaker(int(subject.utterances[0]))
    return speaker if speaker is not None and speaker.startswith("espeak:") else DEFAULT_VOICE


# --------------------------------------------------------------------------------------- measured on offline features


def metric_encoder(device: torch.device) -> ImageEncoder:
    """The encoder of `EXTRACTOR`."""
    encoder = ImageEncoder(ImageEncoderConfig(backbone="efficientnet_lite0", input_size=METRIC_SIDE))
    return encoder.to(device).eval()


@dataclass(frozen=True)
class Features:
    """What the offline encoder sees in the real images of the split and in the generated ones."""

    real: Float[np.ndarray, "real features"]
    """Of ``subject.images``, in their order."""
    generated: Float[np.ndarray, "generated features"]
    """Of ``fakes.pictures``, in their order."""

    @classmethod
    def of(cls, encoder: ImageEncoder, subject: Subject, fakes: Fakes, *, console: Console) -> Features:
        """Real images are cropped as training crops them, in the centre."""
        real = image_features(
            encoder,
            subject.store.images,
            subject.images,
            crop=fakes.side,
            console=console,
            description="Features of real images",
        )
        return cls(
            real, image_features(encoder, fakes.pictures, console=console, description="Features of generated images")
        )


def paper_map_group(
    model: SpeechToImage, encoder: ImageEncoder, subject: Subject, features: Features, *, seed: int, console: Console
) -> Group:
    """The paper's mAP: real images as queries, the fakes of their captions as gallery (method.md section 6).

    On CUB and Oxford-102 the queries are those that the paper lists, on other sets they are drawn at random. Its
    ceiling replaces every fake by a real image of the class that is no query.
    """
    store, utterances, real = subject.store, subject.utterances, features.real
    rng = np.random.default_rng([seed, 0x9A9])
    classes = store.image_class[subject.images]
    described = np.isin(subject.images, store.image_index[utterances])
    of_class = [np.flatnonzero(described & (classes == label)) for label in np.unique(classes[described])]
    paper = PaperQueries.of(subject)
    values, ceilings = [], []
    for draw in range(MAP_DRAWS):
        if paper is None:
            queries = np.concatenate([rng.permutation(own)[:MAP_IMAGES] for own in of_class])
        else:
            queries = paper.positions
        captions = utterances[np.isin(store.image_index[utterances], subject.images[queries])]
        fakes = Fakes.draw(model, store, captions, 1, seed=seed + draw, console=console)
        gallery = image_features(encoder, fakes.pictures, console=console, description="Features of generated images")
        gallery_class = store.class_index[captions]
        relevant = same_label(classes[queries], gallery_class)

        def score(gallery: np.ndarray, queries: np.ndarray = queries, relevant: np.ndarray = relevant) -> float:
            similarity = cosine_similarity(real[queries], gallery, offset=REFERENCE_OFFSET)
            return mean_average_precision(similarity, relevant)

        values.append(score(gallery))
        others = np.setdiff1d(np.arange(len(real)), queries)
        if np.isin(gallery_class, classes[others]).all():
            stand_ins = [rng.choice(others[classes[others] == label]) for label in gallery_class]
            ceilings.append(score(real[stand_ins]))
    chance = chance_map(relevant, seed=seed)
    protocol = {
        **subject.protocol,
        "extractor": EXTRACTOR,
        "queries": relevant.shape[0],
        "gallery": relevant.shape[1],
        "query_draws": MAP_DRAWS if paper is None else 1,
        "noise_draws": MAP_DRAWS,
        "query_list": None if paper is None else f"the paper's, {paper.name}",
        "image_size": model.resolutions[-1],
        "seed": seed,
        "chance": f"simulated, {chance.trials} random rankings",
    }
    only = Score(
        "fakes/map",
        "mAP, real image finds fakes of its class",
        float(np.mean(values)),
        protocol,
        std=float(np.std(values)),
        chance=chance.mean,
        ceiling=float(np.mean(ceilings)) if ceilings else None,
        ceiling_name="real images" if ceilings else None,
        headline=True,
    )
    if paper is None:
        asked = (
            f"{MAP_IMAGES} real images of each {subject.split} class; gallery: the images generated from the captions"
        )
        asked += f" of those same images; mean of {MAP_DRAWS} choices"
    else:
        asked = f"{relevant.shape[0]} of the {paper.listed} real images that the paper lists; gallery: the images "
        asked += f"generated from their captions, {relevant.shape[1]:,} where the paper has {paper.fakes:,}; mean of "
        asked += f"{MAP_DRAWS} draws of the noise"
    words = (
        f"Queries: {asked}. Features: {EXTRACTOR}; the paper's were "
        "Inception-v3's, so its figures do not compare. The ceiling has real images of the class in place of the "
        "generated ones."
    )
    return Group("fakes", "The paper's mAP, on other features", words, [only])


def fake_recall_group(
    model: SpeechToImage,
    encoder: ImageEncoder,
    subject: Subject,
    fakes: Fakes,
    features: Features,
    *,
    seed: int,
    console: Console,
) -> Group:
    """For sets without classes: does a real image find the images generated from its own captions? (method.md 6)

    On Flickr8k and Places the images are those that the paper lists, and one image is generated from every caption of
    theirs; on other sets they are those of the captions that ``fakes`` were generated from.
    """
    store, paper = subject.store, PaperImages.of(subject)
    if paper is None:
        generated = features.generated
        images, own = np.unique(store.image_index[fakes.utterances], return_inverse=True)
        rows = np.searchsorted(subject.images, images)
    else:
        rows = paper.positions
        captions = subject.utterances[np.isin(store.image_index[subject.utterances], subject.images[rows])]
        fakes = Fakes.draw(model, store, captions, 1, seed=seed, console=console)
        generated = image_features(encoder, fakes.pictures, console=console, description="Features of generated images")
        order = np.argsort(subject.images[rows])
        own = order[np.searchsorted(subject.images[rows], store.image_index[captions], sorter=order)]
    relevant = same_label(np.arange(len(rows)), own)
    protocol = {
        **subject.protocol,
        **fakes.protocol,
        "extractor": EXTRACTOR,
        "queries": len(rows),
        "gallery": len(own),
        "query_list": None if paper is None else f"the paper's, {paper.name}",
        "chance": "expected over all rankings",
    }
    scores = [
        Score(
            f"fakes/recall@{k}",
            f"Recall@{k}, real image finds a fake of its own",
            fake_recall(features.real[rows], generated, own, k),
            protocol,
            chance=recall_at_k(np.zeros(relevant.shape), relevant, k),
            headline=k == FAKE_RECALL_AT[-1],
        )
        for k in FAKE_RECALL_AT
    ]
    if paper is None:
        asked = f"{len(rows)} real {subject.split} images rank {len(own)} images generated from their captions"
    else:
        asked = (
            f"{len(rows):,} of the {paper.listed:,} real images that the paper lists rank the images generated from "
        )
        asked += f"their captions, {len(own):,} where the paper has {paper.fakes:,}"
    words = f"{asked}. Features: {EXTRACTOR}; the paper's were Inception-v3's, so its figures do not compare."
    return Group("fakes", "Finding an image's own fakes, on other features", words, scores)


def distance_group(
    encoder: ImageEncoder, subject: Subject, fakes: Fakes, features: Features, *, seed: int, console: Console
) -> Group:
    """FID and KID between the real images of the split and the generated ones, on the offline encoder's features.

    Beside them stands the distance of as many real training images: what remains when the pictures are perfect but
    show other classes.
    """
    store, real, generated = subject.store, features.real, features.generated
    training = np.unique(store.image_index[store.split_indices("train")])
    training = np.sort(np.random.default_rng([seed, 0xF1D]).permutation(training)[: len(generated)])
    reference = None
    if len(training) >= 2 and subject.split != "train":
        reference = image_features(
            encoder,
            store.images,
            training,
            crop=fakes.side,
            console=console,
            description="Features of training images",
        )
    protocol = {
        **subject.protocol,
        **fakes.protocol,
        "extractor": EXTRACTOR,
        "real_images": len(real),
        "training_images": 0 if reference is None else len(reference),
        "comparable": "only with runs evaluated by this protocol, not with published Inception figures",
    }
    size = min(KID_SUBSET_SIZE, len(generated), len(real))

    def kernel(a: np.ndarray) -> tuple[float, float]:
        return kid(a, real, subsets=KID_SUBSETS, subset_size=size, seed=seed)

    distance, spread = kernel(generated)
    name = None if reference is None else "real training images"
    scores = [
        Score(
            "distances/fid",
            "Fréchet distance, offline features",
            fid(generated, real),
            protocol,
            ceiling=None if reference is None else fid(reference, real),
            ceiling_name=name,
            unit="distance",
            better="lower",
        ),
        Score(
            "distances/kid",
            "kernel distance, offline features",
            distance,
            {**protocol, "subsets": KID_SUBSETS, "subset_size": size},
            std=spread,
            ceiling=None if reference is None else kernel(reference)[0],
            ceiling_name=name,
            unit="distance",
            better="lower",
        ),
    ]
    words = (
        f"{len(generated)} generated against {len(real)} real {subject.split} images. Features: {EXTRACTOR}; FID and "
        "KID are defined on Inception's, so published figures do not compare. Lower is better."
    )
    return Group("distances", "Distance to the real images, on other features", words, scores)
