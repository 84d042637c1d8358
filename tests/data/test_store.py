"""The store: what is read is what the corpus holds; damage is named."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from noise_corpus import COLOURS, build, content, make_corpus, write

from s2igan.audio import load_audio
from s2igan.data.images import load_image
from s2igan.data.layout import stored_size
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.spectrograms import log_mel

pytestmark = pytest.mark.usefixtures("one_thread")


# -------------------------------------------------------------------------------------------------------------- reading


def test_mels_and_images_are_those_of_the_files(prepared: Path) -> None:
    store = Store.open(prepared)
    assert (len(store), store.n_images) == (16, 8)
    lines = (prepared / "manifest.jsonl").read_text().splitlines()
    for i, row in enumerate(map(json.loads, lines)):
        expected = log_mel(torch.from_numpy(load_audio(prepared / row["audio"]))).half().numpy()
        assert np.array_equal(store.mel(i), expected)
        assert store.n_frames[i] == len(expected)
        image = int(store.image_index[i])
        assert store.image_path(image) == prepared / row["image"]
        assert np.array_equal(store.images[image], load_image(prepared / row["image"], stored_size(16)))
        assert store.audio_path(i) == prepared / row["audio"]
        assert store.classes[store.utterance_class[i]] == row["class"] == store.classes[store.image_class[image]]
        assert store.image_attributes(image) == row["attributes"]
        assert store.mentions(i) == tuple(row["mentions"])
        assert store.text(i) == row["text"]
        assert store.speaker(i) == row["speaker"]
        assert store.segment(i) == (None, None)


def test_mels_are_views_of_the_file_and_read_only(prepared: Path) -> None:
    store = Store.open(prepared)
    mel, other = store.mel(1), store.mel(1)
    assert mel.dtype == np.float16
    assert np.shares_memory(mel, other), "both views of one mapping"
    assert not mel.flags.owndata
    assert "mels-00000.safetensors" in Path("/proc/self/maps").read_text()
    with pytest.raises(ValueError, match="read-only"):
        mel[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        store.images[0][0] = 0


def test_images_take_every_kind_of_index(prepared: Path) -> None:
    images = Store.open(prepared).images
    whole = np.asarray(images)
    assert whole.shape == images.shape == (8, 19, 19, 3)
    assert whole.dtype == np.uint8
    assert len({image.tobytes() for image in whole}) == 8
    mask = np.arange(8) % 3 == 1
    indices = (0, -1, np.int64(5), [3, 0, 3], np.array([7, 6]), np.array([[1, 2], [3, 4]]), slice(2, 7, 2), mask, [])
    for index in indices:
        expected = whole[np.array([], int)] if isinstance(index, list) and not index else whole[index]
        assert np.array_equal(images[index], expected)
    with pytest.raises(IndexError):
        images[8]
    chosen = images[[1]]
    chosen[0] = 7
    assert np.array_equal(images[1], whole[1]), "a choice of images is a copy"


def test_splits(prepared: Path) -> None:
    store = Store.open(prepared)
    image_of = {name: set(store.image_index[store.split_indices(name)] % 4) for name in ("train", "validation", "test")}
    assert image_of == {"train": {0, 1}, "validation": {2}, "test": {3}}
    assert np.array_equal(store.split_indices("dev"), store.split_indices("validation"))
    assert [store.split[i] for i in (0, 4, 6)] == [0, 1, 3]
    assert len(store.split_indices("development")) == 0
    with pytest.raises(UserError, match="'holdout' is none of train, validation, development, test"):
        store.split_indices("holdout")


def test_attributes(prepared: Path) -> None:
    store = Store.open(prepared)
    assert store.attributes == {"belly": ("blue", "green", "red"), "tail": ("long",)}
    assert [store.image_attributes(i)["belly"] for i in range(8)] == [COLOURS[i % 3] for i in range(8)]


def test_report_and_summary(prepared: Path) -> None:
    store = Store.open(prepared)
    frames = int(store.n_frames.sum())
    written = json.loads((prepared / "store/report.json").read_text())
    assert written == store.report == json.loads(json.dumps(store.report))
    counts = {
        "utterances": 16,
        "images": 8,
        "classes": 4,
        "speakers": 2,
        "hours": round(frames * 220 / 22_050 / 3600, 4),
    }
    assert {name: written[name] for name in counts} == counts
    assert written["splits"]["train"]["utterances"] == 8
    assert written["splits"]["test"]["classes"] == 1
    assert "16 utterances" in store.summary()
    assert "validation: 4 utterances" in store.summary()
    assert "could not be used" not in store.summary()


def test_a_store_can_be_pickled(prepared: Path) -> None:
    store = Store.open(prepared)
    store.mel(0)
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data).mel(3), store.mel(3))


def test_sets_without_classes_attributes_or_splits(tmp_path: Path) -> None:
    rows = make_corpus(tmp_path, n_images=3, classes=False)
    write(tmp_path, [{"audio": row["audio"], "image": row["image"]} for row in rows])
    build(tmp_path)
    store = Store.open(tmp_path)
    assert not store.has_classes
    assert store.classes == ()
    assert list(store.image_class) == [0, 1, 2]
    assert list(store.utterance_class) == [0, 0, 1, 1, 2, 2]
    assert len(store.split_indices("train")) == 0
    assert store.attributes == {}
    assert store.image_attributes(0) == {}
    assert store.mentions(0) == ()
    assert store.speaker(0) is None
    assert store.text(0) is None
    assert store.report["classes"] == 0


def test_segments_boxes_and_windows(tmp_path: Path) -> None:
    make_corpus(tmp_path, n_images=1, captions=1)
    wave = np.random.default_rng(0).standard_normal(22_050) * 0.1
    soundfile.write(tmp_path / "audio/long.wav", wave, 22_050)
    parts = [(None, 0.3), (0.3, 0.75), (0.75, None)]
    rows = [
        {
            "audio": "audio/long.wav",
            "image": "images/0.png",
            "start_seconds": start,
            "end_seconds": end,
        }
        for start, end in parts
    ]
    write(tmp_path, rows)
    build(tmp_path, window="hamming", boxes={"images/0.png": (4.0, 6.0, 8.0, 8.0)})
    store = Store.open(tmp_path)
    assert store.window == "hamming"
    for i, (start, end) in enumerate(parts):
        part = load_audio(tmp_path / "audio/long.wav", start, end)
        expected = log_mel(torch.from_numpy(part), window="hamming").half().numpy()
        assert np.array_equal(store.mel(i), expected)
        assert store.segment(i) == (start, end)
    assert np.array_equal(store.images[0], load_image(tmp_path / "images/0.png", 19, (4.0, 6.0, 8.0, 8.0)))
    assert not np.array_equal(store.images[0], load_image(tmp_path / "images/0.png", 19))


def test_the_corpus_may_lie_elsewhere(tmp_path: Path) -> None:
    make_corpus(tmp_path / "corpus")
    before = sorted(tmp_path.joinpath("corpus").rglob("*"))
    build(tmp_path / "corpus", out=tmp_path / "out")
    assert sorted(tmp_path.joinpath("corpus").rglob("*")) == before, "nothing is written beside the sources"
    (tmp_path / "moved").mkdir()
    for name in ("corpus", "out"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    store = Store.open(tmp_path / "moved/out")
    assert store.audio_path(0).is_file()
    assert store.image_path(0).is_file()


# ------------------------------------------------------------------------------------------------------- damaged stores


def test_missing_torn_and_strange_files_are_named(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no finished store is here; run 's2igan prepare'"):
        Store.open(tmp_path / "nowhere")

    def damage(name: str, content: bytes | None, reason: str) -> None:
        root = tmp_path / "copy"
        shutil.copytree(prepared, root)
        if content is None:
            (root / "store" / name).unlink()
        else:
            (root / "store" / name).write_bytes(content)
        with pytest.raises(UserError, match=reason) as caught:
            Store.open(root)
        assert name in str(caught.value) or name == "report.json"
        assert "prepare" in str(caught.value)
        shutil.rmtree(root)

    files = content(prepared)
    damage("mels-00001.safetensors", None, r"mels-00001\.safetensors: .* is missing")
    damage(
        "images-00002.safetensors", files["images-00002.safetensors"][:-1], r"images-00002\.safetensors: .* is damaged"
    )
    damage("index.parquet", None, r"index\.parquet: .* is missing")
    damage("index.parquet", files["index.parquet"][:100], r"index\.parquet: .* is damaged")
    damage("images.parquet", b"", r"images\.parquet: .* is damaged")
    damage("report.json", None, "no finished store")
    damage("report.json", b"{", r"report\.json: .* is damaged")
    damage("report.json", b"[]", r"report\.json: .* is damaged")
    other_version = files["report.json"].replace(b'"version": 2', b'"version": 99')
    damage("report.json", other_version, "version 99 and this program reads version 2")


def test_a_shard_of_the_right_size_with_a_broken_header_is_named(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "copy")
    path = tmp_path / "copy/store/mels-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[:8] = b"\xff" * 8
    path.write_bytes(data)
    store = Store.open(tmp_path / "copy")
    store.mel(15)
    with pytest.raises(UserError, match=r"mels-00000\.safetensors: .* is damaged"):
        store.mel(0)
