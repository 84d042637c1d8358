"""What the page shows, as JSON: pictures, what was heard, and what is near in a corpus."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from s2igan.audio import SAMPLE_RATE, waveform
from s2igan.finding import Finder
from s2igan.pipeline import SpeechToImage

ENVELOPE_POINTS = 240
"""Of the drawn waveform."""
NEAREST = 6
"""Real pictures that are shown."""
NEAREST_SIDE = 128
"""Their side in pixels."""
INK = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)])
"""From quiet to loud, five colours of the map "inferno"."""


def draw(
    model: SpeechToImage,
    finder: Finder | None,
    content: bytes,
    samples: int,
    seed: int,
    *,
    max_seconds: float,
    **options: float | None,
) -> dict[str, Any]:
    """Pictures of a recording, and what was heard.

    Raises:
        UserError: the recording is longer than `max_seconds`, or it or an option cannot be used.
    """
    wave = waveform(content, max_seconds)
    drawn = model((wave, SAMPLE_RATE), samples, seed, **options)  # type: ignore[arg-type]
    images = [
        {"seed": of_image, "scales": {str(side): picture_uri(row[k]) for side, row in drawn.scales.items()}}
        for k, of_image in enumerate(drawn.seeds)
    ]
    answer: dict[str, Any] = {
        "speech_seconds": round(drawn.speech_seconds, 3),
        "seed": seed,
        "images": images,
        "waveform": envelope(wave),
        "spectrogram": picture_uri(Image.fromarray(spectrogram_picture(model.spectrogram(wave).numpy()))),
    }
    if finder is not None:
        store = finder.store
        answer["nearest"] = [
            {
                "similarity": round(found.similarity, 3),
                "image": picture_uri(
                    Image.fromarray(store.images[found.number]).resize((NEAREST_SIDE, NEAREST_SIDE)), "jpeg"
                ),
            }
            for found in finder.pictures((wave, SAMPLE_RATE), NEAREST)
        ]
    return answer


def interpolate(
    model: SpeechToImage, first: bytes, last: bytes, steps: int, seed: int, *, max_seconds: float
) -> dict[str, Any]:
    """Pictures that lead from one recording to another; UserError as for `draw`."""
    start, end = ((waveform(content, max_seconds), SAMPLE_RATE) for content in (first, last))
    return {"seed": seed, "images": [picture_uri(image) for image in model.interpolate(start, end, steps, seed)]}


def picture_uri(image: Image.Image, kind: str = "png") -> str:
    """A picture as a data URI."""
    content = io.BytesIO()
    image.save(content, kind)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def envelope(wave: Float[np.ndarray, " samples"]) -> list[float]:
    """The largest magnitude in each of some equal parts of a waveform, of the largest of all."""
    edges = np.linspace(0, len(wave), ENVELOPE_POINTS + 1).astype(int)
    parts: Sequence[np.ndarray] = [wave[a : max(b, a + 1)] for a, b in pairwise(edges)]
    peaks = np.array([np.abs(part).max() for part in parts])
    return [round(float(peak), 3) for peak in peaks / peaks.max()]


def spectrogram_picture(mel: Float[np.ndarray, "frames mels"]) -> UInt8[np.ndarray, "mels frames 3"]:
    """A normalised log-mel in colours, low sounds at the bottom; three standard deviations are full scale."""
    level = ((mel.T[::-1] + 2.0) / 5.0).clip(0, 1)
    place = np.linspace(0, 1, len(INK))
    return np.stack([np.interp(level, place, INK[:, colour]) for colour in range(3)], axis=2).astype(np.uint8)
