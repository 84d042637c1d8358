"""The store: what is read is what the corpus holds; builds resume, agree and name what they reject."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from s2igan.audio import load_audio, log_mel
from s2igan.data import store as store_module
from s2igan.data.images import load_image
from s2igan.data.store import Store, build_store, stored_size
from s2igan.errors import UserError

SHARDS: dict[str, Any] = {"progress": False, "mel_shard_items": 4, "image_shard_items": 3}
COLOURS = ("red", "blue", "green")


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes that make a store: several threads round a few numbers otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_corpus(root: Path, n_images: int = 8, captions: int = 2, classes: bool = True) -> list[dict[str, Any]]:
    """Pictures of noise, each with descriptions of different lengths; by class: 0 and 1 train, 2 validation, 3 test."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "audio").mkdir()
    rows: list[dict[str, Any]] = []
    for image in range(n_images):
        Image.fromarray(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(root / f"images/{image}.png")
        for caption in range(captions):
            wave = rng.standard_normal(int(rng.integers(2000, 6000))) * 0.1
            soundfile.write(root / f"audio/{image}-{caption}.wav", wave, 22_050)
            rows.append(
                {
                    "audio": f"audio/{image}-{caption}.wav",
                    "image": f"images/{image}.png",
                    "split": ("train", "train", "val", "test")[image % 4],
                    "speaker": f"voice {caption}",
                    "text": f"picture {image}, told {caption}",
                    "attributes": {"belly": COLOURS[image % 3], "tail": "long"},
                    "mentions": ["belly"] if caption == 0 else [],
                }
            )
            if classes:
                rows[-1]["class"] = f"class {3 - image % 4}"
    write(root, rows)
    return rows


def write(root: Path, rows: list[dict[str, Any]]) -> None:
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def build(root: Path, **arguments: Any) -> dict[str, Any]:
    return build_store(root / "manifest.jsonl", **({"image_size": 16, "jobs": 1} | SHARDS | arguments))


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "store").iterdir())}


def rejections(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "rejected.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    root = tmp_path_factory.mktemp("prepared")
    make_corpus(root)
    build(root)
    return root


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
        assert store.classes[store.class_index[i]] == row["class"] == store.classes[store.image_class[image]]
        assert store.image_attributes(image) == row["attributes"]
        assert store.mentions(i) == tuple(row["mentions"])
        assert store.text(i) == row["text"]
        assert store.speaker(i) == row["speaker"]
        assert store.language(i) is None
        assert store.segment(i) == (None, None)


def test_sizes_keep_room_for_crops() -> None:
    assert [stored_size(size) for size in (16, 32, 64, 128, 256)] == [19, 38, 76, 152, 304]


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
    assert whole.dtype == images.dtype == np.uint8
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
    assert [store.split[i] for i in (0, 4, 6)] == [0, 1, 2]
    with pytest.raises(UserError, match="'holdout' is none of train, validation, test"):
        store.split_indices("holdout")


def test_attributes(prepared: Path) -> None:
    store = Store.open(prepared)
    assert store.attributes == {"belly": ("blue", "green", "red"), "tail": ("long",)}
    codes = store.attribute_codes("belly")
    assert [store.attributes["belly"][code] for code in codes] == [COLOURS[i % 3] for i in range(8)]


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
    assert list(store.class_index) == [0, 0, 1, 1, 2, 2]
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
            "language": "wym",
        }
        for start, end in parts
    ]
    write(tmp_path, rows)
    build(tmp_path, window="hamming", boxes={"images/0.png": (4.0, 6.0, 8.0, 8.0)})
    store = Store.open(tmp_path)
    assert store.window == "hamming"
    assert store.language(1) == "wym"
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
    other_version = files["report.json"].replace(b'"version": 1', b'"version": 99')
    damage("report.json", other_version, "version 99 and this program reads version 1")


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


# ------------------------------------------------------------------------------------------------------------- building


def test_bytes_do_not_depend_on_the_number_of_processes_or_on_the_place(prepared: Path, tmp_path: Path) -> None:
    make_corpus(tmp_path / "elsewhere")
    build(tmp_path / "elsewhere", jobs=2)
    assert content(tmp_path / "elsewhere") == content(prepared)


def test_machines_share_the_work(prepared: Path, tmp_path: Path) -> None:
    make_corpus(tmp_path)
    n_shards = 3 + 4
    first = build(tmp_path, part=(1, 3))
    assert first == {"complete": False, "shards": n_shards, "shards_missing": 4}
    with pytest.raises(UserError, match="no finished store"):
        Store.open(tmp_path)
    assert build(tmp_path, part=(3, 3))["shards_missing"] == 2
    assert build(tmp_path, part=(2, 3))["complete"]
    assert content(tmp_path) == content(prepared)
    for part in ((0, 3), (4, 3)):
        with pytest.raises(UserError, match="does not exist; count from 1/3 to 3/3"):
            build(tmp_path, part=part)


def test_only_what_changed_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_corpus(tmp_path)
    written: list[str] = []
    write_shard = store_module._write_shard
    monkeypatch.setattr(
        store_module, "_write_shard", lambda task: (written.append(task.target.name[:-12]), write_shard(task))
    )

    def rebuilt(**arguments: Any) -> list[str]:
        written.clear()
        build(tmp_path, **arguments)
        return sorted(written)

    images, mels = [f"images-{i:05d}" for i in range(3)], [f"mels-{i:05d}" for i in range(4)]
    assert rebuilt() == images + mels
    assert rebuilt() == []
    # A finished shard that was lost or torn.
    (tmp_path / "store/mels-00001.safetensors").unlink()
    torn = tmp_path / "store/images-00002.safetensors"
    torn.write_bytes(torn.read_bytes()[:-5])
    assert rebuilt() == ["images-00002", "mels-00001"]
    # A recording made again: another length, then the same length but later.
    soundfile.write(tmp_path / "audio/0-1.wav", np.random.default_rng(1).standard_normal(3000) * 0.1, 22_050)
    assert rebuilt() == ["mels-00000"]
    assert Store.open(tmp_path).n_frames[1] == 1 + 2999 // 220
    soundfile.write(tmp_path / "audio/7-1.wav", np.random.default_rng(1).standard_normal(3000) * 0.1, 22_050)
    rebuilt()
    soundfile.write(tmp_path / "audio/7-1.wav", np.random.default_rng(2).standard_normal(3000) * 0.1, 22_050)
    later = time.time() + 2
    os.utime(tmp_path / "audio/7-1.wav", (later, later))
    assert rebuilt() == ["mels-00003"]
    os.utime(tmp_path / "audio/7-1.wav", (1, 1))
    # Settings: each kind has its own.
    assert rebuilt(image_size=20) == images
    assert Store.open(tmp_path).images.shape == (8, 24, 24, 3)
    assert rebuilt(image_size=20, window="hamming") == mels
    assert rebuilt() == images + mels
    # Another part of a recording.
    write(tmp_path, [*rows[:-1], rows[-1] | {"end_seconds": 0.1}])
    assert rebuilt() == ["mels-00003"]
    assert Store.open(tmp_path).n_frames[15] == 1 + 2204 // 220
    write(tmp_path, rows)
    assert rebuilt() == ["mels-00003"]
    # Words are not in the shards.
    write(tmp_path, [row | {"text": "other"} for row in rows])
    assert rebuilt() == []
    assert Store.open(tmp_path).text(5) == "other"
    # A shorter manifest leaves no shards behind.
    write(tmp_path, rows[:8])
    assert rebuilt() == ["images-00001"]
    assert sorted(path.name for path in (tmp_path / "store").glob("*.safetensors")) == [
        "images-00000.safetensors",
        "images-00001.safetensors",
        "mels-00000.safetensors",
        "mels-00001.safetensors",
    ]
    assert len(Store.open(tmp_path)) == 8


BUILDER = """
import sys
from s2igan.data.store import build_store
if __name__ == "__main__":
    build_store(
        sys.argv[1], image_size=16, jobs=2, progress=False, mel_shard_items=4, image_shard_items=3
    )
"""


def test_a_killed_build_goes_on_and_leaves_nothing_running(tmp_path: Path) -> None:
    """kill -9 when the first shards are there: they are kept, and the result is that of an undisturbed build."""
    make_corpus(tmp_path / "disturbed", n_images=40)
    shutil.copytree(tmp_path / "disturbed", tmp_path / "undisturbed")
    build(tmp_path / "undisturbed")
    (tmp_path / "builder.py").write_text(BUILDER)
    manifest, store = tmp_path / "disturbed/manifest.jsonl", tmp_path / "disturbed/store"
    with subprocess.Popen([sys.executable, str(tmp_path / "builder.py"), str(manifest)]) as process:
        deadline = time.monotonic() + 60
        while len(list(store.glob("*.safetensors"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in store.glob("*.safetensors")}
    assert 3 <= len(kept) < 14 + 20, "killed in the middle"
    assert not (store / "report.json").exists()
    deadline = time.monotonic() + 20
    while any(_running(int(child)) for child in children):
        assert time.monotonic() < deadline, "workers outlive the build"
        time.sleep(0.02)
    for path in store.glob("*.safetensors"):  # what the workers finished before they noticed
        kept.setdefault(path, path.stat().st_mtime_ns)
    (store / f".mels-00019.safetensors.{os.uname().nodename}-{process.pid}.tmp").write_bytes(b"half")
    build(tmp_path / "disturbed")
    assert content(tmp_path / "disturbed") == content(tmp_path / "undisturbed")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished shards are not made again"


def _running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def die(task: object) -> None:
    """Stands for the kernel that ends a process for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_pieces_of_shards_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("whole", "pieces"):
        rows = make_corpus(tmp_path / name, n_images=30)
        write(tmp_path / name, rows)
        for bad in ("audio/3-0.wav", "audio/3-1.wav", "audio/7-0.wav", "images/6.png"):
            (tmp_path / name / bad).write_bytes(b"nothing")
    build(tmp_path / "whole", jobs=1)
    monkeypatch.setattr(store_module, "PIECE_ITEMS", 2)
    build(tmp_path / "pieces", jobs=2)
    assert content(tmp_path / "pieces") == content(tmp_path / "whole")
    assert rejections(tmp_path / "pieces") == rejections(tmp_path / "whole")
    assert len(rejections(tmp_path / "whole")) >= 5


def test_a_killed_worker_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_corpus(tmp_path)
    monkeypatch.setattr(store_module, "_make", die)
    with pytest.raises(UserError, match=r"run the same command again with fewer --jobs"):
        build(tmp_path, jobs=2)


def test_a_full_disk_is_explained_and_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_corpus(tmp_path)
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 4:  # two for each shard: the file and the folder
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        build(tmp_path)
    monkeypatch.undo()
    names = sorted(path.name for path in (tmp_path / "store").iterdir())
    assert names == ["images-00000.safetensors", "images-00001.safetensors"]
    build(tmp_path)
    Store.open(tmp_path)


# ------------------------------------------------------------------------------------------------------------ bad input


def test_bad_items_are_skipped_named_and_counted(tmp_path: Path) -> None:
    rows = make_corpus(tmp_path, n_images=30)
    (tmp_path / "audio/3-0.wav").write_bytes(b"RIFF nothing")
    soundfile.write(tmp_path / "audio/4-1.wav", np.zeros(22_050), 22_050)
    (tmp_path / "audio/5-0.wav").unlink()
    (tmp_path / "images/6.png").write_bytes(b"\x89PNG")
    rows[20]["split"] = "tset"
    write(tmp_path, [*rows, rows[2]])
    build(tmp_path)
    found = rejections(tmp_path)
    assert [(record["line"], record["path"]) for record in found] == [
        (7, "audio/3-0.wav"),
        (10, "audio/4-1.wav"),
        (11, "audio/5-0.wav"),
        (13, "images/6.png"),
        (14, "images/6.png"),
        (21, "manifest.jsonl"),
        (61, "audio/1-0.wav"),
    ]
    for record, word in zip(
        found,
        ("not a readable sound", "silent", "no such sound", "not a readable image", "image", "tset", "as line 3"),
        strict=True,
    ):
        assert word in record["reason"]
        assert str(tmp_path) not in record["reason"]
    store = Store.open(tmp_path)
    assert len(store) == 61 - 7
    assert store.n_images == 29
    assert (store.report["rejected"], store.report["rows"]) == (7, 61)
    assert "7 of 61 rows could not be used" in store.summary()
    left = [i for i in range(60) if i + 1 not in {record["line"] for record in found}]
    for i, line in enumerate(left):  # what is left keeps its own speech and picture
        row = rows[line]
        expected = log_mel(torch.from_numpy(load_audio(tmp_path / row["audio"]))).half().numpy()
        assert np.array_equal(store.mel(i), expected)
        assert store.text(i) == row["text"]
        assert np.array_equal(store.images[store.image_index[i]], load_image(tmp_path / row["image"], 19))
    before = content(tmp_path)
    build(tmp_path)
    assert content(tmp_path) == before
    assert rejections(tmp_path) == found, "kept shards remember what they rejected"
    # The missing recording is found again.
    soundfile.write(tmp_path / "audio/5-0.wav", np.random.default_rng(1).standard_normal(3000) * 0.1, 22_050)
    build(tmp_path)
    assert len(Store.open(tmp_path)) == 61 - 6


def test_too_many_bad_items_stop_the_build(tmp_path: Path) -> None:
    rows = make_corpus(tmp_path, n_images=5)
    for i in range(2):
        (tmp_path / f"audio/{i}-0.wav").unlink()
    build(tmp_path)  # 2 of 10 are allowed
    (tmp_path / "audio/2-0.wav").unlink()
    with pytest.raises(UserError, match=r"3 of 10 utterances cannot be used, .*--allow-rejected") as caught:
        build(tmp_path)
    assert "line 1 (audio/0-0.wav: no such sound file" in str(caught.value)
    assert len(rejections(tmp_path)) == 3
    with pytest.raises(UserError, match="no finished store"):
        Store.open(tmp_path)
    assert build(tmp_path, allow_rejected=True)["rejected"] == 3
    for row in rows:
        (tmp_path / row["audio"]).unlink(missing_ok=True)
    with pytest.raises(UserError, match="10 of 10 utterances cannot be used"):
        build(tmp_path, allow_rejected=True)


def test_leaking_splits_stop_the_build(tmp_path: Path) -> None:
    rows = make_corpus(tmp_path, n_images=4)
    write(tmp_path, [*rows[:-1], rows[-1] | {"split": "train"}])
    with pytest.raises(UserError, match=r"image images/3\.png is in the split test on line 7 and in train on line 8"):
        build(tmp_path)


def test_a_size_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    make_corpus(tmp_path, n_images=1)
    with pytest.raises(UserError, match="image size 0 must be from 1 to 1024"):
        build(tmp_path, image_size=0)
    with pytest.raises(UserError, match="image size 100000 must be"):
        build(tmp_path, image_size=100_000)
