"""Any program that turns a line of text into a wav, as a voice: `command:espeak-ng -v sw -w {wav} {text}`.

`{text}` in an argument becomes the text and `{wav}` the path of the file to write; without `{text}` the program is
given the text on its standard input, as one line of UTF-8, and without `{wav}` the sound is read from its standard
output. The program is started directly, never by a shell: quotes group arguments as they do in one, but pipes, `*` and
`$` mean nothing. A last `?timeout=SECONDS` changes how long it may take for a caption.

The program's sound may have any rate, format and number of channels; it is brought to mono at 22,050 Hz. A program that
draws on chance or is updated does not say the same text the same way twice, which this package cannot know: what has
been spoken is kept and not spoken again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from s2igan.errors import UserError
from s2igan.sound_containers import mend_wav

SAMPLE_RATE = 22_050  # Hz, as in s2igan.audio, which imports torch
TIMEOUT_SECONDS = 60.0  # for one text, which is a sentence
MAX_WAV_BYTES = 1 << 28  # far more than a sentence needs, at any rate
PLACEHOLDER = re.compile(r"\{(text|wav)\}")
TIMEOUT = re.compile(r"\?timeout=([^?\s]*)$")


@dataclasses.dataclass(frozen=True)
class Command:
    """A program that speaks.

    Raises:
        UserError: if the quotes of `template` are not closed, there is no such program, or no such time.
    """

    template: str
    """The program and its arguments."""
    timeout_seconds: float = TIMEOUT_SECONDS
    """How long it may take for one text, more than 0."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds < float("inf"):
            raise UserError(f"voice {self.name!r}: the timeout must be a number of seconds above 0.")
        program = self._arguments[0]
        if PLACEHOLDER.search(program):
            raise UserError(f"voice {self.name!r}: begins with {program}; begin with the program that speaks.")
        if shutil.which(program) is None:
            raise UserError(
                f"voice {self.name!r}: there is no program {program!r} that can be run; install it or give its path."
            )

    @property
    def name(self) -> str:
        changed = self.timeout_seconds != TIMEOUT_SECONDS
        return f"command:{self.template}" + (f"?timeout={self.timeout_seconds:g}" if changed else "")

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    def synthesize(self, text: str) -> Float[np.ndarray, " samples"]:
        """See `s2igan.speech.Synthesizer`; UserError also where the program fails, takes too long or gives no sound."""
        line = " ".join(text.split())
        if not line or "\0" in line:
            raise UserError(f"voice {self.name!r}: nothing to speak in the text {text!r}; give it words.")
        with tempfile.TemporaryDirectory(prefix="s2igan-speech-") as folder:
            wav = Path(folder) / "speech.wav"
            # A text that begins with a hyphen would be an option; programs that speak do not mind a space.
            values = {"text": f" {line}" if line.startswith("-") else line, "wav": str(wav)}
            used: set[str] = set()

            def fill(match: re.Match[str]) -> str:
                used.add(match[1])
                return values[match[1]]

            arguments = [PLACEHOLDER.sub(fill, argument) for argument in self._arguments]
            output = self._run(arguments, None if "text" in used else f"{line}\n".encode(errors="replace"))
            if "wav" in used:
                if not wav.is_file():
                    raise UserError(f"voice {self.name!r}: the program ended well but wrote no file to {{wav}}.")
                if wav.stat().st_size > MAX_WAV_BYTES:
                    raise UserError(f"voice {self.name!r}: the program wrote a file of more than 256 MB for {text!r}.")
                output = wav.read_bytes()
        return self._samples(output, text)

    @property
    def _arguments(self) -> list[str]:
        try:
            arguments = shlex.split(self.template)
        except ValueError as error:
            raise UserError(f"voice {self.name!r}: {error}; close the quotes.".replace("No", "no", 1)) from error
        if not arguments:
            raise UserError(f"voice {self.name!r}: no program is named; write command:PROGRAM {{text}} {{wav}}.")
        return arguments

    def _run(self, arguments: list[str], stdin: bytes | None) -> bytes:
        """The standard output of the program."""
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that what the program starts can be ended with it
            )
        except (OSError, ValueError) as error:
            raise UserError(f"voice {self.name!r}: {arguments[0]!r} could not be started ({error}).") from error
        try:
            output, errors = process.communicate(stdin, timeout=self.timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"voice {self.name!r}: the program took more than {self.timeout_seconds:g} s for one text; allow more "
                f"with ?timeout=SECONDS after the command."
            ) from error
        finally:
            if process.poll() is None:  # too slow, or this process was interrupted
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                for pipe in (process.stdin, process.stdout, process.stderr):
                    if pipe is not None:
                        with contextlib.suppress(OSError):
                            pipe.close()
        if process.returncode != 0:
            lines = errors.decode(errors="replace").strip().splitlines()
            status = process.returncode
            how = f"with status {status}" if status > 0 else f"by signal {signal.Signals(-status).name}"
            said = f" ({lines[-1].strip()})" if lines else " and said nothing"
            raise UserError(f"voice {self.name!r}: the program ended {how}{said}.")
        return output

    def _samples(self, wav: bytes, text: str) -> Float[np.ndarray, " samples"]:
        import soundfile
        import soxr

        if not wav:
            raise UserError(
                f"voice {self.name!r}: the program ended well but wrote nothing; have it write a wav to its standard "
                "output, or to {wav}."
            )
        mended = bytearray(wav)  # a program that writes into a pipe cannot know the lengths in its header
        mend_wav(mended)
        try:
            samples, rate = soundfile.read(io.BytesIO(mended), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise UserError(
                f"voice {self.name!r}: what the program wrote is not a readable sound file ({error}); have it "
                "write a wav."
            ) from error
        wave = samples.mean(axis=1)
        if not np.isfinite(wave).all():
            raise UserError(f"voice {self.name!r}: the program wrote samples that are not numbers for {text!r}.")
        if not wave.any():
            raise UserError(f"voice {self.name!r}: the program wrote only silence for the text {text!r}.")
        if rate != SAMPLE_RATE:
            wave = soxr.resample(wave, rate, SAMPLE_RATE)
        return np.ascontiguousarray(wave.clip(-1, 1), dtype=np.float32)


def from_voice(rest: str, options: dict[str, str]) -> Command:
    """The voice of a string `command:PROGRAM ARGUMENTS[?timeout=SECONDS]` (see `s2igan.speech.parse_voice`).

    Any other `?` belongs to the command, so `parse_voice` gives all of the string here and no `options`.
    """
    assert not options
    found = TIMEOUT.search(rest)
    if found is None:
        return Command(rest)
    try:
        seconds = float(found[1])
    except ValueError:
        seconds = float("nan")
    return Command(rest[: found.start()].rstrip(), seconds)
