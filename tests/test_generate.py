"""Files, folders, patterns and standard input: every recording is drawn, or named with its fault."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image

from s2igan import SpeechToImage, generate
from s2igan.audio import SAMPLE_RATE
from s2igan.errors import UserError
from s2igan.generate import find_recordings, generate_files
from tiny_models import export_rdg


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SpeechToImage.load(export_rdg(tmp_path_factory.mktemp("model")))


def names(recordings):
    return [Path(recording.name).name for recording in recordings]


def test_files_folders_and_patterns_are_found_once(sounds):
    assert names(find_recordings([str(sounds)])) == ["a.wav", "b.flac", "c.WAV"]
    assert names(find_recordings([str(sounds / "*.flac"), str(sounds)])) == ["b.flac", "a.wav", "c.WAV"]
    assert names(find_recordings([str(sounds / "d*")])) == ["c.WAV"]
    assert names(find_recordings([str(sounds / "**" / "*.WAV")])) == ["c.WAV"]
    assert names(find_recordings([str(sounds / "gone.wav")])) == ["gone.wav"]  # named when it is read


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    (tmp_path / "take[1].wav").write_bytes(b"")
    assert names(find_recordings([str(tmp_path / "take[1].wav")])) == ["take[1].wav"]


def test_standard_input_is_a_recording(sounds, model, tmp_path, monkeypatch):
    content = (sounds / "b.flac").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    (record,) = generate_files(model, find_recordings(["-"]), tmp_path, samples=1, seed=4)
    assert record["audio"] == "-"
    with Image.open(tmp_path / "stdin-1.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(model(content, samples=1, seed=4)[0]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no recording was named"),
        (["EMPTY"], "no sound file is in this folder"),
        (["EMPTY/*.wav"], "nothing matches"),
    ],
)
def test_nothing_to_draw(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        find_recordings([word.replace("EMPTY", str(tmp_path)) for word in words])


def test_files_of_several_recordings(model, sounds, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.wav").write_bytes((sounds / "b.flac").read_bytes())
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    recordings = find_recordings([str(sounds / "a.wav"), str(tmp_path / "broken.wav"), str(other / "a.wav")])
    out = tmp_path / "new" / "out"
    results = list(generate_files(model, recordings, out, samples=2, seed=4))
    errors = [result for result in results if isinstance(result, UserError)]
    records = [result for result in results if isinstance(result, dict)]
    assert len(errors) == 1
    assert "broken.wav" in str(errors[0])
    assert [Path(record["image"]).name for record in records] == [
        "a-1.png",
        "a-2.png",
        "a-again2-1.png",
        "a-again2-2.png",
    ]
    assert records[1] == {
        "audio": str(sounds / "a.wav"),
        "method": "the paper's RDG",
        "sample": 2,
        "seed": 5,
        "image": str(out / "a-2.png"),
        "width": 16,
        "height": 16,
    }
    for record in records:
        drawn = model(record["audio"], samples=2, seed=4)[record["sample"] - 1]
        with Image.open(record["image"]) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(drawn))
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.size == (2 * 20 + 4, 2 * 20 + 4)
        for row, column, name in ((0, 0, "a-1"), (0, 1, "a-2"), (1, 0, "a-again2-1"), (1, 1, "a-again2-2")):
            place = sheet.crop((4 + 20 * column, 4 + 20 * row, 20 + 20 * column, 20 + 20 * row))
            with Image.open(out / f"{name}.png") as image:
                np.testing.assert_array_equal(np.asarray(place), np.asarray(image))
        assert sheet.getpixel((1, 1)) == sheet.getpixel((21, 21)) == (255, 255, 255)


def test_files_into_a_place_that_is_taken(model, sounds, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken"):
        list(generate_files(model, find_recordings([str(sounds / "a.wav")]), tmp_path / "taken", samples=1, seed=1))


def test_more_recordings_than_are_drawn_together(model, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "RECORDINGS_AT_ONCE", 2)
    monkeypatch.setattr(generate, "SHEET_PICTURES", 2)
    records = list(generate_files(model, find_recordings([str(sounds)]), tmp_path, samples=1, seed=4))
    assert [Path(record["image"]).name for record in records] == ["a-1.png", "b-1.png", "c-1.png"]
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.size == (16 + 8, 2 * 20 + 4)  # the third is left off


def test_a_recording_too_short_for_the_model_does_not_stop_the_others(model, sounds, tmp_path):
    soundfile.write(tmp_path / "short.wav", 0.1 * np.random.default_rng(0).standard_normal(900), SAMPLE_RATE)
    recordings = find_recordings([str(tmp_path / "short.wav"), str(sounds / "a.wav")])
    error, record = generate_files(model, recordings, tmp_path / "out", samples=1, seed=1)
    assert "short.wav: too short, 0.04 s where this model needs 0.16 s" in str(error)
    assert record["image"].endswith("a-1.png")


def test_options_are_refused_before_anything_is_written(model, sounds, tmp_path):
    with pytest.raises(UserError, match="guidance"):
        list(generate_files(model, find_recordings([str(sounds)]), tmp_path / "out", 1, 1, guidance=2.0))
    assert not (tmp_path / "out").exists()
