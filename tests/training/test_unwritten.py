"""What is known of a picture is there to score by: no training reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import prepare
from s2igan.corpora.builtin.invented import spoken_in
from s2igan.data.manifest import read_manifest, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.recipes import resolve
from s2igan.training.train import train_run
from tiny_corpus import shrunk


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> tuple[Path, Path]:
    """Birds described in a made-up language, and the same without labels."""
    corpus, bare = (tmp_path_factory.mktemp(name) for name in ("corpus", "bare"))
    prepare(spoken_in(BIRDS, "invented:5"), corpus, classes=14, individuals=2, captions=2, size=64, seed=1, jobs=1)
    rows = read_manifest(corpus / "manifest.jsonl")
    write_manifest(
        corpus / "bare.jsonl", [replace(row, attributes={}, mentions=(), speaker=None, language=None) for row in rows]
    )
    build_store(corpus / "bare.jsonl", bare, image_size=64, jobs=1)
    kept = (bare / "store" / "index.parquet").read_bytes() + (bare / "store" / "images.parquet").read_bytes()
    assert b"belly_colour" not in kept
    assert Store.open(bare).attributes == {}
    return corpus, bare


@pytest.mark.parametrize("recipe", ["demo", "birds-rdg"])
def test_training_gives_the_same_bits_without_labels(stores, tmp_path, recipe):
    runs = [
        train_run(shrunk(resolve(recipe), steps=2), data=data, out=tmp_path / name, device="cpu")
        for data, name in zip(stores, ("labelled", "bare"), strict=True)
    ]
    for folder in ("sen", "model"):
        with_labels, without = (load_file(run / folder / "weights.safetensors") for run in runs)
        assert with_labels.keys() == without.keys()
        for name, tensor in with_labels.items():
            assert tensor.equal(without[name]), name
