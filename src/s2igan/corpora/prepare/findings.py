"""What was found in a source, told: for a terminal, for programs, and as a list for whoever recorded."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2igan.corpora.prepare.corpus import by_kind
from s2igan.corpora.prepare.quality import lines_of
from s2igan.data.manifest import SPLITS, Utterance
from s2igan.data.pack import MAX_REJECTED
from s2igan.errors import UserError
from s2igan.files import atomic_write
from s2igan.text_utils import counted

EXAMPLES = 2
"""Of each reason; where there are many, of each one."""
FOLDERS_SHOWN = 4
KINDS_SHOWN = 10
"""Of reasons: with what else is said, a screen of 40 lines."""
NOTHING_OF_IT = re.compile(r"no .* (?:is|are) here or below; |expected .*found no record with both in 0 databases")
"""How importers begin that see none of their files."""


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


def came_near(reasons: Mapping[str, str]) -> dict[str, str]:
    """Of importers that do not recognise a layout, those that found their own kind of file in it."""
    return {name: reason for name, reason in reasons.items() if not NOTHING_OF_IT.match(reason)}


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
