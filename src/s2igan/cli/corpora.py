"""The commands about corpora: list, prepare, mix and check them, and take a speaker out."""

from __future__ import annotations

from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from s2igan.cli.options import Count, Jobs, Options, Seed
from s2igan.cli.output import say
from s2igan.corpora.registry import BUILT_IN, CAPTIONS, IMPORTERS, INDIVIDUALS, PUBLISHED, drawn_set
from s2igan.errors import UserError
from s2igan.sound_containers import MAX_SECONDS

PUBLISHED_SIZE, OWN_SIZE = 256, 128
"""Pixels that a corpus is prepared for unless told otherwise: those of the recipes of published sets, and of laptop."""

prepare = SubcommandApp()


def _drawing(name: str) -> Callable[..., None]:
    """The sub-command `prepare NAME` of a built-in set."""

    def command(
        out: Path,
        classes: int = BUILT_IN[name].classes,
        individuals: int = INDIVIDUALS,
        captions: int = CAPTIONS,
        size: int = 256,
        seed: Seed = 0,
        jobs: Jobs = None,
        extra_voices: tuple[str, ...] | None = None,
        language: str = "english",
    ) -> None:
        from s2igan.corpora.builtin import drawn
        from s2igan.corpora.builtin.invented import spoken_in

        drawn.prepare(
            spoken_in(drawn_set(name), language),
            out,
            classes,
            individuals=individuals,
            captions=captions,
            size=size,
            seed=seed,
            jobs=jobs,
            extra_voices=extra_voices,
            say=say,
        )

    command.__doc__ = f"""Draw the built-in {name}, have their descriptions spoken, and pack both for training.

    Args:
        out: directory to make
        classes: species; half of them are kept for validation, development and test
        individuals: pictures of each species
        captions: spoken descriptions of each picture
        size: side in pixels of the largest images to be trained on
        seed: everything follows from it
        jobs: processes; one per core unless given
        extra_voices: voices besides those of espeak-ng for a few of the captions to train on; unless given, a neural
            voice of Piper at four speeds; --extra-voices alone is none
        language: of the descriptions: english, or a language without writing that is made up, invented:SEED or, of
            another family, invented-b:SEED (of the birds alone)
    """
    return command


def _importing(name: str) -> Callable[..., None]:
    """The sub-command `prepare NAME` of an importer."""

    def command(
        source: Path,
        out: Path,
        preparation: Options,
        size: int = PUBLISHED_SIZE if name in PUBLISHED else OWN_SIZE,
        seed: Seed = 0,
        jobs: Jobs = None,
    ) -> None:
        from s2igan.corpora.prepare.corpus import prepare_corpus

        prepare_corpus(
            name,
            source,
            out,
            preparation,
            size=size,
            seed=seed,
            jobs=jobs,
            say=say,
        )

    command.__doc__ = f"""Import the corpus {name!r} and pack it for training; s2igan corpora shows what is expected.

    Args:
        source: folder or archive of the corpus, or a folder with its archives; it is only read
        out: directory to make, or to go on with
        size: side in pixels of the largest images to be trained on
        seed: of splits, and of which voice speaks what
        jobs: processes; one per core unless given
    """
    return command


for _name in BUILT_IN:
    prepare.command(name=_name)(_drawing(_name))
for _name in IMPORTERS:
    prepare.command(name=_name)(_importing(_name))


def corpora() -> None:
    """List the corpora: the built-in ones, and those that can be imported, with the layout that is expected."""
    from s2igan.corpora.registry import overview

    print(overview())


def mix(
    data: Annotated[Positional[tuple[Path, ...]], arg(metavar="DATA [DATA ...]", help_behavior_hint="(required)")],
    /,
    *,
    out: Path,
    recordings: Count | None = None,
    seed: Seed = 0,
    jobs: Jobs = None,
) -> None:
    """Make one corpus of prepared ones, to train on several languages; or take a part of one.

    Validation, development and test are those of the corpus that is named first; of the others only recordings to train
    on are added. Pictures with the same content are one picture.

    Args:
        data: directories that s2igan prepare made
        out: directory to make; it links to the others, which must stay where they are
        recordings: of the first corpus to train on, chosen at random; all unless given
        seed: of that choice
        jobs: processes; one per core unless given
    """
    from s2igan.corpora.prepare.mix import mix as make

    print(make(data, out, recordings=recordings, seed=seed, jobs=jobs).summary())


def validate(
    source: Annotated[Positional[Path], arg(metavar="SOURCE")],
    /,
    *,
    corpus: str | None = None,
    seed: Seed = 0,
    speaker_disjoint: bool = False,
    max_seconds: float = MAX_SECONDS,
    quick: bool = False,
    json: Annotated[bool, arg(name="json")] = False,
    fix_list: Path | None = None,
    jobs: Jobs = None,
) -> None:
    """Read and decode a whole source without changing anything, and say what s2igan prepare would reject.

    Faults are grouped by kind, the worst first, each with what to do; recordings that are clipped, noisy, faint or
    mostly silent are pointed out.

    Exits with status 1 where that is more than 20 %, or nothing is left.

    Args:
        source: folder or archive, a folder with archives, or a manifest
        corpus: what it is, one of those that s2igan corpora lists; recognised by its layout unless given
        seed: of the splits that are shown
        speaker_disjoint: no speaker is in two splits
        max_seconds: longer descriptions are left out
        quick: look at names and first bytes only, and decode nothing
        json: print everything as JSON
        fix_list: CSV to write for whoever recorded: each file, what is wrong, and what to do
        jobs: processes; one per core unless given
    """
    from s2igan.corpora.prepare.findings import as_json, summary, write_fix_list
    from s2igan.corpora.prepare.validate import validate_source

    findings = validate_source(
        source, corpus, seed=seed, speaker_disjoint=speaker_disjoint, jobs=jobs, quick=quick, max_seconds=max_seconds
    )
    print(dumps(as_json(findings), indent=2, ensure_ascii=False) if json else summary(source, findings))
    if fix_list is not None:
        write_fix_list(fix_list, source, findings)
    if not findings.passes:
        raise UserError(
            f"{source}: {findings.n_rejected:,} of {findings.total:,} cannot be used, more than 20 %; mend them, or "
            "prepare it with --allow-rejected."
        )


def forget(
    speaker: Annotated[Positional[str], arg(metavar="SPEAKER")],
    /,
    *,
    data: Path,
    runs: Path = Path("runs"),
) -> None:
    """Take a speaker out of a prepared corpus, and list the runs that were trained with them.

    Args:
        speaker: name or pseudonym, as the manifest has it
        data: directory that s2igan prepare made
        runs: folder to search for runs on this corpus
    """
    from s2igan.forget import forget_speaker

    forgotten = forget_speaker(speaker, data, runs)
    print(f"{data}: {forgotten.utterances:,} utterances of {speaker} are gone from the store and its manifest.")
    print("Their recordings are in the source, which is only read. Delete them, or the next prepare brings them back:")
    for path in forgotten.recordings:
        print(f"  {path}")
    if forgotten.runs:
        print("Trained with them, so that weights, pages and sheets may hold the voice; delete and train anew:")
    else:
        print(f"No run in {runs} was trained with them.")
    for path in forgotten.runs:
        print(f"  {path}")
