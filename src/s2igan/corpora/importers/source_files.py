"""The files below a source, and finding among them what a publisher's lists name.

Corpora lie on users' disks in other folders than their lists say: unpacked one level deeper, images beside the
recordings instead of on the publisher's server, copied from a phone. So an importer looks once at all names below the
source and then asks for a file by the end of its path, or by its base name. What is found is always below the source.
"""

from __future__ import annotations

import gzip
import json
import os
import posixpath
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from s2igan.corpora.importers.source import Problem
from s2igan.errors import UserError
from s2igan.text_utils import unicode_text

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm",
    ".heic", ".heif", ".hif", ".avif", ".jp2",
})  # fmt: skip
GZIP = b"\x1f\x8b"
LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"})
"""What operating systems leave behind; skipped in silence, as is everything whose name begins with a dot."""


class NotFoundError(Exception):
    """Why a listed file is none of the source: a clause without a full stop, for `Problem.reason`."""


class Tree:
    """The relative paths, with `/`, of all files below a source, in sorted order.

    Hidden files and the `__MACOSX` of Apple's archives are left out. Links are followed, each folder once. A file whose
    name is not UTF-8 cannot stand in a manifest and counts as missing.

    Raises:
        UserError: the source is no folder.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = Path(source)
        if not self.source.is_dir():
            what = (
                "is a file; unpack it and name the folder" if self.source.exists() else "does not exist; check the path"
            )
            raise UserError(f"{self.source}: this source {what}.")
        self.paths = sorted(path for path in walk(self.source, []) if _is_text(path))
        self._set = frozenset(self.paths)

    def __contains__(self, path: str) -> bool:
        return path in self._set

    @cached_property
    def _by_name(self) -> dict[str, str | list[str]]:
        """A path, or a list where several files have the name: most names of a million are one file's."""
        index: dict[str, str | list[str]] = {}
        for path in self.paths:
            key = same_name(path.rpartition("/")[2])
            other = index.setdefault(key, path)
            if isinstance(other, list):
                other.append(path)
            elif other is not path:
                index[key] = [other, path]
        return index

    def _called(self, name: str) -> list[str]:
        found = self._by_name.get(same_name(name), [])
        return found if isinstance(found, list) else [found]

    def named(self, name: str) -> list[str]:
        """All files with this base name, whatever its case and Unicode form; those that agree exactly come first."""
        return sorted(self._called(name), key=lambda path: (path.rpartition("/")[2] != name, *_depth(path)))

    def ending(self, tail: str) -> list[str]:
        """All files whose path ends in the folders and the name of `tail`, as `named` compares them, the least deep
        first; only those that agree exactly, if there are such."""
        found = self._called(tail.rpartition("/")[2])
        exact = [path for path in found if path == tail or path.endswith("/" + tail)]
        same = same_name(tail)
        alike = exact or [path for path in found if (own := same_name(path)) == same or own.endswith("/" + same)]
        return sorted(alike, key=_depth)

    def with_suffix(self, suffixes: Iterable[str]) -> list[str]:
        """All files whose name ends in one of these, in sorted order; suffixes are in small letters, with the dot."""
        ends = tuple(suffixes)
        return [path for path in self.paths if path.lower().endswith(ends)]

    def one(self, tail: str, expected: str) -> str:
        """The one file that ends in `tail`; of copies in different depths the least deep.

        Raises:
            UserError: there is none, or two are equally deep; `expected` says what should be here.
        """
        found = self.ending(tail)
        if not found:
            raise self.wrong(f"no {tail}", expected)
        if len(found) > 1 and found[0].count("/") == found[1].count("/"):
            raise UserError(
                f"{self.source}: {tail} is here twice, as {found[0]} and as {found[1]}; name a folder that holds one."
            )
        return found[0]

    def wrong(self, missing: str, expected: str) -> UserError:
        """The sentence for a layout that is not the expected one: what is missing, what is here, what should be."""
        return UserError(f"{self.source}: {missing} is here or below; expected {expected}, and found {self.summary()}.")

    def summary(self) -> str:
        """What stands at the top, in words."""
        if not self.paths:
            return "no file at all"
        top = list(dict.fromkeys(path.partition("/")[0] + "/" * ("/" in path) for path in self.paths))
        shown = ", ".join(top[:6]) + (f" and {len(top) - 6:,} more" if len(top) > 6 else "")
        return f"{shown} ({len(self.paths):,} file{'s' * (len(self.paths) != 1)} in all)"

    def read_lines(self, path: str) -> list[str]:
        """The lines of a text that are not blank, without the blanks around them.

        UTF-8 with or without a byte order mark; what is not UTF-8 is taken for Windows-1252. Line ends of any system.

        Raises:
            UserError: the file cannot be read.
        """
        text = decode(self._bytes(path))
        return [line for line in (line.strip() for line in re.split(r"[\r\n]+", text)) if line]

    def read_text(self, path: str) -> str:
        """A text as `read_lines` decodes it; UserError where it cannot be read."""
        return decode(self._bytes(path))

    def read_json_lines(self, path: str, problems: list[Problem]) -> Iterator[dict[str, Any]]:
        """The objects of a file of JSON lines, also compressed by gzip; `problems` gets lines that are none.

        Raises:
            UserError: the file cannot be read.
        """
        raw = self._bytes(path)
        try:
            text = decode(gzip.decompress(raw) if raw.startswith(GZIP) else raw)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{self.source / path}: not readable as gzip ({error}); fetch it again.") from error
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                problems.append(Problem(path, f"line {number} is no JSON ({error}); fetch it again"))
                continue
            if isinstance(entry, dict):
                yield entry
            else:
                problems.append(Problem(path, f"line {number} is no JSON object; fetch it again"))

    def read_json(self, path: str, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
        """Raises UserError where the file cannot be read or is no JSON."""
        text = decode(self._bytes(path))  # the bytes are let go: a list may have 200 MB
        try:
            return json.loads(text, object_hook=object_hook)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.source / path}: not readable as JSON ({error}); fetch it again.") from error

    def _bytes(self, path: str) -> bytes:
        try:
            return (self.source / path).read_bytes()
        except OSError as error:
            raise UserError(f"{self.source / path}: cannot be read ({error.strerror}); check the file.") from error


class Finder:
    """Finds files that lists name relative to a folder of the publisher, wherever that folder lies below the source."""

    def __init__(self, tree: Tree, *hints: str) -> None:
        """`hints` are folders below the source where to look first, "" being the source itself."""
        self._tree = tree
        self._roots = [f"{hint}/" if hint else "" for hint in hints]

    def __call__(self, listed: str) -> str:
        """The path below the source.

        Raises:
            NotFoundError: no file below the source ends in the folders and the name that are listed.
        """
        for root in self._roots:
            if root + listed in self._tree:
                return root + listed
        tail = relative(listed)
        found = next((paths for name in spellings(tail) if (paths := self._tree.ending(name))), [])
        if not found:
            raise NotFoundError(f"{tail} is nowhere below the source")
        root = found[0][: len(found[0]) - len(tail)]
        if root not in self._roots:
            self._roots.append(root)
        return found[0]


def relative(listed: str) -> str:
    """The listed path with `/`, without `./`.

    Raises:
        NotFoundError: it is empty, absolute, or leads out of its folder.
    """
    path = posixpath.normpath(listed.strip().replace("\\", "/")) if listed.strip() else "."
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise NotFoundError(f"{listed!r} is an absolute path; only files below the source are read")
    if path == "." or path.split("/")[0] == ".." or "\0" in path or "\n" in path:
        raise NotFoundError(f"{listed!r} is no path below the source")
    return path


def base_name(path: str) -> str:
    """The last part of a path of any system, or of a URL."""
    return re.split(r"[/\\]", path.strip())[-1]


def suffix(path: str) -> str:
    """In small letters, with the dot; empty where there is none."""
    return posixpath.splitext(path)[1].lower()


def stem(path: str) -> str:
    """The path without its suffix."""
    return posixpath.splitext(path)[0]


def decode(raw: bytes) -> str:
    """UTF-8, UTF-16 with a byte order mark, or else Windows-1252; never fails."""
    try:
        return unicode_text(raw)
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def walk(folder: Path, problems: list[Problem]) -> Iterator[str]:
    """Every file below, relative, with `/`; links are followed, each folder once. `problems` gets folders that cannot
    be read.

    Raises:
        UserError: the folder itself cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            status = os.stat(folder / inside)
            entries = sorted(os.scandir(folder / inside), key=lambda entry: entry.name)
        except OSError as error:
            if inside:  # lost+found of a disk, say
                problems.append(Problem(inside, f"the folder cannot be read ({error.strerror}); check its permissions"))
                continue
            raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions.") from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.name.startswith(".") or entry.name.casefold() in LITTER:
                continue
            path = f"{inside}/{entry.name}" if inside else entry.name
            if os.path.isdir(entry):  # entry.is_dir raises where a link leads to itself
                pending.append(path)
            else:
                yield path


def _is_text(path: str) -> bool:
    return "\n" not in path and (path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path))


def same_name(name: str) -> str:
    """Equal for names that differ by case or Unicode form: disks change both on the way."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def spellings(listed: str) -> list[str]:
    """A listed name as it stands, and as it is meant where it is part of a URL."""
    plain = unquote(listed)
    return [listed] if plain == listed else [listed, plain]


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path
