"""Recordings of the LIG-Aikuma app in its mode of elicitation by pictures."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.pseudonyms import Pseudonyms
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import IMAGE_SUFFIXES, Tree, base_name, stem, suffix
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError

EXPECTED = (
    "sessions such as 200623-234326_tbz_1de_elicit/ with *.wav and *_linker.txt, and the pictures that were shown"
)
SESSION = re.compile(r"(?:\d{6}-\d{6}_)?([a-z]{3})_[^_/]+_elicit")
LINE = re.compile(r"(.+?)\s*;\s*([^;]+)$")  # a picture's name may hold a semicolon, a recording's does not


def read(source: Path, options: ReadOptions) -> Corpus:
    """Recordings by session, in the order of its linker; see `Importer.read`.

    Without `keep_personal_data` a speaker is "speaker-1" and so on, counted by their first session, and nothing else of
    the metadata but the language is used. With it, a speaker is the name, followed by what else is known.
    """
    tree = Tree(source)
    linkers = sorted(tree.with_suffix({"_linker.txt"}), key=lambda path: (path.rpartition("/")[2], path))
    if not linkers:
        raise tree.wrong("no *_linker.txt", EXPECTED)
    rows: list[Utterance] = []
    problems: list[Problem] = []
    pseudonyms = Pseudonyms(options.keep_personal_data)
    linked: set[str] = set()
    for linker in linkers:
        for line in tree.read_lines(linker):
            match = LINE.match(line)
            if match is None:
                problems.append(Problem(linker, f"the line {line!r} is not <picture> ; <recording>"))
                continue
            picture, wav = match.groups()
            audio = _recording(tree, linker, base_name(wav))
            if audio is not None:
                linked.add(audio)
            if suffix(picture) not in IMAGE_SUFFIXES:
                problems.append(
                    Problem(linker, f"{base_name(picture)!r} is no picture; only elicitation by pictures is read")
                )
                continue
            if audio is None:
                problems.append(Problem(base_name(wav), "the recording is nowhere below the source"))
                continue
            images = _pictures(tree, picture)
            if len(images) != 1:
                reason = (
                    "is nowhere below the source"
                    if not images
                    else f"is here more than once, as {' and '.join(images)}"
                )
                problems.append(Problem(audio, f"its picture {base_name(picture)} {reason}"))
                continue
            metadata = _metadata(tree, linker, audio, problems)
            rows.append(
                Utterance(
                    audio,
                    images[0],
                    speaker=_speaker(metadata, pseudonyms),
                    language=_language(metadata, linker, audio),
                )
            )
    if not rows:
        first = (
            f"; the first of {len(problems):,} problems: {problems[0].reason} ({problems[0].path})" if problems else ""
        )
        raise UserError(f"{tree.source}: expected {EXPECTED}, and found no recording with its picture{first}.")
    sessions = {posixpath.dirname(path) for path in linkers}
    for path in tree.with_suffix({".wav"}):
        of_a_session = posixpath.dirname(path) in sessions or SESSION.match(base_name(path))
        if of_a_session and path not in linked:
            problems.append(Problem(path, "no linker names this recording"))
    once = {(row.audio, row.image): row for row in reversed(rows)}  # a linker may have been copied
    return Corpus(list(once.values())[::-1], problems=tuple(problems))


def _recording(tree: Tree, linker: str, name: str) -> str | None:
    """Beside the linker, or anywhere: its name has the time to the second, and is one of its kind."""
    beside = posixpath.join(posixpath.dirname(linker), name)
    return beside if beside in tree else next(iter(tree.named(name)), None)


def _pictures(tree: Tree, on_phone: str) -> list[str]:
    """By base name; of several, those that share the most folders with the path on the phone."""
    name = base_name(on_phone)
    found = [path for path in tree.named(name) if suffix(path) in IMAGE_SUFFIXES]
    exact = [path for path in found if path.rpartition("/")[2] == name] or found
    parts = re.split(r"[/\\]", on_phone)[:-1][::-1]

    def shared(path: str) -> int:
        own = path.split("/")[:-1][::-1]
        return next((i for i, (a, b) in enumerate(zip(parts, own, strict=False)) if a != b), min(len(parts), len(own)))

    most = max(map(shared, exact), default=0)
    return [path for path in exact if shared(path) == most]


def _metadata(tree: Tree, linker: str, audio: str, problems: list[Problem]) -> Mapping[str, Any]:
    name = f"{stem(base_name(audio))}-metadata.json"
    for folder in (posixpath.dirname(audio), posixpath.dirname(linker)):
        path = posixpath.join(folder, name)
        if path in tree:
            try:
                content = tree.read_json(path)
            except UserError:
                content = None
            if isinstance(content, dict):
                return content
            problems.append(Problem(path, "not readable as JSON; the recording is kept, its speaker is not known"))
            return {}
    return {}


def _language(metadata: Mapping[str, Any], linker: str, audio: str) -> str | None:
    """The ISO 639-3 code of the recording: of its metadata, or of the name of its session."""
    code = metadata.get("recording_lang")
    if isinstance(code, str) and code.strip():
        return code.strip()
    match = SESSION.search(base_name(audio)) or SESSION.search(linker)
    return match[1] if match else None


def _speaker(metadata: Mapping[str, Any], pseudonyms: Pseudonyms) -> str | None:
    """Known by name, whatever the phone; without a name by the number that the app gave them."""
    name = " ".join(str(metadata.get("speaker_name") or "").split())
    number = str(metadata.get("user_id") or "").strip()
    return pseudonyms.name_of(name.casefold() or number, _personal(metadata, name or number))


def _personal(metadata: Mapping[str, Any], name: str) -> str:
    """All that the app asked and noted of a speaker, in one line."""
    year, place = metadata.get("speaker_birth_year"), metadata.get("location")
    facts = [
        metadata.get("speaker_gender"),
        f"born {year}" if year else None,
        metadata.get("origin"),
        metadata.get("device"),
        metadata.get("androidID"),
        ", ".join(map(str, place)) if isinstance(place, list) else None,
    ]
    known = "; ".join(str(fact).strip() for fact in facts if fact)
    return f"{name} ({known})" if known else name


IMPORTER = Importer.called("aikuma", read)
