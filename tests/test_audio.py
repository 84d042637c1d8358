"""Decoding: any kind, rate and number of channels, parts, and every refusal."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from s2igan import audio, sound_files
from s2igan.errors import UserError
from s2igan.spectrograms import log_mel


def tone(seconds: float, rate: int = audio.SAMPLE_RATE, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * math.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate", "channels"),
    [
        ("wav", "PCM_16", 22_050, 1),
        ("wav", "PCM_U8", 8_000, 1),
        ("wav", "FLOAT", 96_000, 2),
        ("wav", "PCM_32", 44_100, 6),
        ("flac", "PCM_24", 48_000, 2),
        ("ogg", "VORBIS", 16_000, 1),
        ("mp3", "MPEG_LAYER_III", 44_100, 2),
    ],
)
def test_every_format_rate_and_channel_count_becomes_the_same_tone(tmp_path, suffix, subtype, rate, channels):
    path = tmp_path / f"tone.{suffix}"
    wave = tone(1.0, rate)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate, subtype=subtype)
    loaded = audio.load_audio(path)
    assert loaded.dtype == np.float32
    assert loaded.ndim == 1
    assert len(loaded) == pytest.approx(audio.SAMPLE_RATE, rel=0.06)  # mp3 adds a frame or two of padding
    middle = loaded[5_000:15_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * audio.SAMPLE_RATE / len(middle) == pytest.approx(440.0, abs=3.0)
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.03)


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(0.5), np.zeros_like(tone(0.5))], axis=1), audio.SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio.load_audio(path), tone(0.5) / 2, atol=1e-7)


def test_a_part_is_cut_out_by_its_times(tmp_path):
    path = tmp_path / "long.wav"
    wave = np.concatenate([tone(1.0, hz=200.0), tone(0.5, hz=800.0), tone(1.0, hz=200.0)])
    soundfile.write(path, wave, audio.SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio.load_audio(path, 1.0, 1.5), tone(0.5, hz=800.0), atol=1e-7)
    np.testing.assert_allclose(audio.load_audio(path, start_seconds=1.5), tone(1.0, hz=200.0), atol=1e-7)
    np.testing.assert_allclose(audio.load_audio(path, end_seconds=1.0), tone(1.0, hz=200.0), atol=1e-7)


@pytest.mark.parametrize(("start", "end"), [(3.0, None), (0.6, 0.4), (-0.5, 0.4)])
def test_times_outside_the_recording_are_refused(tmp_path, start, end):
    path = tmp_path / "short.wav"
    soundfile.write(path, tone(1.0), audio.SAMPLE_RATE)
    with pytest.raises(UserError, match=r"short\.wav.*does not lie in this recording of 1\.00 s"):
        audio.load_audio(path, start, end)


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros(22_050), "silent"),
        (np.full(22_050, 0.3), "silent"),  # a constant offset is no sound either
        (np.where(np.arange(22_050) == 7, np.nan, tone(1.0)), "not numbers"),
        (np.where(np.arange(22_050) == 7, np.inf, tone(1.0)), "not numbers"),
        (tone(1.0)[: audio.MIN_SAMPLES - 1], "too short"),
        (np.zeros(0), "empty"),
        (np.tile(tone(1.0), 602), "too long, 602.0 s"),
    ],
)
def test_unusable_sound_is_refused_by_name(tmp_path, wave, message):
    path = tmp_path / "field_07.wav"
    soundfile.write(path, wave.astype(np.float32), audio.SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=rf"field_07\.wav.*{message}"):
        audio.load_audio(path)


def test_a_part_that_ends_after_its_recording_is_not_shortened(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, tone(2.5), audio.SAMPLE_RATE)
    assert len(audio.load_audio(path, 1.0, 2.55)) == round(1.5 * audio.SAMPLE_RATE)  # a clock's rounding
    with pytest.raises(UserError, match=r"cut\.wav: cut off, or its end_seconds too late: .* ends 0\.50 s after"):
        audio.load_audio(path, 1.0, 3.0)


def test_the_limits_themselves_are_accepted(tmp_path):
    for name, wave in [("least.wav", tone(1.0)[: audio.MIN_SAMPLES]), ("most.wav", np.tile(tone(1.0), 600))]:
        soundfile.write(tmp_path / name, wave, audio.SAMPLE_RATE)
        assert torch.isfinite(log_mel(torch.from_numpy(audio.load_audio(tmp_path / name)))).all()


def test_a_long_recording_is_refused_before_it_is_decoded_but_its_parts_are_read(tmp_path):
    path = tmp_path / "hour.flac"
    soundfile.write(path, np.tile(tone(1.0, 8_000), 700), 8_000)
    with pytest.raises(UserError, match="too long, 700"):
        audio.load_audio(path)
    assert len(audio.load_audio(path, 500.0, 501.0)) == audio.SAMPLE_RATE


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("aiff", "PCM_16"), ("au", "PCM_16"), ("flac", "PCM_16")],
)
def test_a_file_that_is_cut_off_is_refused(tmp_path, suffix, subtype):
    path = tmp_path / f"torn.{suffix}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * 48_000)
    soundfile.write(path, noise, 48_000, subtype=subtype)
    whole = path.read_bytes()
    path.write_bytes(whole[: round(0.7 * len(whole))])
    with pytest.raises(UserError, match=rf"torn\.{suffix}: cut off, its last 0\.{'5' if suffix == 'flac' else '60'}"):
        audio.load_audio(path)
    if suffix != "flac":  # parts before the cut are there
        assert len(audio.load_audio(path, 0.5, 1.0)) == pytest.approx(audio.SAMPLE_RATE / 2, abs=1)
    path.write_bytes(whole[:-100])  # a recorder's last block may be short
    if suffix != "flac":
        assert len(audio.load_audio(path)) == pytest.approx(2 * audio.SAMPLE_RATE, abs=60)


def test_a_torn_mp3_is_refused_where_its_header_knows_the_length(tmp_path):
    path = tmp_path / "torn.mp3"
    soundfile.write(path, np.tile(tone(1.0, 44_100), 4), 44_100, subtype="MPEG_LAYER_III")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"torn\.mp3: cut off"):
        audio.load_audio(path)


@pytest.mark.parametrize("promised", [0, 0x7FFF_FF00, 0xFFFF_FFFF])
def test_a_wav_written_into_a_pipe_promises_any_length(tmp_path, promised):
    path = tmp_path / "pipe.wav"
    soundfile.write(path, tone(1.0), audio.SAMPLE_RATE)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"data") + 4
    raw[at : at + 4] = promised.to_bytes(4, "little")
    path.write_bytes(raw)
    assert len(audio.load_audio(path)) == pytest.approx(audio.SAMPLE_RATE, abs=2)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.wav: the sound file is empty, it has 0 bytes"):
        audio.load_audio(tmp_path / "a.wav")


def test_missing_and_unreadable_files_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.wav: no such sound file"):
        audio.load_audio(tmp_path / "nowhere.wav")
    (tmp_path / "text.mp3").write_text("this is not sound")
    with pytest.raises(UserError, match=r"text\.mp3: this is a text, no sound"):
        audio.load_audio(tmp_path / "text.mp3")
    (tmp_path / "noise.mp3").write_bytes(bytes(range(7, 256)) * 9)
    with pytest.raises(UserError, match=r"noise\.mp3: not a readable sound file"):
        audio.load_audio(tmp_path / "noise.mp3")
    with pytest.raises(UserError, match="no such sound file"):
        audio.load_audio(tmp_path)


@pytest.mark.parametrize(
    ("wave", "message"), [(np.zeros(9_000, np.float32), "silent"), (tone(0.02), "too short"), (tone(600.2), "too long")]
)
def test_arrays_are_checked_under_the_name_given(wave, message):
    with pytest.raises(UserError, match=f"^the microphone: .*{message}"):
        audio.check_waveform(wave, "the microphone")


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_that_was_never_closed_is_read_to_its_end(tmp_path, subtype):
    """As a recorder leaves it whose battery is empty: the lengths in the header are 0, and all of the sound follows."""
    samples = np.concatenate([np.zeros(500), 0.3 * np.random.default_rng(0).standard_normal(30_000)]).clip(-1, 1)
    soundfile.write(tmp_path / "whole.wav", samples, audio.SAMPLE_RATE, subtype=subtype)
    raw = bytearray((tmp_path / "whole.wav").read_bytes())
    at = raw.index(b"data")
    raw[4:8] = raw[at + 4 : at + 8] = bytes(4)
    (tmp_path / "open.wav").write_bytes(raw)
    np.testing.assert_array_equal(audio.load_audio(tmp_path / "open.wav"), audio.load_audio(tmp_path / "whole.wav"))
    part = audio.load_audio(tmp_path / "open.wav", 0.5, 1.0)
    np.testing.assert_array_equal(part, audio.load_audio(tmp_path / "whole.wav", 0.5, 1.0))


def test_a_wav_without_sound_is_empty_whatever_else_it_holds(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), audio.SAMPLE_RATE)
    (tmp_path / "empty.wav").write_bytes(
        (tmp_path / "empty.wav").read_bytes() + b"LIST\x06\0\0\0INFOab" + b"note\x03\0\0\0abc\0"
    )
    with pytest.raises(UserError, match=r"empty\.wav: the sound file is empty"):
        audio.load_audio(tmp_path / "empty.wav")


def test_a_name_too_long_for_any_disk_is_a_missing_file():
    with pytest.raises(UserError, match="no such sound file"):
        audio.load_audio("x" * 300 + ".wav")


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(1.0), audio.SAMPLE_RATE)
    monkeypatch.setattr(sound_files.os, "access", lambda path, mode: False)  # the tests may run as root

    def refuse(path):
        raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile, "SoundFile", refuse)
    with pytest.raises(UserError, match=r"a\.wav: no permission to read the file"):
        audio.load_audio(tmp_path / "a.wav")


def test_a_lower_limit_may_be_asked_for(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(tone(1.0), 61), audio.SAMPLE_RATE)
    assert len(audio.load_audio(tmp_path / "a.wav")) == 61 * audio.SAMPLE_RATE
    with pytest.raises(UserError, match=r"too long, 61\.0 s where at most 60 s are read"):
        audio.load_audio(tmp_path / "a.wav", max_seconds=60)
