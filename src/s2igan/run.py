"""From a source to a report in one command: prepare, train both stages, evaluate, report.

Everything is under one run directory: the prepared corpus in `RUN/data`, the rest as `s2igan train` and
`s2igan evaluate` leave it. A finished part leaves a mark, so that the same command goes on where it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.corpora.registry import BUILT_IN, CAPTIONS, PUBLISHED, drawn_set
from s2igan.devices import choose_device
from s2igan.errors import UserError
from s2igan.files import atomic_write_json
from s2igan.run_directory import DATA
from s2igan.training.recipe import Recipe

if TYPE_CHECKING:
    from s2igan.training.initial import Part

MIN_TRAINING_IMAGES = 2
PREPARED, TRAINED, EVALUATED = ".prepared.json", ".trained.json", ".evaluated.json"
"""Marks of finished parts in a run directory: what each was asked for."""


def run_corpus(
    corpus: str,
    source: str | Path | None,
    out: str | Path,
    options: PrepareOptions = PrepareOptions(),
    *,
    recipe: Recipe,
    init_from: str | Path | None = None,
    init_parts: Sequence[Part] = ("all",),
    autoencoder: str | Path | None = None,
    captions: int | None = None,
    seed: int = 0,
    device: str | None = None,
    jobs: int | None = None,
    max_captions: int = 1000,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Prepare a source, train a recipe on it, score it and write the report; returns the report's path.

    Args:
        corpus: name of an importer, or of a built-in corpus, which has no source.
        source: as of `prepare_corpus`.
        out: run directory to make, or to go on with.
        options: how to read and split the source; those of a built-in corpus stay as they are.
        recipe: what to train; its image size is prepared for.
        init_from: a run or an exported model whose weights training begins with.
        init_parts: what to take of it.
        autoencoder: as of `train_run`.
        captions: spoken descriptions of each picture of a built-in corpus; `registry.CAPTIONS` unless given.
        seed: of the splits, of training and of evaluation.
        device: where to compute; a GPU if there is one.
        jobs: processes of the preparation.
        max_captions: descriptions that images are drawn for in the evaluation.
        say: is told sentences that a user should read.

    Raises:
        UserError: as each part does; or the run was begun with other options. What is finished stays.
    """
    from s2igan.data.store import Store
    from s2igan.evaluation.evaluate import evaluate
    from s2igan.evaluation.options import EvaluationOptions
    from s2igan.models.precomputed import PrecomputedConfig
    from s2igan.report import headlines, write_report
    from s2igan.training.expectation import Expectation
    from s2igan.training.initial import read_initial
    from s2igan.training.latent_flow import with_autoencoder

    choose_device(device)  # before the corpus is prepared for it
    resolved, _ = with_autoencoder(recipe, autoencoder)
    initial = read_initial(init_from, init_parts, resolved)
    if isinstance(recipe.sen.speech, PrecomputedConfig):
        if source is None:
            raise UserError(
                f"{corpus}: the recipe {recipe.name} reads published text embeddings, and of what is made here there "
                "are none; choose stackgan-v2-text, which trains a text encoder of its own."
            )
        options = replace(options, text_embeddings=True)
    out = Path(out)
    data = out / DATA
    asked = json.loads(json.dumps(asdict(options)))  # lists for tuples, as in the mark
    asked |= {"corpus": corpus, "source": None if source is None else str(Path(source).resolve())}
    asked |= {"size": recipe.image_size, "seed": seed}
    if captions is not None:
        asked["captions"] = captions
    if _begins(out, f"Part 1 of 4: preparing {corpus}", PREPARED, asked, say):
        size = recipe.image_size
        _prepare(corpus, source, data, options, captions=captions, size=size, seed=seed, jobs=jobs, say=say)
        atomic_write_json(out / PREPARED, asked)
    asked = {"seed": seed, "recipe": resolved.name}
    if initial is not None:
        asked["init_from"] = initial.facts
    if _begins(out, f"Part 2 of 4: training {resolved.name}, both stages", TRAINED, asked, say):
        check_trainable(data)
        if corpus not in (*BUILT_IN, *PUBLISHED):
            say(Expectation.of(Store.open(data)).sentence)
        beginning = {"init_from": init_from, "init_parts": init_parts, "autoencoder": autoencoder}
        _train(recipe, data, out, seed=seed, device=device, **beginning)
        atomic_write_json(out / TRAINED, asked)
    asked = {"seed": seed, "max_captions": max_captions}
    if _begins(out, "Part 3 of 4: evaluation", EVALUATED, asked, say):
        scored = EvaluationOptions(split=split_to_score(data, say), max_captions=max_captions, seed=seed)
        evaluate(out, data, scored, device=device)
        atomic_write_json(out / EVALUATED, asked)
    say("Part 4 of 4: report")
    report = write_report(out)
    for line in headlines(out):
        say(line)
    return report


def _prepare(
    corpus: str,
    source: str | Path | None,
    data: Path,
    options: PrepareOptions,
    *,
    captions: int | None,
    size: int,
    seed: int,
    jobs: int | None,
    say: Callable[[str], None],
) -> None:
    if corpus not in BUILT_IN:
        from s2igan.corpora.prepare.corpus import prepare_corpus

        if captions is not None:
            raise UserError(f"--captions {captions}: is for {' and '.join(BUILT_IN)}; leave it out.")
        if source is None:
            raise UserError(f"{corpus}: needs a --source, the folder or archive that the corpus is in.")
        prepare_corpus(corpus, source, data, options, size=size, seed=seed, jobs=jobs, say=say)
        return
    from s2igan.corpora.builtin import drawn

    if source is not None:
        raise UserError(f"{corpus}: is built in and has no source; leave --source out, or name another corpus.")
    if changed := [name for name, value in vars(options).items() if value != getattr(PrepareOptions(), name)]:
        raise UserError(f"{corpus}: is made here and knows no --{changed[0].replace('_', '-')}; leave it out.")
    spoken = CAPTIONS if captions is None else captions
    drawn.prepare(drawn_set(corpus), data, BUILT_IN[corpus].classes, captions=spoken, size=size, seed=seed, jobs=jobs)


def _train(recipe: Recipe, data: Path, out: Path, **options: Any) -> None:
    """As `train_run`; interrupted, it says what goes on with this command."""
    from s2igan.training.train import train_run

    try:
        train_run(recipe, data=data, out=out, resume=True, **options)
    except KeyboardInterrupt as interruption:
        saved = str(interruption).partition(";")[0]
        raise KeyboardInterrupt(f"{saved}; the same command goes on" if saved else "") from None


def check_trainable(data: Path) -> None:
    """UserError where there is too little to train on, before hours are spent."""
    from s2igan.data.store import Store

    images = Store.open(data).report["splits"]["train"]["images"]
    if images < MIN_TRAINING_IMAGES:
        raise UserError(
            f"{data}: {images} picture{'s' * (images != 1)} for training, which compares pictures with each other: at "
            f"least {MIN_TRAINING_IMAGES} are needed, and hundreds for a model that draws what it hears."
        )


def split_to_score(data: Path, say: Callable[[str], None]) -> str:
    """The test split; where a corpus is too small for one, validation or what there is, and a sentence about it."""
    from s2igan.data.store import Store

    store = Store.open(data)
    for split in ("test", "validation", "train"):
        if len(store.split_indices(split)):
            if split != "test":
                met = ""
                if split in store.training_splits("rdg"):
                    met = " It has met every picture there: these scores say nothing about new ones."
                say(f"There is no test split: the model is scored on its {split} split.{met}")
            return split
    raise UserError(f"{data}: no utterance has a split, so there is nothing to train or score on; prepare it again.")


def _begins(out: Path, title: str, mark: str, asked: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Says that a part begins, or that it was done before, as its mark tells.

    Raises:
        UserError: it was done with other options.
    """
    if not (out / mark).exists():
        say(title)
        return True
    found = json.loads((out / mark).read_text(encoding="utf-8"))
    if found != asked:
        differ = [name for name in {**found, **asked} if found.get(name) != asked.get(name)]
        was, now = (", ".join(f"{name} {values.get(name)}" for name in differ) for values in (found, asked))
        raise UserError(
            f"{out}: was begun with {was}, not {now}; choose another --out, or give the same options again."
        )
    say(f"{title}: done before")
    return False
