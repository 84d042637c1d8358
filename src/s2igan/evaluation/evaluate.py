"""Scores a run on a split of a prepared set, and writes the scores with their protocols (docs/metrics.md)."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from s2igan.data.store import Store
from s2igan.devices import choose_device
from s2igan.evaluation.attributes import ClassifierConfig, load_or_train_classifier
from s2igan.evaluation.conditions import CAPTIONS, condition_groups, markdown
from s2igan.evaluation.drawings import drawn_set_of
from s2igan.evaluation.embedding_scores import embedding_scores
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks, check_size
from s2igan.evaluation.features import image_features
from s2igan.evaluation.figure3 import figure3_group
from s2igan.evaluation.generated import attribute_group, distance_group, fake_recall_group, paper_map_group
from s2igan.evaluation.generation import Evaluation
from s2igan.evaluation.independent import IndependentSpace, comparable, independent_group
from s2igan.evaluation.lite2 import Lite2
from s2igan.evaluation.memorisation import memorisation_group
from s2igan.evaluation.reconstructions import reconstruction_group
from s2igan.evaluation.sample_sheet import write_sample_sheet
from s2igan.evaluation.scores import FIGURE3, METRICS, SAMPLE_SHEET, VERSION, Group, informative, score_table
from s2igan.evaluation.training_data import about_data, data_record
from s2igan.files import atomic_write, atomic_write_json
from s2igan.metrics.retrieval import attribute_disagreement
from s2igan.run_directory import RunDirectory
from s2igan.training.frozen import speech_embeddings

CONDITIONS = "conditions.md"
"""The table of conditions, beside the scores."""


def evaluate(
    run_directory: str | Path,
    data_dir: str | Path,
    *,
    split: str = "test",
    seed: int = 0,
    max_captions: int = 1000,
    classifier: ClassifierConfig | None = None,
    device: str | None = None,
    allow_other_data: bool = False,
    conditions: bool = False,
) -> dict[str, Any]:
    """Scores a run, prints tables, writes `RUN/evaluation/` and returns the content of its `metrics.json`.

    Of a run whose second stage is not trained, only stage 1 is scored. Attributes are scored where the set was drawn by
    this package. Nothing is written into the set: the classifier of attributes is trained once and kept in the user's
    cache folder.

    Args:
        split: the split to score on.
        seed: of every random choice and of the noise.
        max_captions: captions, drawn at random, that an image each is generated for.
        classifier: settings of the attribute classifier; its defaults unless given.
        device: where to compute; a GPU if there is one.
        allow_other_data: score a run on another set than the one that it was trained on; the record says so.
        conditions: also score it under other conditions, such as noise (`conditions.condition_groups`); the table goes
            to `RUN/evaluation/conditions.md` too, for a model card.

    Raises:
        UserError: the run or the set cannot be read, they do not fit together, the run was trained on another set, or
            there is no such device.
    """
    started = time.monotonic()
    out = Console()
    where = choose_device(device)
    run = RunDirectory.open(run_directory)
    chosen = EvaluationSplit.of(Store.open(data_dir), split)
    data = data_record(run, chosen, allow_other_data=allow_other_data)
    networks = Networks.load(run.path, where)

    for folder in (SAMPLE_SHEET, FIGURE3):  # those of an earlier evaluation, which may have been of other data
        shutil.rmtree(run.evaluation / folder, ignore_errors=True)

    groups = [stage_1_group(networks, chosen, seed=seed)]
    if networks.model is not None:
        check_size(networks.model, chosen.store)
        evaluation = Evaluation(networks.model, chosen, seed)
        write_sample_sheet(evaluation, run.evaluation / SAMPLE_SHEET)
        captions = np.random.default_rng([seed, 0xCA9]).permutation(chosen.utterances)[:max_captions]
        groups += generated_groups(evaluation, captions, classifier, run.evaluation / FIGURE3)
    if conditions:
        drawn = drawn_set_of(chosen.store) if networks.model is not None else None
        judge = None if drawn is None else load_or_train_classifier(drawn, classifier)
        heard = condition_groups(networks, chosen, judge, captions=min(max_captions, CAPTIONS), seed=seed)
        with atomic_write(run.evaluation / CONDITIONS) as file:
            file.write(markdown(heard).encode())
        groups += heard
    groups = [informative(group) for group in groups]
    content = {
        "version": VERSION,
        "recipe": run.config.get("recipe", {}).get("name"),
        "data": data,
        "split": split,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "groups": {group.key: {"title": group.title, "protocol": group.protocol} for group in groups},
        "scores": [score.record() for group in groups for score in group.scores],
    }
    atomic_write_json(run.evaluation / METRICS, content)
    for group in groups:
        out.print(score_table(group))
    if sentence := about_data(data):
        out.print(sentence, highlight=False)
    out.print(f"Scores: {run.evaluation / METRICS} ({content['seconds']:.0f} s)", highlight=False)
    return content


def stage_1_group(networks: Networks, split: EvaluationSplit, *, seed: int) -> Group:
    """How well stage 1 finds images by speech and speech by images (method.md section 6)."""
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
    extractor = f"the run's own encoders, images at {size} px"
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
        protocol={**split.protocol, "extractor": extractor},
        seed=seed,
    )
    return Group("sen", "Finding images by speech (SEN)", protocol, scores)


def generated_groups(
    evaluation: Evaluation, captions: np.ndarray, classifier_config: ClassifierConfig | None, figure3: Path
) -> list[Group]:
    """Scores of the images that the model generates for captions; Figure 3 is kept in a folder."""
    split = evaluation.split
    fakes = evaluation.draw(captions)
    groups: list[Group | None] = []
    drawn, classifier = drawn_set_of(split.store), None
    if drawn is not None:
        classifier = load_or_train_classifier(drawn, classifier_config)
        groups.append(attribute_group(classifier, split, fakes, drawn.changed_sentences))
        groups.append(figure3_group(evaluation, classifier, drawn, figure3))
    space = None
    if comparable(evaluation, captions):
        if Lite2.installed():
            space = IndependentSpace(evaluation, fakes)
            groups.append(independent_group(space))
        else:
            print("kd_lite2 is left out: pip install 's2igan[judges]' adds it.", file=sys.stderr)
        groups.append(memorisation_group(evaluation, fakes, space))
    groups.append(reconstruction_group(evaluation, fakes, classifier, space))
    real, generated = evaluation.real_features(split.images, fakes.side), evaluation.fake_features(fakes)
    if split.store.has_classes:
        groups.append(paper_map_group(evaluation, real))
    else:
        groups.append(fake_recall_group(evaluation, fakes, real, generated))
    if min(len(split.images), len(fakes.pictures)) >= 2:
        groups.append(distance_group(evaluation, fakes, real, generated))
    else:
        print("Distances are left out: they need two real and two generated images.", file=sys.stderr)
    return [group for group in groups if group is not None]
