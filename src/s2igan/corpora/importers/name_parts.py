"""What the names of recordings say beside the name of their picture: who speaks, in which language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from s2igan.corpora.importers.pseudonyms import Pseudonyms
from s2igan.data.manifest import Utterance

SEPARATORS = re.compile(r"[-_. ()]+")
"""Between the parts of a name."""
SPEAKER_CODE = re.compile(r"(?:speaker|spk|sp|s|p|f|m|loc)\d{1,4}", re.IGNORECASE)
ISO_639_1 = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj
kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv
ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti
tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
LANGUAGES = frozenset(ISO_639_1.split())
"""By two letters: the three letters of ISO 639-3 are names of people as well (ana, ben)."""
EXAMPLES = 3
"""Parts that a sentence lists."""


def with_parts(
    rows: Sequence[Utterance], parts: Mapping[str, Sequence[str]], pseudonyms: Pseudonyms
) -> tuple[list[Utterance], tuple[str, ...]]:
    """The rows with what parts of the names of their recordings mean, and sentences about it.

    A part is a number, the two letters of a language, or a speaker: a code such as s3, or one of two words or more that
    each stand in the names of several pictures, if it does not stand in all names. Of others nobody knows.

    Args:
        parts: by the path of a recording, those beside the name of its picture.
    """
    pictures: dict[str, set[str]] = {}
    languages: set[str] = set()
    for row in rows:
        for part in parts.get(row.audio, ()):
            if part.lower() in LANGUAGES:
                languages.add(part.lower())
            elif not part.isdecimal():
                pictures.setdefault(part.casefold(), set()).add(row.image)
    names = [{part.casefold() for part in own} for own in parts.values() if own]
    everywhere = set.intersection(*names) if len(names) > 1 else set()
    recurring = {part for part, found in pictures.items() if len(found) > 1} - everywhere
    speakers = {part for part in pictures if SPEAKER_CODE.fullmatch(part)}
    speakers |= recurring if len(recurring) > 1 else set()
    found = []
    for row in rows:
        own = parts.get(row.audio, ())
        language = next((part.lower() for part in own if part.lower() in LANGUAGES), row.language)
        who = next((part for part in own if part.casefold() in speakers), None)
        speaker = row.speaker if who is None else who
        if who is not None and not SPEAKER_CODE.fullmatch(who):
            speaker = pseudonyms.name_of(who.casefold(), who)
        found.append(replace(row, language=language, speaker=speaker))
    notes = [
        f"Names of recordings hold {_listed(taken)}, taken for {kind}."
        for kind, taken in (("speakers", speakers), ("languages", languages))
        if taken
    ]
    unknown = pictures.keys() - speakers
    if unknown:
        notes.append(
            f"Names of recordings hold {_listed(unknown)}, and nothing tells whether that is a speaker, a language or "
            "something else; a manifest can say."
        )
    return found, tuple(notes)


def _listed(parts: set[str]) -> str:
    shown = ", ".join(f"{part!r}" for part in sorted(parts)[:EXAMPLES])
    return shown + (f" and {len(parts) - EXAMPLES:,} more" if len(parts) > EXAMPLES else "")
