import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from s2igan.errors import UserError
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.generation import Evaluation
from s2igan.evaluation.sample_sheet import SAMPLES, write_sample_sheet
from small_birds import SIDE, TEST_VOICE


@pytest.fixture
def evaluation(model, bird_store) -> Evaluation:
    return Evaluation(model, EvaluationSplit.of(bird_store, "test"), 0)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_samples_are_of_different_classes_and_complete(tmp_path, evaluation, bird_store):
    rows = write_sample_sheet(evaluation, tmp_path / "sheet")
    assert rows == json.loads((tmp_path / "sheet" / "sample_sheet.json").read_text())
    assert len(rows) == 8
    assert len({row["class"] for row in rows[:3]}) == 3
    assert len({row["utterance"] for row in rows}) == 8
    for row in rows:
        assert row["utterance"] in evaluation.split.utterances
        assert row["text"] == bird_store.text(row["utterance"])
        assert row["speaker"] == TEST_VOICE
        assert row["class_met"] is False
        assert (bird_store.corpus_root / row["audio_source"]).is_file()
        assert len(row["samples"]) == SAMPLES
        wave, rate = soundfile.read(tmp_path / "sheet" / row["audio"])
        assert (len(wave), rate) == (11025, 22050)
        for name in (row["real"], *row["samples"]):
            assert pixels(tmp_path / "sheet" / name).shape == (SIDE, SIDE, 3)
        real = pixels(tmp_path / "sheet" / row["real"])
        stored = bird_store.images[int(bird_store.image_index[row["utterance"]])]
        np.testing.assert_array_equal(real, stored[3:35, 3:35])


def test_classes_that_were_met_are_called_that(tmp_path, evaluation, bird_store):
    """As where there are too few classes to keep some for testing."""
    train = dataclasses.replace(evaluation, split=EvaluationSplit.of(bird_store, "train"))
    rows = write_sample_sheet(train, tmp_path)
    assert all(row["class"] and row["class_met"] for row in rows)


def test_samples_differ_by_their_noise_and_follow_the_seed(tmp_path, evaluation):

    def drawn(folder: str, seed: int) -> np.ndarray:
        rows = write_sample_sheet(dataclasses.replace(evaluation, seed=seed), tmp_path / folder)
        row = min(rows, key=lambda row: row["utterance"])
        return np.stack([pixels(tmp_path / folder / name) for name in row["samples"]])

    first = drawn("a", 1)
    np.testing.assert_array_equal(first, drawn("b", 1))
    assert not (first[0] == first[1]).all()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, evaluation):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        write_sample_sheet(evaluation, tmp_path / "file" / "sheet")
