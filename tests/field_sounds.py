"""Sound files as phones, recorders and broken copies leave them."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16_000
"""Hz, of `voice`."""


def voice(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Something that changes all the time, as speech does, so that no part is like another."""
    t = np.arange(round(seconds * rate)) / rate
    sweep = np.sin(2 * math.pi * (200 + 300 * np.abs((t / 7 + 0.1 * seed) % 2 - 1)) * t)
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.3 * sweep * (0.6 + 0.4 * np.sin(2 * math.pi * 1.3 * t)) + 0.005 * noise).astype(np.float32)


def encoded(wave: np.ndarray, rate: int = RATE, **format: str) -> bytes:
    """By libsndfile; `format` and `subtype` are its names."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, **format)
    return buffer.getvalue()


def phone(
    path: Path,
    wave: np.ndarray,
    container: str,
    codec: str,
    rate: int,
    source_rate: int = RATE,
    film_frames: int = 0,
    delay_seconds: float = 0.0,
    **options: str,
) -> Path:
    """By PyAV, mono: `container`, `codec` and `options` are ffmpeg's names.

    With `film_frames` there are so many pictures beside the sound, ten a second; the sound begins after
    `delay_seconds`.
    """
    import av

    samples = soxr.resample(wave, source_rate, rate) if rate != source_rate else wave
    frame = av.AudioFrame.from_ndarray(
        (samples[None].clip(-1, 1) * 32767).round().astype(np.int16), format="s16", layout="mono"
    )
    frame.sample_rate, frame.pts = rate, 0
    with av.open(str(path), "w", format=container, options=options) as file:
        if film_frames:
            film = file.add_stream("mpeg4", rate=10)
            film.width, film.height, film.pix_fmt = 64, 64, "yuv420p"
        stream = file.add_stream(codec, rate=rate, layout="mono")
        if codec == "wmav2":
            stream.bit_rate = 64_000
        for number in range(film_frames):
            picture = np.full((64, 64, 3), 3 * number % 256, np.uint8)
            file.mux(film.encode(av.VideoFrame.from_ndarray(picture)))
        if film_frames:
            file.mux(film.encode(None))
        context = stream.codec_context
        size = context.frame_size or 1024
        resampler = av.AudioResampler(format=context.format, layout="mono", rate=rate, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            part.pts += round(delay_seconds * rate)
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path


PHONES = {
    "m4a": ("mp4", "aac", 44_100),
    "aac": ("adts", "aac", 44_100),
    "amr": ("amr", "libopencore_amrnb", 8_000),
    "3gp": ("3gp", "libopencore_amrnb", 8_000),
    "webm": ("webm", "libopus", 48_000),
    "mka": ("matroska", "flac", 44_100),
    "mov": ("mov", "pcm_s16le", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "mp4": ("mp4", "aac", 16_000),
}
"""What is recorded into files of a suffix: the container, the codec, and the rate in Hz."""
