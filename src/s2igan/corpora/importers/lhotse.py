"""Manifests of Lhotse: cuts, or recordings with supervisions, whose custom fields name a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.hf_folder import first_of
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import IMAGE_SUFFIXES, Finder, NotFoundError, Tree, base_name, suffix
from s2igan.corpora.importers.spoken_lists import SPLIT_WORD
from s2igan.data.manifest import Utterance, split_name
from s2igan.errors import UserError

EXPECTED = (
    "*cuts*.jsonl or .jsonl.gz, or *recordings* and *supervisions*, with the name of a picture in custom, the "
    "recordings, and the pictures"
)
SUFFIXES = frozenset({".jsonl", ".jsonl.gz"})


def read(source: Path, options: ReadOptions) -> Corpus:
    """A row for each supervision with a picture, or for each cut without supervisions; see `Importer.read`."""
    tree = Tree(source)
    files = [path for path in tree.with_suffix(SUFFIXES) if _kind(path)]
    if not files:
        raise tree.wrong("no cuts or supervisions", EXPECTED)
    recordings: dict[str, str] = {}
    problems: list[Problem] = []
    for path in files:
        if _kind(path) == "recordings":
            recordings |= {str(entry.get("id")): _source(entry) for entry in tree.read_json_lines(path, problems)}
    finder = Finder(tree, "")
    rows: list[Utterance] = []
    for path in files:
        word = SPLIT_WORD.search(base_name(path).partition(".")[0].replace("-", "_"))
        split = None if word is None else split_name(word[1])
        for number, spoken in enumerate(_spoken(tree, path, recordings, problems), start=1):
            if spoken is None:
                problems.append(Problem(path, f"entry {number} names no picture in custom, or no recording"))
                continue
            audio, image, start, end, fields = spoken
            try:
                audio, image = _found(finder, audio), _found(finder, image)
            except NotFoundError as missing:
                problems.append(Problem(audio, str(missing)))
                continue
            speaker, language, text = (first_of(fields, (name,)) for name in ("speaker", "language", "text"))
            rows.append(
                Utterance(
                    audio,
                    image,
                    start_seconds=start,
                    end_seconds=end,
                    split=split,
                    speaker=speaker,
                    language=language,
                    text=text,
                )
            )
    if not rows:
        first = f"; the first problem: {problems[0].path}: {problems[0].reason}" if problems else ""
        raise UserError(f"{tree.source}: expected {EXPECTED}, and found no recording with its picture{first}.")
    return Corpus(rows, problems=tuple(problems))


def _kind(path: str) -> str:
    return next((kind for kind in ("cuts", "supervisions", "recordings") if kind in base_name(path).lower()), "")


def _source(recording: Mapping[str, Any]) -> str:
    """The file of a recording; empty where it is no file."""
    sources = recording.get("sources") or [{}]
    first = sources[0] if isinstance(sources[0], dict) else {}
    return str(first.get("source") or "") if first.get("type", "file") == "file" else ""


def _picture(*entries: Mapping[str, Any]) -> str | None:
    """The value of a custom field that is a picture's name."""
    for entry in entries:
        for value in (entry.get("custom") or {}).values():
            name = value.get("source") if isinstance(value, dict) else value
            if isinstance(name, str) and suffix(name) in IMAGE_SUFFIXES:
                return name
    return None


Spoken = tuple[str, str, float | None, float | None, Mapping[str, Any]]


def _spoken(tree: Tree, path: str, recordings: Mapping[str, str], problems: list[Problem]) -> Iterator[Spoken | None]:
    """Recording, picture, start and end in seconds, and the entry that knows speaker and text."""
    for entry in tree.read_json_lines(path, problems) if _kind(path) != "recordings" else ():
        try:
            if _kind(path) == "supervisions":
                yield _span(recordings.get(str(entry.get("recording_id")), ""), _picture(entry), entry, 0.0)
                continue
            audio, start = _source(entry.get("recording") or {}), float(entry.get("start") or 0.0)
            told = entry.get("supervisions") or []
            for own in told:
                yield _span(audio, _picture(own, entry), own, start)
            if not told:
                yield _span(audio, _picture(entry), entry, 0.0)
        except (TypeError, ValueError, AttributeError):
            yield None


def _span(audio: str, image: str | None, entry: Mapping[str, Any], offset: float) -> Spoken | None:
    if not audio or image is None:
        return None
    start = offset + float(entry.get("start") or 0.0)
    duration = entry.get("duration")
    return audio, image, start or None, None if duration is None else start + float(duration), entry


def _found(finder: Finder, path: str) -> str:
    """Below the source: as it is listed, or by name, since Lhotse writes absolute paths."""
    try:
        return finder(path)
    except NotFoundError:
        return finder(base_name(path))


IMPORTER = Importer.called("lhotse", read)
