"""espeak-ng, through the C library that the package `espeakng-loader` carries.

espeak-ng is GPL-3.0 and therefore an extra: `pip install s2igan[speech]`.

The library keeps its voice, its noise generator and the phases of its oscillators in static variables that no call
resets: the same text spoken twice differs. An utterance here is therefore spoken by a library loaded for it and
unloaded after it (about 1 ms), which makes the samples depend on the voice and the text alone.
"""

from __future__ import annotations

import _ctypes
import ctypes
import dataclasses
import functools
import multiprocessing.util
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
from jaxtyping import Float

from s2igan.errors import UserError
from s2igan.speech import number_options

# From espeak-ng's public header speak_lib.h.
OUTPUT_SYNCHRONOUS = 2  # espeak_Synth returns when the callback has received everything
DONT_EXIT = 0x8000  # espeak_Initialize returns an error instead of ending the process
CHARS_UTF8, PHONEMES = 1, 0x100
EE_OK = 0
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_RANGE = 1, 3, 4
RANDOM_SEED = 1
BUFFER_MS = 2000  # length of sound per callback; few callbacks are fast

SAMPLE_RATE = 22_050  # Hz, of every voice of espeak-ng
LIMITS = {"rate": (80.0, 450.0), "pitch": (0.0, 100.0), "range": (0.0, 100.0), "phonemes": (0.0, 1.0)}

EVENT_LIST_END, EVENT_WORD = 0, 1


class _Event(ctypes.Structure):
    """`espeak_EVENT` of the same header; a list of them ends with one of the type `EVENT_LIST_END`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_lock = threading.Lock()  # one library at a time: its state belongs to the process


@dataclasses.dataclass(frozen=True)
class Espeak:
    """A voice of espeak-ng: a language with an optional variant, spoken at a speed and pitch.

    Raises:
        UserError: if espeakng-loader is not installed, or there is no such language or variant.
    """

    voice: str = "en-us"
    """Language, as `en-us`, or language and variant, as `en-us+f3`."""
    rate: int = 165
    """Speed in words a minute, 80 to 450."""
    pitch: int = 50
    """Pitch on espeak-ng's scale from 0 to 100, 50 being the voice's own."""
    range: int = 50
    """How far the pitch moves, from 0 (monotone) to 100."""
    phonemes: bool = False
    """Whether what stands between `[[` and `]]` in a text is phonemes of the language, in espeak-ng's mnemonics."""

    def __post_init__(self) -> None:
        _identifier(self.voice)

    @property
    def name(self) -> str:
        options = f"rate={self.rate}&pitch={self.pitch}&range={self.range}" + ("&phonemes=1" if self.phonemes else "")
        return f"espeak:{self.voice}?{options}"

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    def synthesize(self, text: str) -> Float[np.ndarray, " samples"]:
        """See `s2igan.speech.Synthesizer`."""
        with _lock:
            samples, _ = _speak(text, self)
        if not samples.any():  # a pause
            raise UserError(f"voice {self.name!r}: nothing to speak in the text {text!r}; give it words.")
        return samples.astype(np.float32) / 32768.0

    def word_starts(self, text: str) -> list[float]:
        """When each word of the text begins (seconds), as espeak-ng counts words; `synthesize` gives their sound."""
        with _lock:
            _, starts = _speak(text, self)
        return [start / SAMPLE_RATE for start in starts]


def from_voice(rest: str, options: dict[str, str]) -> Espeak:
    """The voice of a string `espeak:LANGUAGE[+VARIANT][?rate=&pitch=&range=&phonemes=]`; see `parse_voice`."""
    values = {key: round(value) for key, value in number_options(rest, options, LIMITS).items()}
    phonemes = bool(values.pop("phonemes", 0))
    return Espeak(rest, **values, phonemes=phonemes)


def languages() -> list[str]:
    """Every language code that espeak-ng speaks."""
    return sorted(_voice_files())


def variants() -> list[str]:
    """Every variant (`+NAME`) that changes the speaker of a language."""
    return sorted(path.name for path in (_installed()[1] / "voices" / "!v").iterdir())


def _speak(text: str, voice: Espeak) -> tuple[np.ndarray, list[int]]:
    """The samples, and at which of them each word begins."""
    chunks: list[bytes] = []
    starts: list[int] = []

    @_CALLBACK
    def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        at = 0
        while (event := events[at]).type != EVENT_LIST_END:
            if event.type == EVENT_WORD:
                starts.append(event.sample)
            at += 1
        return 0

    path, _ = _installed()
    identifier = _identifier(voice.voice)
    library = ctypes.CDLL(str(path))
    try:
        data = str(_linked_data_directory()).encode()
        if library.espeak_Initialize(OUTPUT_SYNCHRONOUS, BUFFER_MS, data, DONT_EXIT) != SAMPLE_RATE:
            raise UserError(f"{path}: espeak-ng did not start; install espeakng-loader again.")
        library.espeak_SetSynthCallback(collect)
        library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))
        ctypes.CDLL(None).srand(RANDOM_SEED)  # a few variants (+Reed) draw their noise from the C library's rand()
        status = library.espeak_SetVoiceByName(identifier.encode())
        parameters = ((PARAMETER_RATE, voice.rate), (PARAMETER_PITCH, voice.pitch), (PARAMETER_RANGE, voice.range))
        for parameter, value in parameters:
            status = status or library.espeak_SetParameter(parameter, value, 0)
        if status == EE_OK:
            encoded, flags = text.encode(), CHARS_UTF8 | (PHONEMES if voice.phonemes else 0)
            speak = library.espeak_Synth
            speak.argtypes = [ctypes.c_char_p, ctypes.c_size_t, *[ctypes.c_uint] * 4, ctypes.c_void_p, ctypes.c_void_p]
            status = speak(encoded, len(encoded) + 1, 0, 0, 0, flags, None, None)
        if status != EE_OK:
            raise UserError(f"voice {identifier!r}: espeak-ng failed with status {status}; choose another voice.")
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
    return np.frombuffer(b"".join(chunks), dtype=np.int16), starts


@functools.cache
def _identifier(voice: str) -> str:
    """espeak-ng's own name of a voice: `en-us+f3` -> `gmw/en-US+f3`."""
    language, plus, variant = voice.partition("+")
    files = _voice_files()
    if language.lower() not in files:
        near = [code for code in languages() if code.split("-")[0] == language.lower().split("-")[0]]
        raise UserError(
            f"voice {voice!r}: espeak-ng has no language {language!r}; it has {', '.join(near or languages())}."
        )
    if plus and variant not in variants():
        raise UserError(f"voice {voice!r}: espeak-ng has no variant {variant!r}; it has {', '.join(variants())}.")
    return files[language.lower()] + plus + variant


@functools.cache
def _voice_files() -> dict[str, str]:
    """Language code in lower case -> identifier, the path of its voice file in espeak-ng's folder `lang`.

    A voice file lists the codes it serves, `language CODE [PRIORITY]`; the lowest priority serves a code (5 if none).
    """
    folder = _installed()[1] / "lang"
    best: dict[str, tuple[int, str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            identifier = path.relative_to(folder).as_posix()
            for line in path.read_text(encoding="utf-8").splitlines():
                match line.split():
                    case ["language", code, *priority]:
                        rank = int(priority[0]) if priority and priority[0].isdigit() else 5
                        best[code.lower()] = min((rank, identifier), best.get(code.lower(), (99, "")))
    return {code: identifier for code, (_, identifier) in best.items()}


@functools.cache
def _linked_data_directory() -> Path:
    """A temporary folder of links to espeak-ng's data, in which the names of voice files are in lower case.

    espeak-ng looks for a voice file under its name in lower case, and when that fails, as with `gmw/en-US`, reads the
    files of all its voices: 3 ms, as much as speaking a sentence takes.
    """
    data, folder = _installed()[1], Path(tempfile.mkdtemp(prefix="s2igan-espeak-"))
    # Unlike tempfile's own, this clean-up also happens in the processes of multiprocessing.
    multiprocessing.util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=1)
    for entry in data.iterdir():
        if entry.name != "lang":
            (folder / entry.name).symlink_to(entry)
    for identifier in set(_voice_files().values()):
        link = folder / "lang" / identifier.lower()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(data / "lang" / identifier)
    return folder


@functools.cache
def _installed() -> tuple[Path, Path]:
    """espeak-ng's library, and the folder of its data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError("speech from text by espeak needs a package: pip install 's2igan[speech]'.") from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
