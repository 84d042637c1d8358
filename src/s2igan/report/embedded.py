"""Pictures and recordings as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float
from PIL import Image

from s2igan.errors import UserError

PNG_UP_TO = 128
"""Pictures with a longer side than this, in pixels, are inlined as JPEG."""
JPEG_QUALITY = 90


def picture(path: Path) -> tuple[str, int, int]:
    """URI, width and height (pixels) of a picture, which is a PNG where it is small and a JPEG where it is large.

    Raises:
        UserError: the picture is missing or unreadable.
    """
    try:
        with Image.open(path) as image:
            return picture_uri(image), *image.size
    except OSError as error:
        raise _missing(path, "picture") from error


def picture_uri(image: Image.Image) -> str:
    """The URI of a picture."""
    content = io.BytesIO()
    kind = "png" if max(image.size) <= PNG_UP_TO else "jpeg"
    image.convert("RGB").save(content, kind, quality=JPEG_QUALITY)
    return _uri(f"image/{kind}", content)


def sound(path: Path) -> str:
    """The URI of a recording as MP3, which every browser plays.

    Raises:
        UserError: the recording is missing or unreadable.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise _missing(path, "sound") from error
    return sound_uri(samples.mean(axis=1), rate)


def sound_uri(samples: Float[np.ndarray, " samples"], rate: int) -> str:
    """The URI of a waveform, as MP3."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.6)
    return _uri("audio/mpeg", content)


def _uri(kind: str, content: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _missing(path: Path, what: str) -> UserError:
    return UserError(f"{path}: the report needs this {what} and cannot read it; run s2igan evaluate again.")
