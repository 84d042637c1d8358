import dataclasses
import json
import shutil

import pytest

from s2igan.checkpoint import load_model, save_model
from s2igan.data.manifest import read_manifest, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.subject import Subject
from s2igan.evaluation.training_data import about_data, data_record
from small_birds import make_run
from tiny_corpus import make_store


@pytest.fixture
def own(tmp_path) -> Store:
    """What the run is trained on: four classes to train of four pictures with two recordings each, one to test."""
    return make_store(tmp_path / "own")


@pytest.fixture
def run(own, tmp_path) -> Subject:
    return Subject.of(make_run(tmp_path / "run", own, trained="sen"))


def resplit(own: Store, root, *, size: int = 32, window: str = "hann") -> Store:
    """The same pictures and recordings under other names; the test split has two classes that ``own`` trains on."""
    shutil.copytree(own.directory / "images", root / "pictures")
    shutil.copytree(own.directory / "audio", root / "sounds")
    rows = []
    for row in read_manifest(own.directory / "manifest.jsonl"):
        split = "test" if row.class_name in ("class 0", "class 1", "class 5") else "train"
        moved = row.audio.replace("audio/", "sounds/"), row.image.replace("images/", "pictures/")
        rows.append(dataclasses.replace(row, audio=moved[0], image=moved[1], split=split))
    write_manifest(root / "manifest.jsonl", rows)
    build_store(root / "manifest.jsonl", image_size=size, window=window, jobs=1)
    return Store.open(root)


def record(run: Subject, store: Store, allow_other_data: bool = True) -> dict:
    return data_record(run, EvaluationSplit.of(store, "test"), allow_other_data=allow_other_data)


def test_the_run_s_own_store_is_known_wherever_it_lies(run, own, tmp_path):
    moved = Store.open(own.directory.rename(tmp_path / "moved"))
    facts = {"name": "moved", "fingerprint": own.fingerprint, "trained_on": True}
    assert record(run, moved, False) == facts | {"split_trained_on": False}
    assert about_data(record(run, moved)) == ""


@pytest.mark.parametrize(("held_out", "met"), [(True, True), (False, False)])
def test_pictures_held_out_for_stage_1_alone_were_met_by_stage_2(run, own, monkeypatch, held_out, met):
    monkeypatch.setattr(own, "validation_from_train", held_out)
    split = EvaluationSplit.of(own, "validation")
    assert data_record(run, split, allow_other_data=False)["split_trained_on"] is met


def test_a_store_that_shares_pictures_is_refused(run, own, tmp_path):
    other = resplit(own, tmp_path / "other")
    with pytest.raises(UserError, match=r"other: .*run was trained on another prepared set .*own\) and may have met"):
        record(run, other, False)


@pytest.mark.parametrize("changes", [{}, {"size": 16, "window": "hamming"}])
def test_what_was_trained_on_is_counted_by_content(run, own, tmp_path, changes):
    """Whatever its name, and where the stores were prepared otherwise, by the files that they were prepared from."""
    other = resplit(own, tmp_path / "other", **changes)
    found = record(run, other)
    assert found["trained_on"] is False
    assert (found["pictures"], found["shared_pictures"]) == (12, 8)
    assert (found["recordings"], found["shared_recordings"]) == (24, 16)
    assert about_data(found).endswith("8 of its 12 pictures and 16 of its 24 recordings were trained on.")


def test_where_nothing_can_be_compared_it_is_unknown(run, own, tmp_path):
    other = resplit(own, tmp_path / "other", size=16)
    shutil.rmtree(own.directory / "images")
    found = record(run, other)
    assert (found["shared_pictures"], found["shared_recordings"]) == (None, 16)
    shutil.rmtree(own.directory)
    found = record(run, other)
    assert (found["shared_pictures"], found["shared_recordings"]) == (None, None)
    assert "an unknown number of its 12 pictures and an unknown number of its 24 recordings" in about_data(found)


def test_a_corpus_that_lies_in_the_run_is_found(run, own, tmp_path):
    """`s2igan run` prepares it there."""
    other = resplit(own, tmp_path / "other")
    own.directory.rename(run.path / "data")
    assert record(run, other)["shared_pictures"] == 8


def test_a_run_that_does_not_say_what_it_was_trained_on(run, own):
    config = json.loads((run.path / "config.json").read_text())
    del config["store"]
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="--allow-other-data"):
        record(Subject.of(run.path), own, False)
    assert record(Subject.of(run.path), own)["shared_pictures"] is None


@pytest.mark.parametrize(("known", "trained_on"), [(True, True), (False, None)])
def test_an_exported_model_knows_its_set_where_it_was_recorded(own, tmp_path, known, trained_on):
    model = make_run(tmp_path / "run", own) / "model"
    if known:
        config, weights = load_model(model)
        save_model(model, {**config, "store": own.fingerprint}, weights)
    found = record(Subject.of(model), own, False)
    assert found["trained_on"] is trained_on
    assert ("is not recorded" in about_data(found)) is not known


def test_an_exported_model_of_another_set_is_refused(run, own, tmp_path):
    model = make_run(tmp_path / "other-run", own) / "model"
    config, weights = load_model(model)
    save_model(model, {**config, "store": "another"}, weights)
    with pytest.raises(UserError, match=r"model was trained on another prepared set \(not here\).*--allow-other-data"):
        record(Subject.of(model), own, False)
