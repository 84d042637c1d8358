"""What ELAN, Praat and FLEx share: tiers of annotations, of which one says which picture is being described when."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from s2igan.corpora.importers.pseudonyms import Pseudonyms
from s2igan.corpora.importers.source import Corpus, Problem, ReadOptions
from s2igan.corpora.importers.source_files import (
    IMAGE_SUFFIXES,
    Tree,
    base_name,
    same_name,
    spellings,
    stem,
    suffix,
)
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError
from s2igan.file_kinds import AUDIO_SUFFIXES, FILM_SUFFIXES

PICTURE = re.compile(r"picture|image|photo|stimul|\bpics?\b|bild|imagen|foto|figur", re.IGNORECASE)
"""What tiers are called that name pictures."""
TRANSCRIPTION = re.compile(r"transcri|text|ortho|utter|phrase|^tx\b|^ref\b", re.IGNORECASE)


@dataclass(frozen=True)
class Annotation:
    """Times in milliseconds, None where the annotation is not aligned."""

    start: float | None
    end: float | None
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


@dataclass(frozen=True)
class Annotated:
    """A file of annotations, or one of the texts in it."""

    tiers: list[Tier]
    media: list[tuple[str, str, int]]
    """URL, relative URL, and what to add to a time of the tiers (milliseconds)."""
    faults: list[tuple[str, str]]
    """The tiers in which single annotations are wrong, with what is wrong."""


def annotated_corpus(
    tree: Tree, ending: str, parse: Callable[[Path], Sequence[Annotated]], expected: str, options: ReadOptions
) -> Corpus:
    """A row for each annotation that names a picture, by file, tier and time.

    The speaker is the tier's participant: "speaker-1" and so on, counted in the order of the files, or, with
    `keep_personal_data`, as written there.

    Args:
        ending: of the names of the files, in small letters, with the dot.
        parse: raises ValueError, a clause without a full stop, where a file is none of its kind.
        expected: what should be here, in words.

    Raises:
        UserError: there is no such file, or no picture with its recording in any.
    """
    files = tree.with_suffix({ending})
    if not files:
        raise tree.wrong(f"no {ending}", expected)
    pictures = _pictures(tree)
    pseudonyms = Pseudonyms(options.keep_personal_data)
    rows: list[Utterance] = []
    problems: list[Problem] = []
    seen: list[str] = []
    texts: list[tuple[str, Annotated]] = []
    for path in files:
        try:
            texts += [(path, text) for text in parse(tree.source / path)]
        except ValueError as error:
            problems.append(Problem(path, str(error)))
    for path, file in texts:
        tiers, media = file.tiers, file.media
        seen += [tier.name for tier in tiers]
        naming = _naming(tiers, pictures)
        named = {tier.name for tier in naming}
        problems += [Problem(path, f"in the tier {tier}, {why}", lost=int(tier in named)) for tier, why in file.faults]
        if not naming:
            names = ", ".join(tier.name for tier in tiers) or "none"
            numbers = next((tier.name for tier in tiers if _names_pictures(tier, pictures)), None)
            why = "" if numbers is None else f" ({numbers} holds bare numbers: call it picture if they are names)"
            problems.append(Problem(path, f"no tier names pictures; its tiers: {names}{why}"))
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
            f"{tree.source}: expected {expected}, and found no picture with its recording in {len(files):,} {ending} "
            f"(tiers: {tiers_here}){first}."
        )
    once = {(row.audio, row.image, row.start_seconds, row.end_seconds): row for row in reversed(rows)}
    return Corpus(list(once.values())[::-1], problems=tuple(problems))


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


def _pictures(tree: Tree) -> dict[str, list[str]]:
    """All pictures by their base name, and by it without suffix."""
    index: dict[str, list[str]] = {}
    for path in tree.with_suffix(IMAGE_SUFFIXES):
        name = same_name(path.rpartition("/")[2])
        for key in (name, stem(name)):
            index.setdefault(key, []).append(path)
    return index


def _pictures_called(value: str, pictures: Mapping[str, list[str]]) -> list[str]:
    """By the end of its path if there are folders in `value`, else by base name."""
    for spelling in spellings(value):
        found = pictures.get(same_name(base_name(spelling)), [])
        tail = same_name(spelling.strip().replace("\\", "/"))
        ending = [path for path in found if (own := same_name(path)) == tail or own.endswith("/" + tail)]
        if ending or found:
            return ending or found
    return []


def _naming(tiers: Sequence[Tier], pictures: Mapping[str, list[str]]) -> list[Tier]:
    """The tiers that name pictures: those that write them with a suffix, else those that are called so, else those most
    of whose values are names of pictures. A tier of bare numbers counts segments, unless it is called otherwise."""
    found = [tier for tier in tiers if _names_pictures(tier, pictures)]
    with_suffix = [
        tier for tier in found if any(suffix(note.value) in IMAGE_SUFFIXES for note in tier.annotations if note.value)
    ]
    called = [tier for tier in found if PICTURE.search(tier.name) or PICTURE.search(tier.kind)]
    return with_suffix or called or [tier for tier in found if not _is_numbers(tier)]


def _is_numbers(tier: Tier) -> bool:
    return all(note.value.isdecimal() for note in tier.annotations if note.value)


def _names_pictures(tier: Tier, pictures: Mapping[str, list[str]]) -> bool:
    """Whether most of what is written in the tier is a picture's name, or looks like one."""
    values = [note.value for note in tier.annotations if note.value]
    named = [value for value in values if suffix(value) in IMAGE_SUFFIXES or _pictures_called(value, pictures)]
    return 2 * len(named) > len(values)


def _recording(tree: Tree, path: str, media: Sequence[tuple[str, str, int]]) -> tuple[str, int] | None:
    """The recording and its offset in milliseconds: one that the file names, or one that is called like the file."""
    home = posixpath.dirname(path)
    named = [(base_name(unquote(relative_url or url)), origin) for url, relative_url, origin in media]
    for name, origin in sorted(named, key=lambda entry: suffix(entry[0]) in FILM_SUFFIXES):
        if suffix(name) not in AUDIO_SUFFIXES:
            continue
        beside = posixpath.join(home, name)
        found = [beside] if beside in tree else tree.named(name)
        if found:
            return found[0], origin
    sounds = tree.with_suffix(AUDIO_SUFFIXES)
    for name, origin in named:
        converted = [other for other in sounds if same_name(stem(base_name(other))) == same_name(stem(name))]
        if converted:
            return min(converted, key=lambda other: (posixpath.dirname(other) != home, *_worth(other))), origin
    origins = {origin for _, origin in named}
    called = [
        other
        for other in sounds
        if posixpath.dirname(other) == home and same_name(stem(other)) == same_name(stem(path))
    ]
    if not called:
        return None
    return min(called, key=_worth), origins.pop() if len(origins) == 1 else 0


def _worth(path: str) -> tuple[bool, bool, str]:
    """Of copies of a recording the smallest is read: a wav before others, and films last."""
    return suffix(path) in FILM_SUFFIXES, suffix(path) != ".wav", path


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
