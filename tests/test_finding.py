"""Pictures by speech and speech by pictures: ranked by the cosine of stage 1's embeddings, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from s2igan import cli
from s2igan.data.dataset import crop_and_flip, encoder_input
from s2igan.errors import UserError
from s2igan.finding import Finder
from s2igan.training.train import train_run
from tiny_corpus import make_store, tiny_recipe
from tiny_models import export_rdg


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """Only stage 1 is finished."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train_run(tiny_recipe(), data=store.directory, out=out, stage="1")
    return out


@pytest.fixture(scope="module")
def finder(run, store):
    return Finder.load(run, store.directory)


def similarities(finder, store):
    """Of all utterances and all pictures, computed one by one."""
    rows = np.empty((len(store), store.n_images))
    with torch.inference_mode():
        crops = crop_and_flip(store.images[:], finder.image_size, None)
        images = torch.cat([finder.image(crop[None]) for crop in crops])
        for utterance in range(len(store)):
            speech = finder.speech.speech_encoder(*encoder_input(store, np.array([utterance]), "speech"))
            rows[utterance] = (images @ speech[0]).numpy()
    return rows


def test_the_nearest_are_those_of_the_largest_cosine(finder, store):
    expected = similarities(finder, store)
    for utterance in (0, 9, 30):
        found = finder.pictures(store.audio_path(utterance), 5)
        # The store keeps spectrograms in half precision.
        np.testing.assert_allclose([one.similarity for one in found], np.sort(expected[utterance])[::-1][:5], atol=5e-3)
        assert abs(expected[utterance, found[0].number] - expected[utterance].max()) < 5e-3
    for image in (0, 7):
        found = finder.recordings(store.image_path(image), 48)
        assert sorted(one.number for one in found) == list(range(48))
        np.testing.assert_allclose(
            [one.similarity for one in found], expected[[one.number for one in found], image], atol=5e-3
        )
        assert [one.similarity for one in found] == sorted((one.similarity for one in found), reverse=True)


def test_only_a_split_is_looked_through(run, store):
    test = Finder.load(run, store.directory, "test")
    found = test.pictures(store.audio_path(0), 100)
    assert {one.number for one in found} == set(store.image_index[store.split_indices("test")].tolist())
    with pytest.raises(UserError, match="'development' has no utterances"):
        Finder.load(run, store.directory, "development")


def test_the_command_line_finds_both_ways_and_names_what_it_cannot_read(run, store, tmp_path, capsys):
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    queries = [str(store.audio_path(3)), str(tmp_path / "broken.wav"), str(store.image_path(2))]
    with pytest.raises(SystemExit, match="1"):
        cli.main(
            [
                "retrieve",
                *queries,
                "--model",
                str(run),
                "--data",
                str(store.directory),
                "--k",
                "4",
                "--out",
                str(tmp_path),
            ]
        )
    out, err = capsys.readouterr()
    assert "broken.wav" in err
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["rank"] for record in records] == [1, 2, 3, 4] * 2
    assert {record["query"] for record in records} == {queries[0], queries[2]}
    assert all("audio" not in record for record in records[:4])
    assert all(record["audio"].endswith(".wav") for record in records[4:])
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.size == (5 * 164 + 4, 2 * 164 + 4)


def test_a_corpus_of_another_window(run, tmp_path, store):
    other = make_store(tmp_path, window="hamming")
    assert len(Finder.load(run, other.directory).pictures(other.audio_path(0), 3)) == 3  # stage 1 records none
    with pytest.raises(UserError, match="--window hann"):
        Finder.load(export_rdg(tmp_path / "model"), other.directory)
