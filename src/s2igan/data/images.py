"""Picture files of any kind in, RGB arrays of one size out."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from s2igan.errors import UserError

BACKGROUND = (255, 255, 255)  # behind transparent parts
MIN_SIDE = 8  # pixels; anything smaller is an icon or a broken export
BOX_HALF_SIDE = 0.75  # of the longer side of a bounding box (method.md section 5)

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of the upright picture, as CUB writes its bounding boxes."""


def load_image(
    path: str | Path, size: int, box: Box | None = None, longest: float = 1.0
) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a picture, or what is around `box`, and bring its shorter side to `size` pixels.

    Rotated as its EXIF says, transparent parts on white, 16-bit and floating-point greys scaled to 8 bits, CMYK and
    palettes converted; of an animation the first frame. The square around a box has the box's centre and a half-side
    of 0.75 * max(width, height), and is clipped to the picture (method.md section 5). Of the longer side the middle is
    kept: by default the square in the middle, with `longest` up to that many times the shorter side. The square in the
    middle is the same either way, but for rounding.

    Raises:
        UserError: naming the file, if it is missing, not a picture, truncated, under 8 px or over 178 megapixels.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        raise UserError(f"{path}: no such image file; check the path.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the image file is empty, it has 0 bytes; export it again or leave it out.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of pictures half as large as those it refuses, and of odd metadata where it decodes well.
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                if box is None:
                    picture.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
                picture.load()
                rgb = _to_rgb(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too large an image ({error}); scale it down.") from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read the file; change its permissions.") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        raise UserError(f"{path}: not a readable image ({error or type(error).__name__}); export it again.") from error
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
        picture = Image.fromarray(_grey_8_bit(np.asarray(picture)))
    if picture.mode in {"LA", "PA", "La", "RGBA", "RGBa"} or transparent:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        picture = Image.alpha_composite(ground, picture)
    return picture.convert("RGB")


def _grey_8_bit(values: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    """16-bit integers by their full range; floats in [0, 1], or in [0, 255] where they exceed 1."""
    grey = values.astype(np.float64)
    if values.dtype.kind == "f":
        if np.nanmax(grey, initial=0.0) <= 1.0:
            grey *= 255.0
    elif values.dtype.itemsize == 2 or grey.max(initial=0.0) > 255.0:
        grey /= 257.0  # 65,535 -> 255; a 16-bit PNG may arrive as 32-bit integers
    return np.nan_to_num(grey).round().clip(0, 255).astype(np.uint8)
