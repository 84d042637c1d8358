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


@pytest.fixture(scope="module", params=[("demo", 64), ("birds-rdg", 32)], ids=lambda pair: pair[0])
def trained(request, tmp_path_factory) -> list[Path]:
    """Runs on birds described in a made-up language, and on the same without labels."""
    recipe, size = request.param
    corpus, bare = (tmp_path_factory.mktemp(name) for name in ("corpus", "bare"))
    prepare(spoken_in(BIRDS, "invented:5"), corpus, classes=14, individuals=2, captions=2, size=size, seed=1, jobs=1)
    rows = read_manifest(corpus / "manifest.jsonl")
    write_manifest(
        corpus / "bare.jsonl", [replace(row, attributes={}, mentions=(), speaker=None, language=None) for row in rows]
    )
    build_store(corpus / "bare.jsonl", bare, image_size=size, jobs=1)
    kept = (bare / "store" / "index.parquet").read_bytes() + (bare / "store" / "images.parquet").read_bytes()
    assert b"belly_colour" not in kept
    assert Store.open(bare).attributes == {}
    out = tmp_path_factory.mktemp("runs")
    return [
        train_run(shrunk(resolve(recipe), steps=2), data=data, out=out / data.name, device="cpu")
        for data in (corpus, bare)
    ]


def test_training_gives_the_same_bits_without_labels(trained):
    for folder in ("sen", "model"):
        with_labels, without = (load_file(run / folder / "weights.safetensors") for run in trained)
        assert with_labels.keys() == without.keys()
        for name, tensor in with_labels.items():
            assert tensor.equal(without[name]), name
