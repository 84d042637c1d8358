import json
import shutil

import pytest
from small_birds import make_run

from s2igan.errors import UserError
from s2igan.evaluation.attributes import ClassifierConfig
from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.generation import Evaluation
from s2igan.files import cache_folder
from s2igan.pipeline import SpeechToImage
from s2igan.report import headlines, write_report

QUICK = ClassifierConfig(image_size=16, width=4, drawings=64, held_out=20, epochs=1, batch_size=32)


@pytest.fixture(scope="module")
def evaluated(small_run, bird_store):
    return evaluate(small_run, bird_store.directory, max_captions=12, classifier=QUICK, device="cpu")


def test_everything_is_scored_with_its_protocol(evaluated, small_run):
    assert evaluated == json.loads((small_run / "evaluation" / "metrics.json").read_text())
    assert list(evaluated["groups"]) == ["sen", "attributes", "figure3", "fakes", "distances"]
    assert {score["group"] for score in evaluated["scores"]} == set(evaluated["groups"])
    keys = [score["key"] for score in evaluated["scores"]]
    assert len(keys) == len(set(keys))
    for score in evaluated["scores"]:
        if score["unit"] == "fraction":
            assert 0 <= score["value"] <= 1, score["key"]
            assert 0 < score["chance"] <= 1, score["key"]
            assert score["ceiling"] is not None, score["key"]
        assert score["protocol"]
        if score["group"] != "figure3":
            assert score["protocol"]["split"] == "test"
    assert any(score["headline"] for score in evaluated["scores"])


def test_it_says_the_same_again_and_keeps_the_classifier(evaluated, small_run, bird_store):
    def kept():
        files = (cache_folder(None) / "attribute_classifiers").glob("birds-*/weights.safetensors")
        return {file: file.stat().st_mtime_ns for file in files}

    written = kept()
    assert written
    again = evaluate(small_run, bird_store.directory, max_captions=12, classifier=QUICK, device="cpu")
    assert again["scores"] == evaluated["scores"]
    assert kept() == written


def test_the_report_reads_it(evaluated, small_run):
    assert write_report(small_run).is_file()
    lines = "\n".join(headlines(small_run))
    assert all(score["name"] in lines for score in evaluated["scores"] if score["headline"])


def test_nothing_is_written_into_the_data(tmp_path, bird_store, monkeypatch):
    """It may lie on a read-only disk; the classifier is trained anew here and kept in the user's cache folder."""

    def everything():
        return {path: path.stat().st_mtime_ns for path in [bird_store.directory, *bird_store.directory.rglob("*")]}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = everything()
    evaluate(make_run(tmp_path / "run", bird_store), bird_store.directory, max_captions=2, classifier=QUICK)
    assert everything() == before
    assert list((tmp_path / "cache").rglob("weights.safetensors"))


def test_the_data_that_it_was_trained_on_needs_no_words(evaluated, bird_store):
    name = bird_store.directory.name
    assert evaluated["data"] == {
        "name": name,
        "fingerprint": bird_store.fingerprint,
        "trained_on": True,
        "split_trained_on": False,
    }


def test_other_data_is_refused_unless_allowed_and_then_told(tmp_path, evaluated, small_run, store, capsys):
    with pytest.raises(UserError, match=r"trained on another prepared set .* --allow-other-data"):
        evaluate(small_run, store.directory, device="cpu")
    run = shutil.copytree(small_run, tmp_path / "run")
    content = evaluate(run, store.directory, max_captions=2, device="cpu", allow_other_data=True)
    facts = {"name": store.directory.name, "fingerprint": store.fingerprint, "trained_on": False}
    counts = {"pictures": 4, "recordings": 8, "shared_pictures": 0, "shared_recordings": 0}
    assert content["data"] == facts | counts
    said = "a set that the run was not trained on; 0 of its 4 pictures and 0 of its 8 recordings were trained on."
    assert said in " ".join(capsys.readouterr().out.split())
    page = write_report(run).read_text()
    assert said in page
    assert "One word changed" not in page, "Figure 3 is of an earlier evaluation, on drawings"


def test_stage_1_alone(tmp_path, bird_store):
    run = make_run(tmp_path / "run", bird_store, trained="sen")
    content = evaluate(run, bird_store.directory, device="cpu")
    assert list(content["groups"]) == ["sen"]
    assert not (run / "evaluation" / "sample_sheet").exists()


def test_a_set_without_classes_or_attributes(tmp_path, store_without_classes):
    run = make_run(tmp_path / "run", store_without_classes)
    content = evaluate(run, store_without_classes.directory, max_captions=8, device="cpu")
    assert list(content["groups"]) == ["sen", "fakes", "distances"]
    assert "sen/map" not in {score["key"] for score in content["scores"]}
    recalls = {score["key"]: score for score in content["scores"] if "recall@" in score["key"]}
    assert "fakes/recall@1" in recalls
    assert "fakes/recall@50" not in recalls, "eight images were drawn: guessing finds the right one among 50"
    assert all(score["chance"] < 1 for score in recalls.values())
    assert all(score["chance"] <= 0.5 for score in recalls.values() if score["headline"])


def test_a_latent_flow_is_scored_beside_its_reconstructions(flow_run, larger_birds):
    content = evaluate(flow_run, larger_birds.directory, max_captions=6, classifier=QUICK, device="cpu")
    assert list(content["groups"]) == ["sen", "attributes", "figure3", "reconstructions", "fakes", "distances"]
    keys = [score["key"] for score in content["scores"] if score["group"] == "reconstructions"]
    assert keys[0] == "reconstructions/mean"
    page = write_report(flow_run).read_text()
    assert "Reconstructions (the ceiling)" in page
    assert "rebuilt" in page


def test_features_of_the_set_are_computed_once(small_run, bird_store, evaluated, monkeypatch):
    from s2igan.evaluation import features

    monkeypatch.setattr(features, "image_features", None)
    split = EvaluationSplit.of(bird_store, "test")
    evaluation = Evaluation(SpeechToImage.load(small_run, "cpu"), split, 0)
    assert evaluation.real_features(split.images, 32).shape == (9, 1280)
    with pytest.raises(TypeError, match="not callable"):
        evaluation.real_features(split.images[:3], 32)


def test_a_missing_run_is_named(tmp_path, bird_store):
    with pytest.raises(UserError, match="nowhere"):
        evaluate(tmp_path / "nowhere", bird_store.directory)
