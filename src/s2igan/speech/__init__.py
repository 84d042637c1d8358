"""Speech from text: engines behind one protocol, named by a voice string.

`parse_voice("espeak:en-us+f3?rate=160&pitch=55")` gives a `Synthesizer`. Engines are imported when they are asked
for, so that their packages (GPL, extras of this one) are needed by nobody else.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast, runtime_checkable
from urllib.parse import parse_qsl

import numpy as np
from jaxtyping import Float, Int16

from s2igan.audio import write_recording
from s2igan.errors import UserError

# Prefix of a voice string -> module with `from_voice(rest, options)`.
ENGINES = {
    "espeak": "s2igan.speech.espeak",
    "piper": "s2igan.speech.piper",
    "command": "s2igan.speech.command",
}
WITHOUT_OPTIONS = frozenset({"command"})  # a `?` may be part of a command


@runtime_checkable
class Synthesizer(Protocol):
    """One voice that speaks text."""

    @property
    def name(self) -> str:
        """The voice string that `parse_voice` turns into this voice."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    def synthesize(self, text: str) -> Float[np.ndarray, " samples"]:
        """The spoken text, mono float32 in [-1, 1] at `sample_rate`; the same text always gives the same samples.

        Raises:
            UserError: if the text holds nothing that can be spoken.
        """


def parse_voice(voice: str) -> Synthesizer:
    """The voice that a string `engine:rest?option=value&option=value` names.

    A `command:` runs a program: never take one from a file that somebody else has written.

    Raises:
        UserError: if the engine, the voice or an option is unknown, or the engine's package is not installed.
    """
    engine, colon, rest = voice.partition(":")
    if not colon or engine not in ENGINES:
        known = ", ".join(f"{name}:..." for name in ENGINES)
        raise UserError(f"{voice!r}: no such voice; name one of {known} (for instance espeak:en-us+f3?rate=160).")
    query = ""
    if engine not in WITHOUT_OPTIONS:
        rest, _, query = rest.partition("?")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise UserError(f"{voice!r}: options are written ?name=value&name=value; correct {query!r}.") from error
    from_voice = cast(Callable[[str, dict[str, str]], Synthesizer], importlib.import_module(ENGINES[engine]).from_voice)
    return from_voice(rest, options)


def speak(voice: Synthesizer, text: str, bits: int = 16) -> Int16[np.ndarray, " samples"]:
    """A text spoken by a voice, with `bits` of precision, at most 16; the other bits are zero, which FLAC does not
    store.

    Raises:
        UserError: if the voice cannot speak the text.
    """
    full_scale = 2 ** (bits - 1)
    rounded = np.round(voice.synthesize(text) * full_scale).clip(-full_scale, full_scale - 1)
    return rounded.astype(np.int16) << (16 - bits)


def flac(samples: Int16[np.ndarray, " samples"], sample_rate: int) -> bytes:
    """The bytes of a FLAC file."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def number_options(voice: str, options: dict[str, str], limits: dict[str, tuple[float, float]]) -> dict[str, float]:
    """The options of a voice as numbers.

    Raises:
        UserError: naming `voice`, for an option that is not in `limits`, not a number or outside its limits.
    """
    values = {}
    for option, text in options.items():
        if option not in limits:
            raise UserError(f"voice {voice!r}: no option {option!r}; there are {', '.join(limits)}.")
        low, high = limits[option]
        try:
            values[option] = float(text)
        except ValueError:
            values[option] = float("nan")
        if not low <= values[option] <= high:
            raise UserError(f"voice {voice!r}: {option}={text} must be a number from {low:g} to {high:g}.")
    return values


def speak_to_file(sentence: str, voice: str, path: Path) -> Path:
    """Has a sentence spoken and writes it as a 16-bit wav; returns the path.

    Raises:
        UserError: the sentence is empty, there is no such voice, or the file cannot be written.
    """
    if not sentence.strip():
        raise UserError("the sentence is empty; write what should be said in quotation marks.")
    synthesizer = parse_voice(voice)
    write_recording(path, synthesizer.synthesize(sentence), synthesizer.sample_rate)
    return path
