"""Finding files below a source: by the end of a path, by base name, and never above it."""

import os
from pathlib import Path

import pytest

from s2igan.corpora.importers.source_files import Finder, NotFoundError, Tree, base_name, relative
from s2igan.errors import UserError
from sources import texts


def make(root: Path, *paths: str) -> Tree:
    texts(root, dict.fromkeys(paths, "x"))
    return Tree(root)


def test_paths_are_sorted_and_hidden_files_left_out(tmp_path: Path) -> None:
    tree = make(tmp_path, "b/2.txt", "b/10.txt", "a.txt", ".DS_Store", "__MACOSX/b/._2.txt", "b/._2.txt", ".git/config")
    assert tree.paths == ["a.txt", "b/10.txt", "b/2.txt"]
    assert "b/2.txt" in tree
    assert "b" not in tree


def test_a_link_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    texts(tmp_path / "elsewhere", {"x.jpg": "x"})
    source = tmp_path / "source"
    source.mkdir()
    (source / "pictures").symlink_to(tmp_path / "elsewhere")
    (source / "again").symlink_to(source)
    assert Tree(source).paths == ["pictures/x.jpg"]


@pytest.mark.skipif(os.name != "posix", reason="such names exist on POSIX only")
def test_a_name_that_is_no_text_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"x")
    (tmp_path / "two\nlines.wav").write_bytes(b"x")
    assert make(tmp_path, "good.wav").paths == ["good.wav"]


def test_named_knows_case_and_unicode_forms(tmp_path: Path) -> None:
    tree = make(tmp_path, "a/IMG_1.JPG", "b/img_1.jpg", "c/cafe\u0301.jpg")
    assert tree.named("img_1.jpg") == ["b/img_1.jpg", "a/IMG_1.JPG"]
    assert tree.named("IMG_1.JPG") == ["a/IMG_1.JPG", "b/img_1.jpg"]
    assert tree.named("caf\u00e9.jpg") == ["c/cafe\u0301.jpg"]
    assert tree.named("none.jpg") == []


def test_ending_compares_whole_folders(tmp_path: Path) -> None:
    tree = make(tmp_path, "x/y/wavs/1.wav", "mywavs/1.wav", "wavs/1.wav")
    assert tree.ending("wavs/1.wav") == ["wavs/1.wav", "x/y/wavs/1.wav"]


def test_finder_looks_at_the_hint_first(tmp_path: Path) -> None:
    tree = make(tmp_path, "a/train/1.jpg", "deep/b/train/1.jpg", "deep/b/train/2.jpg")
    assert Finder(tree)("train/1.jpg") == "a/train/1.jpg"
    assert Finder(tree, "deep/b")("train/1.jpg") == "deep/b/train/1.jpg"
    assert Finder(tree, "nowhere")("train\\2.jpg") == "deep/b/train/2.jpg"
    assert Finder(tree)("./train//2.jpg") == "deep/b/train/2.jpg"
    with pytest.raises(NotFoundError, match=r"train/3\.jpg is nowhere below"):
        Finder(tree)("train/3.jpg")


@pytest.mark.parametrize(
    "listed", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "C:\\x.jpg", "\\\\server\\x.jpg", "", " ", ".", "a\0b", ".."]
)
def test_what_leads_out_is_refused(tmp_path: Path, listed: str) -> None:
    source = tmp_path / "source"
    texts(tmp_path, {"x.jpg": "x", "source/a/x.jpg": "x"})
    with pytest.raises(NotFoundError):
        relative(listed)
    with pytest.raises(NotFoundError):
        Finder(Tree(source), "", "a")(listed)


def test_base_name_of_any_system() -> None:
    assert base_name("/storage/emulated/0/Frog Story/image 1.jpg ") == "image 1.jpg"
    assert base_name("C:\\corpus\\x.wav") == "x.wav"
    assert base_name("file:///home/me/x.wav") == "x.wav"


def test_lines_of_any_system_and_code(tmp_path: Path) -> None:
    texts(tmp_path, {"a.txt": b"\xef\xbb\xbfone\r\n\r\n two \rthree\x0bmore\n", "b.txt": b"caf\xe9 \x92s\n"})
    tree = Tree(tmp_path)
    assert tree.read_lines("a.txt") == ["one", "two", "three\x0bmore"]
    assert tree.read_lines("b.txt") == ["café ’s"]


def test_one_is_not_ambiguous(tmp_path: Path) -> None:
    tree = make(tmp_path, "a/list.txt", "b/c/list.txt", "x/other.txt")
    assert tree.one("list.txt", "it") == "a/list.txt"
    with pytest.raises(UserError, match=r"no none\.txt is here or below; expected it, and found a/, b/, x/ \(3 files"):
        tree.one("none.txt", "it")
    with pytest.raises(UserError, match=r"list\.txt is here twice, as a/list\.txt and as d/list\.txt"):
        make(tmp_path, "d/list.txt").one("list.txt", "it")


def test_a_source_is_a_folder(tmp_path: Path) -> None:
    texts(tmp_path, {"x.tgz": "x"})
    with pytest.raises(UserError, match=r"x\.tgz: this source is a file; unpack it"):
        Tree(tmp_path / "x.tgz")
    with pytest.raises(UserError, match="does not exist"):
        Tree(tmp_path / "nothing")
