"""Reads a source as `prepare` would, all of it, and changes nothing."""

from __future__ import annotations

import csv
import io
import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from s2igan.corpora.importers.source import Problem, ReadOptions
from s2igan.corpora.prepare.corpus import MIN_SECONDS, SOURCE, by_kind, clean, open_source, read_corpus
from s2igan.corpora.prepare.quality import Quality, by_speaker, lines_of, quality, warnings_of
from s2igan.corpora.prepare.splits import with_splits
from s2igan.corpora.registry import IMPORTERS, importer
from s2igan.data.manifest import SPLITS, Utterance
from s2igan.data.pack import MAX_REJECTED, Item, Task, decode, in_shares
from s2igan.errors import UserError
from s2igan.file_kinds import kind_of_file, mistaken
from s2igan.files import atomic_write
from s2igan.parallel import each_result, progress_bars
from s2igan.sound_containers import MAX_SECONDS
from s2igan.text_utils import counted

EXAMPLES = 2
"""Of each reason; where there are many, of each one."""
FOLDERS_SHOWN = 4
KINDS_SHOWN = 10
"""Of reasons: with what else is said, a screen of 40 lines."""
NOTHING_OF_IT = re.compile(r"no .* (?:is|are) here or below; |expected .*found no record with both in 0 databases")
"""How importers begin that see none of their files."""
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
    recognised: tuple[str, ...] = ()
    """Importers that read the layout; empty where the corpus was named."""
    not_recognised: Mapping[str, str] = field(default_factory=dict)
    """Why the other importers do not."""
    speakers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Level, noise, clipping and silence of each speaker (`quality.by_speaker`)."""
    warnings: list[dict[str, Any]] = field(default_factory=list)
    """Recordings that stand out by these (`quality.warnings_of`)."""
    is_quick: bool = False
    """Nothing was decoded."""

    @property
    def total(self) -> int:
        """What `n_rejected` is a share of."""
        return len(self.usable) + self.n_rejected

    @property
    def passes(self) -> bool:
        """Whether `prepare` would take it without --allow-rejected."""
        return bool(self.usable) and self.n_rejected <= MAX_REJECTED * self.total


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


def came_near(reasons: Mapping[str, str]) -> dict[str, str]:
    """Of importers that do not recognise a layout, those that found their own kind of file in it."""
    return {name: reason for name, reason in reasons.items() if not NOTHING_OF_IT.match(reason)}


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
        usable = []
        named: set[Item] = set()
        n_rows = Counter(row.image for row in rows)
        for row in split.rows if split else ():
            items = [item for item in (_sound(row), picture_of[row.image]) if item in bad]
            lost += bool(items)
            usable += [] if items else [row]
            # a picture is named once, a recording with each of its pictures
            for item in items:
                if item not in named:
                    lost_with_it = n_rows[item.path] if item.path == row.image else 1
                    rejected.append(Problem(item.path, bad[item], lost_with_it).record())
            named |= {item for item in items if item.path == row.image}
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


def as_json(findings: SourceFindings) -> dict[str, Any]:
    """All that was found, for programs."""
    kinds = {
        kind: {"count": len(records), "lost": _lost(records), "reason": records[0]["reason"]}
        for kind, records in worst_first(findings.rejected).items()
    }
    return {
        "corpus": findings.corpus,
        "passes": findings.passes,
        "utterances": findings.utterances,
        "usable": len(findings.usable),
        "pictures": findings.pictures,
        "hours": round(findings.hours, 4),
        "unspoken": findings.unspoken,
        "splits": {split: sum(row.split == split for row in findings.usable) for split in SPLITS},
        "n_rejected": findings.n_rejected,
        "kinds": kinds,
        "rejected": findings.rejected,
        "speakers": dict(findings.speakers),
        "warnings": findings.warnings,
        "notes": list(findings.notes),
        "recognised": list(findings.recognised),
        "not_recognised": dict(findings.not_recognised),
        "decoded": not findings.is_quick,
    }


def write_fix_list(path: Path, source: Path, findings: SourceFindings) -> None:
    """A CSV for whoever recorded: a file a line, what is wrong with it, and what to do. Spreadsheets open it.

    Raises:
        UserError: it would lie in the source, or cannot be written.
    """
    folder = (source if source.is_dir() else source.parent).resolve()
    if folder in path.resolve().parents:
        raise UserError(f"{path}: lies inside the source {source}, which is only read; choose another place.")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "what is wrong", "what to do"])
    for record in sorted([*findings.rejected, *findings.warnings], key=lambda record: record["path"]):
        wrong, _, remedy = record["reason"].rpartition("; ")
        writer.writerow([record["path"], wrong or remedy, remedy if wrong else "record or rename it, or leave it out"])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8-sig"))


def worst_first(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """As `by_kind`, the kind with which most descriptions are lost first."""
    return dict(sorted(by_kind(records).items(), key=lambda item: -_lost(item[1])))


def _lost(records: Iterable[Mapping[str, Any]]) -> int:
    return sum(record.get("lost", 1) for record in records)


def _where(records: Sequence[Mapping[str, Any]]) -> str:
    """The folders in which most of these are, where half of a class lacks its counterpart, say."""
    folders = Counter(posixpath.dirname(record["path"]) for record in records)
    most = [f"{folder} ({count:,})" for folder, count in folders.most_common(FOLDERS_SHOWN) if folder and count > 2]
    return f"; most are in {', '.join(most)}" if most else ""


def summary(source: Path, findings: SourceFindings) -> str:
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
    lines += lines_of(findings.speakers, findings.warnings)
    for name, reason in came_near(findings.not_recognised).items():
        lines.append(f"  not read as {name!r}: {reason}")
    if findings.rejected:
        lines.append(f"  {findings.n_rejected:,} of {findings.total:,} would be rejected:")
    kinds = worst_first(findings.rejected)
    examples = EXAMPLES if 2 * len(kinds) <= KINDS_SHOWN else 1
    for kind, records in list(kinds.items())[:KINDS_SHOWN]:
        lines.append(f"    {len(records):,}  {kind}")
        lines += [f"        {record['path']}: {record['reason']}" for record in records[:examples]]
        if len(records) > examples:
            lines.append(f"        and {len(records) - examples:,} more{_where(records)}")
    if len(kinds) > KINDS_SHOWN:
        lines.append(f"    and {counted(len(kinds) - KINDS_SHOWN, 'more kind')}; --fix-list names all")
    if findings.is_quick:
        lines.append("  Nothing was decoded; without --quick everything is.")
    return "\n".join(lines)
