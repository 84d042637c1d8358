"""SpokenCOCO as its publishers ship it, in miniature."""

import json
from pathlib import Path
from typing import Any

import pytest

from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.corpora.importers.spokencoco import IMPORTER
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

TRAIN = [
    "train2014/COCO_train2014_000000000009.jpg",
    "val2014/COCO_val2014_000000000042.jpg",
]  # as Karpathy's "restval"
VAL = ["val2014/COCO_val2014_000000000073.jpg"]


def captions(image: str, split: str, count: int = 5) -> list[dict[str, str]]:
    stem = image[-10:-4]
    return [
        {
            "text": f"A MAN {k} ON A HORSE",
            "speaker": f"m{k}a5mox83rrx60",
            "uttid": f"m{k}_{stem}_{k}",
            "wav": f"wavs/{split}/{k % 2}/m{k}-{stem}_{k}.wav",
        }
        for k in range(count)
    ]


def data(images: list[str], split: str) -> list[dict[str, Any]]:
    return [{"image": image, "captions": captions(image, split)} for image in images]


def make(root: Path, images: str = "coco/images", home: str = "SpokenCOCO") -> Path:
    for split, names in (("train", TRAIN), ("val", VAL)):
        texts(root / home, {f"SpokenCOCO_{split}.json": json.dumps({"data": data(names, split)})})
        recordings(root / home, *(caption["wav"] for name in names for caption in captions(name, split)))
    pictures(root / images, *TRAIN, *VAL)
    texts(root, {"coco/annotations/captions_train2014.json": "{}", "coco/annotations/instances_val2014.json": "{}"})
    return root


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


@pytest.mark.parametrize(("images", "home"), [("coco/images", "SpokenCOCO"), (".", "."), ("SpokenCOCO", "SpokenCOCO")])
def test_as_published(tmp_path: Path, images: str, home: str) -> None:
    corpus = read(make(tmp_path, images, home))
    assert not corpus.problems
    assert len(corpus.rows) == 15
    at, wavs = ("" if images == "." else f"{images}/"), ("" if home == "." else f"{home}/")
    expected = [(name, "train", "train") for name in TRAIN] + [(name, "val", "validation") for name in VAL]
    assert [(r.audio, r.image, r.split, r.speaker, r.text) for r in corpus.rows] == [
        (wavs + caption["wav"], at + name, split, caption["speaker"], caption["text"])
        for name, folder, split in expected
        for caption in captions(name, folder)
    ]


def test_missing_files_and_odd_entries(tmp_path: Path) -> None:
    make(tmp_path)
    odd = [
        *data(TRAIN, "train"),
        {"image": 3, "captions": []},
        {"image": TRAIN[0]},
        "x",
        {"image": TRAIN[0], "captions": [7]},
    ]
    texts(tmp_path / "SpokenCOCO", {"SpokenCOCO_train.json": json.dumps({"data": odd})})
    gone = captions(TRAIN[0], "train")[1]["wav"]
    (tmp_path / "SpokenCOCO" / gone).unlink()
    (tmp_path / "coco/images" / TRAIN[1]).unlink()
    corpus = read(tmp_path)
    assert len(corpus.rows) == 9
    found = reasons(corpus)
    assert found.pop(gone) == f"{gone} is nowhere below the source"
    assert found.pop("SpokenCOCO/SpokenCOCO_train.json") == "; ".join(
        f"entry {n} is no spoken caption" for n in (11, 12, 13)
    )
    assert found == {c["wav"]: f"{TRAIN[1]} is nowhere below the source" for c in captions(TRAIN[1], "train")}


def test_unrolled_lists(tmp_path: Path) -> None:
    """One caption an entry, in the lists that later work derived; the publisher's own come first."""
    make(tmp_path)
    for split, names in (("train", TRAIN), ("val", VAL)):
        unrolled = [{"image": name, "caption": c} for name in names for c in captions(name, split, 2)]
        texts(tmp_path / "SpokenCOCO", {f"SpokenCOCO_{split}_unrolled_karpathy.json": json.dumps({"data": unrolled})})
    assert len(read(tmp_path).rows) == 15
    for split in ("train", "val"):
        (tmp_path / f"SpokenCOCO/SpokenCOCO_{split}.json").unlink()
    assert [row.split for row in read(tmp_path).rows] == ["train"] * 4 + ["validation"] * 2


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("SpokenCOCO_*.json", r"no list of spoken captions is here or below; expected SpokenCOCO/\{SpokenCOCO_train"),
        ("*.wav", r"no recording of the lists is here .* and found SpokenCOCO/, coco/ \(7 files in all\)"),
        ("*.jpg", r"no picture of the lists is here"),
    ],
)
def test_wrong_layouts(tmp_path: Path, pattern: str, sentence: str) -> None:
    make(tmp_path)
    for path in tmp_path.rglob(pattern):
        path.unlink()
    with pytest.raises(UserError, match=sentence):
        IMPORTER.read(tmp_path, ReadOptions())
