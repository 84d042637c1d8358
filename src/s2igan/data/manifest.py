"""The manifest: one row per utterance, as CSV, JSON lines or Parquet. Every corpus becomes one, and is read as one.

Columns: `audio` and `image` (required), `start_seconds`, `end_seconds`, `class`, `split`, `speaker`, `language`,
`text`, `attributes`, `mentions`. Paths use `/`, are relative to the folder of the manifest, and do not leave it.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from s2igan.errors import UserError
from s2igan.files import atomic_write
from s2igan.text_utils import UTF_16, unicode_text

SPLITS = ("train", "validation", "development", "test")
SPLIT_ALIASES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}
FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
MAX_CELL_LINES = 100
"""Of one record in a CSV file; more is a quotation mark that nothing closes."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken description of one picture; `None` or empty where the corpus does not know."""

    audio: str
    """The recording, relative to the manifest."""
    image: str
    """The picture, relative to the manifest."""
    start_seconds: float | None = None
    """Where the description begins in the recording; None is its start."""
    end_seconds: float | None = None
    """Where it ends; None is the end of the recording."""
    class_name: str | None = None
    """What the picture shows, the same for all rows of a picture (column `class`)."""
    split: str | None = None
    """One of `SPLITS`."""
    speaker: str | None = None
    language: str | None = None
    text: str | None = None
    """The words spoken, for reports only: no model reads them."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """All known facts of the picture, name to value, the same for all rows of a picture."""
    mentions: tuple[str, ...] = ()
    """The names of the attributes that this description states."""

    @property
    def recording(self) -> tuple[str, float, float]:
        """File, start and end in seconds: two rows with the same recording hold the same sound."""
        return self.audio, self.start_seconds or 0.0, math.inf if self.end_seconds is None else self.end_seconds


COLUMNS = tuple("class" if field.name == "class_name" else field.name for field in fields(Utterance))


# ------------------------------------------------------------------------------------------------------------- reading


def read_manifest(path: str | Path) -> list[Utterance]:
    """All rows of a manifest, validated one by one and against each other.

    Raises:
        UserError: naming the file and the line of the first row that is no use, or of two that contradict each other.
    """
    rows = []
    for line, row in iter_manifest(path):
        if isinstance(row, UserError):
            raise row
        rows.append((line, row))
    check_rows(rows, path)
    return [row for _, row in rows]


def iter_manifest(path: str | Path) -> Iterator[tuple[int, Utterance | UserError]]:
    """Each row as (line, utterance), or as (line, what is wrong with it), so that a caller can go on after a bad row.

    Lines count from 1; a Parquet file has row numbers instead. Rows are not compared with each other: see `check_rows`.

    Raises:
        UserError: if the file itself is missing, of another kind, unreadable, empty or without a needed column.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; check the path, or make one with 's2igan prepare'.")
    readers = {".jsonl": _json_lines, ".csv": _csv_rows, ".tsv": _csv_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: a manifest ends in {', '.join(FORMATS)}; rename or convert it.")
    empty = True
    for line, cells in reader(path):
        empty = False
        where = f"{path}, {'row' if path.suffix.lower() == '.parquet' else 'line'} {line}"
        if isinstance(cells, str):
            yield line, UserError(f"{where}: {cells}.")
            continue
        try:
            yield line, _utterance(cells)
        except ValueError as problem:
            yield line, UserError(f"{where}: {problem}.")
    if empty:
        raise UserError(f"{path}: the manifest holds no utterances; write one per line.")


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with path.open("rb") as file:
        lines: Iterable[bytes] = file
        if file.read(2) in UTF_16:
            lines = (line.encode("utf-8", "surrogatepass") for line in _unicode(path).split("\n"))
        file.seek(0)
        for line, raw in enumerate(lines, start=1):
            try:
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
                if not text:
                    continue
                fields = json.loads(text)
                if "\\ud" in text.lower():
                    json.dumps(fields, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                yield line, "an escape stands for half a character (\\ud800 to \\udfff); write the whole one"
                continue
            except UnicodeDecodeError:
                yield line, "the text is not UTF-8; save the manifest as UTF-8"
                continue
            except (ValueError, RecursionError) as error:
                yield line, f"not a JSON object ({error}); write one object per line"
                continue
            yield line, fields if isinstance(fields, dict) else 'not a JSON object; write {"audio": ..., "image": ...}'


def _unicode(path: Path) -> str:
    """UserError where the text is in another encoding than `unicode_text` reads."""
    try:
        return unicode_text(path.read_bytes())
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the text is not UTF-8; export it from the spreadsheet as CSV UTF-8.") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    records = csv_records(_unicode(path))
    line, first = next(records, (1, []))
    if isinstance(first, str):
        raise UserError(f"{path}: line {line}: {first}.")
    names = _column_names(first)
    while names and not names[-1]:  # a spreadsheet adds empty cells at the end
        names.pop()
    twice = next((name for name in COLUMNS if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: the first line names the column {twice!r} twice; rename the one that is another.")
    if not {"audio", "image"} <= set(names):
        raise UserError(
            f"{path}: the first line must name the columns, among them 'audio' and 'image'; it names "
            f"{', '.join(repr(name) for name in names) or 'nothing'}."
        )
    for line, cells in records:
        if isinstance(cells, str):
            yield line, cells
        elif not any(cell.strip() for cell in cells):
            continue
        elif len(cells) != len(names) and any(cell.strip() for cell in cells[len(names) :] or ["too few"]):
            yield (
                line,
                f"{len(cells)} cells where the first line names {len(names)} columns; leave cells empty rather "
                "than out, and put what holds the sign between cells into quotation marks",
            )
        else:
            yield line, dict(zip(names, cells, strict=False))


def csv_records(text: str) -> Iterator[tuple[int, list[str] | str]]:
    """The cells of each record of a CSV, the header first, with the number of its last line; or the line that begins no
    record, and why.

    What stands most often in the first line that is not blank separates the cells: `,` `;` `|` or a tab; or what Excel
    names in a line `sep=;`, which is no record. Every record is parsed on its own, so that one quotation mark too many
    costs a line and not the rest of the file.
    """
    lines, at = list(io.StringIO(text, newline="")), 0
    while at < len(lines) and not lines[at].strip():
        at += 1
    header = lines[at].strip() if at < len(lines) else ""
    if re.fullmatch("sep=[,;|\t]", header, re.IGNORECASE) or header.lower() == "sep=":
        delimiter, at = header[4:] or "\t", at + 1
    else:
        delimiter = max(",;\t|", key=header.count)
    while at < len(lines):
        reader = csv.reader(lines[at : at + MAX_CELL_LINES], delimiter=delimiter, strict=True)
        try:
            cells: list[str] | str = next(reader)
            at += reader.line_num
        except csv.Error as error:
            cells = f"not readable as CSV ({error}); check its quotation marks"
            at += 1
        yield at, cells


def _column_names(cells: Iterable[str]) -> list[str]:
    """The names in the first line of a table; spreadsheets like capitals."""
    return [name.lower() if (name := cell.strip()).lower() in COLUMNS else name for cell in cells]


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=8192)
            yield from enumerate(
                (row for batch in batches for row in batch.to_pylist(maps_as_pydicts="lossy")), start=1
            )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); write it again.") from error


# ---------------------------------------------------------------------------------------------------------- validation


def _utterance(fields: Mapping[str, Any]) -> Utterance:
    """Raises ValueError with a reason that has no full stop."""
    fields = {name: None if _is_nan(value) else value for name, value in fields.items()}
    for name in fields.keys() - set(COLUMNS):  # a corpus may bring columns of its own, but not misspelt ones of ours
        close = difflib.get_close_matches(str(name).strip().lower(), COLUMNS, n=1, cutoff=0.8)
        if close and close[0] not in fields:
            raise ValueError(f"unknown column {name!r}; write {close[0]!r} if that is meant, or rename it")
    start, end = _seconds(fields, "start_seconds"), _seconds(fields, "end_seconds")
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"end_seconds ({end:g}) must be later than start_seconds ({start or 0.0:g})")
    split = _text(fields, "split")
    if split is not None:
        split = split_name(split)
    attributes, mentions = _attributes(fields.get("attributes")), _mentions(fields.get("mentions"))
    unknown = [name for name in mentions if name not in attributes]
    if unknown:
        raise ValueError(f"mentions {unknown[0]!r}, which is not among the attributes")
    return Utterance(
        audio=_relative_path(fields, "audio"),
        image=_relative_path(fields, "image"),
        start_seconds=start,
        end_seconds=end,
        class_name=_text(fields, "class"),
        split=split,
        speaker=_text(fields, "speaker"),
        language=_text(fields, "language"),
        text=_text(fields, "text"),
        attributes=attributes,
        mentions=mentions,
    )


def _is_nan(value: Any) -> bool:
    """What pandas writes where a cell is empty."""
    return (isinstance(value, float) and math.isnan(value)) or value in ("nan", "NaN")


def split_name(name: str) -> str:
    """The canonical name of a split: `val`, `dev` and the like are `validation`. ValueError for any other word."""
    lower = name.strip().lower()
    lower = SPLIT_ALIASES.get(lower, lower)
    if lower not in SPLITS:
        raise ValueError(f"split {name!r} is none of {', '.join(SPLITS)}")
    return lower


def _relative_path(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name!r} is missing; name a file relative to the manifest")
    if "\0" in value or "\n" in value:
        raise ValueError(f"{name} {value!r} holds a character that no file name has")
    if value.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", value):
        raise ValueError(f"{name} {value!r} is an absolute path; write it relative to the manifest")
    path = posixpath.normpath(value.strip())
    # Backslashes count as separators here, so that the manifest is as safe on a system where they are.
    if ".." in path.replace("\\", "/").split("/") or path == ".":
        raise ValueError(f"{name} {value!r} leaves the folder of the manifest; move the file into it")
    return path


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} {value!r} is not text")
    return str(value).strip() or None


def _seconds(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = seconds_of(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} {value!r} is not a number of seconds") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name} {value!r} must be a finite number of seconds, 0 or more")
    return number


def seconds_of(text: str) -> float:
    """`61.5`, `61,5`, or hours, minutes and seconds as a player shows them, `1:01.5`; ValueError for anything else."""
    parts = [float(part) for part in text.strip().replace(",", ".").split(":")]
    if len(parts) > 3 or any(not 0 <= part < 60 for part in parts[1:]):
        raise ValueError(f"{text!r} is no time")
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))


def _attributes(value: Any) -> dict[str, str]:
    """A JSON object, or, in a spreadsheet, `belly colour=red; tail=long`."""
    if value is None:
        return {}
    if isinstance(value, str):
        parts = _parsed(value.strip(), "attributes", "{")
        if isinstance(parts, list):
            value = {}
            for part in parts:
                name, equals, content = part.partition("=")
                if not equals or not name.strip() or not content.strip():
                    raise ValueError(f"attributes: {part!r} is not name=value")
                value[name.strip()] = content.strip()
        else:
            value = parts
    if not isinstance(value, dict):
        raise ValueError(f"attributes {value!r} is not an object of names and values")
    found = {}
    for name, content in value.items():
        if content is None or _is_nan(content):  # a Parquet struct has every name in every row
            continue
        if isinstance(content, dict | list):
            raise ValueError(f"attribute {name!r} has the value {content!r}, which is not one word or number")
        found[str(name)] = content if isinstance(content, str) else json.dumps(content)
    return found


def _parsed(text: str, name: str, opening: str) -> Any:
    """JSON where the text begins so, else its parts between semicolons."""
    if not text.startswith(opening):
        return [part.strip() for part in text.split(";") if part.strip()]
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} {text!r} is not JSON ({error})") from None


def _mentions(value: Any) -> tuple[str, ...]:
    """A JSON list, or, in a spreadsheet, `belly colour; tail`."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = _parsed(value.strip(), "mentions", "[")
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"mentions {value!r} is not a list of attribute names")
    return tuple(dict.fromkeys(value))


def check_rows(rows: Iterable[tuple[int, Utterance]], path: str | Path) -> None:
    """Compare the rows with each other; `path` and the lines are for the message.

    Raises:
        UserError: if a picture has two classes, two splits or two sets of attributes; if the same sound, or overlapping
            parts of one recording, are in two splits; if only some rows have a class.
    """
    pictures: dict[str, tuple[int, Utterance]] = {}
    recordings: dict[str, list[tuple[float, float, int, str | None]]] = {}
    with_class = without_class = 0
    for line, row in rows:
        if row.class_name is None:
            without_class = without_class or line
        else:
            with_class = with_class or line
        first_line, first = pictures.setdefault(row.image, (line, row))
        if row.split != first.split:
            raise UserError(
                f"{path}: the image {row.image} is in the split {first.split or 'none'} on line {first_line} and in "
                f"{row.split or 'none'} on line {line}; an image belongs to one split, so give both lines the same."
            )
        if row.class_name != first.class_name:
            raise UserError(
                f"{path}: the image {row.image} has the class {first.class_name!r} on line {first_line} and "
                f"{row.class_name!r} on line {line}; give both lines the same."
            )
        if row.attributes != first.attributes:
            raise UserError(
                f"{path}: the image {row.image} has other attributes on line {line} than on line {first_line}; "
                "attributes describe the picture, so give both lines the same."
            )
        audio, start, end = row.recording
        recordings.setdefault(audio, []).append((start, end, line, row.split))
    if with_class and without_class:
        raise UserError(
            f"{path}: line {with_class} has a class and line {without_class} has none; give all lines a class, or none."
        )
    for audio, parts in recordings.items():
        if len({split for *_, split in parts}) > 1:
            _check_recording(audio, sorted(parts, key=lambda part: part[:3]), path)


def _check_recording(audio: str, parts: list[tuple[float, float, int, str | None]], path: str | Path) -> None:
    """`parts` by start. Of each split the part that ends last is enough to find an overlap with a later one."""
    last: dict[str | None, tuple[float, int]] = {}
    for start, end, line, split in parts:
        for other, (other_end, other_line) in last.items():
            if other != split and start < other_end:
                raise UserError(
                    f"{path}: the recording {audio} is in the split {other or 'none'} on line {other_line} and, at "
                    f"least in part, in {split or 'none'} on line {line}; a sound belongs to one split, so give both "
                    "the same."
                )
        if split not in last or end > last[split][0]:
            last[split] = (end, line)


# ------------------------------------------------------------------------------------------------------------- writing


def write_manifest(path: str | Path, rows: Iterable[Utterance]) -> None:
    """Write a manifest as JSON lines, atomically; `read_manifest` gives the rows back.

    Raises:
        UserError: the file cannot be written (no room, no permission).
    """
    with atomic_write(path) as file:
        file.writelines((json.dumps(_fields(row), ensure_ascii=False) + "\n").encode() for row in rows)


def _fields(row: Utterance) -> dict[str, Any]:
    values = zip(COLUMNS, (getattr(row, field.name) for field in fields(row)), strict=True)
    return {name: value for name, value in values if value not in (None, {}, ())}
