"""Picture files of any kind in, RGB arrays of one size out."""

from __future__ import annotations

import functools
import io
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from s2igan.errors import UserError
from s2igan.file_kinds import kind_of, mistaken

BACKGROUND = (255, 255, 255)  # behind transparent parts
MIN_SIDE = 8  # pixels; anything smaller is an icon or a broken export
BOX_HALF_SIDE = 0.75  # of the longer side of a bounding box (method.md section 5)

ORIENTATION = 0x0112  # tag of EXIF: how the camera was held
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its orientation."""
BITS_PER_SAMPLE = 258  # tag of TIFF
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # tag of TIFF, and a value of it
GREY_RANGES = (1 << 8, 1 << 10, 1 << 12)
"""Of cameras and scanners that write 8, 10 or 12 bits into 16; a picture of 16 bits so dark is all black."""
NEEDED_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"})
"""Of a PNG; texts, colour profiles and other notes are not needed."""
END_OF_JPEG = b"\xff\xd9"

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of the upright picture, as CUB writes its bounding boxes."""


def load_image(
    path: str | Path, size: int, box: Box | None = None, longest: float = 1.0
) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a picture, or what is around `box`, and bring its shorter side to `size` pixels.

    Any kind that Pillow reads, and HEIC. Turned as its EXIF says, transparent parts on white, greys of 10, 12 or 16
    bits and of floating point scaled to 8 bits, CMYK and palettes converted; of an animation the first frame. The
    square around a box has the box's centre and a half-side of 0.75 * max(width, height), and is clipped to the picture
    (method.md section 5). Of the longer side the middle is kept: by default the square in the middle, with `longest` up
    to that many times the shorter side. The square in the middle is the same either way, but for rounding.

    Raises:
        UserError: naming the file, if it is missing, not a picture, truncated, under 8 px or over 178 megapixels.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        raise UserError(f"{path}: no such image file; check the path.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the image file is empty, it has 0 bytes; export it again or leave it out.")
    draft = 2 * size if box is None else None
    raw = b""
    try:
        raw = path.read_bytes()
        rgb = _decoded(raw, draft)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too large an image ({error}); scale it down.") from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read the file; change its permissions.") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        kind = kind_of(raw)
        if isinstance(error, UnidentifiedImageError) and kind is not None and kind.name not in DECODED:
            raise UserError(f"{path}: {mistaken(kind, 'picture')}.") from error
        is_begun = isinstance(error, UnidentifiedImageError) and kind is not None
        begun = f", though it begins as {kind.words}" if is_begun else ""  # type: ignore[union-attr]
        raise UserError(f"{path}: not a readable image{begun} ({_reason(error)}); export it again.") from error
    left, top, right, bottom = _part(rgb.width, rgb.height, box)
    if min(right - left, bottom - top) < MIN_SIDE:
        whole = f"{path}: the image is {rgb.width} x {rgb.height} px"
        if box is None or min(rgb.width, rgb.height) < MIN_SIDE:
            raise UserError(f"{whole}, under {MIN_SIDE}; use a larger one.")
        raise UserError(f"{whole} and the square around its bounding box under {MIN_SIDE}; correct the box.")
    scale = size / min(right - left, bottom - top)

    def pixels(length: float) -> int:
        """As many more than `size` on both sides of the middle."""
        return size + 2 * int((min(length * scale, longest * size) - size + 1e-6) / 2)

    shape = pixels(right - left), pixels(bottom - top)
    if shape == rgb.size and scale == 1.0:
        return np.asarray(rgb)
    x, y, half_width, half_height = (left + right) / 2, (top + bottom) / 2, shape[0] / scale / 2, shape[1] / scale / 2
    middle = (  # inside, but for rounding
        max(left, x - half_width),
        max(top, y - half_height),
        min(right, x + half_width),
        min(bottom, y + half_height),
    )
    return np.asarray(rgb.resize(shape, Image.Resampling.BICUBIC, box=middle))


DECODED = frozenset({"jpeg", "png", "gif", "bmp", "webp", "heic", "avif", "jpeg2000"})
"""Kinds that are read: what is of such a kind and cannot be identified is damaged."""


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its beginning is damaged, or of no picture that is known"
    return str(error) or type(error).__name__


def _decoded(raw: bytes, draft: int | None) -> Image.Image:
    """The upright picture in RGB; of a large JPEG at a fraction of its size, with both sides at `draft` pixels or more.

    Raises nearly anything.
    """
    try:
        return _by_pillow(raw, draft)
    except Image.DecompressionBombError:
        raise
    except Exception:
        if raw.startswith(b"\x89PNG"):  # Pillow refuses large texts and damaged notes, which nobody needs
            return _by_pillow(_png_without_notes(raw), draft)
        if raw.startswith(b"\xff\xd8"):
            picture = _jpeg_without_end(raw, draft)
            if picture is not None:
                return picture
        raise


def _by_pillow(raw: bytes, draft: int | None) -> Image.Image:
    _register_heic()
    with warnings.catch_warnings():
        # Pillow warns of pictures half as large as those it refuses, and of odd metadata where it decodes well.
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(raw)) as picture:
            if draft is not None:
                picture.draft(None, (draft, draft))
            picture.load()
            turn = TURNS.get(_orientation(picture))
            _check_depth(raw, picture)
            rgb = _to_rgb(picture)
            return rgb if turn is None else rgb.transpose(turn)


@functools.cache
def _register_heic() -> None:
    import pi_heif

    pi_heif.register_heif_opener()


def _orientation(picture: Image.Image) -> int:
    """1 to 8, 1 being upright, which it also is where the tag makes no sense: a picture is read all the same."""
    try:
        value: Any = picture.getexif().get(ORIENTATION, 1)
        return int(value[0] if isinstance(value, tuple | list | bytes) else value)
    except Exception:  # malformed tags make Pillow raise nearly anything
        return 1


def _png_without_notes(raw: bytes) -> bytes:
    parts, at = [raw[:8]], 8
    while at + 12 <= len(raw):
        end = at + 12 + int.from_bytes(raw[at : at + 4], "big")
        name, checksum = raw[at + 4 : at + 8], int.from_bytes(raw[end - 4 : end], "big")
        if name in NEEDED_CHUNKS and (name != b"eXIf" or zlib.crc32(raw[at + 4 : end - 4]) == checksum):
            parts.append(raw[at:end])
        at = end
    return b"".join(parts)


def _jpeg_without_end(raw: bytes, draft: int | None) -> Image.Image | None:
    """The picture of a JPEG that lacks only its end marker; None where more is missing.

    What is missing a decoder makes up from what follows. So two ends are tried, and of a whole picture they are equal.
    """
    try:
        one, other = (_by_pillow(raw + tail + END_OF_JPEG, draft) for tail in (b"", b"\x55\xa3" * 4096))
    except Exception:
        return None
    return one if one.tobytes() == other.tobytes() else None


def _check_depth(raw: bytes, picture: Image.Image) -> None:
    """ValueError for a picture of 10 or 12 bits in 16, of which Pillow keeps the upper 8: all black."""
    tags: Any = getattr(picture, "tag_v2", {})
    depths = (raw[24],) if raw.startswith(b"\x89PNG") else tags.get(BITS_PER_SAMPLE, (8,))
    if max(depths) != 16 or picture.mode not in {"RGB", "RGBA", "RGBX", "LA"}:
        return
    colours = picture.getextrema()[: 1 if picture.mode == "LA" else 3]
    if 0 < max(high for _, high in colours) < GREY_RANGES[-1] >> 8:  # type: ignore[misc]
        raise ValueError("its colours have 16 bits and use 12 or fewer of them, so that it is black; save it with 8")


def _part(width: int, height: int, box: Box | None) -> Box:
    """What is around the box: left, top, right, bottom."""
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    if box is not None:
        half = BOX_HALF_SIDE * max(box[2], box[3])
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        left, top = max(left, x - half), max(top, y - half)
        right, bottom = min(right, x + half), min(bottom, y + half)
    return left, top, right, bottom


def _to_rgb(picture: Image.Image) -> Image.Image:
    transparent = "transparency" in picture.info
    if picture.mode.startswith("I") or picture.mode == "F":
        tags: Any = getattr(picture, "tag_v2", {})
        grey = _grey_8_bit(np.asarray(picture))
        picture = Image.fromarray(255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey)
    if picture.mode in {"LA", "PA", "La", "RGBA", "RGBa"} or transparent:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        picture = Image.alpha_composite(ground, picture)
    return picture.convert("RGB")


def _grey_8_bit(values: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    """Integers by the smallest of the ranges of 8, 10, 12 and 16 bits that holds them, those of 32 bits above that by
    their largest; floats in [0, 1], or as integers where they exceed 1. ValueError where floats are below 0."""
    grey = values.astype(np.float64)
    most = float(np.nanmax(np.where(np.isinf(grey), np.nan, grey), initial=0.0))
    if values.dtype.kind == "f" and np.nanmin(grey, initial=0.0) < -most / 100:
        raise ValueError("its greys are numbers below 0, of which nobody knows what is black; save it with 8 bits")
    if values.dtype.kind == "f" and most <= 1.0:
        grey *= 255.0
    else:
        grey *= 255.0 / (next((steps for steps in (*GREY_RANGES, 1 << 16) if most < steps), most + 1) - 1)
    return np.nan_to_num(grey).round().clip(0, 255).astype(np.uint8)
