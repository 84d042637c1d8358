"""Archives: what is in them arrives whole, once, and nothing leaves the folder."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from s2igan.corpora.prepare import archives
from s2igan.corpora.prepare.archives import archives_of, unpack
from s2igan.errors import UserError

FILES = {"CUB/images.txt": b"1 a.jpg\n", "CUB/images/a.jpg": b"picture" * 500, "CUB/empty": b""}


def pack(path: Path, files: dict[str, bytes] = FILES) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
        return path
    mode = {".tgz": "w:gz", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(source: Path, out: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    folder, problems = unpack(source, out)
    assert folder == out / "unpacked"
    return content(folder), {problem.path: problem.reason for problem in problems}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.gz", "A.TAR.BZ2", "a.tar.xz"])
def test_every_kind_is_unpacked(tmp_path, name):
    assert unpacked(pack(tmp_path / name), tmp_path / "out") == (FILES, {})


def test_a_folder_without_archives_is_the_source_itself(tmp_path):
    (tmp_path / "source").mkdir()
    assert unpack(tmp_path / "source", tmp_path / "out") == (tmp_path / "source", ())
    assert not (tmp_path / "out").exists()


def test_a_folder_of_archives_and_other_files(tmp_path):
    source = tmp_path / "source"
    (source / "lists").mkdir(parents=True)
    (source / "lists/split.mat").write_bytes(b"mat")
    pack(source / "CUB_200_2011.tgz")
    pack(source / "cvpr2016_cub.tar.gz", {"text/a.txt": b"a bird"})
    found, _ = unpacked(source, tmp_path / "out")
    assert found == FILES | {"text/a.txt": b"a bird", "lists/split.mat": b"mat"}
    assert {path.name for path in source.iterdir()} == {"lists", "CUB_200_2011.tgz", "cvpr2016_cub.tar.gz"}


def test_trees_of_two_archives_are_joined_and_contradictions_refused(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    pack(source / "1.zip", {"images/a.jpg": b"a", "list": b"same"})
    pack(source / "2.zip", {"images/b.jpg": b"b", "list": b"same"})
    assert unpacked(source, tmp_path / "out")[0] == {"images/a.jpg": b"a", "images/b.jpg": b"b", "list": b"same"}
    pack(source / "3.zip", {"list": b"other"})
    with pytest.raises(UserError, match=r"3\.zip: holds a list other than that of 1\.zip or 2\.zip"):
        unpack(source, tmp_path / "out")


def test_an_archive_that_lies_unpacked_beside_itself_is_passed_over(tmp_path):
    pack(tmp_path / "download.tgz")
    assert archives_of(tmp_path) == [tmp_path / "download.tgz"]
    (tmp_path / "CUB").mkdir()
    assert archives_of(tmp_path) == []
    pack(tmp_path / "text_c10.tar.gz", {"a.txt": b""})
    (tmp_path / "text_c10").mkdir()
    assert archives_of(tmp_path) == []


def test_it_is_unpacked_once_until_the_archive_changes(tmp_path, monkeypatch):
    archive, out = pack(tmp_path / "a.zip"), tmp_path / "out"
    unpacked(archive, out)
    before = {path: path.stat().st_mtime_ns for path in (out / "unpacked").rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr(archives, "_unpack_one", lambda *_: pytest.fail("unpacked again"))
        unpacked(archive, out)
    assert {path: path.stat().st_mtime_ns for path in (out / "unpacked").rglob("*")} == before
    pack(archive, {"new": b"x"})
    assert unpacked(archive, out)[0] == {"new": b"x"}


def test_an_interrupted_unpacking_goes_on(tmp_path, monkeypatch):
    archive, out = pack(tmp_path / "a.tgz", {f"{i}": bytes([i]) * 1000 for i in range(20)}), tmp_path / "out"
    put, calls = archives._put, []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) > 7:
            (out / "unpacked/.7.here-1.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        put(*arguments)

    monkeypatch.setattr(archives, "_put", dies)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, out)
    assert not (out / "unpacked.json").exists()
    monkeypatch.undo()
    assert unpacked(archive, out)[0] == {f"{i}": bytes([i]) * 1000 for i in range(20)}


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "C:\\evil", "..\\evil", "a/\nevil"])
@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_names_that_lead_out_are_left_out(tmp_path, name, suffix):
    archive = pack(tmp_path / f"a.{suffix}", {name: b"evil", "good": b"good"})
    found, problems = unpacked(archive, tmp_path / "deep/er/out")
    assert found == {"good": b"good"}
    (reason,) = problems.values()
    assert "leads out" in reason
    assert not list(tmp_path.rglob("*evil*"))


def test_links_and_devices(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.tar", "w") as file:

        def add(name: str, kind: bytes, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            file.addfile(info)

        add("before", tarfile.SYMTYPE, "d/real")
        info = tarfile.TarInfo("d/real")
        info.size = 4
        file.addfile(info, io.BytesIO(b"real"))
        add("hard", tarfile.LNKTYPE, "d/real")
        add("d/soft", tarfile.SYMTYPE, "../d/real")
        add("out", tarfile.SYMTYPE, "../../secret")
        add("absolute", tarfile.SYMTYPE, str(secret))
        add("folder", tarfile.SYMTYPE, str(tmp_path))
        add("device", tarfile.CHRTYPE)
        add("pipe", tarfile.FIFOTYPE)
        info = tarfile.TarInfo("folder/through")
        info.size = 4
        file.addfile(info, io.BytesIO(b"evil"))
    found, problems = unpacked(tmp_path / "a.tar", tmp_path / "out/put")
    assert found == dict.fromkeys(("before", "d/real", "hard", "d/soft"), b"real") | {"folder/through": b"evil"}
    assert set(problems) == {f"a.tar/{name}" for name in ("out", "absolute", "folder", "device", "pipe")}
    assert not (tmp_path / "through").exists()
    assert all(not path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_links_in_zip_files_are_left_out(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
        file.writestr("good", b"good")
    found, problems = unpacked(tmp_path / "a.zip", tmp_path / "out")
    assert found == {"good": b"good"}
    assert problems == {"a.zip/link": "a link in an archive"}


def test_what_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    archive = pack(tmp_path / "bomb.zip", {"zeros": bytes(10_000_000)})
    assert archive.stat().st_size < 20_000
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(UserError, match=r"bomb\.zip: a file in it unpacks to 10\.0 MB .* larger disk"):
        unpack(archive, tmp_path / "out")
    assert content(tmp_path / "out/unpacked") == {}


class Usage:
    free = archives.RESERVE_BYTES + 9_999_999


@pytest.mark.parametrize("name", ["a.zip", "a.tgz", "a.tar", "a.tar.bz2"])
def test_torn_archives_are_named(tmp_path, name):
    archive = pack(tmp_path / name, {f"{i}": os.urandom(5000) for i in range(20)})
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(UserError, match=rf"{name}: .*(damaged or incomplete|cut off)"):
        unpack(archive, tmp_path / "out")


def test_flipped_bytes_in_a_zip_are_found(tmp_path):
    archive = pack(tmp_path / "a.zip", {"noise": os.urandom(5000)})
    raw = bytearray(archive.read_bytes())
    raw[3000] ^= 255
    archive.write_bytes(raw)
    with pytest.raises(UserError, match=r"a\.zip: the archive is damaged"):
        unpack(archive, tmp_path / "out")
    assert content(tmp_path / "out/unpacked") == {}


def test_sources_that_are_none(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    (tmp_path / "fake.zip").write_bytes(b"not a zip")
    for name, message in (
        ("a.rar", "neither a folder nor an archive"),
        ("absent", "no such folder"),
        ("fake.zip", "damaged"),
    ):
        with pytest.raises(UserError, match=rf"{name}: .*{message}"):
            unpack(tmp_path / name, tmp_path / "out")


def test_litter_of_other_systems_is_skipped(tmp_path):
    archive = pack(
        tmp_path / "a.zip", {"__MACOSX/._a.jpg": b"x", "a/._b.jpg": b"x", "a/.DS_Store": b"x", "a/b.jpg": b"b"}
    )
    found, problems = unpacked(archive, tmp_path / "out")
    assert found.keys() - {"a/.DS_Store"} == {"a/b.jpg"}
    assert problems == {}


@pytest.mark.parametrize(("raw", "name"), [("été".encode(), "été.jpg"), (b"\x82t\x82_x", "été_x.jpg")])
def test_accents_in_zip_files_that_do_not_say_how_they_are_written(tmp_path, raw, name):
    """Macs write UTF-8 and do not set the flag for it; what is not UTF-8 is in the code page of DOS."""
    pack(tmp_path / "a.zip", {"#####.jpg": b"a"})
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"#####", raw))
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out/unpacked").iterdir()] == [name]


def sparse(blocks: int) -> bytes:
    """A file whose list of holes goes on for so many blocks."""
    info = tarfile.TarInfo("holes")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # the list goes on behind the header
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    block = bytearray(512)
    block[504] = 1  # and behind this block
    return bytes(header) + blocks * bytes(block)


@pytest.mark.parametrize("kind", ["GNU name", "GNU link", "pax name", "pax comment", "holes"])
def test_headers_that_would_fill_the_memory_are_refused(tmp_path, kind):
    archive, size = tmp_path / "a.tgz", 8 * archives.MAX_HEADER_BYTES
    with tarfile.open(archive, "w:gz", format=tarfile.GNU_FORMAT if "GNU" in kind else tarfile.PAX_FORMAT) as file:
        file.addfile(tarfile.TarInfo("first"))
        info = tarfile.TarInfo("a" * size if "name" in kind else "a")
        if "link" in kind:
            info.type, info.linkname = tarfile.SYMTYPE, "a" * size
        if "comment" in kind:
            info.pax_headers = {"comment": "a" * size}
        if kind == "holes":
            file.fileobj.write(sparse(size // 512))
        else:
            file.addfile(info)
    assert archive.stat().st_size < 100_000
    asked: list[int] = []

    class Watched(gzip.GzipFile):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(archives.COMPRESSIONS, b"\x1f\x8b", lambda raw: Watched(fileobj=raw))
        with pytest.raises(UserError, match=r"a\.tgz: .*a file in it has a name or header of over 1 MB"):
            unpack(archive, tmp_path / "out")
    assert 0 <= min(asked) <= sum(asked) < 2 * archives.MAX_HEADER_BYTES
    assert [path.name for path in (tmp_path / "out/unpacked").iterdir()] == ["first"]


def test_long_names_and_headers_are_read(tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("/".join(["folder"] * 50) + "/é.txt")
        info.pax_headers = {"comment": "a" * 100_000}
        info.size = 2
        file.addfile(info, io.BytesIO(b"ok"))
    assert unpacked(archive, tmp_path / "out") == ({info.name: b"ok"}, {})


@pytest.mark.parametrize("name", ["a.zip", "a.tgz", "a.tar"])
def test_archives_of_too_many_files_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 20)
    exactly, more = ({f"{i}.txt": b"" for i in range(n)} for n in (20, 21))
    assert len(unpacked(pack(tmp_path / name, exactly), tmp_path / "out")[0]) == 20
    with pytest.raises(UserError, match=rf"{name}: holds over 20 files and folders"):
        unpack(pack(tmp_path / name, more), tmp_path / "other")
