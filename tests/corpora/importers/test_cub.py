"""CUB-200-2011 as its publishers ship it, in miniature: five classes, eight pictures."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from s2igan.corpora.importers.cub import IMPORTER
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.corpora.prepare.splits import with_splits
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

CLASSES = {
    1: "001.Black_footed_Albatross",  # tested on
    2: "002.Laysan_Albatross",
    3: "003.Sooty_Albatross",
    4: "004.Groove_billed_Ani",  # tested on
    200: "200.Common_Yellowthroat",
}
ALBATROSS = f"{CLASSES[1]}/Black_Footed_Albatross_0046_18"
KEYS = {
    1: ALBATROSS,
    2: f"{CLASSES[1]}/Black_Footed_Albatross_0009_34",
    60: f"{CLASSES[2]}/Laysan_Albatross_0002_1027",
    61: f"{CLASSES[2]}/Laysan_Albatross_0010_1029",
    3: f"{CLASSES[3]}/Sooty_Albatross_0040_796375",
    120: f"{CLASSES[4]}/Groove_Billed_Ani_0002_1670",
    121: f"{CLASSES[4]}/Groove_Billed_Ani_0003_1652",
    11788: f"{CLASSES[200]}/Common_Yellowthroat_0003_190521",
}
LABELS = {number: int(key[:3]) for number, key in KEYS.items()}


def caption(key: str, number: int) -> str:
    return f"this bird {number} is {key[-4:]} and has a curved, hooked beak."


def make(root: Path, *, home: str = "CUB_200_2011", captions: str = "cvpr2016_cub/text_c10", end: str = "\n") -> Path:
    order = sorted(KEYS, reverse=True)  # a list need not be in the order of its numbers

    def table(lines: list[str]) -> str:
        return end.join(lines) + end

    texts(
        root / home,
        {
            "images.txt": table([f"{n} {KEYS[n]}.jpg" for n in sorted(KEYS)]),
            "image_class_labels.txt": table([f"{n} {LABELS[n]}" for n in order]),
            "classes.txt": table([f"{n} {name}" for n, name in CLASSES.items()]),
            "bounding_boxes.txt": table([f"{n} {n % 7}.0 2.0 {3 + n % 5}.0 6.5" for n in order]),
            "train_test_split.txt": table([f"{n} 1" for n in order]),
            "README": "Caltech-UCSD Birds",
        },
    )
    pictures(root / home / "images", *(f"{key}.jpg" for key in KEYS.values()))
    texts(root / captions, {f"{k}.txt": end.join(caption(k, i) for i in range(10)) + end for k in KEYS.values()})
    return root


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_as_published(tmp_path: Path, end: str) -> None:
    corpus = read(make(tmp_path, end=end))
    assert not corpus.problems
    assert len(corpus.rows) == 80
    assert list(dict.fromkeys(row.image for row in corpus.rows)) == [
        f"CUB_200_2011/images/{KEYS[n]}.jpg" for n in sorted(KEYS)
    ]
    first = corpus.rows[0]
    assert (first.class_name, first.split, first.audio, first.language) == (CLASSES[1], "test", "", "en")
    assert [row.text for row in corpus.rows[:10]] == [caption(ALBATROSS, number) for number in range(10)]
    splits = {row.class_name: row.split for row in corpus.rows}
    assert splits == dict(zip(CLASSES.values(), ["test", "train", "train", "test", "train"], strict=True))


def test_of_the_papers_150_training_classes_pictures_are_held_out(tmp_path: Path) -> None:
    """Stage 1 trains on all classes but for a ninth of the pictures, stage 2 on all pictures, neither on the test."""
    pictures_each = 6
    keys = [f"{label:03}.Bird/Bird_{label}_{number}" for label in range(1, 201) for number in range(pictures_each)]
    lists = {
        "images.txt": "".join(f"{n} {key}.jpg\n" for n, key in enumerate(keys, 1)),
        "image_class_labels.txt": "".join(f"{n} {int(key[:3])}\n" for n, key in enumerate(keys, 1)),
        "classes.txt": "".join(f"{label} {label:03}.Bird\n" for label in range(1, 201)),
        "bounding_boxes.txt": "".join(f"{n} 1 1 9 9\n" for n in range(1, len(keys) + 1)),
    }
    texts(tmp_path, lists | {f"images/{key}.jpg": b"" for key in keys} | {f"text_c10/{key}.txt": "a" for key in keys})
    found = with_splits(read(tmp_path).rows)

    assert found.validation_from_train
    rows = {split: [row for row in found.rows if row.split == split] for split in ("train", "validation", "test")}
    assert {split: len(own) for split, own in rows.items()} == {"train": 800, "validation": 100, "test": 300}
    classes = {split: {row.class_name for row in own} for split, own in rows.items()}
    assert len(classes["train"]) == 150
    assert classes["validation"] < classes["train"]
    assert len(classes["validation"]) == 100  # one of six pictures each, until a ninth of all is held out
    assert len(classes["test"] - classes["train"]) == 50
    images = [{row.image for row in own} for own in rows.values()]
    assert len(set.union(*images)) == sum(map(len, images)) == len(keys)


def test_boxes_belong_to_their_pictures_by_number(tmp_path: Path) -> None:
    corpus = read(make(tmp_path))
    assert corpus.boxes == {
        f"CUB_200_2011/images/{key}.jpg": (float(n % 7), 2.0, 3.0 + n % 5, 6.5) for n, key in KEYS.items()
    }


@pytest.mark.parametrize(
    ("home", "captions"),
    [
        (".", "text_c10"),
        ("CUB_200_2011", "CUB_200_2011/text_c10"),
        ("data/birds/CUB_200_2011", "elsewhere/deep/text_c10"),
        ("CUB_200_2011", "birds/text"),
    ],
)
def test_folders_may_lie_elsewhere(tmp_path: Path, home: str, captions: str) -> None:
    corpus = read(make(tmp_path, home=home, captions=captions))
    assert len(corpus.rows) == 80
    assert not corpus.problems


def test_captions_of_text_c10_before_others(tmp_path: Path) -> None:
    make(tmp_path)
    texts(tmp_path, {f"a/{ALBATROSS}.txt": "another text\n"})
    assert read(tmp_path).rows[0].text == caption(ALBATROSS, 0)


def test_odd_captions(tmp_path: Path) -> None:
    make(tmp_path)
    odd = b"\xef\xbb\xbfa bird\xef\xbf\xbd\xef\xbf\xbd with  blanks \n\n \na na\xc3\xafve caf\xc3\xa9\r\n"
    texts(
        tmp_path,
        {
            f"cvpr2016_cub/text_c10/{ALBATROSS}.txt": odd,
            f"cvpr2016_cub/text_c10/{KEYS[2]}.txt": b"the bird\x92s beak",
            f"cvpr2016_cub/text_c10/{KEYS[60]}.txt": b"\n \n",
            "cvpr2016_cub/text_c10/001.Black_footed_Albatross/Ghost_0001_1.txt": b"nobody",
        },
    )
    (tmp_path / f"cvpr2016_cub/text_c10/{KEYS[61]}.txt").unlink()
    corpus = read(tmp_path)
    spoken = {key: [row.text for row in corpus.rows if key in row.image] for key in KEYS.values()}
    assert spoken[ALBATROSS] == ["a bird with blanks", "a naïve café"]
    assert spoken[KEYS[2]] == ["the bird’s beak"]
    images = "CUB_200_2011/images"
    assert reasons(corpus) == {
        f"{images}/{KEYS[60]}.jpg": f"the captions in cvpr2016_cub/text_c10/{KEYS[60]}.txt are empty",
        f"{images}/{KEYS[61]}.jpg": "the picture has no captions",
        "cvpr2016_cub/text_c10/001.Black_footed_Albatross/Ghost_0001_1.txt": (
            "captions of a picture that the set does not list"
        ),
    }


def test_a_missing_picture_is_a_problem(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / f"CUB_200_2011/images/{ALBATROSS}.jpg").unlink()
    corpus = read(tmp_path)
    assert len(corpus.rows) == 70
    assert f"{ALBATROSS}.jpg is nowhere below the source" in reasons(corpus)[f"{ALBATROSS}.jpg"]


def test_recordings(tmp_path: Path) -> None:
    make(tmp_path)
    everything = [f"CUB_200_2011_audio/{key}_{k}.wav" for key in KEYS.values() for k in range(10)]
    recordings(tmp_path, *everything[3:], f"CUB_200_2011_audio/{ALBATROSS}_10.wav")
    corpus = read(tmp_path)
    assert len(corpus.rows) == 77
    for row in corpus.rows:
        key, _, number = row.audio.removeprefix("CUB_200_2011_audio/").removesuffix(".wav").rpartition("_")
        assert row.image == f"CUB_200_2011/images/{key}.jpg"
        assert row.text == caption(key, int(number))
    found = reasons(corpus)
    assert found.pop(f"CUB_200_2011_audio/{ALBATROSS}_10.wav") == "a recording of a caption that is not there"
    assert found == {
        f"CUB_200_2011/images/{ALBATROSS}.jpg": "; ".join(
            f"there are recordings, but none called {ALBATROSS}_{k}" for k in range(3)
        )
    }


def pack(root: Path, train: list[str], test: list[str], labels_of: dict[str, list[int]] | None = None) -> None:
    for split, names in (("train", train), ("test", test)):
        folder = root / "birds" / split
        folder.mkdir(parents=True)
        (folder / "filenames.pickle").write_bytes(pickle.dumps(names, 2))
        labels = (labels_of or {}).get(split, [int(name[:3]) for name in names])
        (folder / "class_info.pickle").write_bytes(pickle.dumps(labels, 2))


def test_a_pack_is_the_split(tmp_path: Path) -> None:
    make(tmp_path)
    pack(tmp_path, [KEYS[1], KEYS[60], "009.Ghost/Ghost_0001_1"], [KEYS[2]])
    (tmp_path / "flowers/train").mkdir(parents=True)  # the pack of another set
    (tmp_path / "flowers/train/filenames.pickle").write_bytes(pickle.dumps(["jpg/image_00001"], 2))
    corpus = read(tmp_path)
    images = "CUB_200_2011/images"
    assert {row.image: row.split for row in corpus.rows} == {
        f"{images}/{KEYS[1]}.jpg": "train",
        f"{images}/{KEYS[2]}.jpg": "test",
        f"{images}/{KEYS[60]}.jpg": "train",
    }
    assert reasons(corpus)["009.Ghost/Ghost_0001_1.jpg"] == "the StackGAN pack lists it, images.txt does not"
    assert "neither for training nor for testing" in reasons(corpus)[f"{KEYS[61]}.jpg"]


def test_a_pack_does_without_the_lists(tmp_path: Path) -> None:
    make(tmp_path)
    for path in (tmp_path / "CUB_200_2011").glob("*.txt"):
        path.unlink()
    pack(tmp_path, [KEYS[61], KEYS[60]], [KEYS[1]])
    corpus = read(tmp_path)
    assert [row.image for row in corpus.rows[::10]] == [f"CUB_200_2011/images/{KEYS[n]}.jpg" for n in (1, 60, 61)]
    assert [row.class_name for row in corpus.rows[::10]] == [CLASSES[1], CLASSES[2], CLASSES[2]]
    assert not corpus.boxes


def test_a_pack_cannot_escape(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make(source)
    pictures(tmp_path, "001.x/secret.jpg")
    for path in (source / "CUB_200_2011").glob("*.txt"):
        path.unlink()
    pack(source, [KEYS[60], "001.x/../../../001.x/secret"], [KEYS[1]])
    with pytest.raises(UserError, match=r"'001\.x/\.\./\.\./\.\./001\.x/secret' is no name of this set"):
        IMPORTER.read(source, ReadOptions())


def drop(name: str) -> Callable[[Path], object]:
    return lambda root: (root / "CUB_200_2011" / name).unlink()


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: texts(root, {f"CUB_200_2011/{name}": text})


def evil(root: Path) -> None:
    pack(root, [KEYS[1]], [KEYS[60]])
    (root / "birds/train/filenames.pickle").write_bytes(b"cos\nsystem\n(S'touch mark'\ntR.")


def twice(root: Path) -> None:
    shutil.copytree(root / "CUB_200_2011", root / "copy")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no lists": (
        lambda root: [path.unlink() for path in (root / "CUB_200_2011").glob("*.txt")],
        r"no images\.txt beside an image_class_labels\.txt is here or below; expected CUB_200_2011/\{images/, .*found "
        r"CUB_200_2011/, cvpr2016_cub/ \(17 files in all\)",
    ),
    "no classes": (drop("classes.txt"), r"no CUB_200_2011/classes\.txt is here .* expected CUB_200_2011/\{"),
    "no boxes": (drop("bounding_boxes.txt"), r"no CUB_200_2011/bounding_boxes\.txt is here"),
    "no images": (
        lambda root: shutil.rmtree(root / "CUB_200_2011/images"),
        r"none of the 8 listed pictures is here or below; expected CUB_200_2011/\{images/",
    ),
    "no captions": (
        lambda root: shutil.rmtree(root / "cvpr2016_cub"),
        r"no caption of the 8 pictures is here or below; expected cvpr2016_cub/text_c10/001",
    ),
    "another set's list": (put("images.txt", "1 bedroom/1.jpg\n"), r"images\.txt: 'bedroom/1\.jpg' is not <number>"),
    "labels from 0": (
        put("image_class_labels.txt", "".join(f"{n} {label - 1}\n" for n, label in LABELS.items())),
        r"image 1 \(001\.Black_footed_Albatross/.*\) is labelled 0, which classes\.txt calls nothing",
    ),
    "labels shifted": (
        put("image_class_labels.txt", "".join(f"{n} {max(1, label - 1)}\n" for n, label in LABELS.items())),
        r"image 3 .* is labelled 2, which classes\.txt calls 002\.Laysan_Albatross",
    ),
    "a torn line": (
        put("bounding_boxes.txt", "1 60.0 27.0 325.0\n"),
        r"the line '1 60\.0 27\.0 325\.0' is not a number and 4",
    ),
    "a box of words": (put("bounding_boxes.txt", "1 a b c d\n"), r"the box of image 1 is no four numbers"),
    "two sets": (twice, r"CUB is here twice, in CUB_200_2011 and in copy"),
    "an evil pack": (evil, r"birds/train/filenames\.pickle: this pickle is not read, since it asks for os\.system"),
    "a short pack": (
        lambda root: pack(root, [KEYS[1], KEYS[2]], [KEYS[60]], {"train": [1]}),
        r"class_info\.pickle: 1 classes for the 2 names",
    ),
    "half a pack": (
        lambda root: (pack(root, [KEYS[1]], [KEYS[60]]), (root / "birds/test/filenames.pickle").unlink()),
        r"train/filenames\.pickle: the other half of this StackGAN pack is not here",
    ),
    "a pack with one picture in both": (
        lambda root: pack(root, [KEYS[1]], [KEYS[1], KEYS[60]]),
        r"test/filenames\.pickle: .*_0046_18 is among the train pictures as well",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_layouts(tmp_path: Path, name: str) -> None:
    spoil, sentence = WRONG[name]
    spoil(make(tmp_path))
    with pytest.raises(UserError, match=sentence) as raised:
        IMPORTER.read(tmp_path, ReadOptions())
    assert str(raised.value).startswith(str(tmp_path))
    assert str(raised.value).endswith(".")
    assert not (tmp_path / "mark").exists()


def test_the_order_is_not_the_file_systems(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    for number, path in enumerate(sorted((tmp_path / "b").rglob("*.txt"), reverse=True)):  # other inodes, other order
        content = path.read_bytes()
        path.unlink()
        (tmp_path / "b" / f"filler_{number}").write_text("x")
        path.write_bytes(content)
        (tmp_path / "b" / f"filler_{number}").unlink()
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_a_class_without_any_recording_is_one_line(tmp_path: Path) -> None:
    """As where the second archive of a set's speech repeats the first."""
    make(tmp_path)
    spoken = [key for key in KEYS.values() if key.startswith(("001", "002"))]
    recordings(tmp_path, *(f"audio/{key}_{k}.wav" for key in spoken for k in range(10)))
    corpus = read(tmp_path)
    found = {problem.path: (problem.reason, problem.lost) for problem in corpus.problems}
    assert set(found) == {CLASSES[3], CLASSES[4], CLASSES[200]}
    reason, lost = found[CLASSES[4]]
    assert reason.startswith(
        "all 20 captions without a recording in this class, nothing of it is here; fetch the archive"
    )
    assert lost == 20
    assert sum(problem.lost for problem in corpus.problems) == 40
