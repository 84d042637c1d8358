"""Reads a source as `prepare` would, all of it, and changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.source import ReadOptions
from s2igan.corpora.prepare.corpus import (
    MIN_SECONDS,
    SOURCE,
    below,
    by_kind,
    clean,
    entry_of,
    link_source,
    read_corpus,
    unpack_source,
)
from s2igan.corpora.prepare.splits import with_splits
from s2igan.corpora.registry import IMPORTERS, importer
from s2igan.data.images import Box, load_image
from s2igan.data.manifest import SPLITS, Utterance
from s2igan.errors import UserError
from s2igan.parallel import each_result, progress_bars
from s2igan.text_utils import counted

EXAMPLES = 3
"""Of each reason."""
ITEMS_PER_TASK = 32
DECODED_SIDE = 76
"""Pixels to which pictures are brought while they are checked, as for training at 64 px."""


@dataclass(frozen=True)
class Findings:
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
        from s2igan.data.pack import MAX_REJECTED

        return bool(self.usable) and self.n_rejected <= MAX_REJECTED * self.total


@dataclass(frozen=True)
class _Share:
    """Some files to decode, for one process."""

    root: Path
    pictures: tuple[str, ...] = ()
    boxes: tuple[Box | None, ...] = ()
    sounds: tuple[tuple[str, float | None, float | None], ...] = ()

    def __len__(self) -> int:
        return len(self.pictures) + len(self.sounds)


@dataclass
class _Heard:
    """What became of a share: reasons by item, and seconds of speech by recording."""

    bad: dict[Any, str] = field(default_factory=dict)
    seconds: dict[Any, float] = field(default_factory=dict)


def _decode(share: _Share) -> _Heard:
    from s2igan.audio import SAMPLE_RATE, check_seconds, load_audio

    heard = _Heard()

    def attempt(item: Any, path: Path, decode: Callable[[], object]) -> None:
        try:
            decode()
        except UserError as error:
            heard.bad[item] = str(error).removeprefix(f"{path}: ").replace(f"{share.root}/{SOURCE}/", "").rstrip(".")

    for picture, box in zip(share.pictures, share.boxes, strict=True):
        path = share.root / picture
        attempt(picture, path, lambda path=path, box=box: load_image(path, DECODED_SIDE, box))  # type: ignore[misc]
    for sound in share.sounds:
        path = share.root / sound[0]

        def hear(sound: tuple[str, float | None, float | None] = sound, path: Path = path) -> None:
            wave = load_audio(path, *sound[1:])
            check_seconds(wave, MIN_SECONDS, str(path))
            heard.seconds[sound] = len(wave) / SAMPLE_RATE

        attempt(sound, path, hear)
    return heard


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
    progress: bool = True,
) -> Findings:
    """Decode every picture and recording of a source, and say what `prepare` would take and reject.

    Archives are unpacked into a temporary folder, which is removed.

    Args:
        source: folder, archive, folder of archives, or a manifest.
        corpus: name of the importer; recognised by its layout unless given.

    Raises:
        UserError: the source has another layout, or nothing in it can be used.
    """
    source = Path(source)
    if corpus is not None:
        importer(corpus)
    with tempfile.TemporaryDirectory(prefix="s2igan-validate-") as temporary:
        root = Path(temporary)
        folder, left_out = unpack_source(source, root, progress=progress)
        link_source(folder, root)
        entry = entry_of(source, folder)
        name = corpus or detect(entry)
        found = read_corpus(name, entry, ReadOptions())
        tidy = clean(name, [below(row) for row in found.rows], root)
        problems = (*left_out, *found.problems, *tidy.problems)
        rejected = [problem.record() for problem in problems]
        lost = sum(problem.lost for problem in problems)
        rows, repeated = _told_once(tidy.rows)
        rejected += repeated
        lost += len(repeated)

        boxes = {f"{SOURCE}/{path}": box for path, box in found.boxes.items()}
        heard = _decode_all(rows, boxes, root, jobs, progress)
        split = with_splits(rows, seed=seed, speaker_disjoint=speaker_disjoint, same=tidy.same) if rows else None
        usable = []
        named: set[str] = set()
        for row in split.rows if split else ():
            sound = (row.audio, row.start_seconds, row.end_seconds)
            reasons = [(row.audio, heard.bad.get(sound)), (row.image, heard.bad.get(row.image))]
            bad = [(path, reason) for path, reason in reasons if reason is not None]
            lost += bool(bad)
            usable += [] if bad else [row]
            for path, reason in bad:
                if path not in named or path != row.image:
                    rejected.append({"path": path, "reason": reason})
                named.add(path)
        for record in rejected:
            record["path"] = record["path"].removeprefix(f"{SOURCE}/")
            record["reason"] = record["reason"].replace(f"{SOURCE}/", "")
    return Findings(
        corpus=name,
        utterances=len(found.rows),
        usable=usable,
        pictures=len({row.image for row in usable}),
        hours=sum(heard.seconds.get((row.audio, row.start_seconds, row.end_seconds), 0.0) for row in usable) / 3600,
        unspoken=sum(not row.audio for row in usable),
        rejected=rejected,
        n_rejected=lost,
        notes=(*tidy.notes, *(split.notes if split else ())),
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


def _decode_all(
    rows: Sequence[Utterance], boxes: dict[str, Box], root: Path, jobs: int | None, progress: bool
) -> _Heard:
    pictures = list(dict.fromkeys(row.image for row in rows))
    sounds = list(dict.fromkeys((row.audio, row.start_seconds, row.end_seconds) for row in rows if row.audio))
    shares = [
        _Share(root, those, tuple(boxes.get(path) for path in those))
        for at in range(0, len(pictures), ITEMS_PER_TASK)
        for those in [tuple(pictures[at : at + ITEMS_PER_TASK])]
    ]
    shares += [
        _Share(root, sounds=tuple(sounds[at : at + ITEMS_PER_TASK])) for at in range(0, len(sounds), ITEMS_PER_TASK)
    ]
    if len(shares) <= 4:
        jobs = 1  # other processes take longer to start than this takes
    everything = _Heard()
    with progress_bars(progress) as bars:
        bar = bars.add_task("pictures and recordings decoded", total=len(pictures) + len(sounds))
        for share, heard in each_result(_decode, shares, jobs):
            everything.bad |= heard.bad
            everything.seconds |= heard.seconds
            bars.advance(bar, len(share))
    return everything


def in_words(source: Path, findings: Findings) -> str:
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
