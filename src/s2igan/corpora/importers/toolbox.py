"""Toolbox and Shoebox databases whose records name a picture and a recording."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from s2igan.corpora.importers.pseudonyms import Pseudonyms
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import (
    IMAGE_SUFFIXES,
    Finder,
    NotFoundError,
    Tree,
    base_name,
    stem,
    suffix,
)
from s2igan.data.manifest import Utterance, seconds_of
from s2igan.errors import UserError
from s2igan.file_kinds import AUDIO_SUFFIXES

EXPECTED = (
    "a Toolbox database (*.txt, *.sfm, *.db) whose records name a picture (\\pc dog.jpg) and a recording "
    "(\\sf dog.wav), perhaps with two times in seconds, and both beside it"
)
SUFFIXES = frozenset({".txt", ".sfm", ".db", ".lex", ".tbt"})
MARKER = re.compile(r"\\(\S+)\s*(.*)")
SOUND = re.compile(r"(.+?\.\w{2,5})(?:[\s;]+([\d.,:]+)[\s;]+([\d.,:]+))?$")
"""A file, and perhaps where in it the record is spoken: seconds."""
BEGINNINGS = ("ref", "lx", "id")
"""Markers of which the first that a file has begins its records."""
TEXTS = ("tx", "lx", "ut", "t")
SPEAKERS = ("ELANParticipant", "sp", "speaker")
TIMES = (("ELANBegin", "ELANEnd"), ("as", "ae"), ("begin", "end"))
Record = list[tuple[str, str]]


def read(source: Path, options: ReadOptions) -> Corpus:
    """A row for each record with a picture and a recording, in the order of the files; see `Importer.read`."""
    tree = Tree(source)
    finder, pseudonyms = Finder(tree, ""), Pseudonyms(options.keep_personal_data)
    rows: list[Utterance] = []
    problems: list[Problem] = []
    databases = [path for path in tree.with_suffix(SUFFIXES) if tree.read_lines(path)[:1] and _is_database(tree, path)]
    for path in databases:
        beside = [other for other in tree.with_suffix(AUDIO_SUFFIXES) if stem(other) == stem(path)]
        for number, record in enumerate(_records(tree.read_lines(path)), start=1):
            image = next((value for _, value in record if suffix(value) in IMAGE_SUFFIXES), None)
            if image is None:
                continue
            sounds = (SOUND.match(value) for _, value in record)
            sound = next((match for match in sounds if match and suffix(match[1]) in AUDIO_SUFFIXES), None)
            fields = dict(reversed(record))
            try:
                picture = finder(base_name(image))
                unclear = [
                    value for _, value in record if any(suffix(word) in AUDIO_SUFFIXES for word in value.split())
                ]
                if sound is None and (unclear or not beside):
                    what = f"{unclear[0]!r} is no file, perhaps with two times" if unclear else "it names no recording"
                    raise NotFoundError(what)
                audio = finder(base_name(sound[1])) if sound is not None else beside[0]
                start, end = _times(fields, sound)
            except NotFoundError as missing:
                problems.append(Problem(path, f"record {number} ({base_name(image)}): {missing}"))
                continue
            who = " ".join(next((fields[name] for name in SPEAKERS if fields.get(name)), "").split())
            rows.append(
                Utterance(
                    audio,
                    picture,
                    start_seconds=start,
                    end_seconds=end,
                    speaker=pseudonyms.name_of(who.casefold(), who),
                    text=next((fields[name] for name in TEXTS if fields.get(name)), None),
                )
            )
    if not rows:
        first = f"; the first problem: {problems[0].path}: {problems[0].reason}" if problems else ""
        raise UserError(
            f"{tree.source}: expected {EXPECTED}, and found no record with both in {len(databases)} databases{first}."
        )
    return Corpus(rows, problems=tuple(problems))


def _is_database(tree: Tree, path: str) -> bool:
    lines = tree.read_lines(path)
    return lines[0].startswith("\\_sh") or sum(line.startswith("\\") for line in lines[:50]) > len(lines[:50]) / 2


def _records(lines: Sequence[str]) -> Iterator[Record]:
    fields: Record = []
    for line in lines:
        match = MARKER.match(line)
        if match is not None:
            fields.append((match[1], match[2].strip()))
        elif fields:  # a line that goes on
            fields[-1] = fields[-1][0], f"{fields[-1][1]} {line}".strip()
    names = [name for name, _ in fields]
    first = next((name for name in BEGINNINGS if name in names), None)
    record: Record = []
    for name, value in fields:
        if name == first and record:
            yield record
            record = []
        if first is not None and (name == first or record):
            record.append((name, value))
    if record:
        yield record


def _times(fields: dict[str, str], sound: re.Match[str] | None) -> tuple[float | None, float | None]:
    """Raises NotFoundError where there are times that make no sense."""
    found = [sound[2], sound[3]] if sound is not None and sound[2] else None
    for names in TIMES:
        if found is None and all(fields.get(name) for name in names):
            found = [fields[name] for name in names]
    if found is None:
        return None, None
    try:
        start, end = map(seconds_of, found)
    except ValueError:
        raise NotFoundError(f"its times {found[0]} and {found[1]} are no numbers of seconds") from None
    if not 0 <= start < end:
        raise NotFoundError(f"its times {start:g} and {end:g} make no sense")
    return start, end


IMPORTER = Importer.called("toolbox", read)
