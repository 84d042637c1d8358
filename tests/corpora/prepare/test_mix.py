"""One corpus of several, and part of one: what is trained on, what stays, and that no picture is in two places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from s2igan import cli
from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import prepare
from s2igan.corpora.builtin.invented import spoken_in
from s2igan.corpora.prepare.mix import mix
from s2igan.data.manifest import read_manifest, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.recipes import resolve
from s2igan.training.train import train_run
from tiny_corpus import shrunk

SIZES = {"classes": 14, "individuals": 2, "captions": 2, "size": 32, "seed": 1, "jobs": 1}


@pytest.fixture(scope="module")
def unwritten(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unwritten")
    prepare(spoken_in(BIRDS, "invented:5"), out, **SIZES)
    return out


@pytest.fixture(scope="module")
def english(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("english")
    prepare(BIRDS, out, **SIZES, extra_voices=())
    return out


@pytest.fixture(scope="module")
def both(unwritten, english, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("both")
    mix([unwritten, english], out, jobs=1)
    return out


def counts(data: Path) -> dict[str, int]:
    return {name: len(Store.open(data).split_indices(name)) for name in ("train", "validation", "development", "test")}


def test_two_languages_are_trained_on_and_one_is_tested(unwritten, english, both):
    mixed, alone = counts(both), counts(unwritten)
    assert mixed == alone | {"train": 2 * alone["train"]}
    store = Store.open(both)
    spoken = {(store.language(i), int(store.split[i])) for i in range(len(store))}
    assert spoken == {("en", 0)} | {("x-invented-5", split) for split in range(4)}
    assert store.report["language"] == "invented:5"
    # Pictures are shared, and classes are those of the first corpus
    assert store.n_images == Store.open(unwritten).n_images
    assert store.classes == Store.open(unwritten).classes
    train = store.split_indices("train")
    for language in ("en", "x-invented-5"):
        mine = [i for i in train if store.language(i) == language]
        assert set(store.image_index[mine]) == set(store.image_index[train])
    assert store.attributes == Store.open(unwritten).attributes


def test_sound_and_pictures_are_those_of_the_corpora(unwritten, english, both):
    store, parts = Store.open(both), {"x-invented-5": Store.open(unwritten), "en": Store.open(english)}
    for i in (0, 7, len(store) - 1):
        part = parts[store.language(i)]
        name = store.audio_path(i).relative_to(store.corpus_root).parts
        own = next(j for j in range(len(part)) if part.audio_path(j) == part.corpus_root.joinpath(*name[1:]))
        np.testing.assert_array_equal(store.mel(i), part.mel(own))
        np.testing.assert_array_equal(store.images[store.image_index[i]], part.images[part.image_index[own]])
        assert store.mentions(i) == part.mentions(own)
        assert store.audio_path(i).read_bytes() == part.audio_path(own).read_bytes()


def test_so_many_recordings_remain_and_more_contain_fewer(unwritten, tmp_path):
    heard = {}
    for count in (3, 9):
        mix([unwritten], tmp_path / str(count), recordings=count, jobs=1)
        assert counts(tmp_path / str(count)) == counts(unwritten) | {"train": count}
        store = Store.open(tmp_path / str(count))
        heard[count] = {store.audio_path(i).name for i in store.split_indices("train")}
    assert heard[3] < heard[9]
    mix([unwritten], tmp_path / "other", recordings=3, seed=1, jobs=1)
    store = Store.open(tmp_path / "other")
    assert {store.audio_path(i).name for i in store.split_indices("train")} != heard[3]
    with pytest.raises(UserError, match=r"--recordings 999: .* has \d+ recordings to train on"):
        mix([unwritten], tmp_path / "many", recordings=999, jobs=1)


def test_pictures_that_the_first_tests_on_are_never_trained_on(unwritten, english, tmp_path):
    """Where the other corpus has its pictures in other splits."""
    rows = [replace(row, split="train") for row in read_manifest(english / "manifest.jsonl")]
    for name in ("audio", "images"):
        (tmp_path / name).symlink_to(english / name)
    write_manifest(tmp_path / "manifest.jsonl", rows)
    build_store(tmp_path / "manifest.jsonl", image_size=32, jobs=1)
    mix([unwritten, tmp_path], tmp_path / "mixed", jobs=1)
    store = Store.open(tmp_path / "mixed")
    train, others = (store.split == 0), (store.split != 0)
    assert not set(store.image_index[train]) & set(store.image_index[others])
    assert counts(tmp_path / "mixed")["train"] == 2 * counts(unwritten)["train"]


def test_of_the_others_training_recordings_alone_are_added(unwritten, tmp_path):
    """Where the pictures of the other corpus are new, its own held-out ones belong to no split."""
    other = tmp_path / "other"
    prepare(BIRDS, other, **(SIZES | {"seed": 2}), extra_voices=())
    mix([unwritten, other], tmp_path / "mixed", jobs=1)
    assert counts(tmp_path / "mixed") == counts(unwritten) | {
        "train": counts(unwritten)["train"] + counts(other)["train"]
    }


def test_corpora_that_do_not_fit_are_refused(unwritten, tmp_path):
    other = tmp_path / "large"
    prepare(BIRDS, other, **(SIZES | {"size": 64}), extra_voices=())
    with pytest.raises(UserError, match=r"another image size \(64\) than .* \(32\)"):
        mix([unwritten, other], tmp_path / "mixed", jobs=1)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "corpus-1").mkdir()
    with pytest.raises(UserError, match="corpus-1: holds something else"):
        mix([unwritten], tmp_path / "mixed", jobs=1)


def test_a_mix_is_made_again_unchanged(unwritten, english, both, capsys):
    before = Store.open(both).fingerprint
    cli.main(["mix", str(unwritten), str(english), "--out", str(both), "--jobs", "1"])
    assert Store.open(both).fingerprint == before
    assert str(both) in capsys.readouterr().out


def test_an_unwritten_language_begins_from_stage_1_of_english(unwritten, english, tmp_path):
    """`--init-from` takes a run that has stage 1 alone."""
    first = shrunk(resolve("birds-rdg"), steps=2)
    source = train_run(first, data=english, out=tmp_path / "english", stage="1", device="cpu")
    mix([unwritten], tmp_path / "few", recordings=9, jobs=1)
    none = replace(first, sen=replace(first.sen, trainer=replace(first.sen.trainer, steps=0)))
    run = train_run(
        none, data=tmp_path / "few", out=tmp_path / "run", stage="1", init_from=source, init_parts=("speech",),
        device="cpu",
    )  # fmt: skip
    begun, left = (load_file(path / "sen" / "weights.safetensors") for path in (source, run))
    assert begun.keys() == left.keys()
    assert all(tensor.equal(left[name]) for name, tensor in begun.items())
    with pytest.raises(UserError, match="training has not finished"):
        train_run(none, data=tmp_path / "few", out=tmp_path / "all", stage="1", init_from=source, device="cpu")
