"""The commands that train: from a corpus to a report, or a recipe on a prepared corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from s2igan.cli.options import (
    Count,
    Device,
    ImageEncoderWeights,
    InitParts,
    Jobs,
    OptionalCount,
    Options,
    Pretrained,
    Seed,
    Settings,
    use_image_encoder_weights,
)
from s2igan.cli.output import say
from s2igan.errors import UserError


def run(
    *,
    corpus: Annotated[Positional[str], arg(metavar="CORPUS")],
    out: Path,
    preparation: Options,
    source: Path | None = None,
    recipe: str = "laptop",
    base: str | None = None,
    init_from: Path | None = None,
    init_parts: InitParts = ("all",),
    pretrained: Pretrained = None,
    captions: OptionalCount = None,
    seed: Seed = 0,
    max_captions: Count = 1000,
    jobs: Jobs = None,
    image_encoder_weights: ImageEncoderWeights = None,
    device: Device = None,
    settings: Settings = None,
) -> None:
    """From a corpus to a report in one command: prepare, train both stages, evaluate, report.

    Interrupted, the same command goes on where it stopped. Every hyper-parameter of the recipe is a flag, such as
    --sen.batch-size 48; s2igan train RECIPE --help lists them.

    Args:
        corpus: what the source is, such as folder for your own recordings; s2igan corpora lists all
        out: run directory to make, or to go on with; the prepared corpus is in its folder data
        source: folder or archive of the corpus; birds and flowers need none
        recipe: what to train; s2igan recipes lists them
        base: for a method such as no-dense, the recipe that it changes; birds-rdg unless given
        init_from: a run or an exported model of the same sizes to begin from, in place of random weights
        init_parts: what to take of it: speech (stage 1), autoencoder, or all that the recipe has
        captions: spoken descriptions of each picture of birds or flowers; 6 unless given
        seed: of splits, training and evaluation
        max_captions: descriptions that images are drawn for in the evaluation, chosen at random
        jobs: processes of the preparation; one per core unless given
    """
    from s2igan.run import run_corpus

    use_image_encoder_weights(image_encoder_weights, settings.sen.image.backbone)
    report = run_corpus(
        corpus,
        source,
        out,
        preparation,
        recipe=settings,
        init_from=init_from,
        init_parts=init_parts,
        autoencoder=pretrained,
        captions=captions,
        seed=seed,
        device=device,
        jobs=jobs,
        max_captions=max_captions,
        say=say,
    )
    print(f"Report: {report}")


def train(
    *,
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    data: Path | None = None,
    out: Path | None = None,
    base: str | None = None,
    stage: Literal["1", "2", "both"] = "both",
    sen_from: Path | None = None,
    allow_other_data: bool = False,
    init_from: Path | None = None,
    init_parts: InitParts = ("all",),
    pretrained: Pretrained = None,
    resume: bool = False,
    seed: Seed = 0,
    image_encoder_weights: ImageEncoderWeights = None,
    device: Device = None,
    dry_run: bool = False,
    settings: Settings = None,
) -> None:
    """Train a recipe: first the speech embedding network (stage 1), then what draws (stage 2).

    Stage 2 is the paper's RDG or, where the recipe says so, latent flow. Every hyper-parameter of the recipe is a flag,
    such as --sen.batch-size 48; s2igan train RECIPE --help lists them.

    Args:
        recipe: name of the experiment; s2igan recipes lists them
        data: directory that s2igan prepare made; a dry run can do without
        out: run directory to make, or to go on with; a dry run writes nothing
        base: for a method such as no-dense, the recipe that it changes; birds-rdg unless given
        stage: which stage to train
        sen_from: another run whose first stage to use in place of training it; it must have the recipe's first stage
        allow_other_data: use the first stage of sen_from also where it was trained on another set
        init_from: a run or an exported model of the same sizes to begin from, in place of random weights
        init_parts: what to take of it: speech (stage 1), autoencoder, or all that the recipe has
        resume: go on from the newest checkpoint in the run directory, if there is one
        seed: of weights, batches and noise
        dry_run: only print, as JSON, the complete configuration, the networks' parameters, how fast this machine is,
            and the time and memory of a step on it
    """
    use_image_encoder_weights(image_encoder_weights, settings.sen.image.backbone)
    if dry_run:
        from s2igan.dry_run import dry_run as plan

        print(json.dumps(plan(settings, data=data, autoencoder=pretrained, device=device), indent=2))
        return
    if data is None or out is None:
        raise UserError("training needs --data and --out: the directory that s2igan prepare made, and one for the run.")
    from s2igan.training.train import train_run

    train_run(
        settings,
        data=data,
        out=out,
        stage=stage,
        resume=resume,
        seed=seed,
        sen_from=sen_from,
        allow_other_data=allow_other_data,
        init_from=init_from,
        init_parts=init_parts,
        autoencoder=pretrained,
        device=device,
    )


def recipes() -> None:
    """List the recipes that can be trained."""
    from s2igan.recipes import RECIPES

    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(f"{name:{width}}  {(recipe.__doc__ or name).strip().splitlines()[0]}")
