"""Oxford-102 as its publishers ship it, in miniature: labels from 1, MATLAB files, captions by class folder."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from s2igan.corpora.importers.oxford102 import IMPORTER
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

LABELS = (77, 1, 20, 21, 102, 1)
KEYS = tuple(f"class_{label:05d}/image_{number:05d}" for number, label in enumerate(LABELS, start=1))


def make(root: Path, home: str = "102flowers", *, compressed: bool = True) -> Path:
    pictures(root / home, *(f"jpg/image_{number:05d}.jpg" for number in range(1, len(LABELS) + 1)))
    savemat(root / home / "imagelabels.mat", {"labels": np.array([LABELS], np.uint8)}, do_compression=compressed)
    savemat(root / home / "setid.mat", {"trnid": np.array([[1]]), "valid": np.array([[2]]), "tstid": np.array([[3]])})
    captions = {f"{key}.txt": "".join(f"flower {key} number {k}\n" for k in range(10)) for key in KEYS}
    texts(root / "cvpr2016_flowers/text_c10", captions)
    return root


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("home", ["102flowers", "."])
def test_as_published(tmp_path: Path, home: str, compressed: bool) -> None:
    corpus = read(make(tmp_path, home, compressed=compressed))
    assert not corpus.problems
    assert not corpus.boxes
    assert len(corpus.rows) == 60
    prefix = "" if home == "." else f"{home}/"
    assert [row.image for row in corpus.rows[::10]] == [f"{prefix}jpg/image_{n:05d}.jpg" for n in range(1, 7)]
    assert [row.class_name for row in corpus.rows[::10]] == [key.partition("/")[0] for key in KEYS]
    assert [row.split for row in corpus.rows[::10]] == ["train", "test", "test", "train", "train", "test"]
    assert [row.text for row in corpus.rows[10:20]] == [f"flower {KEYS[1]} number {k}" for k in range(10)]
    assert {row.audio for row in corpus.rows} == {""}


def test_recordings(tmp_path: Path) -> None:
    make(tmp_path)
    recordings(tmp_path, *(f"audio/wav/{key}_{k}.wav" for key in KEYS[:2] for k in range(10)))
    corpus = read(tmp_path)
    assert [row.audio for row in corpus.rows[:11]] == [
        *(f"audio/wav/{KEYS[0]}_{k}.wav" for k in range(10)),
        f"audio/wav/{KEYS[1]}_0.wav",
    ]
    assert len(reasons(corpus)) == 4


def test_pictures_elsewhere_and_missing(tmp_path: Path) -> None:
    make(tmp_path)
    pictures(tmp_path, "102segmentations/segmim/segmim_00001.jpg", "a/image_00002.jpg")
    (tmp_path / "102flowers/jpg/image_00003.jpg").unlink()
    corpus = read(tmp_path)
    assert corpus.rows[10].image == "102flowers/jpg/image_00002.jpg"
    assert reasons(corpus) == {"image_00003.jpg": "image_00003.jpg is nowhere below the source"}


@pytest.mark.parametrize("prefix", ["jpg/", "", "class_00001/"])
def test_a_pack_is_the_split(tmp_path: Path, prefix: str) -> None:
    make(tmp_path)
    for split, numbers in (("train", (2, 3)), ("test", (4,))):
        (tmp_path / "flowers" / split).mkdir(parents=True)
        names = [f"{prefix}image_{number:05d}" for number in numbers]
        (tmp_path / "flowers" / split / "filenames.pickle").write_bytes(pickle.dumps(names, 2))
    corpus = read(tmp_path)
    assert [(row.image[-9:-4], row.split) for row in corpus.rows[::10]] == [
        ("00002", "train"),
        ("00003", "train"),
        ("00004", "test"),
    ]


def labels(**content: object) -> Callable[[Path], object]:
    return lambda root: savemat(root / "102flowers/imagelabels.mat", content)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no labels": (
        lambda root: (root / "102flowers/imagelabels.mat").unlink(),
        r"no imagelabels\.mat is here or below; expected 102flowers/\{jpg/image_00001\.jpg",
    ),
    "another file": (labels(setid=[1, 2]), r"expected the variable 'labels', and found setid"),
    "labels from 0": (labels(labels=[0, 1, 2]), r"expected labels from 1 to 102, and found others"),
    "too many classes": (labels(labels=[1, 103]), r"expected labels from 1 to 102"),
    "words": (labels(labels=["a", "b"]), r"expected labels from 1 to 102"),
    "a torn file": (
        lambda root: (root / "102flowers/imagelabels.mat").write_bytes(b"MATLAB 5.0 MAT-file"),
        r"imagelabels\.mat: not a readable MATLAB file",
    ),
    "a page of HTML": (
        lambda root: (root / "102flowers/imagelabels.mat").write_bytes(b"<html>" + b"moved permanently " * 40),
        r"imagelabels\.mat: not a readable MATLAB file",
    ),
    "no pictures": (
        lambda root: [path.unlink() for path in (root / "102flowers/jpg").iterdir()],
        r"none of the 6 labelled pictures is here or below; expected 102flowers/\{jpg",
    ),
    "no captions": (
        lambda root: [path.unlink() for path in root.rglob("image_*.txt")],
        r"no caption of the 6 pictures is here or below; expected cvpr2016_flowers/text_c10/class_00001",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_layouts(tmp_path: Path, name: str) -> None:
    spoil, sentence = WRONG[name]
    spoil(make(tmp_path))
    with pytest.raises(UserError, match=sentence) as raised:
        IMPORTER.read(tmp_path, ReadOptions())
    assert "\n" not in str(raised.value)
