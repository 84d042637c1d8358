"""Folders of the LIG-Aikuma app as it leaves them on a phone, in miniature."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2igan.corpora.importers.aikuma import IMPORTER
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

FIRST, SECOND, THIRD = "200623-105745_tbz_1de_elicit", "200623-234326_tbz_1de_elicit", "200702-103212_twi_ba0_elicit"
PERSONAL = ("Awa", "Kofi", "1971", "5.69", "HUAWEI", "1de2bf099dd46f90", "Benin", "Female")


def metadata(name: str, language: str, speaker: str, **more: Any) -> dict[str, Any]:
    return {
        "date": "2020-06-23T23:43:26Z",
        "recording_lang": language,
        "origin": "Benin",
        "suffix": name.rpartition("_")[0],
        "speakers": [],
        "durationMsec": 6488,
        "speaker_gender": "Female",
        "languages": [],
        "speaker_birth_year": 1971,
        "speaker_name": speaker,
        "sampleRate": 16000,
        "user_id": "1056800236",
        "name": name,
        "location": [5.6953645, -0.0938715],
        "device": "HUAWEI-JSN-L22",
        "androidID": "1de2bf099dd46f90",
        "mother_tongue": "",
    } | more


def session(root: Path, name: str, items: dict[int, str], speaker: str, end: str = "\n", **more: Any) -> None:
    """`items`: the number of each recording and its picture, as a path on the phone."""
    phone = "/storage/emulated/0/ligaikuma/recordings"
    lines = [f"{image} ; {phone}/{name}/{name}_{number}.wav" for number, image in items.items()]
    texts(root / name, {f"{name}_linker.txt": end.join(lines) + end})
    recordings(root / name, *(f"{name}_{number}.wav" for number in items))
    language = name.split("_")[1]
    for number in items:
        own = f"{name}_{number}"
        texts(root / name, {f"{own}-metadata.json": json.dumps(metadata(own, language, speaker, **more))})


def frog(number: int) -> str:
    return f"/storage/emulated/0/Frog Story/image{number}.jpg"


def make(root: Path, end: str = "\n") -> Path:
    session(root / "recordings", THIRD, {0: frog(1)}, "awa Traoré ", end, androidID="ffff")  # another phone
    session(root / "recordings", FIRST, {0: frog(1), 1: frog(2)}, "Kofi Mensah", end)
    session(root / "recordings", SECOND, {2: frog(3), 10: frog(1)}, "Awa  Traoré", end)
    pictures(root, *(f"pictures/image{number}.jpg" for number in (1, 2, 3)))
    return root


def read(root: Path, **options: bool) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions(**options))
    is_usable(corpus, root)
    return corpus


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_as_the_app_leaves_it(tmp_path: Path, end: str) -> None:
    corpus = read(make(tmp_path, end))
    assert not corpus.problems
    assert [(row.audio.rpartition("/")[2], row.image, row.language, row.speaker) for row in corpus.rows] == [
        (f"{FIRST}_0.wav", "pictures/image1.jpg", "tbz", "speaker-1"),
        (f"{FIRST}_1.wav", "pictures/image2.jpg", "tbz", "speaker-1"),
        (f"{SECOND}_2.wav", "pictures/image3.jpg", "tbz", "speaker-2"),
        (f"{SECOND}_10.wav", "pictures/image1.jpg", "tbz", "speaker-2"),
        (f"{THIRD}_0.wav", "pictures/image1.jpg", "twi", "speaker-2"),
    ]
    assert {(row.split, row.class_name, row.text) for row in corpus.rows} == {(None, None, None)}


def test_personal_data_is_dropped(tmp_path: Path) -> None:
    corpus = read(make(tmp_path))
    assert not [word for word in PERSONAL if word.casefold() in repr(corpus).casefold()]


def test_a_pseudonym_does_not_change(tmp_path: Path) -> None:
    """Not between runs, not when a later session comes, not when the pictures are gone through in another order."""
    make(tmp_path)
    before = read(tmp_path)
    assert read(tmp_path) == before
    session(tmp_path / "a", "200801-000000_tbz_1de_elicit", {0: frog(2)}, "Aaron")
    after = {row.audio: row.speaker for row in read(tmp_path).rows}
    assert {row.audio: row.speaker for row in before.rows}.items() <= after.items()
    assert after["a/200801-000000_tbz_1de_elicit/200801-000000_tbz_1de_elicit_0.wav"] == "speaker-3"


def test_personal_data_is_kept_on_request(tmp_path: Path) -> None:
    make(tmp_path)
    rows = read(tmp_path, keep_personal_data=True).rows
    awa = "Awa Traoré (Female; born 1971; Benin; HUAWEI-JSN-L22; 1de2bf099dd46f90; 5.6953645, -0.0938715)"
    assert [row.speaker for row in rows[2:]] == [awa] * 3
    assert rows[0].speaker == awa.replace("Awa Traoré", "Kofi Mensah")


def test_speakers_without_a_name(tmp_path: Path) -> None:
    session(tmp_path, FIRST, {0: frog(1)}, "", user_id="7", speaker_birth_year=0, location=None)
    session(tmp_path, SECOND, {0: frog(1)}, "", user_id="8")
    session(tmp_path, THIRD, {0: frog(1)}, " ", user_id="7")
    pictures(tmp_path, "image1.jpg")
    assert [row.speaker for row in read(tmp_path).rows] == ["speaker-1", "speaker-2", "speaker-1"]
    assert read(tmp_path, keep_personal_data=True).rows[0].speaker == (
        "7 (Female; Benin; HUAWEI-JSN-L22; 1de2bf099dd46f90)"
    )


def test_without_metadata(tmp_path: Path) -> None:
    make(tmp_path)
    at = tmp_path / "recordings" / FIRST
    (at / f"{FIRST}_0-metadata.json").unlink()
    (at / f"{FIRST}_1-metadata.json").write_text("{")
    corpus = read(tmp_path)
    assert [(row.language, row.speaker) for row in corpus.rows[:2]] == [("tbz", None)] * 2
    assert list(reasons(corpus).values()) == ["not readable as JSON; the recording is kept, its speaker is not known"]


def test_recordings_moved_missing_and_not_linked(tmp_path: Path) -> None:
    make(tmp_path)
    at = tmp_path / "recordings"
    (tmp_path / "FrogStory").mkdir()
    (at / FIRST / f"{FIRST}_0.wav").rename(tmp_path / "FrogStory" / f"{FIRST}_0.wav")
    (at / SECOND / f"{SECOND}_2.wav").unlink()
    recordings(at / THIRD, f"{THIRD}_9.wav")
    recordings(tmp_path / "FrogStory", f"{SECOND}_25.wav", "whole_frog_story.wav")
    with (at / THIRD / f"{THIRD}_linker.txt").open("a") as file:
        file.write("\nno separator\n/storage/examples/sentences.txt (line 1) ; /storage/x.wav\n")
    corpus = read(tmp_path)
    assert corpus.rows[0].audio == f"FrogStory/{FIRST}_0.wav"
    assert corpus.rows[0].speaker == "speaker-1"
    assert len(corpus.rows) == 4
    assert reasons(corpus) == {
        f"{SECOND}_2.wav": "the recording is nowhere below the source",
        f"recordings/{THIRD}/{THIRD}_9.wav": "no linker names this recording",
        f"FrogStory/{SECOND}_25.wav": "no linker names this recording",
        f"recordings/{THIRD}/{THIRD}_linker.txt": (
            "the line 'no separator' is not <picture> ; <recording>; "
            "'sentences.txt (line 1)' is no picture; only elicitation by pictures is read"
        ),
    }


def test_pictures_with_one_name(tmp_path: Path) -> None:
    session(tmp_path, FIRST, {0: "/sdcard/frogs/1.JPG", 1: "/sdcard/Été; 2; a.jpg", 2: "/sdcard/x/3.jpg"}, "A")
    pictures(tmp_path, "frogs/1.jpg", "houses/1.jpg", "E\u0301te\u0301; 2; a.jpg", "a/3.jpg", "b/3.jpg")
    corpus = read(tmp_path)
    assert [row.image for row in corpus.rows] == ["frogs/1.jpg", "E\u0301te\u0301; 2; a.jpg"]
    assert reasons(corpus) == {
        f"{FIRST}/{FIRST}_2.wav": "its picture 3.jpg is here more than once, as a/3.jpg and b/3.jpg"
    }


def test_a_copied_linker_adds_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    before = read(tmp_path)
    name = f"{FIRST}_linker.txt"
    texts(tmp_path, {f"backup/{name}": (tmp_path / "recordings" / FIRST / name).read_bytes()})
    assert read(tmp_path).rows == before.rows


def test_a_linker_cannot_escape(tmp_path: Path) -> None:
    source = tmp_path / "source"
    session(source, FIRST, {0: "/sdcard/../../secret.jpg"}, "A")
    pictures(tmp_path, "secret.jpg")
    with pytest.raises(UserError, match=r"its picture secret\.jpg is nowhere below the source"):
        IMPORTER.read(source, ReadOptions())


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no linker": (
        lambda root: [path.unlink() for path in root.rglob("*_linker.txt")],
        r"no \*_linker\.txt is here or below; expected sessions such as .* and found pictures/, recordings/",
    ),
    "no pictures": (
        lambda root: [path.unlink() for path in root.rglob("*.jpg")],
        r"found no recording with its picture; the first of 5 problems: its picture image1\.jpg is nowhere below",
    ),
    "no recordings": (
        lambda root: [path.unlink() for path in root.rglob("*.wav")],
        r"found no recording with its picture; the first of 5 problems: the recording is nowhere below the source \(",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_layouts(tmp_path: Path, name: str) -> None:
    spoil, sentence = WRONG[name]
    spoil(make(tmp_path))
    with pytest.raises(UserError, match=sentence) as raised:
        IMPORTER.read(tmp_path, ReadOptions())
    assert not [word for word in PERSONAL if word in str(raised.value)]
