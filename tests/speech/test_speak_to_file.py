"""A sentence that is spoken into a sound file."""

import numpy as np
import pytest
import soundfile

from s2igan import speech
from s2igan.errors import UserError
from s2igan.speech import speak_to_file


class Whistle:
    name = "whistle:"
    sample_rate = 8000

    def synthesize(self, text):
        return (0.5 * np.sin(np.arange(8000) * len(text) / 50)).astype(np.float32)


def test_a_sentence_is_spoken_into_a_file(monkeypatch, tmp_path):
    voices = []
    monkeypatch.setattr(speech, "parse_voice", lambda voice: voices.append(voice) or Whistle())
    path = speak_to_file("a red bird", "whistle:x", tmp_path / "deep" / "said.wav")
    assert voices == ["whistle:x"]
    samples, rate = soundfile.read(path)
    assert rate == 8000
    np.testing.assert_allclose(samples, Whistle().synthesize("a red bird"), atol=1e-4)
    with pytest.raises(UserError, match="empty"):
        speak_to_file("  ", "whistle:x", tmp_path / "none.wav")
