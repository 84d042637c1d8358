"""WebDataset: samples by the beginning of their names."""

import json
import tarfile
from pathlib import Path

import pytest

from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.corpora.importers.webdataset import IMPORTER
from s2igan.corpora.prepare.archives import unpack
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


def make(root: Path) -> Path:
    pictures(root, "000001.image.jpg", "000002.jpg", "000003.jpg", "000004.jpg", "000004.other.jpg")
    recordings(root, "000001.audio.wav", "000002.a.wav", "000002.b.wav", "000004.wav")
    texts(
        root,
        {
            "000001.json": json.dumps({"speaker": 3, "language": "bam", "label": "dog", "caption": "a dog"}),
            "000002.cls": "cat\n",
            "000003.txt": "only\nwritten",
            "000003.cls": "cat",
            "000004.json": "{broken",
            "000005.json": "{}",
        },
    )
    return root


def test_samples(tmp_path):
    corpus = read(make(tmp_path))
    assert [(r.audio, r.image, r.class_name, r.speaker, r.language, r.text) for r in corpus.rows] == [
        ("000001.audio.wav", "000001.image.jpg", "dog", "3", "bam", "a dog"),
        ("000002.a.wav", "000002.jpg", "cat", None, None, None),
        ("000002.b.wav", "000002.jpg", "cat", None, None, None),
        ("", "000003.jpg", "cat", None, None, "only written"),
    ]
    assert reasons(corpus) == {
        "000004.json": "not readable as JSON; the sample is kept",
        "000004.jpg": "the sample 000004 has 2 pictures",
        "000005": "the sample 000005 has 0 pictures",
    }


def test_tars(tmp_path):
    source = make(tmp_path / "files")
    (tmp_path / "shards").mkdir()
    for number, prefix in enumerate(("000001", "00000[2-5]")):
        with tarfile.open(tmp_path / f"shards/shard-{number:06d}.tar", "w") as tar:
            for path in sorted(source.glob(f"{prefix}.*")):
                tar.add(path, path.name)
    folder, _ = unpack(tmp_path / "shards", tmp_path / "out")
    assert len(read(folder).rows) == 4


def test_wrong_layouts(tmp_path):
    pictures(tmp_path, "a.jpg")
    recordings(tmp_path, "a.wav")
    with pytest.raises(UserError, match=r"no \.json or \.cls"):
        IMPORTER.read(tmp_path, ReadOptions())
