"""Manifests of Lhotse, as its version 1 writes them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from s2igan.corpora.importers.lhotse import IMPORTER
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

RECORDING = {
    "id": "rec1",
    "sources": [{"type": "file", "channels": [0], "source": "/home/ana/data/wavs/talk.wav"}],
    "sampling_rate": 16000,
    "num_samples": 160000,
    "duration": 10.0,
    "channel_ids": [0],
}


def supervision(number: int, start: float, **more: Any) -> dict[str, Any]:
    own = {"id": f"sup{number}", "recording_id": "rec1", "start": start, "duration": 2.0, "channel": 0}
    return own | {"text": "a dog", "language": "bam", "speaker": "spk1"} | more


def make(root: Path, files: dict[str, list[dict[str, Any]]]) -> Path:
    for name, entries in files.items():
        raw = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
        texts(root, {name: gzip.compress(raw) if name.endswith(".gz") else raw})
    recordings(root, "wavs/talk.wav")
    pictures(root, "img/dog.jpg", "img/cat.jpg")
    return root


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


def spans(corpus: Corpus) -> list[tuple[str, str, float | None, float | None]]:
    return [(row.audio, row.image, row.start_seconds, row.end_seconds) for row in corpus.rows]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_recordings_and_supervisions(tmp_path, ending):
    told = [
        supervision(1, 1.5, custom={"image": "dog.jpg"}),
        supervision(2, 4.0, custom={"picture": "img/cat.jpg"}),
        supervision(3, 6),
    ]
    corpus = read(make(tmp_path, {f"x_recordings_train.{ending}": [RECORDING], f"x_supervisions_train.{ending}": told}))
    assert spans(corpus) == [("wavs/talk.wav", "img/dog.jpg", 1.5, 3.5), ("wavs/talk.wav", "img/cat.jpg", 4.0, 6.0)]
    assert {(r.split, r.speaker, r.language, r.text) for r in corpus.rows} == {("train", "spk1", "bam", "a dog")}
    assert reasons(corpus)[f"x_supervisions_train.{ending}"] == "entry 3 names no picture in custom, or no recording"


def test_cuts(tmp_path):
    """The times of a supervision count from the beginning of its cut."""
    cut = {"id": "cut1", "start": 2.0, "duration": 6.0, "channel": 0, "type": "MonoCut", "recording": RECORDING}
    told = [supervision(1, 1.0, custom={"image": "dog.jpg"}), supervision(2, 3.0)]
    cuts = [
        cut | {"supervisions": told, "custom": {"image": "cat.jpg"}},
        cut | {"supervisions": [], "custom": {"image": "cat.jpg"}},
    ]
    corpus = read(make(tmp_path, {"cuts.jsonl.gz": cuts}))
    assert spans(corpus) == [
        ("wavs/talk.wav", "img/dog.jpg", 3.0, 5.0),
        ("wavs/talk.wav", "img/cat.jpg", 5.0, 7.0),
        ("wavs/talk.wav", "img/cat.jpg", 2.0, 8.0),
    ]
    assert {row.split for row in corpus.rows} == {None}


def test_wrong_layouts(tmp_path):
    with pytest.raises(UserError, match="no cuts or supervisions"):
        IMPORTER.read(tmp_path, ReadOptions())
    make(tmp_path, {"cuts.jsonl": [{"id": "a"}]})
    with pytest.raises(UserError, match=r"found no recording with its picture; .*: cuts\.jsonl: entry 1"):
        IMPORTER.read(tmp_path, ReadOptions())
    texts(tmp_path, {"cuts.jsonl.gz": b"\x1f\x8bbroken"})
    with pytest.raises(UserError, match="not readable as gzip"):
        IMPORTER.read(tmp_path, ReadOptions())
