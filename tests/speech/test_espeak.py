"""espeak-ng through ctypes: the same text gives the same samples, whatever was spoken before, and voices differ."""

from __future__ import annotations

import builtins
import concurrent.futures
import pickle
import subprocess
import sys

import numpy as np
import pytest

from s2igan.errors import UserError
from s2igan.speech import espeak, parse_voice
from s2igan.speech.espeak import Espeak

TEXT = "a small bird with a red belly and black wings"
# Variants with flutter, the Klatt synthesiser, breath noise and echo: each keeps state of its own inside the library.
VOICES = (
    "en-us",
    "en-gb-scotland+f3",
    "en-us+klatt2",
    "en-gb-x-rp+whisper",
    "en-us+Alicia",
    "en-us-nyc+croak",
    "en+Reed",
)


def seconds(wave: np.ndarray) -> float:
    return len(wave) / espeak.SAMPLE_RATE


def test_speech_is_sound_of_plausible_length():
    wave = Espeak("en-us").synthesize(TEXT)
    assert wave.dtype == np.float32
    assert wave.ndim == 1
    assert 2.0 < seconds(wave) < 4.0
    assert 0.1 < np.abs(wave).max() <= 1.0


def test_an_utterance_does_not_depend_on_what_was_spoken_before():
    first = {voice: Espeak(voice).synthesize(TEXT) for voice in VOICES}
    for voice in reversed(VOICES):
        Espeak("de+klatt4", rate=250, pitch=90).synthesize("ein ganz anderer Satz")
        assert np.array_equal(Espeak(voice).synthesize(TEXT), first[voice]), voice
        assert np.array_equal(Espeak(voice).synthesize(TEXT), first[voice]), voice


def test_another_process_and_other_threads_speak_the_same():
    here = Espeak("en-gb+f2").synthesize(TEXT)
    program = (
        "import sys; from s2igan.speech.espeak import Espeak; "
        f"sys.stdout.buffer.write(Espeak('en-gb+f2').synthesize({TEXT!r}).tobytes())"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    assert there == here.tobytes()
    voices = [Espeak(voice) for voice in VOICES] * 3
    alone = [voice.synthesize(TEXT) for voice in voices]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda voice: voice.synthesize(TEXT), voices))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_all_voices_sound_different():
    waves = [Espeak(voice).synthesize(TEXT).tobytes() for voice in VOICES]
    assert len(set(waves)) == len(VOICES)


def test_rate_pitch_and_range_do_what_they_say():
    slow, fast = (Espeak("en-us", rate=rate).synthesize(TEXT) for rate in (120, 240))
    assert seconds(slow) > 1.6 * seconds(fast)

    def fundamental_hz(voice: Espeak) -> np.ndarray:
        """By autocorrelation, in frames of 50 ms that are voiced."""
        frames = np.lib.stride_tricks.sliding_window_view(voice.synthesize(TEXT), 1102)[::551].astype(np.float64)
        frames = frames[np.sqrt((frames**2).mean(1)) > 0.05]
        shortest = espeak.SAMPLE_RATE // 400
        correlation = np.array([[(f[:-lag] * f[lag:]).sum() for lag in range(shortest, 300)] for f in frames])
        return espeak.SAMPLE_RATE / (shortest + correlation.argmax(1))

    low, middle, high = (fundamental_hz(Espeak("en-us", pitch=pitch)) for pitch in (20, 50, 80))
    assert np.median(low) < 0.9 * np.median(middle) < 0.8 * np.median(high)
    flat, lively = (fundamental_hz(Espeak("en-us", range=pitch_range)) for pitch_range in (0, 100))
    assert np.subtract(*np.percentile(lively, [85, 15])) > 2 * np.subtract(*np.percentile(flat, [85, 15]))


def test_voice_strings():
    voice = parse_voice("espeak:en-us+f3?rate=160&pitch=55")
    assert voice == Espeak("en-us+f3", rate=160, pitch=55)
    assert voice.name == "espeak:en-us+f3?rate=160&pitch=55&range=50"
    assert parse_voice(voice.name) == voice
    assert parse_voice("espeak:en-gb") == Espeak("en-gb")
    assert pickle.loads(pickle.dumps(voice)) == voice


def test_languages_and_variants_are_found():
    assert {"en-us", "en-gb", "en-gb-scotland", "en-029", "de", "sw", "cmn"} <= set(espeak.languages())
    assert {"m1", "f5", "klatt", "whisper"} <= set(espeak.variants())
    assert Espeak("EN-US").synthesize("bird").tobytes() == Espeak("en-us").synthesize("bird").tobytes()


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        ("espeak:xx-yy", "no language 'xx-yy'; it has .*en-us"),
        ("espeak:en-mars", "no language 'en-mars'; it has en, en-029, en-gb, .*en-us-nyc"),
        ("espeak:", "no language ''"),
        ("espeak:en-us+f9", r"en-us\+f9.* no variant 'f9'; it has .*f5"),
        ("espeak:en-us+../f1", "no variant"),
        ("espeak:en-us?speed=3", "no option 'speed'; there are rate, pitch, range, phonemes"),
        ("espeak:en-us?rate=1000", "rate=1000 must be a number from 80 to 450"),
        ("espeak:en-us?rate=quick", "rate=quick must be a number"),
        ("espeak:en-us?rate", "options are written"),
        ("festival:kal", "'festival:kal': no such voice; name one of espeak:"),
        ("en-us", "no such voice"),
    ],
)
def test_wrong_voices_are_refused(voice, message):
    with pytest.raises(UserError, match=message):
        parse_voice(voice)


def test_phonemes_are_spoken_where_the_voice_says_so():
    """`tamo` in phonemes sounds the same whether it stands in brackets; without the option brackets are text."""
    voice = parse_voice("espeak:it?phonemes=1")
    assert voice == Espeak("it", phonemes=True)
    assert parse_voice(voice.name) == voice
    said = voice.synthesize("[[t'amo k'ilu]]")
    assert len(said) != len(Espeak("it").synthesize("[[t'amo k'ilu]]"))
    assert voice.synthesize("[[t'amo k'elu]]").tobytes() != said.tobytes()
    assert Espeak("fi", phonemes=True).synthesize("[[t'amo k'ilu]]").tobytes() != said.tobytes()
    assert voice.synthesize("tamo").tobytes() == Espeak("it").synthesize("tamo").tobytes()


def test_words_begin_where_their_sound_begins():
    """Silence up to the first sound; after a pause the next word; faster speech brings words nearer."""
    voice = Espeak("it", phonemes=True)
    text = "[[t'amo k'ilu]], [[s'ano]]"
    starts, wave = voice.word_starts(text), voice.synthesize(text)
    assert len(starts) == 3
    assert 0 <= starts[0] < starts[1] < starts[2] < len(wave) / espeak.SAMPLE_RATE
    before, first_of_last = (round(espeak.SAMPLE_RATE * time) for time in (starts[2] - 0.08, starts[2]))
    assert np.abs(wave[before:first_of_last]).max() < 0.02
    assert np.abs(wave[first_of_last : first_of_last + espeak.SAMPLE_RATE // 10]).max() > 0.05
    fast = Espeak("it", rate=300, phonemes=True).word_starts(text)
    assert fast[1] - fast[0] < 0.8 * (starts[1] - starts[0])
    assert len(Espeak("en-us").word_starts(TEXT)) == len(TEXT.split())


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(UserError, match="nothing to speak"):
        Espeak("en-us").synthesize(text)


def test_the_missing_package_is_named_with_its_extra(monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "espeakng_loader":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    for cached in (espeak._identifier, espeak._voice_files, espeak._installed):
        cached.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 's2igan\[speech\]'"):
        parse_voice("espeak:en-us")
