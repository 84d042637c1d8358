"""Praat TextGrids in which a tier says which picture is being described when."""

from __future__ import annotations

import re
from pathlib import Path

from s2igan.corpora.importers.annotated import Annotated, Annotation, Tier, annotated_corpus
from s2igan.corpora.importers.source import Corpus, Importer, ReadOptions
from s2igan.corpora.importers.source_files import Tree, decode

EXPECTED = "*.TextGrid with recordings of their names, a tier whose intervals are names of pictures, and the pictures"
BINARY = b"ooBinaryFile"
TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<![\w.])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.\]])')
"""A text in quotation marks, or a number that is no part of a word or of `[1]`: all that matters in the long form, and
all that there is in the short one."""


def read(source: Path, options: ReadOptions) -> Corpus:
    """A row for each interval that names a picture; see `annotated_corpus` and `Importer.read`."""
    return annotated_corpus(Tree(source), ".textgrid", _parse, EXPECTED, options)


def _parse(path: Path) -> list[Annotated]:
    """ValueError where the file is no TextGrid."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if raw.startswith(BINARY):
        raise ValueError("a TextGrid in Praat's binary form; save it as a text file in Praat")
    is_wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = raw.decode("utf-16", errors="replace") if is_wide else decode(raw)
    if "ooTextFile" not in text[:100] or "TextGrid" not in text[:200]:
        raise ValueError("not readable as a TextGrid (it does not begin with ooTextFile and TextGrid)")
    body = text[text.index("TextGrid") + len("TextGrid") :].removeprefix('"')
    found = TOKEN.finditer(body)
    tokens = (float(match[2]) if match[1] is None else match[1].replace('""', '"') for match in found)

    def number() -> float:
        value = next(tokens)
        if isinstance(value, str):
            raise ValueError(f"not readable as a TextGrid ({value!r} stands where a number should)")
        return value

    def words() -> str:
        value = next(tokens)
        if isinstance(value, float):
            raise ValueError(f"not readable as a TextGrid ({value:g} stands where a text should)")
        return value

    tiers = []
    try:
        number(), number()  # where all begins and ends
        for _ in range(int(number())):
            is_intervals, name = words() == "IntervalTier", words()
            number(), number()
            notes = []
            for _ in range(int(number())):
                start = number()
                end = number() if is_intervals else None
                notes.append(Annotation(1000 * start, None if end is None else 1000 * end, words().strip()))
            tiers.append(Tier(name, "", None, "", None, tuple(notes)))
    except StopIteration:
        raise ValueError("not readable as a TextGrid (it is cut off)") from None
    if next(tokens, None) is not None:
        raise ValueError("not readable as a TextGrid (more stands in it than its sizes say)")
    return [Annotated(tiers, [], [])]


IMPORTER = Importer.called("textgrid", read)
