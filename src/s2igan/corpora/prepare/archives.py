"""Archives as publishers ship them, unpacked once and safely under the folder that is being prepared.

A source may be a folder, an archive, or a folder that holds archives beside other files, such as `CUB_200_2011.tgz`
next to `cvpr2016_cub.tar.gz`. Everything in archives goes to `OUT/unpacked`, other files beside them are linked there,
and importers see one folder. `OUT/unpacked.json` says which archives are finished.

An archive is not trusted: nothing is written outside of the folder, links become copies of what they name inside the
archive or are left out, devices are left out, and what would fill the disk or the memory is refused. Each file appears
whole or not at all, so that an interrupted unpacking goes on.
"""

from __future__ import annotations

import bz2
import filecmp
import gzip
import io
import itertools
import json
import lzma
import math
import os
import posixpath
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from s2igan.corpora.importers.source import Problem
from s2igan.corpora.importers.source_files import LITTER
from s2igan.errors import UserError
from s2igan.files import TEMPORARY_SUFFIX, atomic_write_json, disk_errors, temporary_path
from s2igan.parallel import progress_bars

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
UNPACKED, STATE = "unpacked", "unpacked.json"
RESERVE_BYTES = 512 * 1024**2
"""Free disk that unpacking leaves."""
UTF8_FLAG = 0x800  # of the members of a zip
BLOCK = 1024**2
MAX_MEMBERS = 10_000_000
"""Of an archive: four times the pictures of Places205, the largest set that is known here."""
MAX_HEADER_BYTES = 1024**2
"""Of a file in a tar: its name, its extended headers, its map of holes. Python reads them whole, whatever size they
declare."""
COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
"""By the first bytes of a compressed tar."""
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
"""What reading a damaged archive raises; the last is zipfile's word for a compression that it does not know."""
ODD_NAME = re.compile(r"[\0\n\r]")


def is_archive(path: Path) -> bool:
    """By the ending of its name."""
    return path.is_file() and path.name.casefold().endswith(SUFFIXES)


def archives_of(source: Path) -> list[Path]:
    """The archives that a source consists of; those that lie unpacked beside themselves are passed over.

    Raises:
        UserError: the source does not exist, is neither folder nor archive, or cannot be read.
    """
    if is_archive(source):
        return [source]
    if source.is_file():
        raise UserError(f"{source}: is neither a folder nor an archive ({', '.join(SUFFIXES)}); name one.")
    if not source.is_dir():
        raise UserError(f"{source}: no such folder or archive; check the path.")
    try:
        found = sorted(path for path in source.iterdir() if is_archive(path) and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror}); check its permissions.") from error
    return [path for path in found if not _lies_unpacked(path)]


def unpack(source: Path, out: Path) -> tuple[Path, tuple[Problem, ...]]:
    """The folder to import from, and what of the archives was left out: the source itself where it has no archives.

    Raises:
        UserError: for a source that `archives_of` refuses; an archive is damaged, encrypted or too large for the disk,
            or two archives hold different files of one name.
    """
    archives = archives_of(source)
    if not archives:
        return source, ()
    target, state_path = out / UNPACKED, out / STATE
    wanted = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in archives}
    state = read_state(state_path)
    if any(wanted.get(name) != found["identity"] for name, found in state.items()):
        shutil.rmtree(target, ignore_errors=True)  # of other archives, or of these before they changed
        state = {}
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        if wanted.keys() - state.keys():
            for temporary in target.rglob(f".*{TEMPORARY_SUFFIX}"):
                temporary.unlink()
        for archive in archives:
            if archive.name not in state:
                problems = _unpack_one(archive, target, sorted(state))
                found = [[problem.path, problem.reason] for problem in problems]
                state[archive.name] = {"identity": wanted[archive.name], "problems": found}
                atomic_write_json(state_path, state)
        if source.is_dir():
            _link_others(source, target, {path.name for path in archives})
    left_out = [Problem(path, reason) for name in sorted(state) for path, reason in state[name]["problems"]]
    return target, tuple(left_out)


def read_state(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none or it is damaged, so that the work is done again."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _lies_unpacked(archive: Path) -> bool:
    """Whether the folder that the archive holds, or one of its name, is beside it."""
    name = archive.name[: -len(next(suffix for suffix in SUFFIXES[::-1] if archive.name.casefold().endswith(suffix)))]
    if (archive.parent / name).is_dir():
        return True
    try:
        member = next(_members(archive), None)
    except UserError:
        return False  # is named when it is unpacked
    top = _safe(member.name).partition("/")[0] if member is not None and _safe(member.name) else ""
    return bool(top) and (archive.parent / top).is_dir()


# ---------------------------------------------------------------------------------------------------------- one archive


@dataclass
class _Member:
    """One file in an archive."""

    name: str
    size: int
    """Bytes unpacked, as declared."""
    done: int
    """Bytes of the archive up to here, for the progress bar."""
    open: Callable[[], Any] | None = None
    """None where it is no regular file."""
    link: str = ""
    """The name in the archive that a link leads to."""
    what: str = field(default="", kw_only=True)


def _members(archive: Path) -> Iterator[_Member]:
    """All but folders. UserError where the archive cannot be read."""
    try:
        if archive.name.casefold().endswith(".zip"):
            yield from _zip_members(archive)
        else:
            yield from _tar_members(archive)
    except (*UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> UserError:
    return UserError(f"{archive}: the archive is damaged or incomplete ({error}); download or pack it again.")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        done = 0
        _check_number(len(file.infolist()), archive)
        for info in file.infolist():
            done += info.compress_size
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise UserError(f"{archive}: the archive is encrypted; unpack it by hand and name the folder.")
            name = _zip_name(info)
            kind = (info.external_attr >> 16) & 0o170000
            if kind == 0o120000:
                yield _Member(name, 0, done, what="a link")
            elif kind not in (0, 0o100000):
                yield _Member(name, 0, done, what="no regular file")
            else:
                yield _Member(name, info.file_size, done, partial(file.open, info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member: Macs write UTF-8 without saying so, which is then read as the code page of DOS."""
    if info.flag_bits & UTF8_FLAG:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


class _Metered:
    """A tar, decompressed, of which no more than `left` bytes may be read."""

    def __init__(self, raw: IO[bytes]) -> None:
        start = raw.read(8)
        raw.seek(0)
        opened = next((of for magic, of in COMPRESSIONS.items() if start.startswith(magic)), None)
        self._tar = opened(raw) if opened else raw
        self.seek, self.tell = self._tar.seek, self._tar.tell
        self.left: float = MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"a file in it has a name or header of over {MAX_HEADER_BYTES / 1e6:.0f} MB")
        return self._tar.read(size)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as raw:
        metered = _Metered(raw)
        with tarfile.open(fileobj=cast(IO[bytes], metered), mode="r:") as file:
            for number in itertools.count(1):
                metered.left = MAX_HEADER_BYTES
                info = file.next()
                metered.left = math.inf  # the content is read in blocks
                if info is None:
                    return
                _check_number(number, archive)
                file.members = []  # type: ignore[attr-defined]  # or a million names stay in memory
                if info.isdir():
                    continue
                if info.issym() or info.islnk():
                    base = info.name.rpartition("/")[0] if info.issym() else ""
                    link = posixpath.normpath(posixpath.join(base, info.linkname))
                    yield _Member(info.name, 0, raw.tell(), link=link, what="a link")
                elif not info.isreg():
                    yield _Member(info.name, 0, raw.tell(), what="no regular file")
                else:
                    yield _Member(info.name, info.size, raw.tell(), partial(file.extractfile, info))


def _check_number(number: int, archive: Path) -> None:
    if number > MAX_MEMBERS:
        raise UserError(
            f"{archive}: holds over {MAX_MEMBERS:,} files and folders, more than any corpus; unpack what is needed of "
            "it by hand and name the folder."
        )


def _safe(name: str) -> str:
    """A member's name as a relative path that stays inside; empty where it does not."""
    name = name.replace("\\", "/")  # of archives packed on Windows
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or ODD_NAME.search(name) or re.match(r"[A-Za-z]:", name):
        return ""
    return "/".join(parts)


def _is_litter(name: str) -> bool:
    return any(part.casefold() in LITTER or part.startswith("._") for part in name.split("/"))


def _unpack_one(archive: Path, target: Path, others: list[str]) -> list[Problem]:
    from rich.progress import DownloadColumn

    problems, links = [], []
    with progress_bars(amount=DownloadColumn) as bars:
        bar = bars.add_task(f"unpacking {archive.name}", total=archive.stat().st_size)
        for member in _members(archive):
            bars.update(bar, completed=member.done)
            name = _safe(member.name)
            shown = f"{archive.name}/{member.name}".encode(errors="backslashreplace").decode()
            if not name:
                problems.append(Problem(shown, "its name leads out of the archive"))
            elif _is_litter(name):
                continue
            elif member.link:
                links.append((name, _safe(member.link), shown))
            elif member.open is None:
                problems.append(Problem(shown, f"{member.what} in an archive"))
            else:
                _room_for(member.size, target, archive)
                try:
                    with member.open() as content:
                        _put(content, member.size, target, name, archive, others)
                except UNREADABLE as error:
                    raise _damaged(archive, error) from error
        for name, link, shown in links:
            if not link or not (target / link).is_file():
                problems.append(Problem(shown, "a link in an archive to what is not in it"))
                continue
            size = (target / link).stat().st_size
            _room_for(size, target, archive)
            with (target / link).open("rb") as content:
                _put(content, size, target, name, archive, others)
        bars.update(bar, completed=archive.stat().st_size)
    return problems


def _room_for(size: int, target: Path, archive: Path) -> None:
    free = shutil.disk_usage(target).free
    if size > free - RESERVE_BYTES:
        raise UserError(
            f"{archive}: a file in it unpacks to {size / 1e6:,.1f} MB and {target} has {free / 1e6:,.0f} MB left, "
            f"of which {RESERVE_BYTES / 1e6:,.0f} are kept free; choose an --out on a larger disk."
        )


def _put(content: io.BufferedIOBase, size: int, target: Path, name: str, archive: Path, others: list[str]) -> None:
    """Write a file whole or not at all; one that is there with this content is kept."""
    path = target / name
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with temporary.open("wb") as file:
            while block := content.read(BLOCK):
                written += len(block)
                if written > size:
                    raise UserError(f"{archive}: {name} unpacks to more than the archive declares; pack it again.")
                file.write(block)
        if written < size:
            raise UserError(f"{archive}: {name} is cut off in the archive; download or pack it again.")
        if others and path.is_file() and not filecmp.cmp(temporary, path, shallow=False):
            raise UserError(
                f"{archive}: holds a {name} other than that of {' or '.join(others)}; unpack them by hand into folders "
                "of their own."
            )
        temporary.replace(path)
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise UserError(
            f"{archive}: {name} cannot lie beside what else is in {target}; unpack the archive by hand."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _link_others(source: Path, target: Path, archives: set[str]) -> None:
    """Files that lie beside the archives, each as a link in real folders: not everything that looks follows folders."""
    for folder, names, files in os.walk(source):
        names[:] = sorted(name for name in names if not name.startswith("."))
        below = Path(folder).relative_to(source)
        for name in files:
            if name.startswith(".") or (below == Path() and name in archives):
                continue
            link = target / below / name
            if link.exists() or link.is_symlink():
                continue
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((Path(folder) / name).resolve())
