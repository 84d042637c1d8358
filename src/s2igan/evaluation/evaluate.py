"""Scores a run on a split of a prepared set, and writes the scores with their protocols (docs/metrics.md)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from s2igan.data.store import Store
from s2igan.devices import choose_device
from s2igan.evaluation.attributes import ClassifierConfig, load_or_train_classifier
from s2igan.evaluation.drawings import drawing_with
from s2igan.evaluation.embedding_scores import SearchSet, search_scores
from s2igan.evaluation.evaluation_split import Networks, Subject, check_size
from s2igan.evaluation.features import image_features
from s2igan.evaluation.generated import (
    Fakes,
    Features,
    attribute_group,
    changed_group,
    distance_group,
    fake_recall_group,
    metric_encoder,
    paper_map_group,
)
from s2igan.evaluation.sample_sheet import write_samples
from s2igan.evaluation.scores import Group, score_table, telling
from s2igan.files import atomic_write_json
from s2igan.metrics.retrieval import attribute_disagreement
from s2igan.pipeline import SpeechToImage
from s2igan.run_directory import RunDirectory
from s2igan.training.frozen import speech_embeddings

VERSION = 1
"""Of metrics.json."""
CLASSIFIER_FOLDER = "attribute_classifier"
"""Where a prepared set keeps the attribute classifier of its drawings."""


def evaluate(
    run_directory: str | Path,
    data_dir: str | Path,
    *,
    split: str = "test",
    samples_per_caption: int = 1,
    seed: int = 0,
    max_captions: int = 1000,
    classifier: ClassifierConfig | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Scores a run, prints tables, writes `RUN/evaluation/` and returns the content of its `metrics.json`.

    Of a run whose second stage is not trained, only stage 1 is scored. Attributes are scored where the set was drawn by
    this package; the classifier for them is trained once and kept beside the set.

    Args:
        split: the split to score on.
        samples_per_caption: images generated for each caption that attributes and distances are measured on.
        seed: of every random choice and of the noise.
        max_captions: captions, drawn at random, that images are generated for.
        classifier: settings of the attribute classifier; its defaults unless given.
        device: where to compute; a GPU if there is one.

    Raises:
        UserError: the run or the set cannot be read, they do not fit together, or there is no such device.
    """
    started = time.monotonic()
    out, console = Console(), Console(stderr=True)
    where = choose_device(device)
    run = RunDirectory.open(run_directory)
    store = Store.open(data_dir)
    networks = Networks.load(run.path, where)
    subject = Subject.of(store, split)

    groups = [search_group(networks, subject, seed=seed, console=console)]
    if networks.model is not None:
        check_size(networks.model, store)
        write_samples(run.evaluation / "samples", networks.model, store, subject.utterances, seed=seed)
        captions = np.random.default_rng([seed, 0xCA9]).permutation(subject.utterances)[:max_captions]
        fakes = Fakes.draw(networks.model, store, captions, samples_per_caption, seed=seed, console=console)
        drawing = drawing_with(store.attributes)
        if drawing is not None:
            cache = store.directory / CLASSIFIER_FOLDER
            judge = load_or_train_classifier(cache, drawing, classifier, console=console)
            groups.append(attribute_group(judge, subject, fakes, drawing.headlines))
            figure3 = run.evaluation / "figure3"
            changed = changed_group(networks.model, judge, drawing, subject, figure3, seed=seed, console=console)
            groups += [changed] if changed is not None else []
        groups += feature_groups(networks.model, subject, fakes, seed=seed, console=console)
    groups = [telling(group) for group in groups]
    content = {
        "version": VERSION,
        "recipe": run.config.get("recipe", {}).get("name"),
        "data": store.directory.resolve().name,
        "store": store.fingerprint,
        "split": split,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "groups": {group.key: {"title": group.title, "protocol": group.protocol} for group in groups},
        "scores": [score.record() for group in groups for score in group.scores],
    }
    atomic_write_json(run.evaluation / "metrics.json", content)
    for group in groups:
        out.print(score_table(group))
    out.print(f"Scores: {run.evaluation / 'metrics.json'} ({content['seconds']:.0f} s)", highlight=False)
    return content


def search_group(networks: Networks, subject: Subject, *, seed: int, console: Console) -> Group:
    """How well stage 1 finds images by speech and speech by images (method.md section 6)."""
    store, utterances = subject.store, subject.utterances
    device = next(networks.image.parameters()).device
    speech = speech_embeddings(store, networks.speech, utterances, device=device, console=console)
    images = image_features(
        networks.image,
        store.images,
        subject.images,
        crop=networks.image_size,
        project=True,
        console=console,
        description="Image embeddings",
    )
    disagreement, oracle = None, ""
    if store.attributes and any(store.mentions(int(utterance)) for utterance in utterances):
        facts = [store.image_attributes(int(image)) for image in subject.images]
        disagreement = attribute_disagreement([subject.mentioned(int(u)) for u in utterances], facts)
        oracle = (
            " The oracle ranks by how many of the attributes that a caption names an image lacks, fewest first, ties "
            "in random order."
        )
    found = SearchSet(
        speech=speech.numpy(),
        images=images,
        utterance_image=np.searchsorted(subject.images, store.image_index[utterances]),
        image_class=store.image_class[subject.images] if store.has_classes else None,
        disagreement=disagreement,
    )
    extractor = f"the run's own encoders, images at {networks.image_size} px"
    protocol = (
        f"{len(utterances)} {subject.split} utterances, voices: {subject.voices}; {len(images)} real images; cosine of "
        f"the embeddings.{oracle}"
    )
    scores = search_scores(found, {**subject.protocol, "extractor": extractor}, seed=seed)
    return Group("sen", "Finding images by speech (SEN)", protocol, scores)


def feature_groups(model: SpeechToImage, subject: Subject, fakes: Fakes, *, seed: int, console: Console) -> list[Group]:
    """What is measured on the offline encoder's features."""
    encoder = metric_encoder(model.device)
    features = Features.of(encoder, subject, fakes, console=console)
    if subject.store.has_classes:
        first = paper_map_group(model, encoder, subject, features, seed=seed, console=console)
    else:
        first = fake_recall_group(model, encoder, subject, fakes, features, seed=seed, console=console)
    if min(len(subject.images), len(fakes.pictures)) < 2:
        console.print("Distances are left out: they need two real and two generated images.", highlight=False)
        return [first]
    return [first, distance_group(encoder, subject, fakes, features, seed=seed, console=console)]
