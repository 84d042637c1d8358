"""A speaker who is forgotten is nowhere in the store, and everybody else is as before."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from s2igan import cli
from s2igan.data.manifest import read_manifest, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.errors import UserError
from tiny_corpus import make_store

SPEAKERS = ("ana-of-the-river", "ben", "eva")


@pytest.fixture
def spoken(tmp_path, monkeypatch):
    """The tiny corpus, spoken by three people in turn, in mel shards of ten, with one recording rejected."""
    monkeypatch.setattr("s2igan.data.pack.MEL_SHARD_ITEMS", 10)
    root = make_store(tmp_path / "data").directory
    rows = [
        replace(row, speaker=SPEAKERS[number % 3]) for number, row in enumerate(read_manifest(root / "manifest.jsonl"))
    ]
    write_manifest(root / "manifest.jsonl", rows)
    (root / rows[0].audio).write_bytes(b"not a sound")
    build_store(root / "manifest.jsonl", image_size=32, jobs=1)
    return Store.open(root)


def everything(store, speakers):
    """What the store has of some speakers, by recording."""
    return {
        store.audio_path(number): (
            store.mel(number).tobytes(),
            store.text(number),
            store.speaker(number),
            int(store.split[number]),
            store.image_path(store.image_index[number]),
        )
        for number in range(len(store))
        if store.speaker(number) in speakers
    }


def test_nothing_is_left_and_nobody_else_is_touched(spoken, tmp_path, capsys):
    others, theirs = everything(spoken, SPEAKERS[1:]), everything(spoken, SPEAKERS[:1])
    assert len(theirs) == 15
    images = spoken.images[:]
    for folder, record in (
        ("with", {"data": "x", "store": spoken.fingerprint}),
        ("without", {"store": "another"}),
        ("from", {"sen_from": {"store": spoken.fingerprint}}),
    ):
        for part in ("", "sen", "warm_start", "model"):
            (tmp_path / "runs" / folder / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "runs" / folder / part / "config.json").write_text(json.dumps(record))
    cli.main(["forget", SPEAKERS[0], "--data", str(spoken.directory), "--runs", str(tmp_path / "runs")])
    out = capsys.readouterr().out
    assert "15 utterances" in out
    assert str(tmp_path / "runs" / "with") + "\n" in out
    assert str(tmp_path / "runs" / "from") + "\n" in out
    assert out.count(str(tmp_path / "runs")) == 2, "each run once, and none that was trained without them"
    assert all(str(path) in out for path in theirs)
    assert out.count(".wav") == 16  # the rejected one too

    left = Store.open(spoken.directory)
    assert everything(left, SPEAKERS) == others
    assert left.speakers == SPEAKERS[1:]
    assert left.fingerprint != spoken.fingerprint
    assert left.report["utterances"] == len(left) == len(others)
    np.testing.assert_array_equal(left.images[:], images)
    assert len(read_manifest(spoken.directory / "manifest.jsonl")) == 32
    for path in spoken.directory.rglob("*"):
        if path.is_file() and path.suffix not in {".wav", ".png"}:
            content = path.read_bytes()
            assert b"ana-of-the-river" not in content, path
            assert b"audio/0_0_0.wav" not in content, path  # which was rejected


def test_a_second_speaker_is_forgotten_too(spoken, tmp_path):
    for speaker in SPEAKERS[:2]:
        cli.main(["forget", speaker, "--data", str(spoken.directory), "--runs", str(tmp_path)])
    left = Store.open(spoken.directory)
    assert left.speakers == SPEAKERS[2:]
    assert left.report["forgotten"] == 31


def test_who_is_not_there_is_a_sentence(spoken, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        cli.main(["forget", "nobody", "--data", str(spoken.directory), "--runs", str(tmp_path)])
    assert "no speaker 'nobody' is in this corpus (3 others are, such as ana-of-the-river)" in capsys.readouterr().err
    assert everything(Store.open(spoken.directory), SPEAKERS) == everything(spoken, SPEAKERS)


def test_without_names(store, tmp_path):
    from s2igan.forget import forget_speaker

    with pytest.raises(UserError, match="nobody is named"):
        forget_speaker("ana", store.directory, tmp_path)
