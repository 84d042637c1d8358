"""Matching by name: what belongs together is found, what is doubtful is named and left out."""

import errno
import os
import unicodedata
from pathlib import Path

import pytest

from s2igan.corpora.importers.folder import read
from s2igan.corpora.importers.source import ReadOptions
from s2igan.errors import UserError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked into")
    return root


def pairs(root: Path) -> set[tuple[str, str]]:
    return {(row.audio, row.image) for row in read(root).rows}


def problems(root: Path) -> dict[str, str]:
    return {problem.path: problem.reason for problem in read(root).problems}


@pytest.mark.parametrize(
    ("audio", "image"),
    [
        ("a.wav", "a.jpg"),
        ("A.WAV", "a.JPG"),
        ("a_1.wav", "a.png"),
        ("a-2.mp3", "a.png"),
        ("a (3).ogg", "a.png"),
        ("a_03.flac", "a.webp"),
        ("audio/a.wav", "images/a.jpg"),
        ("dog/audio/a_1.wav", "dog/images/a.jpg"),
        ("Audio/dog/a.wav", "Images/dog/a.jpg"),
        ("anna/a.wav", "pictures/a.jpg"),
        ("IMG_2.wav", "IMG_2.jpg"),
        ("market.day.wav", "market.day.jpg"),
        ("my dog.wav", "my%20dog.jpg"),
        ("my_dog-2.wav", "my dog.jpg"),
        ("1.wav", "01.jpg"),
        ("IMG_007.wav", "img-7.jpg"),
        ("dog.mts", "dog.jpg"),
        (unicodedata.normalize("NFD", "bébé_1.wav"), unicodedata.normalize("NFC", "bébé.jpg")),
    ],
)
def test_a_recording_belongs_to_the_picture_of_its_name(tmp_path, audio, image):
    tree(tmp_path, audio, image)
    assert pairs(tmp_path) == {(audio, image)}
    assert problems(tmp_path) == {}


@pytest.mark.parametrize(("audio", "image"), [("a1.wav", "a.jpg"), ("ab.wav", "a.jpg")])
def test_other_names_do_not_belong(tmp_path, audio, image):
    tree(tmp_path, audio, image, "b.wav", "b.jpg")
    assert pairs(tmp_path) == {("b.wav", "b.jpg")}
    assert set(problems(tmp_path)) == {audio, image}


def test_its_own_name_goes_before_its_name_without_the_number(tmp_path):
    tree(tmp_path, "IMG.jpg", "IMG_1.jpg", "IMG_1.wav", "IMG_2.wav", "IMG_1_1.wav")
    assert pairs(tmp_path) == {("IMG_1.wav", "IMG_1.jpg"), ("IMG_2.wav", "IMG.jpg"), ("IMG_1_1.wav", "IMG_1.jpg")}


def test_its_own_folder_goes_before_others_and_exact_letters_before_capitals(tmp_path):
    tree(tmp_path, "x/a.jpg", "y/a.jpg", "x/a.wav", "y/a.wav", "z/B.jpg", "z/b.jpg", "z/B.wav", "z/b.wav")
    expected = {("x/a.wav", "x/a.jpg"), ("y/a.wav", "y/a.jpg"), ("z/B.wav", "z/B.jpg"), ("z/b.wav", "z/b.jpg")}
    assert pairs(tmp_path) == expected


def test_looser_names_are_tried_last_and_never_chosen_between(tmp_path):
    tree(tmp_path, "1.jpg", "01.jpg", "01.wav", "001.wav", "a b.jpg", "a_b.jpg", "a_b.wav", "a-b.wav")
    assert pairs(tmp_path) == {("01.wav", "01.jpg"), ("a_b.wav", "a_b.jpg")}
    assert "any of 2 pictures" in problems(tmp_path)["001.wav"]
    assert "any of 2 pictures" in problems(tmp_path)["a-b.wav"]


def test_a_recording_goes_before_the_film_of_a_living_picture(tmp_path):
    tree(tmp_path, "IMG_1.HEIC", "IMG_1.MOV", "IMG_1.m4a")
    assert pairs(tmp_path) == {("IMG_1.m4a", "IMG_1.HEIC")}


def test_recordings_of_a_picture_are_in_the_order_of_their_numbers(tmp_path):
    tree(tmp_path, "a.jpg", "a_10.wav", "a_2.wav", "a.wav")
    assert [row.audio for row in read(tmp_path).rows] == ["a.wav", "a_2.wav", "a_10.wav"]


def test_orphans_and_doubtful_names_are_named(tmp_path):
    tree(tmp_path, "a.jpg", "a.wav", "lone.jpg", "left.wav", "x/c.jpg", "y/c.jpg", "z/c.wav", "d.jpg", "d.png", "d.wav")
    assert pairs(tmp_path) == {("a.wav", "a.jpg")}
    found = problems(tmp_path)
    assert set(found) == {"lone.jpg", "left.wav", "x/c.jpg", "y/c.jpg", "z/c.wav", "d.jpg", "d.png", "d.wav"}
    assert "without a description" in found["lone.jpg"]
    assert "without a picture" in found["left.wav"]
    assert "any of 2 pictures" in found["z/c.wav"]
    assert "x/c.jpg, y/c.jpg" in found["z/c.wav"]
    assert "name another one has" in found["d.jpg"]


def test_files_of_unknown_kinds_are_named_and_litter_is_not(tmp_path):
    tree(tmp_path, "a.jpg", "a.wav", "b.jpg", "b.wav", "photo.nef", "talk.dss", "cat.jgp", "a.TextGrid", "b.TextGrid")
    tree(tmp_path, ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/a.jpg", "._a.jpg", ".hidden/c.jpg", "README.md")
    found = problems(tmp_path)
    assert set(found) == {"photo.nef", "talk.dss", "cat.jgp", "a.TextGrid"}
    assert "convert it to a jpg" in found["photo.nef"]
    assert "convert it to a wav" in found["talk.dss"]
    assert "1 more like it" in found["a.TextGrid"], (
        "annotations are counted once, or they would be the most of a corpus"
    )


@pytest.mark.parametrize(
    ("images", "classes"),
    [
        (("dog/a", "dog/b", "cat/c", "cat/d"), {"dog", "cat"}),
        (("images/dog/a", "images/dog/b", "images/cat/c", "images/cat/d"), {"dog", "cat"}),
        (("dog/images/a", "dog/images/b", "cat/images/c", "cat/images/d"), {"dog", "cat"}),
        (("a", "b", "c", "d"), {None}),
        (("images/a", "images/b", "images/c"), {None}),
        (("dog/a", "dog/b"), {None}),  # one class is none
        (("x/a", "y/b", "z/c"), {None}),  # a folder for each picture
        (("dog/a", "dog/b", "cat/c", "cat/d", "e"), {None}),  # uneven
        (("pets/dog/a", "pets/dog/b", "pets/cat/c", "pets/cat/d"), {None}),  # two levels
    ],
)
def test_folders_are_classes_one_level_deep(tmp_path, images, classes):
    tree(tmp_path, *(f"{image}.jpg" for image in images), *(f"{image}_1.wav" for image in images))
    rows = read(tmp_path).rows
    assert len(rows) == len(images)
    assert {row.class_name for row in rows} == classes


def test_texts(tmp_path):
    tree(
        tmp_path,
        "a.jpg",
        "a_1.wav",
        "a_2.wav",
        "b.jpg",
        "b_1.wav",
        "b_2.wav",
        "c.jpg",
        "c.wav",
        "d.jpg",
        "e.jpg",
        "e.wav",
    )
    (tmp_path / "a_2.txt").write_text("of the second\n", encoding="utf-8-sig")
    (tmp_path / "b.txt").write_text("first\n\nsecond\n")
    (tmp_path / "c.txt").write_text("élan")
    (tmp_path / "d.txt").write_text("only written\ntwice\n")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\x00broken")
    (tmp_path / "nobody.txt").write_text("x")
    corpus = read(tmp_path)
    assert {(row.audio or row.image, row.text) for row in corpus.rows} == {
        ("a_1.wav", None),
        ("a_2.wav", "of the second"),
        ("b_1.wav", "first"),
        ("b_2.wav", "second"),
        ("c.wav", "élan"),
        ("d.jpg", "only written"),
        ("d.jpg", "twice"),
        ("e.wav", None),
    }
    assert {problem.path for problem in corpus.problems} == {"e.txt", "nobody.txt"}


def test_a_manifest_wins(tmp_path):
    tree(tmp_path, "a.jpg", "a.wav", "b.wav")
    (tmp_path / "manifest.csv").write_text("audio,image,speaker\nb.wav,a.jpg,Anna\n/etc/passwd,a.jpg,\n")
    corpus = read(tmp_path)
    assert [(row.audio, row.image, row.speaker) for row in corpus.rows] == [("b.wav", "a.jpg", "Anna")]
    (problem,) = corpus.problems
    assert problem.path == "manifest.csv"
    assert problem.reason.startswith("line 3: audio '/etc/passwd' is an absolute path")
    assert read(tmp_path / "manifest.csv") == corpus
    (tmp_path / "Manifest.tsv").write_text("audio\timage\n")
    with pytest.raises(UserError, match=r"Manifest\.tsv and manifest\.csv; keep the one"):
        read(tmp_path)


def test_links_are_followed_and_loops_are_not(tmp_path):
    tree(tmp_path / "elsewhere", "a.jpg", "a.wav")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "corpus")
    assert pairs(tmp_path / "corpus") == {("there/a.wav", "there/a.jpg")}


def test_nothing_to_use_says_what_was_found_and_expected(tmp_path):
    tree(tmp_path, "a.jpg", "b.jpg", "c.wav")
    with pytest.raises(
        UserError, match=r"2 pictures, 1 recordings \(a\.jpg, b\.jpg, c\.wav\); expected .* a\.jpg and a\.wav"
    ):
        read(tmp_path)


def test_a_manifest_names_files_as_another_system_spells_them(tmp_path):
    """Written on Windows or a Mac, read on Linux: backslashes, capitals, accents in the other encoding."""
    tree(tmp_path, unicodedata.normalize("NFD", "Photos/été.JPG"), "Recordings/a.wav", "one/b.wav", "One/B.wav")
    rows = ["Recordings\\A.WAV,photos\\été.jpg", "one/b.wav,PHOTOS/Été.jpg", "ONE/b.wav,nowhere.jpg"]
    (tmp_path / "manifest.csv").write_text("\n".join(["Audio,Image", *rows]), encoding="utf-8")
    image = unicodedata.normalize("NFD", "Photos/été.JPG")
    found = [(row.audio, row.image) for row in read(tmp_path).rows]
    assert found == [("Recordings/a.wav", image), ("one/b.wav", image), ("ONE/b.wav", "nowhere.jpg")]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            ["a.wav,a.jpg,x,train", "", "b.wav,a.jpg,y,train"],
            r"list\.csv: the image a\.jpg has the class 'x' on line 2",
        ),
        (["a.wav,a.jpg,x,train", "b.wav,a.jpg,x,test"], r"list\.csv: the image a\.jpg is in the split train on line 2"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_named_with_its_own_lines(tmp_path, rows, sentence):
    tree(tmp_path, "a.wav", "b.wav", "a.jpg")
    (tmp_path / "list.csv").write_text("\n".join(["audio,image,class,split", *rows]))
    with pytest.raises(UserError, match=sentence):
        read(tmp_path / "list.csv")


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_is_used(tmp_path, monkeypatch):
    tree(tmp_path, "a.jpg", "a.wav", "lost+found/x")
    (tmp_path / "itself").symlink_to("itself")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "lost+found" or refuse_all:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    refuse_all = False
    monkeypatch.setattr("s2igan.corpora.importers.folder.os.scandir", guarded)  # the tests may run as root
    assert pairs(tmp_path) == {("a.wav", "a.jpg")}
    found = problems(tmp_path)
    assert found["lost+found"] == "the folder cannot be read (Permission denied); check its permissions"
    assert set(found) == {"lost+found", "itself"}
    refuse_all = True
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); check its permissions\."):
        read(tmp_path)


def lost(root: Path) -> dict[str, int]:
    return {problem.path: problem.lost for problem in read(root).problems}


def test_a_recording_that_cannot_be_decoded_is_the_one_fault_of_its_picture(tmp_path):
    tree(
        tmp_path, "a.jpg", "a.wav", "note.jpg", "note.dss", "images/c.jpg", "audio/c_1.dvf", "audio/c_2.wav", "lone.jpg"
    )
    assert pairs(tmp_path) == {("a.wav", "a.jpg"), ("audio/c_2.wav", "images/c.jpg")}
    found = problems(tmp_path)
    assert set(found) == {"note.dss", "audio/c_1.dvf", "lone.jpg"}
    assert "convert it to a wav" in found["note.dss"]
    assert "without a description" in found["lone.jpg"]
    assert set(lost(tmp_path).values()) == {1}


def test_a_picture_that_cannot_be_decoded_is_the_one_fault_of_its_recordings(tmp_path):
    tree(tmp_path, "a.jpg", "a.wav", "images/b.cr2", "audio/b_1.wav", "audio/b_2.wav", "b.txt", "c.cr2", "c.dss")
    tree(tmp_path, "d.nef", "e.cr2", "e.txt", "left.wav")
    (tmp_path / "e.txt").write_text("one\ntwo\nthree\n")
    assert pairs(tmp_path) == {("a.wav", "a.jpg")}
    assert lost(tmp_path) == {
        "images/b.cr2": 2,
        "c.cr2": 0,  # its recording counts
        "c.dss": 1,
        "d.nef": 1,
        "e.cr2": 3,
        "left.wav": 1,
    }
    assert "convert it to a jpg" in problems(tmp_path)["images/b.cr2"]


def test_what_a_converted_copy_lies_beside_is_no_fault_of_each(tmp_path):
    """People follow the advice to convert, and keep the originals."""
    for name in "abc":
        tree(tmp_path, f"{name}.HEIC", f"{name}.jpg", f"{name}_1.m4a", f"{name}_1.wav", f"{name}.txt")
        (tmp_path / f"{name}.txt").write_text("what is said")
    assert [(row.audio, row.text) for row in read(tmp_path).rows] == [
        (f"{name}_1.wav", "what is said") for name in "abc"
    ]
    found = problems(tmp_path)
    assert set(found) == {"a.HEIC", "a_1.m4a"}
    assert found["a.HEIC"] == ".heic beside a picture or recording is not read, and 2 more like it"


def test_texts_beside_recordings_that_cannot_be_decoded(tmp_path):
    tree(tmp_path, "a.jpg", "a_1.dss", "a_2.wav", "b.jpg", "b_1.dss", "b_2.wav", "c.jpg", "c_1.dss", "d.jpg", "e.jpg")
    (tmp_path / "a.txt").write_text("of the first\nof the second")
    (tmp_path / "b.txt").write_text("of the second")
    (tmp_path / "c.txt").write_text("of the first")
    (tmp_path / "c_1.txt").write_text("of the first")
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe\x00broken")
    (tmp_path / "e.txt").write_text("only written")
    found = {(row.audio, row.image, row.text) for row in read(tmp_path).rows}
    assert found == {
        ("a_2.wav", "a.jpg", "of the second"),
        ("b_2.wav", "b.jpg", "of the second"),
        ("", "e.jpg", "only written"),
    }
    assert set(problems(tmp_path)) == {"a_1.dss", "b_1.dss", "c_1.dss", "d.txt"}


def test_only_recordings_that_cannot_be_decoded(tmp_path):
    """What a phone records: the remedy is in the sentence."""
    with pytest.raises(UserError, match=r"\.dss cannot be decoded, convert it to a wav or mp3; expected are"):
        read(tree(tmp_path, "a.jpg", "a.dss"))


@pytest.mark.parametrize("audio", ["a.m4a", "a.amr", "a.MP4", "a_1.webm", "a (2).m4a", "a.sph"])
@pytest.mark.parametrize("image", ["a.jpg", "a.heic", "a.AVIF"])
def test_what_phones_record_is_matched(tmp_path, audio, image):
    tree(tmp_path, audio, image)
    assert pairs(tmp_path) == {(audio, image)}
    assert problems(tmp_path) == {}


@pytest.mark.parametrize(
    "audio",
    [
        "boat_desc_fr.ogg",
        "boat.fr.wav",
        "boat-ana.wav",
        "boat (2).m4a",
        "ana_boat.wav",
        "s3-boat-1.wav",
        "boat_7_b.wav",
    ],
)
def test_a_name_may_hold_more_than_the_picture_s(tmp_path, audio):
    tree(tmp_path, audio, "boat.jpg", "b.wav", "b.jpg")
    assert (audio, "boat.jpg") in pairs(tmp_path)
    assert problems(tmp_path) == {}


def test_the_longest_name_of_a_picture_counts(tmp_path):
    tree(tmp_path, "boat.jpg", "boat_red.jpg", "boat_red_ana.wav", "boat_blue.wav", "1.jpg", "x_1.wav", "1_ana.wav")
    assert pairs(tmp_path) == {
        ("boat_red_ana.wav", "boat_red.jpg"),
        ("boat_blue.wav", "boat.jpg"),
        ("1_ana.wav", "1.jpg"),
    }
    assert set(problems(tmp_path)) == {"x_1.wav"}


def test_what_the_other_parts_of_a_name_mean(tmp_path):
    names = [
        f"{picture}_desc_{who}_{language}.wav"
        for picture in ("boat", "dog")
        for who, language in (("ana", "fr"), ("ben", "sw"))
    ]
    tree(tmp_path, "boat.jpg", "dog.jpg", *names, "cat.jpg", "cat_desc_s07.wav")
    corpus = read(tmp_path)
    assert [(row.audio, row.speaker, row.language) for row in corpus.rows] == [
        ("boat_desc_ana_fr.wav", "speaker-1", "fr"),
        ("boat_desc_ben_sw.wav", "speaker-2", "sw"),
        ("cat_desc_s07.wav", "s07", None),
        ("dog_desc_ana_fr.wav", "speaker-1", "fr"),
        ("dog_desc_ben_sw.wav", "speaker-2", "sw"),
    ]
    assert corpus.notes == (
        "Names of recordings hold 'ana', 'ben', 's07', taken for speakers.",
        "Names of recordings hold 'fr', 'sw', taken for languages.",
        "Names of recordings hold 'desc', and nothing tells whether that is a speaker, a language or something else; a "
        "manifest can say.",
    )
    assert {row.speaker for row in read(tmp_path, ReadOptions(keep_personal_data=True)).rows} == {"ana", "ben", "s07"}


def test_the_nearest_picture_is_named(tmp_path):
    tree(tmp_path, "a.jpg", "a.wav", "market.jpg", "markett.wav")
    assert problems(tmp_path)["markett.wav"].endswith("; the nearest name is market")


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_texts_in_unicode_of_any_editor(tmp_path, codec):
    tree(tmp_path, "a.jpg", "a.wav")
    (tmp_path / "a.txt").write_bytes("une tête\r\n".encode(codec))
    assert [row.text for row in read(tmp_path).rows] == ["une tête"]
