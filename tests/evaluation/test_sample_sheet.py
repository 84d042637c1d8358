import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from small_birds import SIDE, TEST_VOICE
from toy_drawing import draw_square

from s2igan.evaluation.evaluation_split import Subject
from s2igan.evaluation.sample_sheet import SAMPLES, Changed, change_word, fill, followed, write_changed, write_samples
from s2igan.speech import parse_voice


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_article_fits():
    assert fill("a bird with a {} belly", "red") == "a bird with a red belly"
    assert fill("a bird with a {} belly", "orange") == "a bird with an orange belly"
    assert fill("a bird with {} wings", "orange") == "a bird with orange wings"


def test_samples_are_of_different_classes_and_complete(tmp_path, model, bird_store):
    subject = Subject.of(bird_store, "test")
    rows = write_samples(tmp_path / "samples", model, bird_store, subject.utterances, seed=0)
    assert rows == json.loads((tmp_path / "samples" / "samples.json").read_text())
    assert len(rows) == 8
    assert len({row["class"] for row in rows[:3]}) == 3
    assert len({row["utterance"] for row in rows}) == 8
    for row in rows:
        assert row["utterance"] in subject.utterances
        assert row["text"] == bird_store.text(row["utterance"])
        assert row["speaker"] == TEST_VOICE
        assert row["class_met"] is False
        assert (bird_store.corpus_root / row["audio_source"]).is_file()
        assert len(row["samples"]) == SAMPLES
        wave, rate = soundfile.read(tmp_path / "samples" / row["audio"])
        assert (len(wave), rate) == (11025, 22050)
        for name in (row["real"], *row["samples"]):
            assert pixels(tmp_path / "samples" / name).shape == (SIDE, SIDE, 3)
        real = pixels(tmp_path / "samples" / row["real"])
        stored = bird_store.images[int(bird_store.image_index[row["utterance"]])]
        np.testing.assert_array_equal(real, stored[3:35, 3:35])


def test_classes_that_were_met_are_called_that(tmp_path, model, bird_store):
    """As where there are too few classes to keep some for testing."""
    rows = write_samples(tmp_path / "samples", model, bird_store, bird_store.split_indices("train"), seed=0)
    assert all(row["class"] and row["class_met"] for row in rows)


def test_samples_differ_by_their_noise_and_follow_the_seed(tmp_path, model, bird_store):
    subject = Subject.of(bird_store, "test")

    def drawn(folder: str, seed: int) -> np.ndarray:
        rows = write_samples(tmp_path / folder, model, bird_store, subject.utterances, seed=seed)
        row = min(rows, key=lambda row: row["utterance"])
        return np.stack([pixels(tmp_path / folder / name) for name in row["samples"]])

    first = drawn("a", 1)
    np.testing.assert_array_equal(first, drawn("b", 1))
    assert not (first[0] == first[1]).all()


def test_one_word_changes_and_the_noise_does_not(tmp_path, model):
    voice = parse_voice("espeak:en-us")
    changed = change_word(model, voice, "belly_colour", "a {} bird", ("red", "red", "orange"), samples=3, seed=2)
    assert changed.texts == ("a red bird", "a red bird", "an orange bird")
    assert changed.pictures.shape == (3, 3, SIDE, SIDE, 3)
    np.testing.assert_array_equal(changed.pictures[0], changed.pictures[1])
    assert not (changed.pictures[0] == changed.pictures[2]).all()
    assert not (changed.pictures[0, 0] == changed.pictures[0, 1]).all()
    content = write_changed(tmp_path, changed, voice.name, seed=2)
    assert content == json.loads((tmp_path / "figure3.json").read_text())
    for row in content["rows"]:
        assert re.search(rf"\b{row['word']}\b", row["text"])
        assert (tmp_path / row["audio"]).is_file()
        assert all((tmp_path / name).is_file() for name in row["samples"])


@pytest.mark.parametrize(("spoken", "share"), [(("red", "green", "blue"), 1.0), (("green", "green", "blue"), 2 / 3)])
def test_followed_counts_the_pictures_that_show_what_was_spoken(toy_classifier, spoken, share):
    shown = ("red", "green", "blue")
    pictures = np.stack(
        [
            np.stack([draw_square({"colour": colour, "extent": "large"}, seed, 16) for seed in range(10)])
            for colour in shown
        ]
    )
    changed = Changed("colour", "a {} square", spoken, spoken, (), 22050, pictures)
    assert followed(changed, toy_classifier) == pytest.approx(share, abs=0.1)
