"""Who draws what is said is found by it, and who draws something else is not."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from s2igan.evaluation import consistency, independent_encoders
from s2igan.evaluation import evaluate as evaluate_module
from s2igan.evaluation.consistency import (
    consistency_group,
    diversity_group,
    draw_mismatching,
    mean_pairwise_distance,
    r_precision,
)
from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.evaluation.independent_encoders import IndependentEncoders, settings
from s2igan.evaluation.options import EvaluationOptions
from s2igan.files import cache_folder
from s2igan.pipeline import SpeechToImage
from s2igan.training.frozen import speech_embeddings
from small_birds import SIDE
from tiny_corpus import tiny_recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoders(bird_store) -> IndependentEncoders:
    return IndependentEncoders.load_or_train(bird_store, CPU, tiny_recipe(2).sen)


@pytest.fixture
def evaluation(model, bird_store, extraction) -> Evaluation:
    return Evaluation(model, EvaluationSplit.of(bird_store, "test"), 0, extraction)


def test_they_are_trained_once_for_a_set(encoders, bird_store, monkeypatch):
    monkeypatch.setattr(independent_encoders, "train_run", lambda *_, **__: pytest.fail("trained again"))
    again = IndependentEncoders.load_or_train(bird_store, CPU, tiny_recipe(2).sen)
    assert again.images.facts == encoders.images.facts
    for name, weight in encoders.speech.state_dict().items():
        torch.testing.assert_close(weight, again.speech.state_dict()[name], rtol=0, atol=0)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        IndependentEncoders.load_or_train(bird_store, CPU, tiny_recipe(3).sen)
    assert list((cache_folder(None) / "independent_encoders").iterdir())


def test_they_have_another_network_than_any_model():
    assert settings(64).image.backbone == "efficientnet_lite2"
    assert settings(256).image_size == 256


def test_images_that_lie_where_their_utterances_do_are_found(encoders, evaluation, bird_store):
    """Embeddings are planted: those of the utterances themselves; then those of utterances of other classes."""
    split = evaluation.split
    speech = speech_embeddings(bird_store, encoders.speech, split.utterances, device=CPU).numpy()
    first = np.unique(bird_store.image_index[split.utterances], return_index=True)[1]
    found = {}
    for name, shift in (("right", 0), ("wrong", 6)):  # six utterances a class
        fakes = Fakes(split.utterances, {"consistency": np.roll(speech, shift, axis=0)}, SIDE, 0)
        group = consistency_group(evaluation, encoders, speech, fakes, {"consistency": speech[first]})
        found[name] = {score.key: score for score in group.scores}
    right, wrong = found["right"], found["wrong"]
    assert right["consistency/r_precision"].value == 1.0
    assert right["consistency/r_precision"].chance == 1 / 13  # twelve utterances are of other classes
    assert wrong["consistency/r_precision"].value < 0.5
    assert right["consistency/recall@1/speech_to_image/image"].value == 1.0
    assert wrong["consistency/recall@1/speech_to_image/image"].value == 0.0
    assert wrong["consistency/recall@1/image_to_speech/class"].value == 0.0
    assert right["consistency/recall@1/speech_to_image/image"].chance == pytest.approx(1 / 18)
    assert {score.ceiling_name for score in right.values()} == {"real images"}
    assert right["consistency/r_precision"].protocol["draws"] == 10


def test_a_picture_of_several_captions_is_right_for_each(encoders, evaluation, bird_store):
    """Encoders that tell all pictures apart find every real image: no ceiling is below 1, however often it is asked."""
    split = evaluation.split
    picture = np.searchsorted(split.images, bird_store.image_index[split.utterances])
    assert len(set(picture.tolist())) < len(picture)
    known = np.eye(len(split.images), dtype=np.float32)
    fakes = Fakes(split.utterances, {"consistency": known[picture]}, SIDE, 0)
    group = consistency_group(evaluation, encoders, known[picture], fakes, {"consistency": known})
    ceilings = {score.key: score.ceiling for score in group.scores if "/image" in score.key}
    assert len(ceilings) > 2
    assert ceilings == dict.fromkeys(ceilings, 1.0)


def test_r_precision_counts_ties_as_the_expectation():
    similarity = np.array([[0.9, 0.1, 0.2, 0.3], [0.5, 0.5, 0.5, 0.9], [0.4, 0.4, 0.4, 0.4]])
    mismatching = np.array([[[1, 2, 3], [0, 2, 3], [0, 1, 3]], [[1, 2, 3], [0, 2, 2], [0, 1, 3]]])
    found = r_precision(similarity, np.array([0, 1, 2]), mismatching)
    np.testing.assert_allclose(found, [[1, 0, 1 / 4], [1, 1 / 4, 1 / 4]])


def test_a_guess_is_right_once_in_a_hundred():
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(400, 400))
    other = np.arange(400)[:, None] // 2 != np.arange(400)[None] // 2
    choices = np.stack([draw_mismatching(other, 99, rng) for _ in range(4)])
    assert r_precision(similarity, np.arange(400), choices).mean() == pytest.approx(0.01, abs=0.008)


def test_mismatching_utterances_are_of_other_classes_and_differ():
    classes = np.repeat(np.arange(4), 3)
    drawn = draw_mismatching(classes[:, None] != classes[None], 5, np.random.default_rng(0))
    assert (classes[drawn] != classes[:, None]).all()
    assert all(len(set(row)) == 5 for row in drawn.tolist())


def test_diversity_is_nothing_where_noise_makes_no_difference(evaluation, monkeypatch):
    real = evaluation.real(["lite2"])
    fakes = Fakes(evaluation.split.utterances, {}, SIDE, 0)
    (score,) = diversity_group(evaluation, fakes, real).scores
    assert score.value > 0
    assert score.ceiling > 0
    assert (score.protocol["descriptions"], score.protocol["images_per_description"]) == (18, 4)
    plain = SpeechToImage.draw
    monkeypatch.setattr(SpeechToImage, "draw", lambda self, condition, noise: plain(self, condition, 0 * noise))
    (same,) = diversity_group(evaluation, fakes, real).scores
    assert same.value < 0.05 * score.value
    assert same.ceiling == score.ceiling


def test_mean_pairwise_distance():
    assert mean_pairwise_distance(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)


def test_through_evaluate(small_run, bird_store, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_module, "drawn_set_of", lambda _: None)
    monkeypatch.setattr(consistency, "MOST", 4)
    options = EvaluationOptions(max_captions=6, consistency=True, keep_images=True)
    encoders = tiny_recipe(2).sen
    content = evaluate(small_run, bird_store.directory, options, out=tmp_path, encoders=encoders, device="cpu")
    (score,) = [score for score in content["scores"] if score["key"] == "consistency/r_precision"]
    assert score["protocol"]["captions"] == 4
    assert score["protocol"]["mismatching"] == 12
    assert score["protocol"]["sha256"] == content["extractors"]["consistency"]["sha256"]
    # it follows from what is left beside the record
    kept, items = (load_file(tmp_path / name) for name in ("features.safetensors", "items.safetensors"))
    spoken = kept["speech/consistency"] / np.linalg.norm(kept["speech/consistency"], axis=1, keepdims=True)
    classes = bird_store.utterance_class[kept["speech/numbers"]]
    expected = []
    for number in items["consistency/r_precision/numbers"]:
        cosines = spoken @ kept["generated/consistency"][kept["generated/numbers"] == number][0]
        (own,) = np.flatnonzero(kept["speech/numbers"] == number)
        expected.append(float(cosines[own] > cosines[classes != classes[own]].max()))
    np.testing.assert_array_equal(items["consistency/r_precision/values"], expected)
    assert score["value"] == np.mean(expected)
