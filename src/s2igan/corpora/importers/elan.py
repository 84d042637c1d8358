"""ELAN annotation files (.eaf) in which a tier says which picture is being described when."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from s2igan.corpora.importers.pseudonyms import Pseudonyms
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import AUDIO_SUFFIXES, IMAGE_SUFFIXES, Tree, base_name, stem, suffix
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError

EXPECTED = "*.eaf with their recordings, a tier whose annotations are names of pictures (dog.jpg), and the pictures"
SCHEMA = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
TRANSCRIPTION = re.compile(r"transcri|text|ortho|utter|phrase|^tx\b|^ref\b", re.IGNORECASE)


@dataclass(frozen=True)
class Annotation:
    """Times in milliseconds, None where the annotation is not aligned."""

    start: int | None
    end: int | None
    value: str


@dataclass(frozen=True)
class Tier:
    """One tier, its annotations by time."""

    name: str
    participant: str
    language: str | None
    kind: str
    """The linguistic type."""
    parent: str | None
    annotations: tuple[Annotation, ...]


def read(source: Path, options: ReadOptions) -> Corpus:
    """A row for each annotation that names a picture, by file, tier and time; see `Importer.read`.

    The speaker is the tier's participant: "speaker-1" and so on, counted in the order of the files, or, with
    `keep_personal_data`, as written there.
    """
    tree = Tree(source)
    files = tree.with_suffix({".eaf"})
    if not files:
        raise tree.wrong("no .eaf", EXPECTED)
    pictures = _pictures(tree)
    pseudonyms = Pseudonyms(options.keep_personal_data)
    rows: list[Utterance] = []
    problems: list[Problem] = []
    seen: list[str] = []
    for path in files:
        try:
            tiers, media = _parse(tree.source / path)
        except ValueError as error:
            problems.append(Problem(path, str(error)))
            continue
        seen += [tier.name for tier in tiers]
        naming = [tier for tier in tiers if _names_pictures(tier, pictures)]
        if not naming:
            names = ", ".join(tier.name for tier in tiers) or "none"
            problems.append(Problem(path, f"no tier names pictures; its tiers: {names}"))
            continue
        recording = _recording(tree, path, media)
        if recording is None:
            listed = ", ".join(base_name(unquote(url)) for url, _, _ in media) or "none is named"
            problems.append(Problem(path, f"its recording is nowhere below the source ({listed})"))
            continue
        for tier in naming:
            rows += _rows(tier, tiers, naming, recording, pictures, path, pseudonyms, problems)
    if not rows:
        tiers_here = ", ".join(dict.fromkeys(seen)) or "none"
        first = f"; the first problem: {problems[0].path}: {problems[0].reason}" if problems else ""
        raise UserError(
            f"{tree.source}: expected {EXPECTED}, and found no picture with its recording in {len(files):,} .eaf "
            f"(tiers: {tiers_here}){first}."
        )
    return Corpus(rows, problems=tuple(problems))


def _rows(
    tier: Tier,
    tiers: Sequence[Tier],
    naming: Sequence[Tier],
    recording: tuple[str, int],
    pictures: Mapping[str, list[str]],
    path: str,
    pseudonyms: Pseudonyms,
    problems: list[Problem],
) -> list[Utterance]:
    """Of one tier that names pictures."""
    audio, origin = recording
    spoken = _transcription(tier, tiers, naming)
    participant = tier.participant or (spoken.participant if spoken else "")
    speaker = pseudonyms.name_of(participant.casefold(), participant)
    language = tier.language or (spoken.language if spoken else None)
    rows = []
    for note in tier.annotations:
        if not note.value:
            continue
        if note.start is None or note.end is None or note.end <= note.start or note.start + origin < 0:
            problems.append(Problem(path, f"{note.value!r} in the tier {tier.name} has no time in the recording"))
            continue
        found = _pictures_called(note.value, pictures)
        at = f"{note.value!r} in the tier {tier.name} at {note.start / 1000:g} s"
        if len(found) != 1:
            reason = "is no picture below the source" if not found else f"may be {' or '.join(found)}"
            problems.append(Problem(path, f"{at} {reason}"))
            continue
        rows.append(
            Utterance(
                audio,
                found[0],
                start_seconds=(note.start + origin) / 1000,
                end_seconds=(note.end + origin) / 1000,
                speaker=speaker,
                language=language,
                text=_text(note, spoken) if spoken else None,
            )
        )
    return rows


def _parse(path: Path) -> tuple[list[Tier], list[tuple[str, str, int]]]:
    """The tiers, and the media: URL, relative URL, and what to add to a time of the tiers (milliseconds).

    Raises:
        ValueError: the file is no ELAN file; a clause without a full stop.
    """
    from pympi.Elan import Eaf, parse_eaf

    eaf = Eaf()
    eaf.tiers.clear()
    eaf.adocument[SCHEMA] = ""  # the parser drops it, and fails where a file has none
    try:
        parse_eaf(str(path), eaf, suppress_version_warning=True)
        tiers = [_tier(eaf, name) for name in eaf.get_tier_names()]
        media = [
            (item.get("MEDIA_URL", ""), item.get("RELATIVE_MEDIA_URL", ""), int(item.get("TIME_ORIGIN") or 0))
            for item in eaf.media_descriptors
        ]
    except Exception as error:  # pympi raises whatever a missing attribute or element leads to
        raise ValueError(f"not readable as an ELAN file ({type(error).__name__}: {error})") from error
    return tiers, media


def _tier(eaf: Any, name: str) -> Tier:
    attributes = eaf.get_parameters_for_tier(name)
    notes = [
        Annotation(entry[0], entry[1], (entry[2] or "").strip()) for entry in eaf.get_annotation_data_for_tier(name)
    ]
    notes.sort(key=lambda note: (note.start is None, note.start or 0, note.end or 0, note.value))
    return Tier(
        name,
        " ".join((attributes.get("PARTICIPANT") or "").split()),
        attributes.get("LANG_REF") or None,
        attributes.get("LINGUISTIC_TYPE_REF") or "",
        attributes.get("PARENT_REF") or None,
        tuple(notes),
    )


def _pictures(tree: Tree) -> dict[str, list[str]]:
    """All pictures by their base name, and by it without suffix, in small letters."""
    index: dict[str, list[str]] = {}
    for path in tree.with_suffix(IMAGE_SUFFIXES):
        name = path.rpartition("/")[2].casefold()
        for key in (name, stem(name)):
            index.setdefault(key, []).append(path)
    return index


def _pictures_called(value: str, pictures: Mapping[str, list[str]]) -> list[str]:
    """By the end of its path if there are folders in `value`, else by base name."""
    found = pictures.get(base_name(value).casefold(), [])
    tail = value.strip().replace("\\", "/")
    return [path for path in found if path == tail or path.endswith("/" + tail)] or found


def _names_pictures(tier: Tier, pictures: Mapping[str, list[str]]) -> bool:
    """Whether most of what is written in the tier is a picture's name, or looks like one."""
    values = [note.value for note in tier.annotations if note.value]
    named = [value for value in values if suffix(value) in IMAGE_SUFFIXES or _pictures_called(value, pictures)]
    return 2 * len(named) > len(values)


def _recording(tree: Tree, path: str, media: Sequence[tuple[str, str, int]]) -> tuple[str, int] | None:
    """The recording and its offset in milliseconds: one that the file names, or one that is called like the file."""
    home = posixpath.dirname(path)
    for url, relative_url, origin in media:
        name = base_name(unquote(relative_url or url))
        if suffix(name) not in AUDIO_SUFFIXES:
            continue
        beside = posixpath.join(home, name)
        found = [beside] if beside in tree else tree.named(name)
        if found:
            return found[0], origin
    origins = {origin for _, _, origin in media}
    for ending in sorted(AUDIO_SUFFIXES):
        called = stem(path) + ending
        if called in tree:
            return called, origins.pop() if len(origins) == 1 else 0
    return None


def _transcription(tier: Tier, tiers: Sequence[Tier], naming: Sequence[Tier]) -> Tier | None:
    """The one tier that writes down what is said; None where it is not obvious which one that is.

    Of the tiers that depend on no other (but perhaps on this one) and overlap with it: those of the same participant if
    there are such; if that leaves several, those that are called a transcription.
    """
    pictures = {own.name for own in naming}
    candidates = [
        other
        for other in tiers
        if other.name not in pictures
        and (other.parent is None or other.parent == tier.name)
        and any(_text(note, other) for note in tier.annotations)
    ]
    if tier.participant:
        candidates = [other for other in candidates if other.participant == tier.participant] or [
            other for other in candidates if not other.participant
        ]
    if len(candidates) > 1:
        candidates = [o for o in candidates if TRANSCRIPTION.search(o.name) or TRANSCRIPTION.search(o.kind)]
    return candidates[0] if len(candidates) == 1 else None


def _text(note: Annotation, spoken: Tier) -> str | None:
    """What stands in `spoken` while `note` lasts: annotations with their middle in it."""
    if note.start is None or note.end is None:
        return None
    words = [
        own.value
        for own in spoken.annotations
        if own.value and own.start is not None and own.end is not None
        if 2 * note.start <= own.start + own.end < 2 * note.end
    ]
    return " ".join(words) or None


IMPORTER = Importer.called("elan", read)
