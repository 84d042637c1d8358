import json
import shutil

import numpy as np
import pytest
import torch
import torch_fidelity
from safetensors.numpy import load_file

import independent_metrics
from s2igan.checkpoint import file_digest
from s2igan.errors import UserError
from s2igan.evaluation import generation
from s2igan.evaluation.attributes import ClassifierConfig
from s2igan.evaluation.evaluate import Extractors, evaluate
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.extractors import Fidelity
from s2igan.evaluation.generation import Evaluation
from s2igan.evaluation.options import EvaluationOptions
from s2igan.evaluation.spaces import register
from s2igan.files import cache_folder
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.pipeline import SpeechToImage
from s2igan.report import headlines, write_report
from small_birds import make_run

QUICK = ClassifierConfig(image_size=16, width=4, drawings=64, held_out=20, epochs=1, batch_size=32)


def scored(model, data, out=None, **options):
    return evaluate(model, data, EvaluationOptions(**options), out=out, classifier=QUICK, device="cpu")


@pytest.fixture(scope="module")
def evaluated(small_run, bird_store):
    return scored(small_run, bird_store.directory, max_captions=12)


def test_everything_is_scored_with_its_protocol(evaluated, small_run):
    assert evaluated == json.loads((small_run / "evaluation" / "metrics.json").read_text())
    groups = ["sen", "attributes", "figure3", "independent", "drawings", "distances", "diversity", "fakes"]
    assert list(evaluated["groups"]) == groups
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
    again = scored(small_run, bird_store.directory, max_captions=12)
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
    scored(make_run(tmp_path / "run", bird_store), bird_store.directory, max_captions=2)
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
    content = scored(run, store.directory, max_captions=2, allow_other_data=True)
    facts = {"name": store.directory.name, "fingerprint": store.fingerprint, "trained_on": False}
    counts = {"pictures": 4, "recordings": 8, "shared_pictures": 0, "shared_recordings": 0}
    assert content["data"] == facts | counts
    said = "a set that the model was not trained on; 0 of its 4 pictures and 0 of its 8 recordings were trained on."
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
    content = scored(run, store_without_classes.directory, max_captions=8)
    assert list(content["groups"]) == ["sen", "independent", "distances", "diversity", "fakes"]
    assert "sen/map" not in {score["key"] for score in content["scores"]}
    recalls = {score["key"]: score for score in content["scores"] if "recall@" in score["key"]}
    assert "fakes/recall@1_lite2" in recalls
    assert "fakes/recall@50_lite2" not in recalls, "eight images were drawn: guessing finds the right one among 50"
    assert all(score["chance"] < 1 for score in recalls.values())
    assert all(score["chance"] <= 0.5 for score in recalls.values() if score["headline"])


def test_a_latent_flow_is_scored_beside_its_reconstructions(flow_run, larger_birds):
    content = scored(flow_run, larger_birds.directory, max_captions=6)
    assert list(content["groups"]) == [
        "sen",
        "attributes",
        "figure3",
        "independent",
        "drawings",
        "distances",
        "diversity",
        "reconstructions",
        "fakes",
    ]
    keys = [score["key"] for score in content["scores"] if score["group"] == "reconstructions"]
    assert keys[0] == "reconstructions/mean"
    page = write_report(flow_run).read_text()
    assert "Reconstructions (the ceiling)" in page
    assert "rebuilt" in page


def test_features_of_the_set_are_computed_once(small_run, bird_store, evaluated, extraction, monkeypatch):
    split = EvaluationSplit.of(bird_store, "test")
    evaluation = Evaluation(SpeechToImage.load(small_run, "cpu"), split, 0, extraction)
    monkeypatch.setattr(Fidelity, "__call__", lambda *_: pytest.fail("computed again"))
    assert evaluation.real(["lite0"])["lite0"].shape == (9, 1280)
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        evaluation.stored(split.images[:3], ["lite0"])


def test_what_scores_are_means_of_lies_beside_them(evaluated, small_run):
    """By it a stranger recomputes a score, and two models are compared caption by caption."""
    items = load_file(small_run / "evaluation" / "items.safetensors")
    scores = {score["key"]: score for score in evaluated["scores"]}
    keys = {key.rpartition("/")[0] for key in items}
    assert keys >= {"attributes/per_caption", "fakes/map_lite2", "fakes/map_lite0"}
    for key in keys:
        assert items[f"{key}/values"].mean() == pytest.approx(scores[key]["value"])
        assert len(items[f"{key}/numbers"]) == len(items[f"{key}/clusters"]) == len(items[f"{key}/values"])


def test_the_record_says_by_what_it_was_measured(evaluated, small_run):
    assert set(evaluated["extractors"]) == {"lite2", "lite0", "middle", "attributes"}
    assert len(evaluated["extractors"]["lite2"]["sha256"]) == 64
    assert evaluated["model"] == {"name": "run", "sha256": file_digest(small_run / "model" / "weights.safetensors")}
    assert {"s2igan", "torch", "numpy", "torch-fidelity"} <= set(evaluated["environment"])


def test_an_exported_model_is_scored_like_its_run(evaluated, small_run, bird_store, tmp_path, monkeypatch, capsys):
    """Nothing is written into it; its folder of scores is named after it."""
    monkeypatch.chdir(tmp_path)
    exported = shutil.copytree(small_run / "model", tmp_path / "models" / "tiny")
    before = sorted(exported.rglob("*"))
    content = scored(exported, bird_store.directory, max_captions=12)
    assert content["scores"] == evaluated["scores"]
    assert (content["recipe"], content["model"]["name"]) == ("tiny", "tiny")
    assert content["data"]["trained_on"] is None
    assert "Which set the model was trained on is not recorded" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "tiny-evaluation" / "metrics.json").read_text()) == content
    assert sorted(exported.rglob("*")) == before
    named = scored(exported, bird_store.directory, max_captions=2, out=tmp_path / "x")
    assert json.loads((tmp_path / "x" / "metrics.json").read_text()) == named


def test_the_papers_protocol_draws_every_caption_in_batches_and_keeps_the_images(
    small_run, bird_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(generation, "HEARD_AT_ONCE", 4)
    in_memory = []
    plain = generation.draw_samples

    def counted(model, condition, noise):
        in_memory.append(len(noise))
        return plain(model, condition, noise)

    monkeypatch.setattr(generation, "draw_samples", counted)
    content = scored(small_run, bird_store.directory, out=tmp_path, protocol="paper", keep_images=True, max_captions=1)
    assert max(in_memory) <= 4
    split = EvaluationSplit.of(bird_store, "test")
    kinds = ("generated", "real")
    numbers = {kind: sorted(int(p.stem) for p in (tmp_path / "images" / kind).iterdir()) for kind in kinds}
    assert numbers == {"generated": split.utterances.tolist(), "real": split.images.tolist()}
    (fd,) = [score for score in content["scores"] if score["key"] == "distances/fd_lite0"]
    assert fd["protocol"]["captions"] == len(split.utterances) == 18
    assert content["protocol"] == "paper"
    features = load_file(tmp_path / "features.safetensors")
    assert features["generated/numbers"].tolist() == numbers["generated"]
    recomputed = independent_metrics.frechet_of_few(*(features[f"{kind}/lite0"].astype(np.float64) for kind in kinds))
    assert recomputed == pytest.approx(fd["value"], rel=1e-3)
    # torch-fidelity recomputes the score from the images that lie there.
    register()
    found = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "images" / "generated"),
        input2=str(tmp_path / "images" / "real"),
        fid=True,
        feature_extractor="s2igan-lite0",
        cuda=False,
        cache=False,
        save_cpu_ram=True,  # without processes of its own
        verbose=False,
    )
    assert found["frechet_inception_distance"] == pytest.approx(fd["value"], rel=1e-2)


def test_an_image_follows_from_seed_and_utterance_alone(small_run, bird_store, extraction):
    evaluation = Evaluation(SpeechToImage.load(small_run, "cpu"), EvaluationSplit.of(bird_store, "test"), 3, extraction)
    captions = evaluation.split.utterances
    whole = evaluation.draw(captions)
    some = evaluation.draw(captions[[5, 2]])
    np.testing.assert_allclose(some.seen["middle"], whole.of(captions[[5, 2]]).seen["middle"], atol=2e-2)
    assert np.abs(whole.seen["middle"][0] - whole.seen["middle"][1]).max() > 2e-2


def test_a_model_that_learnt_in_lite2_is_not_scored_there(bird_store, capsys):
    image = ImageEncoder(ImageEncoderConfig("efficientnet_lite2", embedding=4), pretrained=False)
    found = Extractors.of(bird_store, image, EvaluationOptions(consistency=True), torch.device("cpu"), QUICK)
    assert not {"lite2", "consistency"} & {extractor.name for extractor in found.all}
    assert "the model was trained with these features" in capsys.readouterr().err


def test_a_missing_run_is_named(tmp_path, bird_store):
    with pytest.raises(UserError, match="nowhere"):
        evaluate(tmp_path / "nowhere", bird_store.directory)
