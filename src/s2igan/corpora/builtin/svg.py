"""What the drawn sets share: SVG pictures put together from Python, and rendered by resvg.

A drawing has coordinates of its own, 0 to VIEW in x (to the right) and y (down), whatever size it is rendered at.
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image

from s2igan.errors import UserError

VIEW = 256  # side of every drawing, in its own coordinates
MIN_SIZE, MAX_SIZE = 16, 2048  # pixels a side

RGB = tuple[float, float, float]
Shades = tuple[RGB, RGB, RGB]
"""A colour in full light, in half light and in shade (sRGB)."""
Point = tuple[float, float]


def render(svg: str, size: int) -> npt.NDArray[np.uint8]:
    """The picture as (size, size, 3) array, sRGB. Raises UserError for a size out of range."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UserError(f"A picture of {size} pixels cannot be drawn; choose a size from {MIN_SIZE} to {MAX_SIZE}.")
    with Image.open(io.BytesIO(_png(svg, size))) as picture:
        return np.array(picture.convert("RGB"))


def data_address(svg: str, size: int) -> str:
    """A drawing rendered at `size` pixels as the address of an image in another drawing."""
    return "data:image/png;base64," + base64.b64encode(_png(svg, size)).decode("ascii")


def _png(svg: str, size: int) -> bytes:
    return resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)


def rgb(colour: RGB) -> str:
    return "#" + "".join(f"{min(255, max(0, round(c))):02x}" for c in colour)


def mix(a: RGB, b: RGB, t: float) -> RGB:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def streams(individual_seed: int) -> Callable[[str], random.Random]:
    """Random numbers of an individual by purpose: a stream each, so that none depends on how much another draws."""
    return lambda purpose: random.Random(f"{individual_seed}/{purpose}")


def individual_shades(shades: Shades, rng: random.Random, warmth: float) -> Shades:
    """A colour as one individual wears it: a little lighter or darker, in the scene's warmer or cooler light."""
    lighter = rng.uniform(-0.07, 0.07)
    target: RGB = (255, 255, 255) if lighter > 0 else (0, 0, 0)
    red, green, blue = (rng.uniform(-4, 4) for _ in range(3))

    def vary(c: RGB) -> RGB:
        r, g, b = mix(c, target, abs(lighter))
        return ((r + red) * (1 + 0.02 * warmth), g + green, (b + blue) * (1 - 0.03 * warmth))

    light, base, shade = shades
    return vary(light), vary(base), vary(shade)


@cache
def grain(side: int, frequency: tuple[float, float], seed: int, dark: RGB, pale: RGB) -> str:
    """A texture of streaks of light and shade that repeats itself without a seam, as the address of an image.

    Turbulence costs more than the rest of a picture, so it is computed once; each individual shows another part of it.

    Args:
        side: of the texture, in the drawing's units.
        frequency: of the noise, in x and y; per unit.
        seed: of the noise.
        dark: colour of the shade, from 0 to 1 a channel.
        pale: colour of the light.
    """
    noise = (
        f'<feTurbulence type="fractalNoise" baseFrequency="{frequency[0]} {frequency[1]}" numOctaves="2" '
        f'seed="{seed}" stitchTiles="stitch"/>'
    )
    streaks = f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}">'
    # Opacity out of the noise's red channel: dark where it is high, pale where it is low.
    for name, (r, g, b), opacity in (("dark", dark, "5 0 0 0 -2.6"), ("pale", pale, "-5 0 0 0 2.2")):
        streaks += (
            f'<filter id="{name}" x="0" y="0" width="1" height="1" color-interpolation-filters="sRGB">{noise}'
            f'<feColorMatrix values="0 0 0 0 {r} 0 0 0 0 {g} 0 0 0 0 {b} {opacity}"/></filter>'
            f'<rect width="{side}" height="{side}" filter="url(#{name})"/>'
        )
    return data_address(streaks + "</svg>", side)


def path_data(*parts: str | float) -> str:
    """SVG path data from commands and coordinates."""
    return " ".join(p if isinstance(p, str) else f"{p:.1f}" for p in parts)


def spline(points: Sequence[Point], closed: bool = True) -> str:
    """Smooth path through all points (uniform Catmull-Rom, written as cubic Bezier curves)."""
    n = len(points)
    path: list[str | float] = ["M", *points[0]]
    for i in range(n if closed else n - 1):
        near = [(i + k) % n if closed else min(n - 1, max(0, i + k)) for k in (-1, 0, 1, 2)]
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (points[k] for k in near)
        path += ["C", x1 + (x2 - x0) / 6, y1 + (y2 - y0) / 6, x2 - (x3 - x1) / 6, y2 - (y3 - y1) / 6, x2, y2]
    return path_data(*path, "Z") if closed else path_data(*path)


class Canvas:
    """Collects a drawing's definitions and elements."""

    def __init__(self) -> None:
        self.defs: list[str] = []
        self.body: list[str] = []

    def svg(self) -> str:
        """The whole drawing, with a square viewBox."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{VIEW}" height="{VIEW}" viewBox="0 0 {VIEW} {VIEW}">'
            f"<defs>{''.join(self.defs)}</defs>{''.join(self.body)}</svg>"
        )

    def linear(self, line: tuple[float, float, float, float], *stops: tuple[float, RGB]) -> str:
        """Paint that runs through the stops (offset, colour) along the line x1, y1, x2, y2."""
        x1, y1, x2, y2 = line
        return self._gradient("linear", f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"', stops)

    def radial(self, x: float, y: float, r: float, *stops: tuple[float, RGB]) -> str:
        return self._gradient("radial", f'cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"', stops)

    def _gradient(self, kind: str, where: str, stops: Sequence[tuple[float, RGB]]) -> str:
        name = f"g{len(self.defs)}"
        inner = "".join(f'<stop offset="{offset:.3g}" stop-color="{rgb(colour)}"/>' for offset, colour in stops)
        self.defs.append(f'<{kind}Gradient id="{name}" gradientUnits="userSpaceOnUse" {where}>{inner}</{kind}Gradient>')
        return f"url(#{name})"

    def fill(self, d: str, paint: str, edge: str = "none", width: float = 0.0, *, opacity: float = 1.0) -> None:
        shade = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        line = f' stroke="{edge}" stroke-width="{width:.1f}"' if width else ""
        self.body.append(f'<path d="{d}" fill="{paint}"{line}{shade}/>')

    def stroke(self, d: str, paint: str, width: float, *, opacity: float = 1.0, round_ends: bool = False) -> None:
        shade = f' stroke-opacity="{opacity:.2f}"' if opacity < 1 else ""
        ends = ' stroke-linecap="round" stroke-linejoin="round"' if round_ends else ""
        self.body.append(f'<path d="{d}" fill="none" stroke="{paint}" stroke-width="{width:.1f}"{ends}{shade}/>')

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, paint: str, opacity: float = 1.0, turn: float = 0
    ) -> None:
        turned = f' transform="rotate({turn:.0f} {x:.1f} {y:.1f})"' if turn else ""
        shade = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        where = f'cx="{x:.1f}" cy="{y:.1f}" rx="{rx:.1f}" ry="{ry:.1f}"'
        self.body.append(f'<ellipse {where} fill="{paint}"{shade}{turned}/>')

    def rect(self, x: float, y: float, width: float, height: float, paint: str, opacity: float = 1.0) -> None:
        shade = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        where = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self.body.append(f'<rect {where} fill="{paint}"{shade}/>')

    def glow(self, x: float, y: float, r: float, colour: RGB, opacity: float) -> None:
        """A soft-edged disc of light. Dear by the pixel (a transparent radial gradient): one or none a picture."""
        name, tone = f"g{len(self.defs)}", rgb(colour)
        self.defs.append(
            f'<radialGradient id="{name}"><stop offset="0" stop-color="{tone}" stop-opacity="{opacity:.2f}"/>'
            f'<stop offset="1" stop-color="{tone}" stop-opacity="0"/></radialGradient>'
        )
        self.ellipse(x, y, r, r, f"url(#{name})")


def sky(canvas: Canvas, rng: random.Random, *stops: tuple[float, RGB]) -> None:
    """Fills the picture from top to bottom, a little towards evening or towards morning."""
    hour: RGB = rng.choice(((255, 214, 170), (236, 226, 246), (214, 236, 250)))
    amount = rng.uniform(0, 0.18)
    paint = canvas.linear((0, 0, 0, VIEW), *((offset, mix(colour, hour, amount)) for offset, colour in stops))
    canvas.rect(0, 0, VIEW, VIEW, paint)


def hill(rng: random.Random, y: float, height: float, steps: int = 5) -> str:
    """Outline of a rolling horizon at height y, closed below the picture."""
    points = [(-20 + i * (VIEW + 40) / steps, y + rng.uniform(-height, height)) for i in range(steps + 1)]
    return spline(points, closed=False) + f"L{VIEW + 20} {VIEW + 20}L-20 {VIEW + 20}Z"
