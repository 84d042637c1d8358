"""Reads a source as `prepare` would, all of it, and changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2igan.audio import FRAMES_PER_SECOND
from s2igan.corpora.importers.source import ReadOptions
from s2igan.corpora.prepare.corpus import MIN_SECONDS, SOURCE, by_kind, clean, open_source, read_corpus
from s2igan.corpora.prepare.splits import with_splits
from s2igan.corpora.registry import IMPORTERS, importer
from s2igan.data.manifest import SPLITS, Utterance
from s2igan.data.pack import MAX_REJECTED, Item, Task, decode, in_shares
from s2igan.errors import UserError
from s2igan.parallel import each_result, progress_bars
from s2igan.text_utils import counted

EXAMPLES = 3
"""Of each reason."""
ITEMS_PER_TASK = 32
DECODED_SIDE = 76
"""Pixels to which pictures are brought while they are checked, as for training at 64 px."""


@dataclass(frozen=True)
class SourceFindings:
    """What a source holds, and what of it cannot be used."""

    corpus: str
    utterances: int
    """With those that cannot be used."""
    usable: list[Utterance]
    pictures: int
    hours: float
    """Of usable speech."""
    unspoken: int
    """Usable descriptions in writing only."""
    rejected: list[dict[str, Any]]
    """`path` and `reason`, in the order found: every fault once, however many utterances are lost with it."""
    n_rejected: int
    """Utterances and other items that are lost; one may have two faults."""
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        """What `n_rejected` is a share of."""
        return len(self.usable) + self.n_rejected

    @property
    def passes(self) -> bool:
        """Whether `prepare` would take it without --allow-rejected."""
        return bool(self.usable) and self.n_rejected <= MAX_REJECTED * self.total


def _check(task: Task) -> tuple[dict[Item, str], dict[Item, float]]:
    """Why items cannot be used, and how many seconds the others last."""
    arrays, rejected = decode(task)
    usable = [item for row, item in enumerate(task.items) if row not in rejected]
    seconds = [len(array) / FRAMES_PER_SECOND for array in arrays]
    lasting = dict(zip(usable, seconds, strict=True)) if task.kind == "mels" else {}
    return {task.items[row]: reason.rstrip(".") for row, reason in rejected.items()}, lasting


def detect(path: Path) -> str:
    """The corpus whose layout a folder has; `folder` where it is none of the special ones."""
    for name in IMPORTERS:
        if name == "folder" or path.is_file():
            continue
        try:
            importer(name).read(path, ReadOptions())
        except UserError:
            continue
        return name
    return "folder"


def validate_source(
    source: str | Path,
    corpus: str | None = None,
    *,
    seed: int = 0,
    speaker_disjoint: bool = False,
    jobs: int | None = None,
) -> SourceFindings:
    """Decode every picture and recording of a source, and say what `prepare` would take and reject.

    Archives are unpacked into a temporary folder, which is removed.

    `corpus` is recognised by its layout unless given.

    Raises:
        UserError: the source has another layout, or nothing in it can be used.
    """
    source = Path(source)
    if corpus is not None:
        importer(corpus)
    with tempfile.TemporaryDirectory(prefix="s2igan-validate-") as temporary:
        root = Path(temporary)
        entry, left_out = open_source(source, root)
        name = corpus or detect(entry)
        found = read_corpus(name, entry, ReadOptions(), left_out)
        tidy = clean(name, found.rows, root)
        problems = (*found.problems, *tidy.problems)
        rejected = [problem.record() for problem in problems]
        lost = sum(problem.lost for problem in problems)
        rows, repeated = _told_once(tidy.rows)
        rejected += repeated
        lost += len(repeated)

        picture_of = {row.image: Item(row.image, box=found.boxes.get(row.image)) for row in rows}
        bad, seconds = _decode_all(picture_of.values(), {_sound(row): None for row in rows if row.audio}, root, jobs)
        split = with_splits(rows, seed=seed, speaker_disjoint=speaker_disjoint, same=tidy.same) if rows else None
        usable = []
        named: set[Item] = set()
        for row in split.rows if split else ():
            items = [item for item in (_sound(row), picture_of[row.image]) if item in bad]
            lost += bool(items)
            usable += [] if items else [row]
            # a picture is named once, a recording with each of its pictures
            rejected += [{"path": item.path, "reason": bad[item]} for item in items if item not in named]
            named |= {item for item in items if item.path == row.image}
        for record in rejected:
            record["path"] = record["path"].removeprefix(f"{SOURCE}/")
            record["reason"] = record["reason"].replace(f"{SOURCE}/", "")
    return SourceFindings(
        corpus=name,
        utterances=len(found.rows),
        usable=usable,
        pictures=len({row.image for row in usable}),
        hours=sum(seconds.get(_sound(row), 0.0) for row in usable) / 3600,
        unspoken=sum(not row.audio for row in usable),
        rejected=rejected,
        n_rejected=lost,
        notes=(*found.notes, *tidy.notes, *(split.notes if split else ())),
    )


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


def _decode_all(
    pictures: Collection[Item], sounds: Collection[Item], root: Path, jobs: int | None
) -> tuple[dict[Item, str], dict[Item, float]]:
    """As `_check`, of all items."""
    tasks = [Task(root, "images", share, DECODED_SIDE) for share in in_shares(list(pictures), ITEMS_PER_TASK)]
    tasks += [Task(root, "mels", share, "hann", MIN_SECONDS) for share in in_shares(list(sounds), ITEMS_PER_TASK)]
    if len(tasks) <= 4:
        jobs = 1  # other processes take longer to start than this takes
    bad: dict[Item, str] = {}
    seconds: dict[Item, float] = {}
    with progress_bars() as bars:
        bar = bars.add_task("pictures and recordings decoded", total=len(pictures) + len(sounds))
        for task, (reasons, lasting) in each_result(_check, tasks, jobs):
            bad |= reasons
            seconds |= lasting
            bars.advance(bar, len(task.items))
    return bad, seconds


def in_words(source: Path, findings: SourceFindings) -> str:
    """What was found, for a terminal."""
    rows = findings.usable
    counts = [
        f"{len(rows):,} of {findings.utterances:,} utterances can be used ({findings.hours:.2f} h)",
        counted(findings.pictures, "picture"),
    ]
    for word, values in (
        ("class", {row.class_name for row in rows}),
        ("speaker", {row.speaker for row in rows}),
        ("language", {row.language for row in rows}),
    ):
        known = len(values - {None})
        counts += [counted(known, word)] if known else []
    lines = [f"{source}, read as {findings.corpus!r}: {', '.join(counts)}"]
    if findings.unspoken:
        lines.append(f"  {findings.unspoken:,} of them are in writing only and need a --voice")
    for split in SPLITS:
        own = [row for row in rows if row.split == split]
        if own:
            pictures = counted(len({row.image for row in own}), "picture")
            lines.append(f"  {split}: {counted(len(own), 'utterance')}, {pictures}")
    lines += [f"  {note}" for note in findings.notes]
    if findings.rejected:
        lines.append(f"  {findings.n_rejected:,} of {findings.total:,} would be rejected:")
    for kind, records in by_kind(findings.rejected).items():
        lines.append(f"    {len(records):,}  {kind}")
        lines += [f"        {record['path']}: {record['reason']}" for record in records[:EXAMPLES]]
        if len(records) > EXAMPLES:
            lines.append(f"        and {len(records) - EXAMPLES:,} more")
    return "\n".join(lines)
