import json
import re

import numpy as np
import pytest
from toy_drawing import draw_square

from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES
from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import VOICES_OF_SPLIT, fill
from s2igan.corpora.registry import drawn_set
from s2igan.data.manifest import SPLITS
from s2igan.errors import UserError
from s2igan.evaluation import figure3
from s2igan.evaluation.drawings import drawn_set_with
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.figure3 import (
    Spoken,
    change_word,
    changed_voice,
    figure3_group,
    followed,
    shown,
    stayed,
    write_changed,
)
from s2igan.evaluation.generation import Evaluation
from s2igan.speech import parse_voice
from small_birds import SIDE, KnownPictures


@pytest.fixture
def evaluation(model, bird_store) -> Evaluation:
    return Evaluation(model, EvaluationSplit.of(bird_store, "test"), 0)


def test_the_article_fits():
    assert fill("a bird with a {} belly", "red") == "a bird with a red belly"
    assert fill("a bird with a {} belly", "orange") == "a bird with an orange belly"
    assert fill("a bird with {} wings", "orange") == "a bird with orange wings"


@pytest.mark.parametrize("split", SPLITS)
def test_figure_3_is_spoken_by_a_voice_that_no_training_hears(split):
    voice = changed_voice(BIRDS, split).removeprefix("espeak:")
    assert voice not in VOICES_OF_SPLIT["train"]
    assert (voice in VOICES_OF_SPLIT["test"]) is (split == "test"), "choices hear others"


def test_figure_3_asks_for_every_word_and_keeps_the_first_sentence(tmp_path, evaluation, bird_store):
    drawing = drawn_set_with(ATTRIBUTES)
    group = figure3_group(evaluation, KnownPictures(bird_store), drawing, tmp_path)
    keys = [f"figure3/{part}_colour" for part in ("belly", "wing", "head")]
    assert [score.key for score in group.scores] == [key + end for key in keys for end in ("", "/stays")]
    for score in group.scores[1::2]:
        assert score.value == 0.0  # red is none of black, yellow and white
        assert score.chance == 0.1
    for score in group.scores[::2]:
        assert score.chance == 0.1
        # The classifier knows none of these pictures and calls each of them red, which one sentence in ten says.
        assert score.value == pytest.approx(0.1)
        assert score.interval[0] == 0.0
        assert score.interval[1] > 0.2, "one word in ten: that is not sure"
        assert score.protocol["voice"].partition("?")[0] == changed_voice(BIRDS, "test")
    assert len(list(tmp_path.glob("*.png"))) == 40
    assert len(list(tmp_path.glob("*.wav"))) == 10


def test_figure_3_is_left_out_where_nobody_can_speak(tmp_path, evaluation, bird_store, monkeypatch):
    def fail(voice: str) -> None:
        raise UserError("no engine")

    monkeypatch.setattr(figure3, "parse_voice", fail)
    drawing = drawn_set_with(ATTRIBUTES)
    assert figure3_group(evaluation, KnownPictures(bird_store), drawing, tmp_path) is None


def test_one_word_changes_and_the_noise_does_not(tmp_path, model):
    voice = parse_voice("espeak:en-us")
    sentences = {"red": "a red bird", "scarlet": "a red bird", "orange": "an orange bird"}
    rows = change_word(model, voice, sentences, "a {} bird", samples=3, seed=2)
    assert [row.text for row in rows] == ["a red bird", "a scarlet bird", "an orange bird"]
    assert rows[0].pictures.shape == (3, SIDE, SIDE, 3)
    np.testing.assert_array_equal(rows[0].pictures, rows[1].pictures)
    assert not (rows[0].pictures == rows[2].pictures).all()
    assert not (rows[0].pictures[0] == rows[0].pictures[1]).all()
    write_changed(tmp_path, rows, {"template": "a {} bird"}, voice.sample_rate)
    content = json.loads((tmp_path / "figure3.json").read_text())
    assert content["template"] == "a {} bird"
    for row in content["rows"]:
        assert re.search(rf"\b{row['word']}\b", row["text"])
        assert (tmp_path / row["audio"]).is_file()
        assert all((tmp_path / name).is_file() for name in row["samples"])


@pytest.mark.parametrize(("spoken", "share"), [(("red", "green", "blue"), 1.0), (("green", "green", "blue"), 2 / 3)])
def test_followed_counts_the_pictures_that_show_what_was_spoken(toy_classifier, spoken, share):
    colours = ("red", "green", "blue")
    rows = [
        Spoken(
            word,
            word,
            np.zeros(0),
            np.stack([draw_square({"colour": colour, "extent": "large"}, seed, 16) for seed in range(10)]),
        )
        for word, colour in zip(spoken, colours, strict=True)
    ]
    right = followed(rows, "colour", shown(rows, toy_classifier), toy_classifier)
    assert right.mean() == pytest.approx(share, abs=0.1)
    assert right[10:].mean() > 0.9, "the pictures of the second and the third word"


@pytest.mark.parametrize(("kept", "share"), [({"extent": "large"}, 1.0), ({"extent": "small"}, 0.0)])
def test_stayed_counts_the_pictures_that_show_what_else_was_said(toy_classifier, kept, share):
    pictures = np.stack([draw_square({"colour": "red", "extent": "large"}, seed, 16) for seed in range(20)])
    rows = [Spoken("red", "red", np.zeros(0), pictures)]
    assert stayed(kept, shown(rows, toy_classifier), toy_classifier).mean() == pytest.approx(share, abs=0.15)


@pytest.mark.parametrize("name", ["birds", "flowers"])
def test_what_a_sentence_keeps_is_in_it(name):
    drawn = drawn_set(name)
    assert drawn.kept_in_sentences.keys() == drawn.changed_sentences.keys()
    for changed, kept in drawn.kept_in_sentences.items():
        for attribute, value in kept.items():
            assert value in drawn.attributes[attribute]
            assert value in drawn.changed_sentences[changed].split()
