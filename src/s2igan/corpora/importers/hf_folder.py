"""Audio- and image-folders of the Hugging Face hub: files, and a metadata.csv, .jsonl or .parquet that joins them."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import (
    IMAGE_SUFFIXES,
    Finder,
    NotFoundError,
    Tree,
    suffix,
)
from s2igan.data.manifest import SPLIT_ALIASES, SPLITS, Utterance, csv_records
from s2igan.errors import UserError
from s2igan.file_kinds import AUDIO_SUFFIXES

EXPECTED = (
    "metadata.csv, .jsonl or .parquet with columns that name files (file_name, image_file_name, audio_file_name), and "
    "the files below its folder"
)
NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
TEXTS = ("text", "transcription", "transcript", "sentence", "caption", "description")
SPEAKERS = ("speaker", "speaker_id", "client_id")
LANGUAGES = ("language", "lang", "locale")
CLASSES = ("label", "class", "category")


def read(source: Path, options: ReadOptions) -> Corpus:
    """A row for each line that names a picture and a recording, or a picture and a text; see `Importer.read`.

    Splits are those of folders called train, validation or test.
    """
    tree = Tree(source)
    tables = [path for name in NAMES for path in tree.named(name)]
    if not tables:
        raise tree.wrong("no metadata.csv, .jsonl or .parquet", EXPECTED)
    rows: list[Utterance] = []
    problems: list[Problem] = []
    for path in tables:
        home = posixpath.dirname(path)
        finder = Finder(tree, home)
        for number, fields in enumerate(_table(tree, path, problems), start=1):
            files = [value for name, value in fields.items() if _names_a_file(name, value)]
            image = next((name for name in files if suffix(name) in IMAGE_SUFFIXES), None)
            audio = next((name for name in files if suffix(name) in AUDIO_SUFFIXES), None)
            text = first_of(fields, TEXTS)
            if image is None or (audio is None and text is None):
                lacking = "a picture" if image is None else "a recording or a text"
                problems.append(Problem(path, f"line {number} names no file that is {lacking}"))
                continue
            try:
                picture, sound = finder(image), finder(audio) if audio is not None else ""
            except NotFoundError as missing:
                problems.append(Problem(audio or image, str(missing)))
                continue
            rows.append(
                Utterance(
                    sound,
                    picture,
                    class_name=first_of(fields, CLASSES),
                    split=_split(sound or picture),
                    speaker=first_of(fields, SPEAKERS),
                    language=first_of(fields, LANGUAGES),
                    text=text,
                )
            )
    if not rows:
        first = f"; the first problem: {problems[0].path}: {problems[0].reason}" if problems else ""
        raise UserError(f"{tree.source}: expected {EXPECTED}, and found no line with both{first}.")
    return Corpus(rows, problems=tuple(problems))


def _names_a_file(column: str, value: Any) -> bool:
    if not isinstance(value, str) or not value.strip():
        return False
    return column == "file_name" or column.endswith("_file_name") or column in ("image", "audio", "picture", "path")


def first_of(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of these fields that says something, as text."""
    for name in names:
        value = fields.get(name)
        is_nan = isinstance(value, float) and math.isnan(value)
        if isinstance(value, str | int | float) and not is_nan and str(value).strip():
            return str(value).strip()
    return None


def _split(path: str) -> str | None:
    """Of a folder that is called so."""
    names = [SPLIT_ALIASES.get(part.lower(), part.lower()) for part in path.split("/")[:-1]]
    return next((name for name in names if name in SPLITS), None)


def _table(tree: Tree, path: str, problems: list[Problem]) -> Iterator[Mapping[str, Any]]:
    """UserError where it cannot be read; `problems` gets lines that cannot."""
    if suffix(path) == ".csv":
        records = csv_records(tree.read_text(path))
        _, names = next(records, (1, []))
        for line, cells in records:
            if isinstance(cells, str) or isinstance(names, str):
                problems.append(Problem(path, f"line {line}: {cells if isinstance(cells, str) else names}"))
            elif any(cells):
                yield {name.strip(): cell for name, cell in zip(names, cells, strict=False)}
    elif suffix(path) == ".jsonl":
        yield from tree.read_json_lines(path, problems)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            yield from pq.read_table(tree.source / path).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{tree.source / path}: not a readable Parquet file ({error}); fetch it again.") from error


IMPORTER = Importer.called("hf-folder", read)
