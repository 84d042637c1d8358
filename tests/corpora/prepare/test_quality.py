"""How well recordings are made: each measure on a wave that is made so."""

import numpy as np
import pytest
import soundfile

from field_sounds import PHONES, RATE, phone, voice
from own_corpus import own_corpus
from s2igan.audio import decoded
from s2igan.corpora.prepare.corpus import prepare_corpus
from s2igan.corpora.prepare.findings import summary
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.corpora.prepare.quality import LIMITS, quality, speech_span, warnings_of
from s2igan.corpora.prepare.validate import validate_source
from s2igan.data.manifest import read_manifest


def spoken(before: float = 1.0, noise: float = 1e-4, gain: float = 1.0) -> np.ndarray:
    """A voice for two seconds, and silence around it."""
    pause = np.zeros(round(before * RATE), np.float32)
    wave = np.concatenate([pause, gain * voice(2.0), pause])
    return (wave + noise * np.random.default_rng(1).standard_normal(len(wave))).astype(np.float32)


def test_a_good_recording_has_no_warning():
    own = quality(spoken(), RATE)
    assert own.clipped == 0.0
    assert -20 < own.level_db < -8
    assert own.noise_db > 40
    assert own.silence == pytest.approx(0.5, abs=0.05)
    assert warnings_of({"a": own}) == []


@pytest.mark.parametrize("gain", [1.5, 4.0])
def test_clipped_samples_are_counted(gain):
    wave = (gain * spoken() / np.abs(spoken()).max()).astype(np.float32)
    cut = np.clip(wave, -1.0, 32767 / 32768)
    share = np.mean(np.abs(wave) > 1.0)
    assert quality(cut, RATE).clipped == pytest.approx(share, rel=0.3)
    assert quality(0.9 * cut, RATE).clipped == pytest.approx(share, rel=0.3)  # turned down afterwards
    assert quality(wave / gain, RATE).clipped == 0.0


@pytest.mark.parametrize("suffix", ["m4a", "aac", "webm"])
def test_what_a_phone_clipped_before_it_coded_it(tmp_path, suffix):
    for gain, is_clipped in ((1.0, False), (2.5, False), (6.0, True)):
        container, codec, rate = PHONES[suffix]
        wave = np.clip(gain * voice(3.0, rate=rate), -1, 1)
        path = phone(tmp_path / f"a.{suffix}", wave, container, codec, rate, source_rate=rate)
        assert (quality(*decoded(path)).clipped > 1e-3) == is_clipped, gain


@pytest.mark.parametrize(
    ("wave", "kind"),
    [
        (np.clip(4 * spoken(), -1, 1), "clipped"),
        (spoken(noise=0.08), "noisy"),
        (spoken(noise=1e-6, gain=0.005), "faint"),
        (spoken(before=4.0), "mostly silent"),
    ],
)
def test_each_fault_is_pointed_out(wave, kind):
    assert [warning["kind"] for warning in warnings_of({"a": quality(wave, RATE)})] == [kind]
    assert kind in [name for name, *_ in LIMITS]


def test_where_somebody_speaks():
    start, end = speech_span(spoken(before=1.0), RATE)
    assert 0.7 <= start <= 1.0
    assert 3.0 <= end <= 3.3
    assert speech_span(spoken(noise=0.2), RATE) == (0.0, 4.0)


def test_silence_is_trimmed_on_request(tmp_path):
    source = own_corpus(tmp_path / "source", n=6, recordings=1)
    for path in sorted((source / "audio").iterdir()):
        soundfile.write(path, spoken(before=1.5) + 1e-3 * len(path.name), RATE)
        soundfile.write(path, spoken(before=1.5, noise=1e-4 * (1 + int(path.stem[1:3]))), RATE)
    prepare_corpus("folder", source, tmp_path / "plain", size=16, jobs=1)
    prepare_corpus("folder", source, tmp_path / "out", PrepareOptions(trim_silence=True), size=16, jobs=1)
    assert {row.start_seconds for row in read_manifest(tmp_path / "plain/manifest.jsonl")} == {None}
    for row in read_manifest(tmp_path / "out/manifest.jsonl"):
        assert row.start_seconds == pytest.approx(1.3, abs=0.15)
        assert row.end_seconds == pytest.approx(3.7, abs=0.15)


def test_validate_shows_them_and_refuses_nothing(tmp_path):
    source = own_corpus(tmp_path / "source", n=6, recordings=1)
    for number, path in enumerate(sorted((source / "audio").iterdir())):
        soundfile.write(path, np.clip((4 if number < 3 else 1) * spoken(noise=1e-4 * (1 + number)), -1, 1), RATE)
    findings = validate_source(source, "folder", jobs=1)
    assert not findings.rejected
    words = summary(source, findings)
    assert "  speakers unknown: 6 recordings, level -" in words
    assert "  3 clipped: over 0.1 % of the samples are clipped; record with less gain" in words
