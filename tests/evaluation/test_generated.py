import numpy as np
import pytest
from small_birds import SIDE, KnownPictures

from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES
from s2igan.data.dataset import crop_and_flip
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.generated import attribute_group, distance_group, fake_recall_group, paper_map_group
from s2igan.evaluation.generation import Evaluation, Fakes, draw_pictures
from s2igan.pipeline import to_pixels


@pytest.fixture(scope="module")
def split(bird_store) -> EvaluationSplit:
    return EvaluationSplit.of(bird_store, "test")


@pytest.fixture
def evaluation(model, split) -> Evaluation:
    return Evaluation(model, split, 0)


def real_pictures(store, captions: np.ndarray) -> np.ndarray:
    """The pictures that a perfect generator would draw: those that the captions describe."""
    return to_pixels(crop_and_flip(store.images[store.image_index[captions]], SIDE, None))


def test_a_perfect_generator_reaches_the_ceiling(bird_store, split):
    classifier = KnownPictures(bird_store)
    captions = split.utterances
    perfect = attribute_group(classifier, split, Fakes(captions, real_pictures(bird_store, captions), 0))
    assert {score.value for score in perfect.scores} == {1.0}
    assert {score.ceiling for score in perfect.scores} == {1.0}
    blank = attribute_group(classifier, split, Fakes(captions, np.zeros((len(captions), SIDE, SIDE, 3), np.uint8), 0))
    assert all(score.value < 0.7 for score in blank.scores if score.key == "attributes/mean")
    by_key = {score.key: score for score in blank.scores}
    for score in blank.scores[1:]:
        # Pictures that are all alike score the same however they are dealt out.
        assert score.value == pytest.approx(score.protocol["shuffled"])
        assert score.chance == 1 / len(ATTRIBUTES[score.key.partition("/")[2]])
    mentioned = sum("belly_colour" in bird_store.mentions(int(u)) for u in captions)
    assert by_key["attributes/belly_colour"].protocol["n"] == mentioned
    assert by_key["attributes/mean"].value == pytest.approx(np.mean([score.value for score in blank.scores[1:]]))


def test_pictures_follow_seed_and_utterance_in_the_order_asked_for(model, bird_store):
    captions = np.resize(np.random.default_rng(0).permutation(len(bird_store)), 70)
    pictures = draw_pictures(model, bird_store, captions, seed=1)
    assert pictures.shape == (70, SIDE, SIDE, 3)
    np.testing.assert_array_equal(pictures, draw_pictures(model, bird_store, captions, seed=1))
    assert not (pictures == draw_pictures(model, bird_store, captions, seed=2)).all(axis=(1, 2, 3)).any()
    same = draw_pictures(model, bird_store, np.repeat(captions[:1], 3), seed=1)
    assert not (same[0] == same[1]).all()
    assert np.abs(same[0].astype(int) - pictures[0]).max() <= 1
    alone = draw_pictures(model, bird_store, captions[:1], seed=1)
    assert np.abs(alone[0].astype(int) - pictures[0]).max() <= 1


def test_the_papers_map_of_perfect_fakes_and_of_noise(bird_store, evaluation, monkeypatch):
    rng = np.random.default_rng(0)
    pictures = {
        "perfect": lambda captions: real_pictures(bird_store, captions),
        "noise": lambda captions: rng.integers(0, 256, (len(captions), SIDE, SIDE, 3), dtype=np.uint8),
    }
    values = {}
    for kind, draw in pictures.items():

        def fake_draw(self, captions, *, noise=0, draw=draw):
            return Fakes(captions, draw(captions), self.seed + noise)

        monkeypatch.setattr(Evaluation, "draw", fake_draw)
        (values[kind],) = paper_map_group(evaluation, evaluation.real_features(evaluation.split.images, SIDE)).scores
    assert values["perfect"].value > 0.8  # the query's own picture is in the gallery
    assert values["perfect"].value > values["noise"].value + 0.2
    assert values["noise"].ceiling > values["noise"].value
    protocol = values["noise"].protocol
    assert (protocol["queries"], protocol["gallery"]) == (6, 12)
    assert values["noise"].chance == pytest.approx(values["perfect"].chance)


def test_fake_recall_of_perfect_fakes(bird_store, evaluation):
    captions = evaluation.split.utterances
    fakes = Fakes(captions, real_pictures(bird_store, captions), 0)
    real, features = evaluation.real_features(evaluation.split.images, SIDE), evaluation.fake_features(fakes)
    group = fake_recall_group(evaluation, fakes, real, features)
    assert [score.value for score in group.scores] == [1.0] * 4
    # Nine images with two fakes each: the first of eighteen is one's own with 2/18.
    assert group.scores[0].chance == pytest.approx(2 / 18)
    group = fake_recall_group(evaluation, fakes, real, np.roll(features, 2, axis=0))
    assert group.scores[0].value < 0.5
    assert group.scores[0].protocol["query_list"] is None


def test_distances_of_real_pictures_are_nothing(bird_store, evaluation):
    captions = evaluation.split.utterances[::2]
    same = Fakes(captions, real_pictures(bird_store, captions), 0)
    noise = np.random.default_rng(0).integers(0, 256, same.pictures.shape, dtype=np.uint8)
    distances = {}
    for kind, fakes in (("same", same), ("noise", Fakes(captions, noise, 0))):
        real = evaluation.real_features(evaluation.split.images, SIDE)
        group = distance_group(evaluation, fakes, real, evaluation.fake_features(fakes))
        distances[kind] = {score.key: score for score in group.scores}
    assert distances["same"]["distances/fd_lite0"].value == pytest.approx(0.0, abs=1e-2)
    for key in ("distances/fd_lite0", "distances/kd_lite0"):
        score = distances["noise"][key]
        assert score.value > score.ceiling > distances["same"][key].value
        assert score.unit == "distance"
        assert score.chance is None
        assert "Inception" in score.protocol["comparable"]
    assert distances["noise"]["distances/fd_lite0"].protocol["training_images"] == 6
