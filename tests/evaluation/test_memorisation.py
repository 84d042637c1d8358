"""A planted memoriser is found by what `s2igan evaluate` reports, and who draws anew is not."""

import itertools

import numpy as np
import pytest
from PIL import Image

from s2igan.corpora.builtin.bird_drawing import draw_bird
from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import species
from s2igan.data.dataset import crop_and_flip
from s2igan.evaluation import evaluate as evaluate_module
from s2igan.evaluation import memorisation
from s2igan.evaluation.attributes import ClassifierConfig
from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.generation import Evaluation
from s2igan.evaluation.memorisation import Middle, at, cell_means, copies, nearest_middles, nearest_scores
from s2igan.evaluation.options import EvaluationOptions
from s2igan.pipeline import SpeechToImage, to_pixels
from small_birds import fakes_of

SIDE = 64


def noisy(pictures, rng):
    return np.clip(pictures + rng.normal(0, 8, pictures.shape), 0, 255).astype(np.uint8)


def blurred(pictures, rng):
    small = [Image.fromarray(picture).resize((24, 24), Image.Resampling.BILINEAR) for picture in pictures]
    return np.stack([np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for picture in small])


def paler(pictures, rng):
    return np.clip(0.8 * pictures + 30, 0, 255).astype(np.uint8)


def tinted(pictures, rng):
    return np.clip(pictures * (1.1, 0.95, 0.85), 0, 255).astype(np.uint8)


def mirrored(pictures, rng):
    return np.ascontiguousarray(pictures[:, :, ::-1])


def shifted(pictures, rng):
    """By up to eight pixels, the edge repeated: more than a crop of training can be."""
    found = []
    for picture in pictures:
        down, across = rng.integers(0, 17, 2)
        padded = np.pad(picture, ((8, 8), (8, 8), (0, 0)), mode="edge")
        found.append(padded[down : down + SIDE, across : across + SIDE])
    return np.stack(found)


def all_at_once(pictures, rng):
    return noisy(blurred(tinted(mirrored(shifted(pictures, rng), rng), rng), rng), rng)


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """As stored: 20 individuals each of two training species, 20 more of them, and 20 of a third."""
    first, second, third = species(BIRDS, 14)[-3:]
    sets = {"training": (first, second), "new individuals": (first, second), "test": (third,)}
    number = itertools.count()
    return {
        name: np.stack([draw_bird(facts, next(number), 76) for facts in of for _ in range(20)])
        for name, of in sets.items()
    }


def middles(pictures):
    return Middle()(pictures)["middle"]


def share(drawn, pictures) -> tuple[float, bool]:
    training = np.arange(len(drawn["training"]))
    known, real = (to_pixels(crop_and_flip(drawn[name], SIDE, None)) for name in ("training", "test"))
    score = copies(
        nearest_middles(middles(pictures), drawn["training"], training),
        nearest_middles(middles(real), drawn["training"], training),
        nearest_middles(middles(known), drawn["training"], training, itself=training),
        {},
    )
    return score.value, score.protocol["memorised"]


@pytest.mark.parametrize("change", [noisy, blurred, paler, tinted, mirrored, shifted, all_at_once])
def test_slightly_changed_training_pictures_are_found(drawn, change):
    rng = np.random.default_rng(0)
    crops = to_pixels(crop_and_flip(np.concatenate([drawn["training"]] * 3), SIDE, rng))
    found, memorised = share(drawn, change(crops, rng))
    assert found > 0.8
    assert memorised is True


def test_a_model_that_copies_every_fifth_picture_is_found(drawn):
    rng = np.random.default_rng(0)
    some = np.concatenate([drawn["training"][::5], drawn["new individuals"]])
    found, memorised = share(drawn, noisy(to_pixels(crop_and_flip(some, SIDE, rng)), rng))
    assert found > 0.05
    assert memorised is True


@pytest.mark.parametrize("kind", ["new individuals", "test"])
def test_who_draws_anew_copies_nothing(drawn, kind):
    """A model that learnt species draws others of them; that is not to know pictures by heart."""
    found, memorised = share(drawn, to_pixels(crop_and_flip(drawn[kind], SIDE, None)))
    assert found <= 0.05
    assert memorised is False


def test_a_picture_that_is_not_to_find_itself_finds_another(drawn):
    training = np.arange(40)
    pictures = to_pixels(crop_and_flip(drawn["training"], SIDE, None))
    for shown in (pictures, mirrored(pictures, None)):
        np.testing.assert_allclose(nearest_middles(middles(shown), drawn["training"], training), 0.0, atol=5e-3)
    assert nearest_middles(middles(pictures), drawn["training"], training, itself=training).min() > 0.05


def test_a_model_that_draws_training_pictures_is_reported(small_run, bird_store, tmp_path, monkeypatch):
    """Through `evaluate`, as a user runs it."""
    monkeypatch.setattr(evaluate_module, "LEAST_TO_COPY", 5)
    trained = np.unique(bird_store.image_index[bird_store.split_indices("train")])
    rng = np.random.default_rng(0)

    def from_memory(self, condition, noise):
        chosen = rng.choice(trained, len(condition.embedding))
        return noisy(to_pixels(crop_and_flip(bird_store.images[chosen], 32, rng)), rng)

    monkeypatch.setattr(SpeechToImage, "draw", from_memory)
    quick = ClassifierConfig(image_size=16, width=4, drawings=64, held_out=20, epochs=1, batch_size=32)
    content = evaluate(
        small_run, bird_store.directory, EvaluationOptions(max_captions=12), classifier=quick, device="cpu"
    )
    (score,) = [score for score in content["scores"] if score["key"] == "memorisation/copies"]
    assert score["value"] > 0.5
    assert score["protocol"]["memorised"] is True
    assert score["ceiling"] == 0.0


def test_the_distance_is_that_to_the_nearest_window_by_hand(drawn):
    first, second = (drawn["training"][n].astype(np.float64) for n in (0, 30))

    def by_hand(picture, top, left):
        blocks = picture[top : top + 48, left : left + 48].reshape(8, 6, 8, 6, 3).mean(axis=(1, 3))
        return (blocks - blocks.mean(axis=(0, 1))) / blocks.std(axis=(0, 1))

    looked_for = by_hand(first[6:70, 6:70], 8, 8)
    expected = min(
        np.sqrt(((looked_for - by_hand(other, top, left)) ** 2).mean())
        for other in (second, second[:, ::-1])
        for top in range(29)
        for left in range(29)
    )
    middle = middles(to_pixels(crop_and_flip(drawn["training"][[0]], SIDE, None)))
    np.testing.assert_allclose(middle.reshape(3, 8, 8), looked_for.transpose(2, 0, 1), atol=1e-4)
    # the closest places are tried at every second pixel first
    assert nearest_middles(middle, drawn["training"], np.array([30]))[0] == pytest.approx(expected, abs=1e-3)


def test_many_training_pictures_are_looked_at_in_parts(drawn, monkeypatch):
    training = np.arange(40)
    asked = middles(to_pixels(crop_and_flip(drawn["new individuals"], SIDE, None)))
    whole = nearest_middles(asked, drawn["training"], training)
    monkeypatch.setattr(memorisation, "AT_ONCE", 7)
    monkeypatch.setattr(memorisation, "PAIRS_AT_ONCE", 11)
    np.testing.assert_allclose(nearest_middles(asked, drawn["training"], training), whole, atol=1e-4)


def test_flat_pictures_have_no_direction():
    import torch

    def rows(pictures):
        return at(cell_means(pictures, 8), 8, 0, 0)

    assert (rows(torch.full((2, 3, 76, 76), 7.0)) == 0).all()
    torch.testing.assert_close(rows(255 * torch.rand(4, 3, 76, 76)).pow(2).mean(dim=1), torch.ones(4))


def test_a_training_picture_is_nearest_to_itself_also_mirrored(bird_store, model, extraction):
    evaluation = Evaluation(model, EvaluationSplit.of(bird_store, "test"), 0, extraction)
    trained = bird_store.split_indices("train")
    pictures = to_pixels(crop_and_flip(bird_store.images[bird_store.image_index[trained]], 32, None))
    for shown in (pictures, np.ascontiguousarray(pictures[:, :, ::-1])):
        scores, _ = nearest_scores(evaluation, fakes_of(evaluation, trained, shown), evaluation.real(["lite2"]), {})
        assert [score.key.rpartition("_")[2] for score in scores] == ["p1", "p5", "p50"]
        assert all(score.value < 0.1 < score.ceiling for score in scores)
        assert {score.unit for score in scores} == {"distance"}
