"""Building a store: builds resume, agree, and name what they reject."""

import json
import os
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
from noise_corpus import build, content, make_corpus, write

from s2igan.audio import load_audio
from s2igan.data import pack
from s2igan.data.images import load_image
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.spectrograms import log_mel

pytestmark = pytest.mark.usefixtures("one_thread")


def rejections(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "rejected.jsonl").read_text().splitlines()]


def test_bytes_do_not_depend_on_the_number_of_processes_or_on_the_place(prepared: Path, tmp_path: Path) -> None:
    make_corpus(tmp_path / "elsewhere")
    build(tmp_path / "elsewhere", jobs=2)
    assert content(tmp_path / "elsewhere") == content(prepared)


def test_only_what_changed_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_corpus(tmp_path)
    written: list[str] = []
    write_shard = pack._write_shard
    monkeypatch.setattr(pack, "_write_shard", lambda task: (written.append(task.target.name[:-12]), write_shard(task)))

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


def test_log_mels_that_were_made_beside_the_files_are_taken(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole shards of them, in any order; a shard that lacks one is decoded."""
    rows = make_corpus(tmp_path)
    decoded: list[str] = []
    decode = pack.decode
    monkeypatch.setattr(pack, "decode", lambda task: (decoded.append(task.target.name[:-12]), decode(task))[1])
    made = [(row["audio"], pack.stored_log_mel(load_audio(tmp_path / row["audio"]))) for row in rows]
    marked = np.full((7, 40), 3.0, np.float16)
    build(tmp_path, made=[("audio/0-0.wav", marked), *made[:0:-1][1:]])
    assert sorted(decoded) == ["images-00000", "images-00001", "images-00002", "mels-00003"]
    assert (Store.open(tmp_path).mel(0) == marked).all()
    assert all(
        content(tmp_path)[name] == content(prepared)[name]
        for name in content(prepared)
        if name.startswith("store/mels-0000[1-3]")
    )
    decoded.clear()
    build(tmp_path)
    assert decoded == []


BUILDER = """
import sys
from s2igan.data import pack
if __name__ == "__main__":
    pack.MEL_SHARD_ITEMS, pack.IMAGE_SHARD_ITEMS = 4, 3
    pack.build_store(sys.argv[1], image_size=16, jobs=2)
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


def test_more_processes_change_no_byte(tmp_path: Path) -> None:
    for name in ("whole", "shared"):
        rows = make_corpus(tmp_path / name, n_images=30)
        write(tmp_path / name, rows)
        for bad in ("audio/3-0.wav", "audio/3-1.wav", "audio/7-0.wav", "images/6.png"):
            (tmp_path / name / bad).write_bytes(b"nothing")
    build(tmp_path / "whole", jobs=1)
    build(tmp_path / "shared", jobs=2)
    assert content(tmp_path / "shared") == content(tmp_path / "whole")
    assert rejections(tmp_path / "shared") == rejections(tmp_path / "whole")
    assert len(rejections(tmp_path / "whole")) == 4


def test_a_killed_worker_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_corpus(tmp_path)
    monkeypatch.setattr(pack, "_write_shard", die)
    with pytest.raises(UserError, match=r"^A working process was killed.*the same command again with fewer --jobs"):
        build(tmp_path, jobs=2)


def test_a_full_disk_is_explained_and_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_corpus(tmp_path)
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 6:  # two for each shard, and for rejected.jsonl: the file and the folder
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
        (21, "manifest.jsonl"),
        (61, "audio/1-0.wav"),
    ]
    for record, word in zip(
        found,
        ("this is a text, no sound", "silent", "no such sound", "not a readable image", "tset", "as line 3"),
        strict=True,
    ):
        assert word in record["reason"]
        assert str(tmp_path) not in record["reason"]
    assert [record.get("lost", 1) for record in found] == [1, 1, 1, 2, 1, 1], "both descriptions of the picture"
    store = Store.open(tmp_path)
    assert len(store) == 61 - 7
    assert store.n_images == 29
    assert (store.report["rejected"], store.report["rows"]) == (7, 61)
    assert "7 of 61 rows could not be used" in store.summary()
    left = [i for i in range(60) if i + 1 not in {14, *(record["line"] for record in found)}]
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
