"""Interlinear texts of FieldWorks (.flextext) whose phrases name pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from s2igan.corpora.importers.annotated import Annotated, Annotation, Tier, annotated_corpus
from s2igan.corpora.importers.source import Corpus, Importer, ReadOptions
from s2igan.corpora.importers.source_files import Tree

EXPECTED = (
    "*.flextext with their recordings, phrases with time offsets of which one item (a note, say) is the name of a "
    "picture, and the pictures"
)


def read(source: Path, options: ReadOptions) -> Corpus:
    """A row for each phrase that names a picture; see `annotated_corpus` and `Importer.read`."""
    return annotated_corpus(Tree(source), ".flextext", _parse, EXPECTED, options)


def _parse(path: Path) -> list[Annotated]:
    """A tier for each kind of item and speaker. ValueError where the file is no flextext."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise ValueError(f"not readable as a flextext ({type(error).__name__}: {error})") from error
    if root.tag != "document":
        raise ValueError(f"not readable as a flextext (it is {root.tag!r}, no document)")
    return [part for text in root.iter("interlinear-text") for part in _by_recording(text)]


def _by_recording(text: ElementTree.Element) -> list[Annotated]:
    """The phrases of a text, those of each recording apart; they name none where there is only one."""
    files = {file.get("guid") or "": file.get("location") or "" for file in text.iterfind(".//media-files/media")}
    phrases: dict[str, list[ElementTree.Element]] = {}
    for phrase in text.iter("phrase"):
        named = phrase.get("media-file") or ""
        phrases.setdefault(named if named in files else next(iter(files), ""), []).append(phrase)
    return [
        Annotated(_tiers(own), [(files[named], "", 0)] if named in files else [], []) for named, own in phrases.items()
    ]


def _tiers(phrases: Iterable[ElementTree.Element]) -> list[Tier]:
    """A tier for each kind of item and speaker."""
    notes: dict[tuple[str, str], list[Annotation]] = {}
    for phrase in phrases:
        start, end = (_offset(phrase.get(f"{name}-time-offset")) for name in ("begin", "end"))
        speaker = phrase.get("speaker") or ""
        items = {item.get("type") or "": (item.text or "").strip() for item in phrase.iterfind("item")}
        words = [item.text or "" for item in phrase.iterfind("words/word/item") if item.get("type") in ("txt", "punct")]
        items.setdefault("txt", " ".join(words))
        for kind, value in items.items():
            if kind != "segnum" and value:
                notes.setdefault((kind, speaker), []).append(Annotation(start, end, value))
    return [
        Tier("transcription" if kind == "txt" else kind, speaker, None, kind, None, tuple(own))
        for (kind, speaker), own in notes.items()
    ]


def _offset(text: str | None) -> float | None:
    """Milliseconds."""
    try:
        return float(text or "")
    except ValueError:
        return None


IMPORTER = Importer.called("flextext", read)
