"""The microphone, in place of sounddevice: until Enter or a time, at its own rate; every fault is a sentence."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from s2igan import cli
from s2igan.audio import SAMPLE_RATE
from s2igan.errors import UserError
from s2igan.record import record

RATE = 48_000


class PortAudioError(Exception):
    pass


@pytest.fixture
def microphone(monkeypatch):
    """One that hears half a second of a tone as soon as it is opened."""
    asked = SimpleNamespace(sound=0.3 * np.sin(np.arange(RATE // 2) / 20), options={}, error=None)

    class InputStream:
        def __init__(self, callback, **options):
            asked.options = options
            self.callback = callback

        def __enter__(self):
            for block in np.array_split(asked.sound.astype(np.float32)[:, None], 5):
                self.callback(block, len(block), None, None)

        def __exit__(self, *_):
            pass

    def query_devices(device, kind):
        if asked.error:
            raise asked.error
        return {"default_samplerate": RATE}

    module = SimpleNamespace(InputStream=InputStream, query_devices=query_devices, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    monkeypatch.setattr("builtins.input", lambda: "")
    return asked


def test_what_is_heard_is_written(microphone, tmp_path, capsys):
    cli.main(["record", str(tmp_path / "deep" / "said.wav"), "--microphone", "3"])
    samples, rate = soundfile.read(tmp_path / "deep" / "said.wav")
    assert (rate, len(samples)) == (SAMPLE_RATE, pytest.approx(SAMPLE_RATE / 2, abs=2))
    assert 0.25 < np.abs(samples).max() < 0.35
    assert microphone.options == {"samplerate": RATE, "device": 3, "channels": 1, "dtype": "float32"}
    out, err = capsys.readouterr()
    assert "said.wav (0.5 s)" in out
    assert "press Enter" in err


def test_without_a_keyboard_the_time_decides(microphone, tmp_path, monkeypatch):
    def nobody():
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    assert record(tmp_path / "said.wav", seconds=0.05, microphone="USB") == pytest.approx(0.5, abs=1e-3)
    assert microphone.options["device"] == "USB"


def test_silence_and_nothing(microphone, tmp_path):
    microphone.sound = np.zeros(RATE)
    with pytest.raises(UserError, match="the microphone: silent"):
        record(tmp_path / "said.wav", seconds=1)
    microphone.error = PortAudioError("no such device")
    with pytest.raises(UserError, match=r"no such device\); python -m sounddevice"):
        record(tmp_path / "said.wav", seconds=1)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_or_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"s2igan\[mic\]"):
        record(tmp_path / "said.wav", seconds=1)

    class NoPortAudio:
        def find_spec(self, name, path=None, target=None):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])
    with pytest.raises(UserError, match="libportaudio2"):
        record(tmp_path / "said.wav", seconds=1)
