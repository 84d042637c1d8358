"""Programs as voices: what they are given, what they may give back, and how they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s2igan.errors import UserError
from s2igan.sound_containers import mend_wav
from s2igan.speech import Synthesizer, parse_voice
from s2igan.speech.command import Command

# Speaks a tone as long as the text, in the manner of espeak-ng: -w FILE or standard output, text as the last argument
# or on standard input.
SPEAKER = """
import array, io, json, math, sys, wave
arguments, options = sys.argv[1:], {}
while arguments and arguments[0].startswith("-"):
    options[arguments[0]] = arguments[1]
    arguments = arguments[2:]
text = arguments[0] if arguments else sys.stdin.read()
if "-j" in options:
    open(options["-j"], "w").write(json.dumps([text, *arguments[1:]]))
n = int(len(text.strip()) * 400)
file = io.BytesIO()
with wave.open(file, "wb") as out:
    out.setparams((1, 2, 8000, n, "NONE", ""))
    out.writeframes(array.array("h", [int(9000 * math.sin(0.3 * i)) for i in range(n)]).tobytes())
if "-w" in options:
    open(options["-w"], "wb").write(file.getvalue())
else:
    sys.stdout.buffer.write(file.getvalue())
"""
TEXT = 'a bird, it\'s "red" & $HOME; {wav} {text} | cat *'


@pytest.fixture(scope="module")
def speaker(tmp_path_factory) -> str:
    """The beginning of a command that speaks, its script in a folder with a space in its name."""
    script = tmp_path_factory.mktemp("with space") / "speak.py"
    script.write_text(SPEAKER)
    return f"{sys.executable} -I -S '{script}'"


def pitch(wave: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.argmax(spectrum) * rate / len(wave))


@pytest.mark.parametrize("arguments", ["-w {wav} {text}", "{text}", "-w {wav}", ""])
def test_text_and_sound_go_by_arguments_or_by_pipes(speaker, tmp_path, arguments):
    said = tmp_path / "said.json"
    voice = Command(f"{speaker} -j '{said}' {arguments}")
    wave = voice.synthesize(TEXT)
    assert said.read_text().count("\\n") == ("{text}" not in arguments)  # standard input is a line
    assert [part.rstrip("\n") for part in json.loads(said.read_text())] == [TEXT]  # no shell, and no placeholder in it
    assert isinstance(voice, Synthesizer)
    assert wave.dtype == np.float32
    assert len(wave) == pytest.approx((len(TEXT) + 0.0) * 0.05 * voice.sample_rate, rel=0.01)


def wav_file(path: Path, rate: int, channels: int = 1, subtype: str = "PCM_16") -> Path:
    """A second of a tone."""
    wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate, format="WAV", subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(8000, 1, "PCM_16"), (22050, 1, "PCM_U8"), (48000, 2, "PCM_24"), (44100, 1, "FLOAT")],
)
def test_the_rate_is_read_from_the_wav(tmp_path, rate, channels, subtype):
    voice = Command(f"cat {wav_file(tmp_path / 'a.wav', rate, channels, subtype)}")
    wave = voice.synthesize("words")
    assert len(wave) == pytest.approx(22_050, abs=2)
    assert pitch(wave, voice.sample_rate) == pytest.approx(440, abs=2)
    assert np.abs(wave[2000:-2000]).max() == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_lengths_that_the_program_could_not_know_do_not_matter(tmp_path, length):
    path = wav_file(tmp_path / "a.wav", 16_000)
    voice = Command(f"cat {path}")
    whole = voice.synthesize("words")
    content, unknown = path.read_bytes(), length.to_bytes(4, "little")
    at = content.index(b"data") + 4
    path.write_bytes(content[:4] + unknown + content[8:at] + unknown + content[at + 4 :])
    np.testing.assert_array_equal(voice.synthesize("words"), whole)


def test_right_lengths_stay_and_what_is_no_wav_is_left_alone():
    wav = b"RIFF\x2c\0\0\0WAVEfmt \x04\0\0\0abcddata\x02\0\0\0xyLIST\x02\0\0\0zz"
    for content in (wav, b"fLaC", wav[:20]):
        mended = bytearray(content)
        mend_wav(mended)
        assert mended == content


def test_a_text_cannot_become_an_option(speaker, tmp_path):
    said = tmp_path / "said.json"
    Command(f"{speaker} -j '{said}' {{text}}").synthesize(f"-w {tmp_path}/stolen.wav")
    assert not (tmp_path / "stolen.wav").exists()
    assert said.read_text() == f'[" -w {tmp_path}/stolen.wav"]'


def test_lines_become_one(speaker, tmp_path):
    said = tmp_path / "said.json"
    Command(f"{speaker} -j '{said}'").synthesize("one\n  two\tthree ")
    assert said.read_text() == '["one two three\\n"]'


def test_voice_strings(speaker):
    voice = parse_voice(f"command:{speaker} -x what?a=b {{text}}?timeout=2.5")
    assert voice == Command(f"{speaker} -x what?a=b {{text}}", timeout_seconds=2.5)
    assert parse_voice(voice.name) == voice
    plain = parse_voice(f"command:{speaker} {{text}}")
    assert plain.name == f"command:{speaker} {{text}}"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "no program is named"),
        ("no-such-program-anywhere {text}", "no program 'no-such-program-anywhere'"),
        ("cat 'unclosed", "no closing quotation; close the quotes"),
        ("{text} -w {wav}", r"begin with the program"),
        ("cat?timeout=0", "a number of seconds above 0"),
        ("cat?timeout=soon", "a number of seconds above 0"),
    ],
)
def test_commands_that_cannot_be_are_refused_at_once(command, message):
    with pytest.raises(UserError, match=message):
        parse_voice(f"command:{command}")


def python(code: str) -> Command:
    return Command(f'{sys.executable} -I -S -c "{code}"', timeout_seconds=20)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; print('a', file=sys.stderr); sys.exit('no voice pack')", r"status 1 \(no voice pack\)"),
        ("import os; os._exit(3)", "status 3 and said nothing"),
        ("import os; os.kill(os.getpid(), 9)", "by signal SIGKILL"),
        ("pass", "wrote nothing"),
        ("print('RIFF but no wav')", "not a readable sound file"),
        ("'{wav}'", r"wrote no file to \{wav\}"),
    ],
)
def test_failures_are_sentences(code, message):
    with pytest.raises(UserError, match=message):
        python(code).synthesize("words")


def test_silence_and_no_words_are_refused(speaker, tmp_path):
    with pytest.raises(UserError, match="nothing to speak"):
        Command(f"{speaker} {{text}}").synthesize(" \n ")
    soundfile.write(tmp_path / "a.wav", np.zeros(99), 8000)
    with pytest.raises(UserError, match="only silence"):
        Command(f"cat {tmp_path / 'a.wav'}").synthesize("words")


def test_a_slow_program_is_ended_with_all_that_it_started(tmp_path):
    script = tmp_path / "slow.sh"
    script.write_text(f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/child\nwait\n")
    script.chmod(0o755)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"more than 0\.5 s .*\?timeout=SECONDS"):
        parse_voice(f"command:{script} {{text}}?timeout=0.5").synthesize("words")
    assert time.monotonic() - started < 20
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("the child lives")


def test_starting_a_voice_imports_nothing_heavy():
    code = (
        "import sys; from s2igan.speech import parse_voice; parse_voice('command:cat'); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
