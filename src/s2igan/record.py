"""The microphone, by sounddevice (the extra `mic`)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from s2igan.audio import SAMPLE_RATE, check_waveform, resampled, write_recording
from s2igan.errors import UserError


def record(path: Path, *, seconds: float, microphone: str | None = None) -> float:
    """Records until Enter is pressed, or for so many seconds, and writes a 16-bit wav; returns its length in seconds.

    Args:
        microphone: name or number of an input device, as `python -m sounddevice` lists them; the system's own unless
            given.

    Raises:
        UserError: sounddevice or its PortAudio is not installed, there is no such microphone, or nothing was heard.
    """
    device = int(microphone) if microphone is not None and microphone.isdigit() else microphone
    wave, rate = _listen(seconds, device)
    wave = resampled(wave, rate, "the microphone")
    check_waveform(wave, "the microphone")
    write_recording(path, wave, SAMPLE_RATE)
    return len(wave) / SAMPLE_RATE


def _listen(seconds: float, microphone: str | int | None) -> tuple[Float[np.ndarray, " samples"], float]:
    """What the microphone gives, and its rate in Hz."""
    try:
        import sounddevice
    except ImportError as error:
        raise UserError("the microphone needs the extra mic: pip install 's2igan[mic]'.") from error
    except OSError as error:
        raise UserError(
            f"the microphone cannot be used ({error}); install PortAudio (on Debian and Ubuntu: apt install "
            "libportaudio2)."
        ) from error
    blocks: list[np.ndarray] = []
    try:
        rate = float(sounddevice.query_devices(microphone, "input")["default_samplerate"])
        with sounddevice.InputStream(
            samplerate=rate,
            device=microphone,
            channels=1,
            dtype="float32",
            callback=lambda block, *_: blocks.append(block[:, 0].copy()),
        ):
            _wait_for_enter(seconds)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(f"the microphone cannot be used ({error}); python -m sounddevice lists those here.") from error
    if not blocks:
        raise UserError("the microphone gave no sound; check that it is connected, or record for longer.")
    return np.concatenate(blocks), rate


def _wait_for_enter(seconds: float) -> None:
    """Returns when Enter is pressed, or after so many seconds."""
    pressed = threading.Event()

    def read(*_: Any) -> None:
        try:
            input()
        except EOFError:  # nobody is at the keyboard
            return
        pressed.set()

    threading.Thread(target=read, daemon=True).start()
    pressed.wait(seconds)
