import numpy as np
import pytest

from s2igan.evaluation.embedding_scores import embedding_scores

CLASSES, IMAGES, CAPTIONS = 6, 5, 3


def unit_rows(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _layout() -> tuple[np.ndarray, np.ndarray]:
    """The image of each utterance and the class of each image."""
    return np.repeat(np.arange(CLASSES * IMAGES), CAPTIONS), np.repeat(np.arange(CLASSES), IMAGES)


def _scores(speech: np.ndarray, images: np.ndarray, **changes) -> dict:
    utterance_image, image_class = _layout()
    parts = {
        "speech": speech,
        "images": images,
        "utterance_image": utterance_image,
        "image_class": image_class,
        "disagreement": None,
    }
    scores = embedding_scores(**(parts | changes), protocol={"split": "test"}, seed=0)
    return {score.key: score for score in scores}


def test_embeddings_that_know_the_image_score_one():
    utterance_image, image_class = _layout()
    rng = np.random.default_rng(0)
    centre = np.eye(CLASSES, 40)[image_class]
    images = unit_rows(centre + 0.3 * np.eye(len(image_class), 40, k=CLASSES))
    scores = _scores(images[utterance_image] + 0.001 * rng.normal(size=(90, 40)), images)
    assert scores["sen/map"].value == 1.0
    assert scores["sen/map_all"].value == 1.0
    assert scores["sen/recall@1/speech_to_image/image"].value == 1.0
    assert scores["sen/recall@1/image_to_speech/image"].value == 1.0
    assert scores["sen/map"].std == 0.0


def test_embeddings_that_know_the_class_only():
    """Then the image is one of five that tie: found first with 1/5, among the first five surely."""
    utterance_image, image_class = _layout()
    images = np.eye(CLASSES)[image_class]
    scores = _scores(images[utterance_image], images)
    assert scores["sen/map"].value == pytest.approx(1.0)
    assert scores["sen/recall@1/speech_to_image/class"].value == pytest.approx(1.0)
    assert scores["sen/recall@1/speech_to_image/image"].value == pytest.approx(1 / 5)
    assert scores["sen/recall@5/speech_to_image/image"].value == pytest.approx(1.0)
    # An image has three of the fifteen utterances of its class.
    assert scores["sen/recall@1/image_to_speech/image"].value == pytest.approx(3 / 15)


def test_noise_scores_chance():
    rng = np.random.default_rng(1)
    runs = [_scores(rng.normal(size=(90, 8)), rng.normal(size=(30, 8))) for _ in range(10)]
    scores = runs[0]
    for key, score in scores.items():
        assert np.mean([run[key].value for run in runs]) == pytest.approx(score.chance, abs=0.06), key
    assert scores["sen/recall@1/speech_to_image/class"].chance == pytest.approx(1 / 6)
    assert scores["sen/recall@1/image_to_speech/class"].chance == pytest.approx(1 / 6)
    assert scores["sen/recall@5/speech_to_image/image"].chance == pytest.approx(5 / 30)
    assert scores["sen/map"].chance == pytest.approx(scores["sen/map_all"].chance, abs=0.02)


def test_the_directions_are_not_exchanged():
    """All utterances sit on image 0, which is nearest to all; images rank utterances that all tie."""
    images = unit_rows(np.eye(30) + 0.1)
    scores = _scores(np.repeat(images[:1], 90, axis=0), images)
    assert scores["sen/recall@1/speech_to_image/class"].value == pytest.approx(1 / 6)
    assert scores["sen/recall@1/speech_to_image/image"].value == pytest.approx(1 / 30)
    assert scores["sen/recall@1/image_to_speech/image"].value == pytest.approx(3 / 90)


def test_the_oracle_ranks_by_disagreement():
    """Statements that are true of one's class and the next class only: ten images tie, five are right."""
    utterance_image, image_class = _layout()
    label = image_class[utterance_image]
    ahead = (image_class[None, :] - label[:, None]) % CLASSES
    rng = np.random.default_rng(2)
    scores = _scores(rng.normal(size=(90, 4)), rng.normal(size=(30, 4)), disagreement=(ahead > 1).astype(np.int64))
    expected = scores["sen/recall@1/speech_to_image/class"]
    assert expected.ceiling == pytest.approx(0.5)
    assert expected.ceiling_name == "oracle"
    assert scores["sen/recall@1/speech_to_image/image"].ceiling == pytest.approx(0.1)
    # Closed form of AP with 5 right ones among 10 tied.
    harmonic = sum(1 / i for i in range(1, 11))
    ap = (1 / 10) * (harmonic + (4 / 9) * (10 - harmonic))
    assert scores["sen/map"].ceiling == pytest.approx(ap)
    assert scores["sen/map_all"].ceiling == pytest.approx(ap)


def test_without_classes_only_images_are_asked_for():
    rng = np.random.default_rng(3)
    scores = _scores(rng.normal(size=(90, 8)), rng.normal(size=(30, 8)), image_class=None)
    assert set(scores) == {
        f"sen/recall@{k}/{d}/image" for k in (1, 5, 10) for d in ("speech_to_image", "image_to_speech")
    }
    assert all(score.ceiling is None for score in scores.values())
    assert [key for key, score in scores.items() if score.headline] == ["sen/recall@10/speech_to_image/image"]


def test_images_that_nobody_describes_are_in_the_gallery_but_ask_nothing():
    utterance_image, _ = _layout()
    kept = utterance_image != 29
    images = np.eye(30)
    scores = _scores(images[utterance_image[kept]], images, utterance_image=utterance_image[kept])
    assert scores["sen/recall@1/image_to_speech/image"].protocol["queries"] == 29
    assert scores["sen/recall@1/speech_to_image/image"].protocol["gallery"] == 30
    assert scores["sen/recall@1/image_to_speech/image"].value == 1.0


def test_the_interval_of_map_draws_other_classes_and_each_utterance_is_kept():
    rng = np.random.default_rng(6)
    utterance_image, image_class = _layout()
    numbers = 1000 + np.arange(90)
    images = np.eye(CLASSES, 40)[image_class] + 0.4 * rng.normal(size=(30, 40))
    scores = _scores(images[utterance_image] + 0.4 * rng.normal(size=(90, 40)), images, numbers=numbers)
    items = scores["sen/map_all"].items
    np.testing.assert_array_equal(items.numbers, numbers)
    np.testing.assert_array_equal(items.clusters, image_class[utterance_image])
    assert items.values.mean() == pytest.approx(scores["sen/map_all"].value)
    of_class = items.values.reshape(CLASSES, -1).mean(axis=1)
    low, high = scores["sen/map"].interval
    assert of_class.min() <= low < scores["sen/map"].value < high <= of_class.max()
    spread = of_class.std() / np.sqrt(CLASSES)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.25)


def test_seed_decides_the_queries():
    rng = np.random.default_rng(4)
    speech, images = rng.normal(size=(90, 8)), rng.normal(size=(30, 8))
    assert _scores(speech, images) == _scores(speech, images)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(5)
    speech, images = rng.normal(size=(90, 8)), rng.normal(size=(30, 8))
    whole = _scores(speech, images)
    monkeypatch.setattr("s2igan.evaluation.embedding_scores.QUERIES_AT_ONCE", 7)
    for key, score in _scores(speech, images).items():
        assert score.value == pytest.approx(whole[key].value, abs=1e-12)
