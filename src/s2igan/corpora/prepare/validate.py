"""Reads a source as `prepare` would, all of it, and changes nothing."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from s2igan.corpora.importers.source import Problem, ReadOptions
from s2igan.corpora.prepare.corpus import MIN_SECONDS, SOURCE, clean, open_source, read_corpus
from s2igan.corpora.prepare.findings import SourceFindings, came_near
from s2igan.corpora.prepare.quality import Quality, by_speaker, quality, warnings_of
from s2igan.corpora.prepare.splits import with_splits
from s2igan.corpora.registry import IMPORTERS, importer
from s2igan.data.manifest import Utterance
from s2igan.data.pack import Item, Task, decode, in_shares
from s2igan.errors import UserError
from s2igan.file_kinds import kind_of_file, mistaken
from s2igan.parallel import each_result, progress_bars
from s2igan.sound_containers import MAX_SECONDS

ITEMS_PER_TASK = 32
DECODED_SIDE = 76
"""Pixels to which pictures are brought while they are checked, as for training at 64 px."""


@dataclass(frozen=True)
class _Checked:
    """Of some items."""

    bad: dict[Item, str]
    """Why they cannot be used."""
    qualities: dict[Item, Quality]
    """Of the recordings among the others."""


def _check(task: Task) -> _Checked:
    from s2igan.audio import check_seconds, decoded, resampled

    if task.kind == "images":
        _, rejected = decode(task)
        return _Checked({task.items[row]: reason.rstrip(".") for row, reason in rejected.items()}, {})
    checked = _Checked({}, {})
    for item in task.items:
        path = task.root / item.path
        try:
            wave, rate = decoded(path, item.start_seconds, item.end_seconds, task.max_seconds)
            check_seconds(resampled(wave, rate, str(path), task.max_seconds), task.min_seconds, str(path))
            checked.qualities[item] = quality(wave, rate)
        except UserError as error:
            checked.bad[item] = str(error).removeprefix(f"{path}: ").replace(str(path), item.path).rstrip(".")
    return checked


def _look(task: Task) -> _Checked:
    """What first bytes say alone."""
    wanted: Literal["picture", "sound"] = "picture" if task.kind == "images" else "sound"
    bad = {}
    for item in task.items:
        path = task.root / item.path
        kind = kind_of_file(path)
        if not path.is_file():
            bad[item] = "no such file"
        elif path.stat().st_size == 0:
            bad[item] = "the file is empty, it has 0 bytes; make it again or leave it out"
        elif kind is not None and kind.holds != wanted:
            bad[item] = mistaken(kind, wanted)
    return _Checked(bad, {})


def detect(path: Path) -> tuple[str, dict[str, str]]:
    """The corpus whose layout a folder has, `folder` where it is none of the special ones; and why it is no other one,
    of those that were asked before."""
    reasons: dict[str, str] = {}
    for name in IMPORTERS:
        if name == "folder" or path.is_file():
            continue
        try:
            importer(name).read(path, ReadOptions())
        except UserError as error:
            reasons[name] = str(error).removeprefix(f"{path}: ").rstrip(".")
            continue
        return name, reasons
    return "folder", reasons


def validate_source(
    source: str | Path,
    corpus: str | None = None,
    *,
    seed: int = 0,
    speaker_disjoint: bool = False,
    jobs: int | None = None,
    quick: bool = False,
    max_seconds: float = MAX_SECONDS,
) -> SourceFindings:
    """Decode every picture and recording of a source, and say what `prepare` would take and reject.

    Archives are unpacked into a temporary folder, which is removed.

    Args:
        corpus: is recognised by its layout unless given.
        quick: look at first bytes only, and decode nothing.
        max_seconds: longer descriptions are left out.

    Raises:
        UserError: the source has another layout, or nothing in it can be used.
    """
    source = Path(source)
    if corpus is not None:
        importer(corpus)
    with tempfile.TemporaryDirectory(prefix="s2igan-validate-") as temporary:
        root = Path(temporary)
        entry, left_out = open_source(source, root)
        name, others = (corpus, {}) if corpus is not None else detect(entry)
        try:
            found = read_corpus(name, entry, ReadOptions(), left_out)
        except UserError as error:
            near = came_near(others)
            if not near:
                raise
            said = "; ".join(f"as {other!r}: {reason}" for other, reason in near.items())
            raise UserError(f"{source}: cannot be read. {said}; as {name!r}: {error}") from error
        tidy = clean(name, found.rows, root)
        problems = (*found.problems, *tidy.problems)
        rejected = [problem.record() for problem in problems]
        lost = sum(problem.lost for problem in problems)
        rows, repeated = _told_once(tidy.rows)
        rejected += repeated
        lost += len(repeated)

        picture_of = {row.image: Item(row.image, box=found.boxes.get(row.image)) for row in rows}
        sounds = {_sound(row): None for row in rows if row.audio}
        checked = _check_all(picture_of.values(), sounds, root, jobs, _look if quick else _check, max_seconds)
        bad = checked.bad
        split = with_splits(rows, seed=seed, speaker_disjoint=speaker_disjoint, same=tidy.same) if rows else None
        usable, faults = _usable(split.rows if split else (), picture_of, bad)
        rejected += faults
        lost += len(rows) - len(usable)
        for record in rejected:
            record["path"] = record["path"].removeprefix(f"{SOURCE}/")
            record["reason"] = record["reason"].replace(f"{SOURCE}/", "")
    speaker_of = {_sound(row): row.speaker or "speakers unknown" for row in usable}
    heard = {item: checked.qualities[item] for item in speaker_of if item in checked.qualities}  # in the rows' order
    return SourceFindings(
        corpus=name,
        utterances=len(found.rows),
        usable=usable,
        pictures=len({row.image for row in usable}),
        hours=sum(heard[sound].seconds for row in usable if (sound := _sound(row)) in heard) / 3600,
        unspoken=sum(not row.audio for row in usable),
        rejected=rejected,
        n_rejected=lost,
        notes=(*found.notes, *tidy.notes, *(split.notes if split else ())),
        recognised=() if corpus is not None else (name,),
        not_recognised=others,
        speakers=by_speaker((speaker_of[item], own) for item, own in heard.items()),
        warnings=warnings_of({_named(item): own for item, own in heard.items()}),
        is_quick=quick,
    )


def _usable(
    rows: Sequence[Utterance], picture_of: Mapping[str, Item], bad: Mapping[Item, str]
) -> tuple[list[Utterance], list[dict[str, Any]]]:
    """The rows whose picture and recording can be used, and the faults of the others: those of a picture once, those of
    a recording with each of its pictures."""
    usable, faults = [], []
    named: set[Item] = set()
    n_rows = Counter(row.image for row in rows)
    for row in rows:
        items = [item for item in (_sound(row), picture_of[row.image]) if item in bad]
        usable += [] if items else [row]
        for item in items:
            if item not in named:
                lost_with_it = n_rows[item.path] if item.path == row.image else 1
                faults.append(Problem(item.path, bad[item], lost_with_it).record())
        named |= {item for item in items if item.path == row.image}
    return usable, faults


def _told_once(rows: Sequence[Utterance]) -> tuple[list[Utterance], list[dict[str, Any]]]:
    """Rows without repetitions of a recording with a picture, which the store rejects."""
    kept, repeated, seen = [], [], set()
    for row in rows:
        key = (*row.recording, row.image)
        if row.audio and key in seen:
            repeated.append({"path": row.audio, "reason": f"the same recording and image twice, {row.image}"})
        else:
            seen.add(key)
            kept.append(row)
    return kept, repeated


def _sound(row: Utterance) -> Item:
    return Item(row.audio, row.start_seconds, row.end_seconds)


def _named(item: Item) -> str:
    """For people: the file, and which part of it."""
    path = item.path.removeprefix(f"{SOURCE}/")
    return path if item.start_seconds is None else f"{path} at {item.start_seconds:g} s"


def _check_all(
    pictures: Collection[Item],
    sounds: Collection[Item],
    root: Path,
    jobs: int | None,
    check: Callable[[Task], _Checked],
    max_seconds: float,
) -> _Checked:
    tasks = [Task(root, "images", share, DECODED_SIDE) for share in in_shares(list(pictures), ITEMS_PER_TASK)]
    tasks += [
        Task(root, "mels", share, "hann", MIN_SECONDS, max_seconds) for share in in_shares(list(sounds), ITEMS_PER_TASK)
    ]
    if len(tasks) <= 4 or check is _look:
        jobs = 1  # other processes take longer to start than this takes
    found = _Checked({}, {})
    with progress_bars() as bars:
        bar = bars.add_task("pictures and recordings looked at", total=len(pictures) + len(sounds))
        for task, some in each_result(check, tasks, jobs):
            found.bad.update(some.bad)
            found.qualities.update(some.qualities)
            bars.advance(bar, len(task.items))
    return found
