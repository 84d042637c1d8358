"""The commands that score a model and show what was found: evaluation, tables, pages, cards, blind sheets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from s2igan.cli.options import (
    Count,
    Device,
    FidWeights,
    ImageEncoderWeights,
    OptionalCount,
    Seed,
    use_image_encoder_weights,
)
from s2igan.cli.output import say
from s2igan.evaluation.options import EvaluationOptions, OtherConditions, Protocol
from s2igan.evaluation.words.options import WordSearch


def evaluate(
    model: Path,
    data: Path,
    split: str = "test",
    max_captions: Count = 1000,
    protocol: Protocol = "sample",
    consistency: bool = False,
    keep_images: bool = False,
    fid_weights: FidWeights = None,
    out: Path | None = None,
    seed: Seed = 0,
    image_encoder_weights: ImageEncoderWeights = None,
    device: Device = None,
    allow_other_data: bool = False,
    conditions: bool = False,
    condition_voices: tuple[str, ...] = (),
    condition_rooms: tuple[Path, ...] = (),
) -> None:
    """Score a trained model on the test split: classes and voices that it never met.

    Args:
        model: run directory, an exported model, or the name of a shipped model
        data: directory that s2igan prepare made
        split: what to score on
        max_captions: descriptions that images are drawn for, chosen at random
        protocol: paper draws an image of every description of the split, and gives the Fréchet distance whatever the
            counts are
        consistency: score whether speech and generated images find each other, by encoders that the model never saw;
            the first time on a set they are trained, which takes minutes
        keep_images: leave the generated images, and the real ones that they are compared with, as PNG
        out: folder for the scores; RUN/evaluation unless given, and NAME-evaluation here for an exported model
        seed: of every random choice and of the noise
        allow_other_data: score on another set than the one that the model was trained on; record and report say so
        conditions: also by voices and engines never heard, by telephone, in noise and rooms, faster and slower
        condition_voices: more voices that speak the captions, such as espeak:en-gb+croak, or command: with a program
        condition_rooms: sound files of a room's answer to a click or a bursting balloon
    """
    from s2igan.evaluation.evaluate import evaluate as evaluate_model

    if image_encoder_weights is not None:
        from s2igan.evaluation.subject import Subject

        use_image_encoder_weights(image_encoder_weights, Subject.of(model).backbone)
    options = EvaluationOptions(
        split, seed, max_captions, protocol, consistency, keep_images, fid_weights, allow_other_data, conditions
    )
    others = OtherConditions(condition_voices, condition_rooms)
    evaluate_model(model, data, options, out=out, conditions=others, device=device)


def reproduce(
    corpus: Annotated[Positional[str], arg(metavar="CORPUS")],
    /,
    *,
    out: Path,
    rows: str = "table1,ablations",
    seeds: Count = 1,
    base: str = "birds-rdg",
    steps: OptionalCount = None,
    sen_steps: OptionalCount = None,
    warm_start_steps: OptionalCount = None,
    budget: float | None = None,
    max_captions: Count = 1000,
    protocol: Protocol = "sample",
    fid_weights: FidWeights = None,
    devices: tuple[str, ...] = (),
) -> None:
    """Make the paper's tables and figures on a set: train every row, score it, write one page and one JSON.

    Interrupted, or at the end of its budget, the same command goes on. Rows and seeds may be added later.

    Args:
        corpus: directory that s2igan prepare made, or birds or flowers, which are made
        out: directory to make, or to go on with
        rows: table1, ablations, and names that s2igan recipes lists, separated by commas; NAME:3 has three seeds
        seeds: of each row that says no number
        base: the recipe that every method changes
        steps: of stage 2 of every method, in place of those of the base recipe
        sen_steps: of stage 1, likewise
        warm_start_steps: of what comes before the adversarial training, likewise
        budget: hours; nothing is begun that would end later
        max_captions: descriptions that images are drawn for, chosen at random
        protocol: paper draws an image of every description of the test split
        devices: where to compute, rows side by side; all GPUs unless given, or else the CPU ("cpu cpu" with
            OMP_NUM_THREADS=1 uses two cores better than one row on both)
    """
    from s2igan.reproduce import reproduce as make

    options = EvaluationOptions(
        max_captions=max_captions, protocol=protocol, consistency=True, keep_images=True, fid_weights=fid_weights
    )
    page = make(
        corpus,
        out,
        rows=rows,
        seeds=seeds,
        base=base,
        steps=steps,
        sen_steps=sen_steps,
        warm_start_steps=warm_start_steps,
        budget_hours=budget,
        options=options,
        devices=devices,
        say=say,
    )
    print(f"Page: {page}")


def card(
    model: Annotated[Positional[Path], arg(metavar="MODEL")],
    /,
    *,
    out: Path,
    data: Path | None = None,
    scores: Path | None = None,
    license: str | None = None,
) -> None:
    """Write a model card, Markdown with the front matter of the Hugging Face hub, from what is recorded of a model.

    Args:
        model: run directory, an exported model, or the name of a shipped model
        out: file to write, such as README.md beside the model
        data: the set that it was trained on; a run knows it
        scores: folder that s2igan evaluate wrote; RUN/evaluation unless given, and NAME-evaluation here for an exported
            model
        license: of the model, as the hub spells it, such as cc-by-4.0; apache-2.0 for the built-in sets unless given
    """
    from s2igan.report.card import write_card

    print(f"Card: {write_card(model, out, data=data, scores=scores, license=license)}")


def blind_sheet(
    model: Annotated[Positional[Path], arg(metavar="MODEL")],
    /,
    *,
    data: Path,
    out: Path,
    split: str = "test",
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Mix 64 generated and 64 real images without labels, for a reader who counts the clean ones.

    Args:
        model: run directory, or an exported model
        data: directory that s2igan prepare made
        out: new folder for the pages, the reader's README.md, answers.csv and key.json
        split: whose descriptions are drawn, and whose pictures are shown
        seed: of every random choice and of the noise
    """
    from s2igan.evaluation.blind_sheet import write_blind_sheet

    folder = write_blind_sheet(model, data, out, split=split, seed=seed, device=device)
    print(f"Blind sheet: {folder}")


def blind_count(
    sheet: Annotated[Positional[Path], arg(metavar="SHEET")],
    answers: Annotated[Positional[tuple[Path, ...]], arg(metavar="ANSWERS [ANSWERS]", help_behavior_hint="(required)")],
    /,
) -> None:
    """Count what one or two readers of a blind sheet found clean; prints JSON.

    Args:
        sheet: folder that s2igan blind-sheet wrote
        answers: filled-in copies of its answers.csv
    """
    from s2igan.evaluation.blind_sheet import count_answers

    print(json.dumps(count_answers(sheet, answers), indent=2))


def words(
    model: Path,
    data: Path,
    search: Annotated[WordSearch, OmitArgPrefixes],
    split: str = "test",
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Find recurring pieces of speech, and what they go with in the pictures, without text; writes a page to play them.

    Args:
        model: run directory whose stage 1 is trained
        data: directory that s2igan prepare made
        split: whose recordings to look in
        seed: of every random choice
    """
    from s2igan.report.words import write_words

    print(f"Words: {write_words(model, data, search, split=split, seed=seed, device=device)}")


def report(model: Path) -> None:
    """Write one HTML page about a run, and print where it is and the scores.

    Args:
        model: run directory that s2igan evaluate has scored
    """
    from s2igan.report import headlines, write_report

    path = write_report(model)
    for line in headlines(model):
        print(line)
    print(f"Report: {path}")
