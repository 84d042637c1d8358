"""Writing files so that a reader finds the old one or the new one, whole, whatever kills the writer."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from s2igan.errors import UserError

TEMPORARY_SUFFIX = ".tmp"


@contextlib.contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` when the block ends, and not at all when the block fails.

    Args:
        durable: force it to the disk, so that a power cut (not a killed process) leaves no empty file either.

    Raises:
        UserError: naming the file, when there is no room or no permission for it; what was there before stays.
    """
    path = Path(path)
    temporary = temporary_path(path)
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_directory(path.parent)


def atomic_write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; UserError as `atomic_write`."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write one of tens of thousands of small files, atomically; `has_content` tells whether a power cut emptied it."""
    with atomic_write(path, durable=False) as file:
        file.write(content)


def has_content(path: Path) -> bool:
    """Whether the file is there and not empty."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def temporary_path(path: Path) -> Path:
    """The hidden name beside `path` under which this process writes it; the name says which process that is."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}{TEMPORARY_SUFFIX}")


def abandoned(temporary: Path) -> bool:
    """Whether the process that made this temporary name is known to be gone: it ran on this machine, and does not now.

    A name with our own process id was left by an earlier process: in a container every run may have the same id.
    """
    host, _, pid = temporary.name.removesuffix(TEMPORARY_SUFFIX).rpartition("-")
    if not pid.isdecimal() or not host.endswith(f".{socket.gethostname()}"):
        return False
    return int(pid) == os.getpid() or not _runs(int(pid))


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files in a folder and below it whose writers are gone."""
    for temporary in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
        if abandoned(temporary):
            temporary.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # to ask is to interrupt it there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # ended, but its parent has not asked for its status: in a container that can last for ever
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state not in {"Z", "X"}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a read-only one or a forbidden folder into a sentence that names `path`."""
    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOSPC: "the disk is full; free some space and run again",
            errno.EDQUOT: "your disk quota is used up; free some space and run again",
            errno.EACCES: "no permission to write here; choose another folder",
            errno.EPERM: "no permission to write here; choose another folder",
            errno.EROFS: "the disk is read-only; choose another folder",
            errno.ENOTDIR: "a file stands where a folder is needed; choose another folder",
            errno.ENOENT: "nothing can be made here; choose another folder",
            errno.EEXIST: "something else of this name is here, a link that leads nowhere perhaps; choose another",
            errno.ENAMETOOLONG: "the name is too long for this disk; choose a shorter one",
            errno.EINVAL: "this disk does not take such a name; choose another folder",
            errno.EFBIG: "this disk does not take so large a file; choose a folder on another one",
        }
        if error.errno not in remedies:
            raise
        raise UserError(f"{path}: {remedies[error.errno]}.") from error


def sync_directory(path: Path) -> None:
    """Make a rename in this folder survive a power cut; Windows opens no folders."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder(run: Path | None) -> Path:
    """Where to keep what can be computed again: in the run's folder, or without a run in the user's cache folder.

    Never in the data, which may be read-only. The folder need not exist yet (`atomic_write` makes it). Runs and corpora
    share the user's folder: the name of each file must hold a digest of the content that it was computed from, such as
    `Store.fingerprint`.

    Returns:
        `RUN/cache`, else `$XDG_CACHE_HOME/s2igan` (Windows: `%LOCALAPPDATA%`), by default `~/.cache/s2igan`.

    Raises:
        UserError: there is no run, and the user has no home folder.
    """
    if run is not None:
        return run / "cache"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "")
    if folder.is_absolute():  # the XDG specification: a relative path is to be ignored
        return folder / "s2igan"
    try:
        return Path.home() / ".cache" / "s2igan"
    except RuntimeError as error:
        raise UserError("There is no home folder for cached files; set XDG_CACHE_HOME to a folder.") from error
