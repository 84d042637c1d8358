"""Atomic writing: the old file or the new one, whole."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from s2igan.errors import UserError
from s2igan.files import (
    abandoned,
    atomic_write,
    atomic_write_json,
    cache_folder,
    disk_errors,
    remove_abandoned,
    temporary_path,
)


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with atomic_write(path) as file:
        file.write(b"12")
        assert not path.exists()
    assert path.read_bytes() == b"12"
    atomic_write_json(path, {"é": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "é": 1\n}\n'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt()])
def test_a_failed_block_changes_nothing(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EFBIG, "so large a file"),
        (errno.EINVAL, "such a name"),
    ],
)
def test_what_the_user_can_mend_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=sentence) as caught, atomic_write(tmp_path / "a.bin") as file:
        file.write(b"new")
    assert str(caught.value).startswith(f"{tmp_path / 'a.bin'}: ")
    assert list(tmp_path.iterdir()) == []


def test_places_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "stick").symlink_to(tmp_path / "not mounted")
    for place, sentence in (("stick", "a link that leads nowhere"), ("x" * 300, "too long for this disk")):
        with pytest.raises(UserError, match=sentence) as caught, disk_errors(tmp_path / place):
            (tmp_path / place).mkdir(exist_ok=True)
        assert "\n" not in str(caught.value)


def test_other_system_errors_are_not_disguised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken disk"), atomic_write(tmp_path / "a.bin"):
        pass


def test_only_processes_that_are_gone_abandon_files(tmp_path: Path) -> None:
    process, zombie = (subprocess.Popen(["true"]) for _ in range(2))
    process.wait()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)  # ended, but not yet collected
    own = temporary_path(tmp_path / "a-b.bin").name
    host = os.uname().nodename
    assert own == f".a-b.bin.{host}-{os.getpid()}.tmp"
    cases = {
        f".a.bin.{host}-{process.pid}.tmp": True,
        f".a.bin.{host}-{os.getppid()}.tmp": False,
        f".a.bin.{host}-1.tmp": False,
        f".a.bin.other-{host}-{process.pid}.tmp": False,
        ".a.bin.tmp": False,
        ".a.bin.host-x.tmp": False,
        own: True,  # of an earlier process with this process's id
    }
    cases[f".a.bin.{host}-{zombie.pid}.tmp"] = True
    assert {name: abandoned(tmp_path / name) for name in cases} == cases
    (tmp_path / "below").mkdir()
    for name in (*cases, "a.tmp"):
        (tmp_path / "below" / name).touch()
    remove_abandoned(tmp_path)
    left = {path.name for path in (tmp_path / "below").iterdir()}
    assert left == {name for name, gone in cases.items() if not gone} | {"a.tmp"}
    zombie.wait()


def test_caches_lie_in_the_run_else_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder(tmp_path / "run") == tmp_path / "run" / "cache"
    assert cache_folder(None) == tmp_path / "caches" / "s2igan"
    assert not list(tmp_path.iterdir())  # nothing is made before it is needed

    for not_a_place in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", not_a_place)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder(None) == tmp_path / ".cache" / "s2igan"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(UserError, match="XDG_CACHE_HOME"):
        cache_folder(None)
