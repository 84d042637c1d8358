"""ELAN annotation files (.eaf) in which a tier says which picture is being described when."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from s2igan.corpora.importers.pseudonyms import Pseudonyms
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import (
    AUDIO_SUFFIXES,
    FILM_SUFFIXES,
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

EXPECTED = "*.eaf with their recordings, a tier whose annotations are names of pictures (dog.jpg), and the pictures"
MAX_DEPTH = 50
"""Of annotations that refer to annotations."""
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
            tiers, media, faults = _parse(tree.source / path)
        except ValueError as error:
            problems.append(Problem(path, str(error)))
            continue
        seen += [tier.name for tier in tiers]
        naming = _naming(tiers, pictures)
        named = {tier.name for tier in naming}
        problems += [Problem(path, f"in the tier {tier}, {why}", lost=int(tier in named)) for tier, why in faults]
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
            f"{tree.source}: expected {EXPECTED}, and found no picture with its recording in {len(files):,} .eaf "
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


def _parse(path: Path) -> tuple[list[Tier], list[tuple[str, str, int]], list[tuple[str, str]]]:
    """The tiers; the media: URL, relative URL, and what to add to a time of the tiers (milliseconds); and the
    tiers in which single annotations are wrong, with what is wrong.

    Raises:
        ValueError: the file is no ELAN file; a clause without a full stop.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise ValueError(f"not readable as an ELAN file ({type(error).__name__}: {error})") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"not readable as an ELAN file (it is {root.tag!r}, no ANNOTATION_DOCUMENT)")
    faults: list[tuple[str, str]] = []
    slots = {
        slot.get("TIME_SLOT_ID", ""): _milliseconds(slot.get("TIME_VALUE"))
        for slot in root.iterfind("TIME_ORDER/TIME_SLOT")
    }
    values = {
        entry.get("CVE_ID", ""): (entry.findtext("CVE_VALUE") or "").strip()
        for entry in root.iterfind("CONTROLLED_VOCABULARY/CV_ENTRY_ML")
    }
    elements = [(tier.get("TIER_ID", ""), tier, _notes(tier, values, faults)) for tier in root.iterfind("TIER")]
    times = _Times(slots, [note for _, _, notes in elements for note in notes])
    tiers = [_tier(name, tier, notes, times, faults) for name, tier, notes in elements]
    media = [
        (
            item.get("MEDIA_URL", ""),
            item.get("RELATIVE_MEDIA_URL", ""),
            int(_milliseconds(item.get("TIME_ORIGIN")) or 0),
        )
        for item in root.iterfind("HEADER/MEDIA_DESCRIPTOR")
    ]
    return tiers, media, faults


def _milliseconds(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class _Note:
    """An annotation as it is written."""

    name: str
    tier: str
    value: str
    slots: tuple[str, str] | None
    """Of an annotation with times."""
    parent: str
    """The annotation that it refers to, else empty."""
    previous: str
    """The one before it of those that refer to the same, else empty."""


def _notes(tier: ElementTree.Element, values: Mapping[str, str], faults: list[tuple[str, str]]) -> list[_Note]:
    notes = []
    for element in tier.iterfind("ANNOTATION/*"):
        value = (element.findtext("ANNOTATION_VALUE") or "").strip()
        reference = element.get("CVE_REF", "")
        name = element.get("ANNOTATION_ID", "")
        if not value and reference:
            value = values.get(reference, "")
            if not value:
                missing = f"the entry {reference} of its vocabulary is not in the file"
                faults.append((tier.get("TIER_ID", ""), f"the annotation {name} has no value: {missing}"))
        slots = None
        if element.tag == "ALIGNABLE_ANNOTATION":
            slots = element.get("TIME_SLOT_REF1", ""), element.get("TIME_SLOT_REF2", "")
        parent, previous = element.get("ANNOTATION_REF", ""), element.get("PREVIOUS_ANNOTATION", "")
        notes.append(_Note(name, tier.get("TIER_ID", ""), value, slots, parent, previous))
    return notes


class _Times:
    """When annotations begin and end, where ELAN draws them: what has no time of its own has an equal share of what it
    divides."""

    def __init__(self, slots: Mapping[str, float | None], notes: Sequence[_Note]) -> None:
        self._slots = slots
        self._by_name = {note.name: note for note in notes}
        self._children: dict[str, list[_Note]] = {}
        for note in notes:
            if note.parent:
                self._children.setdefault(note.parent, []).append(note)
        self._at = dict(slots)
        self._share_slots([note.slots for note in notes if note.slots is not None])

    def _share_slots(self, spans: Sequence[tuple[str, str]]) -> None:
        """Slots without a time, in a chain of annotations between two that have one."""
        following = {start: end for start, end in spans if self._slots.get(end) is None}
        ending = {start: end for start, end in spans if self._slots.get(start) is None}
        for first in [start for start in following if self._slots.get(start) is not None]:
            chain = [following[first]]
            while chain[-1] in ending and len(chain) <= len(spans):
                chain.append(ending[chain[-1]])
                if self._slots.get(chain[-1]) is not None:
                    break
            begin, end = self._slots.get(first), self._slots.get(chain[-1])
            if begin is None or end is None:
                continue
            for number, slot in enumerate(chain[:-1], start=1):
                self._at[slot] = begin + (end - begin) * number / len(chain)

    def siblings(self, note: _Note) -> list[_Note]:
        """All that refer to what this one refers to, in the order that their references to each other give."""
        return in_order(self._children.get(note.parent, [note]))

    def of(self, note: _Note, depth: int = 0) -> tuple[float | None, float | None]:
        """Start and end in milliseconds.

        Raises:
            ValueError: it refers to an annotation or a time that is not there.
        """
        if note.slots is not None:
            missing = next((slot for slot in note.slots if slot not in self._slots), None)
            if missing is not None:
                raise ValueError(f"refers to the time {missing!r}, which is not there")
            return self._at[note.slots[0]], self._at[note.slots[1]]
        parent = self._by_name.get(note.parent)
        if parent is None or depth > MAX_DEPTH:
            raise ValueError(
                f"refers to the annotation {note.parent!r}, which {'is not there' if parent is None else 'leads back'}"
            )
        start, end = self.of(parent, depth + 1)
        own = [other for other in self.siblings(note) if other.tier == note.tier]
        if start is None or end is None or len(own) == 1:
            return start, end
        share = (end - start) / len(own)
        number = own.index(note)
        return start + number * share, start + (number + 1) * share


def in_order(notes: Sequence[_Note]) -> list[_Note]:
    """By their references to the one before; those that lead nowhere as they are written, at the end."""
    by_previous = {note.previous: note for note in reversed(notes)}
    names = {note.name for note in notes}
    found: dict[str, _Note] = {}
    for first in [note for note in notes if note.previous not in names]:
        note: _Note | None = first
        while note is not None and note.name not in found:
            found[note.name] = note
            note = by_previous.get(note.name)
    return [*found.values(), *(note for note in notes if note.name not in found)]


def _tier(
    name: str, element: ElementTree.Element, notes: Sequence[_Note], times: _Times, faults: list[tuple[str, str]]
) -> Tier:
    found = []
    for place, note in enumerate(in_order(notes)):
        try:
            start, end = times.of(note)
        except ValueError as error:
            faults.append((name, f"the annotation {note.name} ({note.value!r}) {error}"))
            continue
        found.append((start is None, start or 0.0, end or 0.0, place, Annotation(start, end, note.value)))
    return Tier(
        name,
        " ".join((element.get("PARTICIPANT") or "").split()),
        element.get("LANG_REF") or None,
        element.get("LINGUISTIC_TYPE_REF") or "",
        element.get("PARENT_REF") or None,
        tuple(note for *_, note in sorted(found, key=lambda entry: entry[:4])),
    )


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
    origins = {origin for _, origin in named}
    called = [
        other
        for other in tree.with_suffix(AUDIO_SUFFIXES)
        if posixpath.dirname(other) == home and same_name(stem(other)) == same_name(stem(path))
    ]
    if not called:
        return None
    best = min(called, key=lambda other: (suffix(other) in FILM_SUFFIXES, suffix(other) != ".wav", other))
    return best, origins.pop() if len(origins) == 1 else 0


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
