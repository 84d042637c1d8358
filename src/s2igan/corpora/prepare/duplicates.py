"""The same picture or recording under several names: found by its bytes, and kept from leaking between splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from s2igan.corpora.importers.source import Problem
from s2igan.data.manifest import Utterance

PROTECTED = {"test": 4, "development": 3, "validation": 2, "train": 1, None: 0}
"""Of two splits that hold the same sound or picture, the one with the larger number keeps it."""
THREADS = 16


def equal_files(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """For every file that holds the same bytes as an earlier one, that earlier one. Files that are missing are none.

    Only files of one size are read.
    """
    names = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(THREADS) as pool:
        by_size: dict[int, list[str]] = {}
        for name, size in zip(names, pool.map(lambda name: _size(root / name), names), strict=True):
            if size:  # empty files are rejected as such
                by_size.setdefault(size, []).append(name)
        alike = [name for those in by_size.values() if len(those) > 1 for name in those]
        first: dict[bytes, str] = {}
        same = {}
        for name, digest in zip(alike, pool.map(lambda name: _digest(root / name), alike), strict=True):
            if digest is not None and first.setdefault(digest, name) != name:
                same[name] = first[digest]
    return same


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).digest()
    except OSError:
        return None


@dataclass(frozen=True)
class Cleaned:
    """Rows without what would count twice or leak."""

    rows: list[Utterance]
    same: Mapping[str, str]
    """For files of the same bytes as another, that other; see `equal_files`."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def published(rows: Sequence[Utterance], same: Mapping[str, str]) -> Cleaned:
    """A corpus with published splits stays as it is; pictures and recordings in two of its splits are pointed out."""
    notes = []
    for what, paths in (("pictures", [row.image for row in rows]), ("recordings", [row.audio for row in rows])):
        splits: dict[str, set[str]] = {}
        for row, path in zip(rows, paths, strict=True):
            if row.split is not None and path:
                splits.setdefault(same.get(path, path), set()).add(row.split)
        leaking = [path for path, names in splits.items() if len(names) > 1]
        if leaking:
            notes.append(
                f"{len(leaking):,} {what} of the published corpus are in several of its splits under different names, "
                f"the first {leaking[0]}; they are kept, so that figures compare with those of others."
            )
    return Cleaned(list(rows), same, notes=tuple(notes))


def cleaned(rows: Sequence[Utterance], same: Mapping[str, str]) -> Cleaned:
    """Own corpora: one name for each picture, no description twice, and nothing in two of the splits that they bring.

    A picture under several names takes the first name, so that all its recordings describe one picture. Where its
    copies have different classes or splits that cannot be, and the copies of the less protected split (or the later
    class) are left out.
    """
    first: dict[str, Utterance] = {}
    for row in rows:
        first.setdefault(row.image, row)
    keeper: dict[str, str] = {}
    """Of every picture with several names, the one that is kept."""
    for image in first:
        original = same.get(image, image)
        best = keeper.setdefault(original, image)
        if PROTECTED[first[image].split] > PROTECTED[first[best].split]:
            keeper[original] = image
    kept: list[Utterance] = []
    problems: list[Problem] = []
    told: dict[tuple[str, float, float, str], str] = {}
    merged: set[str] = set()
    for row in rows:
        name = keeper[same.get(row.image, row.image)]
        if name != row.image:
            twin = first[name]
            if twin.class_name != row.class_name:
                problems.append(
                    Problem(row.image, f"the same picture as {name}, which has the class {twin.class_name!r}")
                )
                continue
            if twin.split != row.split:
                problems.append(Problem(row.image, f"the same picture as {name}, which is in the split {twin.split}"))
                continue
            if twin.attributes == row.attributes:
                merged.add(row.image)
                row = replace(row, image=name)
        if row.audio:
            audio, start, end = row.recording
            key = (same.get(audio, audio), start, end, row.image)
            earlier = told.setdefault(key, row.audio)
            if earlier != row.audio:
                problems.append(Problem(row.audio, f"the same recording as {earlier}, of the same picture"))
                continue
        kept.append(row)
    kept, leaks = _without_leaking_sounds(kept, same)
    notes = []
    if merged:
        notes.append(
            f"{len(merged):,} picture{'s are copies' if len(merged) > 1 else ' is a copy'} of another, the first "
            f"{min(merged)}; what is said of them counts for the one kept."
        )
    return Cleaned(kept, same, (*problems, *leaks), tuple(notes))


def _without_leaking_sounds(rows: list[Utterance], same: Mapping[str, str]) -> tuple[list[Utterance], list[Problem]]:
    """Rows without those whose sound, under another name, is in a more protected split."""
    sounds: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.audio and row.split is not None:
            sounds.setdefault(same.get(row.audio, row.audio), []).append(i)
    leaking: dict[int, int] = {}
    for those in sounds.values():
        if len({rows[i].audio for i in those}) == 1 or len({rows[i].split for i in those}) == 1:
            continue  # one name in two splits is an error of the manifest, which says so
        for i in those:
            for j in those:
                (_, start, end), (_, other_start, other_end) = rows[i].recording, rows[j].recording
                above = PROTECTED[rows[j].split] > PROTECTED[rows[i].split]
                if above and rows[i].audio != rows[j].audio and start < other_end and other_start < end:
                    leaking.setdefault(i, j)
    problems = [
        Problem(rows[i].audio, f"the same recording as {rows[j].audio}, which is in the split {rows[j].split}")
        for i, j in sorted(leaking.items())
    ]
    return [row for i, row in enumerate(rows) if i not in leaking], problems
