import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_drawing import ATTRIBUTES, SMALL, TOY

from s2igan.corpora.builtin.bird_drawing import draw_bird
from s2igan.data.dataset import crop_and_flip
from s2igan.errors import UserError
from s2igan.evaluation import attributes
from s2igan.evaluation.attributes import (
    AttributeClassifier,
    attribute_accuracy,
    certainty,
    degrade,
    load_or_train_classifier,
    train_classifier,
)
from s2igan.evaluation.drawings import draw_random


def test_it_learns_from_drawings_and_sees_unseen_ones(toy_classifier: AttributeClassifier):
    pictures, codes = draw_random(TOY, 100, 19, seed=77, jobs=1)
    found = toy_classifier.predict(crop_and_flip(pictures, 16, None))
    assert list(found) == list(ATTRIBUTES)
    for i, name in enumerate(ATTRIBUTES):
        assert (found[name] == codes[:, i]).mean() > 0.9, name
    assert set(toy_classifier.record["held_out_accuracy"]) == set(ATTRIBUTES)
    assert min(toy_classifier.record["held_out_accuracy"].values()) > 0.85


def test_other_sizes_are_resized_and_batches_make_no_difference(toy_classifier: AttributeClassifier):
    pictures, codes = draw_random(TOY, 30, 64, seed=78, jobs=1)
    images = crop_and_flip(pictures, 64, None)
    found = toy_classifier.predict(images)
    assert (found["colour"] == codes[:, 0]).mean() > 0.9
    np.testing.assert_array_equal(found["extent"], toy_classifier.predict(images, batch_size=7)["extent"])


def test_the_cache_is_used(toy_classifier: AttributeClassifier, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(attributes, "train_classifier", fail)
    again = load_or_train_classifier(TOY, SMALL)
    for name, weight in toy_classifier.state_dict().items():
        torch.testing.assert_close(weight, again.state_dict()[name], rtol=0, atol=0)
    assert again.record == toy_classifier.record
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    assert all((again.predict(images)[name] == toy_classifier.predict(images)[name]).all() for name in ATTRIBUTES)


@pytest.mark.parametrize("change", ["settings", "drawing"])
def test_a_changed_key_trains_anew(tmp_path: Path, toy_classifier: AttributeClassifier, monkeypatch, change: str):
    trained: list[str] = []

    def note(*_: object, **__: object) -> AttributeClassifier:
        trained.append(change)
        return toy_classifier

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(attributes, "train_classifier", note)
    load_or_train_classifier(TOY, SMALL)
    config = dataclasses.replace(SMALL, noise=0.05) if change == "settings" else SMALL
    drawing = dataclasses.replace(TOY, draw=draw_bird) if change == "drawing" else TOY
    load_or_train_classifier(drawing, config)
    assert trained == [change, change]


def test_a_damaged_cache_is_named(tmp_path: Path, toy_classifier: AttributeClassifier, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(attributes, "train_classifier", lambda *_, **__: toy_classifier)
    load_or_train_classifier(TOY, SMALL)
    weights = next(tmp_path.rglob("weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(UserError, match="weights"):
        load_or_train_classifier(TOY, SMALL)


def test_training_is_repeatable_and_leaves_the_global_random_state_alone():
    config = dataclasses.replace(SMALL, drawings=64, held_out=20, epochs=1, dropout=0.5)
    before = torch.random.get_rng_state()
    first = train_classifier(TOY, config)
    assert (torch.random.get_rng_state() == before).all()
    second = train_classifier(TOY, config)
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(weight, second.state_dict()[name], rtol=0, atol=0)


def test_degrading_keeps_the_mean_and_is_bounded():
    rng = np.random.default_rng(0)
    images = torch.zeros(400, 3, 16, 16)
    noisy = degrade(images, SMALL, rng)
    spread = noisy.std(dim=(1, 2, 3))
    assert spread.max() < 1.15 * SMALL.noise
    assert spread.min() < 0.1 * SMALL.noise
    assert abs(noisy.mean()) < 1e-3
    edge = torch.zeros(400, 3, 16, 16)
    edge[..., 8:] = 1.0
    still = degrade(edge, dataclasses.replace(SMALL, noise=0.0), rng)
    changed = (still - edge).abs().amax(dim=(1, 2, 3)) > 0
    assert changed.float().mean() == pytest.approx(SMALL.blur_share, abs=0.08)


def test_codes_name_values_and_unknown_ones():
    codes = AttributeClassifier(ATTRIBUTES, SMALL).codes([{"colour": "blue", "extent": "large"}, {"colour": "red"}])
    np.testing.assert_array_equal(codes["colour"], [2, 0])
    np.testing.assert_array_equal(codes["extent"], [1, -1])


# ------------------------------------------------------------------------------------------------------------- accuracy


def test_accuracy_asks_only_what_is_mentioned():
    predictions = {"colour": np.array([0, 1, 2, 0]), "extent": np.array([0, 0, 1, 1])}
    truths = {"colour": np.array([0, 1, 0, 1]), "extent": np.array([1, 1, 1, 1])}
    mentions = [("colour",), ("colour", "extent"), ("colour",), ()]
    found = attribute_accuracy(predictions, truths, mentions, {"colour": 3, "extent": 2})
    assert found["colour"].n == 3
    assert found["colour"].accuracy == pytest.approx(2 / 3)
    assert found["colour"].chance == pytest.approx(1 / 3)
    assert found["extent"].n == 1
    assert found["extent"].accuracy == 0.0
    assert attribute_accuracy(predictions, truths, [()] * 4, {"colour": 3, "extent": 2}) == {}


def test_shuffled_is_the_accuracy_over_all_pairings():
    rng = np.random.default_rng(0)
    p, t = rng.integers(0, 3, 40), rng.choice(3, 40, p=[0.7, 0.2, 0.1])
    found = attribute_accuracy({"colour": p}, {"colour": t}, [("colour",)] * 40, {"colour": 3})["colour"]
    assert found.shuffled == pytest.approx((p[:, None] == t[None, :]).mean())
    assert found.shuffled != pytest.approx(found.accuracy)


EACH_ALONE = np.arange(200)


def test_normalised_accuracy_is_the_quotient_and_none_without_a_ceiling_above_chance():
    right, real = np.arange(200) < 100, np.arange(200) < 180
    found = certainty(right, real, 0.1, EACH_ALONE)
    assert found.normalised == pytest.approx(0.4 / 0.8)
    assert found.normalised_interval[0] < found.normalised < found.normalised_interval[1]
    assert found.interval[0] < 0.5 < found.interval[1]
    assert certainty(real, right, 0.1, EACH_ALONE).normalised == pytest.approx(2.0)
    none = certainty(right, np.zeros(200, bool), 0.1, EACH_ALONE)
    assert (none.normalised, none.normalised_interval) == (None, None)
    assert none.interval == found.interval


def test_captions_of_one_species_do_not_make_an_accuracy_surer():
    """Ten species, each always right or always wrong: 200 captions say as much as ten."""
    species = EACH_ALONE // 20
    right, real = species < 5, np.ones(200, bool)

    def width(labels):
        low, high = certainty(right, real, 0.1, labels).interval
        return high - low

    assert width(EACH_ALONE) == pytest.approx(2 * 1.96 * (0.25 / 200) ** 0.5, rel=0.15)
    assert width(species) == pytest.approx(2 * 1.96 * (0.25 / 10) ** 0.5, rel=0.15)
