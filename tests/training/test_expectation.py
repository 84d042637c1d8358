"""What a set of some size lets one expect."""

import json

import pytest

from s2igan.training.expectation import Expectation
from s2igan.training.train import train_run
from tiny_corpus import tiny_recipe


@pytest.mark.parametrize(
    ("pictures", "recordings", "level"),
    [
        (2, 2, "finding"),
        (499, 100_000, "finding"),
        (5_000, 1_999, "finding"),
        (500, 2_000, "colours"),
        (1_499, 100_000, "colours"),
        (5_000, 5_999, "colours"),
        (1_500, 6_000, "shapes"),
    ],
)
def test_both_pictures_and_recordings_count(pictures, recordings, level):
    assert Expectation(pictures, recordings, 0).level == level


def test_it_says_what_it_counted_and_what_more_needs():
    few = Expectation(100, 250, 0).sentence
    assert few.startswith("100 pictures to train on, with 2.5 recordings of each: expect speech that finds its picture")
    assert "Colours need about 500 pictures and 2,000 recordings, by estimate." in few
    assert Expectation(768, 4608, 48).sentence.startswith("768 pictures of 48 classes to train on, with 6.0 recordings")
    assert "colours follow the words, and hardly shapes" in Expectation(768, 4608, 48).sentence
    assert "named shapes and colours" in Expectation(1920, 11_520, 120).sentence
    for counts in ((100, 250), (768, 4608), (1920, 11_520)):
        assert Expectation(*counts, 0).sentence.count(". ") <= 1  # one or two sentences


def test_only_the_training_split_is_counted_and_the_run_knows(store, tmp_path):
    assert Expectation.of(store) == Expectation(pictures=16, recordings=32, classes=4)
    run = train_run(tiny_recipe(0), data=store.directory, out=tmp_path / "run", device="cpu", stage="1")
    config = json.loads((run / "config.json").read_text())
    assert config["expect"] == "finding"
    del config["expect"]  # a run that an earlier version began
    (run / "config.json").write_text(json.dumps(config))
    train_run(tiny_recipe(0), data=store.directory, out=run, device="cpu", stage="1", resume=True)
