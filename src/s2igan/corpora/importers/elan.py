"""ELAN annotation files (.eaf) in which a tier says which picture is being described when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from s2igan.corpora.importers.annotated import Annotated, Annotation, Tier, annotated_corpus
from s2igan.corpora.importers.source import Corpus, Importer, ReadOptions
from s2igan.corpora.importers.source_files import Tree

EXPECTED = "*.eaf with their recordings, a tier whose annotations are names of pictures (dog.jpg), and the pictures"
MAX_DEPTH = 50
"""Of annotations that refer to annotations."""


def read(source: Path, options: ReadOptions) -> Corpus:
    """A row for each annotation that names a picture; see `annotated_corpus` and `Importer.read`."""
    return annotated_corpus(Tree(source), ".eaf", _parse, EXPECTED, options)


def _parse(path: Path) -> list[Annotated]:
    """ValueError where the file is no ELAN file."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise ValueError(f"not readable as an ELAN file ({type(error).__name__}: {error})") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"not readable as an ELAN file (it is {root.tag!r}, no ANNOTATION_DOCUMENT)")
    units = next((header.get("TIME_UNITS") for header in root.iterfind("HEADER")), None)
    if units and units != "milliseconds":
        raise ValueError(f"its times are in {units}; save it in a newer ELAN, which writes milliseconds")
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
    return [Annotated(tiers, media, faults)]


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
    return [*found.values(), *(note for note in notes if found.get(note.name) is not note)]


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


IMPORTER = Importer.called("elan", read)
