"""Birds drawn from a list of attributes, as SVG pictures rendered by resvg.

A picture follows from its attributes and one seed alone. The attributes decide what a sentence could say about the bird; the
seed decides everything else: pose, size, facing, the exact shade of each colour, the light, and what lies in the background.
The seed's choices do not depend on the attributes, so two birds with the same seed differ only in what their attributes say.

The parts are drawn large and with an edge between them, because the smallest pictures of the project are 64 pixels wide and
every attribute has to be readable there.
"""

import base64
import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import resvg_py
from PIL import Image

from s2igan.errors import UserError

COLOURS: tuple[str, ...] = (
    "red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey",
)  # fmt: skip

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "belly_colour": COLOURS,
    "wing_colour": COLOURS,
    "head_colour": COLOURS,
    "back_colour": COLOURS,
    "beak_length": ("short", "long"),
    "beak_colour": ("yellow", "orange", "red", "black", "grey"),
    "breast_pattern": ("plain", "striped", "spotted"),
    "wing_bars": ("absent", "present"),
    "tail_length": ("short", "long"),
    "habitat": ("forest", "water", "snow", "desert", "meadow", "sky"),
}

VIEW = 256  # the drawing's own coordinates run from 0 to VIEW in x (right) and y (down)
GRAIN = 72  # side of the feather texture, in the drawing's units
MIN_SIZE, MAX_SIZE = 16, 2048  # pixels a side

RGB = tuple[float, float, float]
Point = tuple[float, float]

# Each colour as it looks in full light, in half light and in shade (sRGB). Shades lean towards a neighbouring hue, as paint
# does, but never towards another of the ten: the shade of yellow stays clear of orange and that of white clear of grey.
PLUMAGE: dict[str, tuple[RGB, RGB, RGB]] = {
    "red": ((244, 82, 72), (212, 28, 36), (146, 10, 36)),
    "orange": ((255, 172, 72), (248, 128, 18), (208, 88, 6)),
    "yellow": ((255, 242, 122), (253, 218, 40), (226, 176, 18)),
    "green": ((122, 204, 92), (48, 154, 56), (18, 100, 50)),
    "blue": ((98, 164, 252), (34, 98, 218), (18, 52, 154)),
    "purple": ((190, 118, 222), (130, 50, 180), (80, 22, 128)),
    "brown": ((160, 106, 66), (116, 68, 36), (76, 42, 22)),
    "black": ((76, 78, 90), (34, 34, 42), (12, 12, 18)),
    "white": ((255, 255, 253), (246, 245, 240), (206, 210, 220)),
    "grey": ((176, 179, 185), (136, 139, 146), (98, 101, 111)),
}
DARK_COLOURS = frozenset({"red", "green", "blue", "purple", "brown", "black"})  # a pale pattern shows up on these
PALE_MARK: RGB = (250, 246, 232)
DARK_MARK: RGB = (48, 36, 38)


def _rgb(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{min(255, max(0, round(c))):02x}" for c in colour[:3])


def _mix(a: RGB, b: RGB, t: float) -> RGB:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _spline(points: Sequence[Point], closed: bool = True) -> str:
    """Smooth path through all points (uniform Catmull-Rom, written as cubic Bezier curves)."""
    n = len(points)

    def at(i: int) -> Point:
        return points[i % n] if closed else points[min(n - 1, max(0, i))]

    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for i in range(n if closed else n - 1):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = at(i - 1), at(i), at(i + 1), at(i + 2)
        parts.append(
            f"C{x1 + (x2 - x0) / 6:.1f} {y1 + (y2 - y0) / 6:.1f} {x2 - (x3 - x1) / 6:.1f} {y2 - (y3 - y1) / 6:.1f} "
            f"{x2:.1f} {y2:.1f}"
        )
    return "".join(parts) + ("Z" if closed else "")


def _tufts(points: Sequence[Point], count: int, length: float, sweep: Point) -> list[Point]:
    """Corner points of a ragged edge along the open curve: feather tips that stand `length` off it towards `sweep`."""
    steps = [i * (len(points) - 1) / count for i in range(count + 1)]
    curve = []
    for s in steps:
        i = min(int(s), len(points) - 2)
        (x1, y1), (x2, y2), t = points[i], points[i + 1], s - i
        curve.append((x1 + (x2 - x1) * t, y1 + (y2 - y1) * t))
    edge = [curve[0]]
    for k, ((x1, y1), (x2, y2)) in enumerate(zip(curve, curve[1:], strict=False)):
        reach = length * (0.75, 1.1, 0.9)[k % 3]
        edge += [((x1 + x2) / 2 + sweep[0] * reach, (y1 + y2) / 2 + sweep[1] * reach), (x2, y2)]
    return edge


def _polyline(points: Sequence[Point]) -> str:
    return "".join(f"L{x:.1f} {y:.1f}" for x, y in points)


@lru_cache(maxsize=1)
def _grain() -> str:
    """The one feather texture, as a data address: streaks of light and shade that every bird is overlaid with.

    Turbulence costs more than all the rest of a picture together, so it is computed once and each bird shows another part of it.
    """
    noise = '<feTurbulence type="fractalNoise" baseFrequency=".09 .2" numOctaves="2" seed="7" stitchTiles="stitch"/>'
    area = 'x="0" y="0" width="1" height="1" color-interpolation-filters="sRGB"'
    streaks = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{GRAIN}" height="{GRAIN}"><defs>'
        f'<filter id="dark" {area}>{noise}<feColorMatrix values="0 0 0 0 .1 0 0 0 0 .02 0 0 0 0 .1 5 0 0 0 -2.6"/></filter>'
        f'<filter id="pale" {area}>{noise}<feColorMatrix values="0 0 0 0 1 0 0 0 0 1 0 0 0 0 .92 -5 0 0 0 2.2"/></filter></defs>'
        f'<rect width="{GRAIN}" height="{GRAIN}" filter="url(#dark)"/>'
        f'<rect width="{GRAIN}" height="{GRAIN}" filter="url(#pale)"/></svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=streaks, width=GRAIN, height=GRAIN, skip_system_fonts=True)
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


@dataclass
class _Canvas:
    """Collects definitions and drawn elements."""

    defs: list[str]
    body: list[str]

    def gradient(
        self, stops: Sequence[tuple[float, RGB, float]], *, line: tuple[float, ...] = (), circle: tuple[float, ...] = ()
    ) -> str:
        """A linear (x1, y1, x2, y2) or radial (cx, cy, r) gradient in drawing coordinates; stops: (offset, colour, opacity)."""
        name = f"g{len(self.defs)}"
        inner = "".join(
            f'<stop offset="{o:.3g}" stop-color="{_rgb(c)}"' + (f' stop-opacity="{a:.3g}"/>' if a < 1 else "/>")
            for o, c, a in stops
        )
        if line:
            x1, y1, x2, y2 = line
            kind, where = "linear", f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        else:
            cx, cy, r = circle
            kind, where = "radial", f'cx="{cx:.1f}" cy="{cy:.1f}" r="{r:.1f}"'
        self.defs.append(f'<{kind}Gradient id="{name}" gradientUnits="userSpaceOnUse" {where}>{inner}</{kind}Gradient>')
        return f"url(#{name})"

    def path(
        self, d: str, fill: str = "none", stroke: str = "", width: float = 0.0, opacity: float = 1.0, cap: str = "butt"
    ) -> None:
        shade = "" if opacity >= 1 else f' {"fill" if fill != "none" else "stroke"}-opacity="{opacity:.2f}"'
        line = f' stroke="{stroke}" stroke-width="{width:.1f}"' if stroke else ""
        ends = ' stroke-linecap="round" stroke-linejoin="round"' if cap == "round" else ""
        self.body.append(f'<path d="{d}" fill="{fill}"{line}{ends}{shade}/>')

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, fill: str, opacity: float = 1.0, turn: float = 0
    ) -> None:
        turned = f' transform="rotate({turn:.0f} {x:.1f} {y:.1f})"' if turn else ""
        shade = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        self.body.append(
            f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{rx:.1f}" ry="{ry:.1f}" fill="{fill}"{shade}{turned}/>'
        )

    def ring(self, x: float, y: float, rx: float, ry: float, stroke: str, width: float) -> None:
        self.body.append(
            f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{rx:.1f}" ry="{ry:.1f}" fill="none" stroke="{stroke}" '
            f'stroke-width="{width:.1f}"/>'
        )

    def rect(self, x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0) -> None:
        shade = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        self.body.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"{shade}/>'
        )

    def disc(self, x: float, y: float, r: float, colour: RGB, opacity: float) -> None:
        """A point of light out of focus: a flat disc, as a lens draws it."""
        self.ellipse(x, y, r, r, _rgb(colour), opacity)

    def glow(self, x: float, y: float, rx: float, ry: float, colour: RGB, opacity: float = 1.0) -> None:
        """A soft-edged ellipse. Costs more a pixel than all else here, so it is used for few and small areas."""
        name = f"s{_rgb(colour)[1:]}{round(100 * opacity)}"
        entry = (
            f'<radialGradient id="{name}"><stop offset="0" stop-color="{_rgb(colour)}" stop-opacity="{opacity:.2f}"/>'
            f'<stop offset="1" stop-color="{_rgb(colour)}" stop-opacity="0"/></radialGradient>'
        )
        if entry not in self.defs:
            self.defs.append(entry)
        self.ellipse(x, y, rx, ry, f"url(#{name})")


# ---------------------------------------------------------------------------------------------------------------------------
# Backgrounds. Each draws what lies behind the bird, and what it stands on at height `ground`.


def _sky(canvas: _Canvas, stops: Sequence[tuple[float, RGB]]) -> None:
    canvas.rect(0, 0, VIEW, VIEW, canvas.gradient([(o, c, 1) for o, c in stops], line=(0, 0, 0, VIEW)))


def _hill(rng: random.Random, y: float, height: float, steps: int = 5) -> str:
    """Outline of a rolling horizon at height y, closed below the picture."""
    points = [(-20 + i * (VIEW + 40) / steps, y + rng.uniform(-height, height)) for i in range(steps + 1)]
    return _spline(points, closed=False) + f"L{VIEW + 20} {VIEW + 20}L-20 {VIEW + 20}Z"


def _branch(
    canvas: _Canvas, rng: random.Random, ground: float, thickness: float, snow: bool, leaves: RGB | None
) -> None:
    tilt = rng.uniform(-9, 9)
    half = thickness / 2
    xs = [-20.0, 40.0, 100.0, 160.0, 220.0, 280.0]
    middle = [(x, ground + half + tilt * (x - 128) / 128 + rng.uniform(-2, 2) * abs(x - 128) / 128) for x in xs]
    swell = [half * rng.uniform(0.9, 1.15) for _ in xs]
    top = [(x, y - s) for (x, y), s in zip(middle, swell, strict=True)]
    bottom = [(x, y + s) for (x, y), s in zip(middle, swell, strict=True)]
    outline = _spline(top, closed=False) + "L" + _spline(bottom[::-1], closed=False)[1:] + "Z"
    if leaves is not None:
        for _ in range(rng.randint(5, 8)):
            x = rng.choice((rng.uniform(-5, 60), rng.uniform(196, 260)))
            y = ground + half + tilt * (x - 128) / 128 + rng.uniform(-22, 18)
            _leaf(
                canvas, x, y, rng.uniform(13, 22), rng.uniform(0, 360), _mix(leaves, (20, 50, 25), rng.uniform(0, 0.5))
            )
    bark = canvas.gradient(
        [(0, (150, 124, 104), 1), (0.35, (98, 76, 62), 1), (1, (46, 34, 30), 1)],
        line=(0, ground - 3, 0, ground + thickness + 3),
    )
    canvas.path(outline, bark, "#2c211e", 1.2)
    for _ in range(4):
        x, y = rng.uniform(0, 220), ground + half + rng.uniform(-0.3, 0.35) * thickness
        y += tilt * (x - 128) / 128
        canvas.path(f"M{x:.0f} {y:.1f}q14 {rng.uniform(-3, 3):.1f} {rng.uniform(22, 40):.0f} {tilt / 5:.1f}",
                    "none", "#2c211e", 1.2, 0.5)  # fmt: skip
    if snow:
        lumps = [(x, y + rng.uniform(2, 5)) for x, y in top]
        upper = [(x, y - rng.uniform(2, 6)) for x, y in top]
        canvas.path(
            _spline(upper, closed=False) + "L" + _spline(lumps[::-1], closed=False)[1:] + "Z", "#fdfeff", "#b4c4d8", 0.8
        )


def _leaf(canvas: _Canvas, x: float, y: float, length: float, angle: float, colour: RGB) -> None:
    d = f"M0 0C{length * 0.3:.1f} {-length * 0.4:.1f} {length * 0.8:.1f} {-length * 0.3:.1f} {length:.1f} 0"
    d += f"C{length * 0.8:.1f} {length * 0.3:.1f} {length * 0.3:.1f} {length * 0.4:.1f} 0 0Z"
    canvas.body.append(
        f'<g transform="translate({x:.1f} {y:.1f})rotate({angle:.0f})"><path d="{d}" fill="{_rgb(colour)}"/>'
        f'<path d="M0 0L{length * 0.9:.1f} 0" stroke="{_rgb(_mix(colour, (255, 255, 220), 0.35))}" stroke-width="1"/></g>'
    )


def _forest(canvas: _Canvas, rng: random.Random, foot: float, ground: float) -> None:
    _sky(canvas, [(0, (150, 172, 128)), (0.55, (92, 120, 84)), (1, (44, 66, 48))])
    canvas.glow(rng.uniform(60, 196), rng.uniform(40, 100), 90, 80, (236, 240, 196), 0.9)
    for _ in range(rng.randint(4, 6)):
        x, width = rng.uniform(-10, VIEW), rng.uniform(14, 34)
        tone = _rgb(_mix((58, 58, 46), (104, 108, 82), rng.random()))
        for inset, opacity in ((0, 0.3), (3, 0.4), (6, 0.5)):
            canvas.rect(x + inset, 0, width - 2 * inset, VIEW, tone, opacity)
    for _ in range(16):
        tone = rng.choice(((190, 206, 120), (130, 160, 88), (74, 106, 66), (236, 236, 176)))
        r = rng.uniform(7, 22)
        canvas.disc(rng.uniform(0, VIEW), rng.uniform(0, 210), r, tone, rng.uniform(0.2, 0.45))
    canvas.path(_hill(rng, 236, 8), "#2f4a34", opacity=0.8)
    _branch(canvas, rng, ground, rng.uniform(12, 17), snow=False, leaves=(112, 158, 62))


def _water(canvas: _Canvas, rng: random.Random, foot: float, ground: float) -> None:
    horizon = rng.uniform(84, 116)
    _sky(canvas, [(0, (206, 226, 232)), (0.34, (232, 238, 228)), (0.42, (120, 172, 186)), (1, (30, 92, 122))])
    canvas.path(_hill(rng, horizon - 8, 7), "#86a3a0")
    water = canvas.gradient(
        [(0, (176, 212, 216), 1), (0.4, (96, 158, 178), 1), (1, (26, 86, 118), 1)], line=(0, horizon, 0, VIEW)
    )
    canvas.rect(0, horizon, VIEW, VIEW - horizon, water)
    for _ in range(22):
        y = horizon + (VIEW - horizon) * rng.random() ** 1.3
        near = (y - horizon) / (VIEW - horizon)
        tone = rng.choice(((236, 248, 248), (206, 232, 236), (30, 84, 112)))
        canvas.ellipse(rng.uniform(0, VIEW), y, 10 + 34 * near, 0.8 + 2.2 * near, _rgb(tone), 0.4)
    for side in (rng.uniform(-6, 34), rng.uniform(222, 262)):
        for _ in range(rng.randint(3, 5)):
            x, lean, top = side + rng.uniform(-18, 18), rng.uniform(-16, 16), rng.uniform(40, 120)
            tone = _rgb(_mix((96, 122, 66), (58, 88, 60), rng.random()))
            canvas.path(f"M{x:.1f} {VIEW}Q{x:.1f} {(VIEW + top) / 2:.1f} {x + lean:.1f} {top:.1f}", "none", tone, 3.2)
            if rng.random() < 0.55:
                canvas.ellipse(x + lean, top + 6, 4.5, 15, "#6b4a30", turn=lean)
    stone = [
        (foot + x, ground + dy + rng.uniform(-2, 2))
        for x, dy in ((-76, 24), (-56, 8), (-18, 1), (22, 2), (56, 11), (76, 25))
    ]
    for i in range(3):
        canvas.ring(foot, ground + 25, 92 + 16 * i, 8 + 4 * i, "#cfe6ea", 1.6)
    fill = canvas.gradient(
        [(0, (176, 178, 170), 1), (0.4, (112, 116, 114), 1), (1, (54, 62, 68), 1)], line=(0, ground, 0, ground + 30)
    )
    canvas.path(_spline([*stone, (foot, ground + 33)]), fill, "#39434a", 1.2)
    canvas.ellipse(foot - 42, ground + 11, 16, 4, "#7c9456", 0.8, -14)


def _snow(canvas: _Canvas, rng: random.Random, foot: float, ground: float) -> None:
    _sky(canvas, [(0, (138, 160, 190)), (0.6, (184, 200, 220)), (1, (214, 222, 234))])
    canvas.glow(rng.uniform(40, 216), rng.uniform(30, 80), 80, 70, (250, 232, 222), 0.85)
    for _ in range(rng.randint(5, 7)):
        x, top, wide = rng.uniform(0, VIEW), rng.uniform(40, 120), rng.uniform(20, 34)
        tone = _rgb(_mix((92, 122, 138), (140, 164, 182), rng.random()))
        step, crown, frost = (208 - top) / 4, "", ""
        for k in range(4):
            y, w = top + k * step, wide * (0.4 + 0.2 * k)
            crown += f"M{x:.1f} {y - 10:.1f}L{x + w:.1f} {y + step + 4:.1f}Q{x:.1f} {y + step - 4:.1f} {x - w:.1f} {y + step + 4:.1f}Z"
            frost += f"M{x:.1f} {y - 10:.1f}L{x + w * 0.55:.1f} {y + step * 0.5:.1f}Q{x:.1f} {y + step * 0.3:.1f} {x - w * 0.7:.1f} {y + step * 0.65:.1f}Z"
        canvas.path(crown, tone)
        canvas.path(frost, "#e6eef6", opacity=0.8)
    canvas.path(_hill(rng, 200, 8), "#cad8ea")
    canvas.path(_hill(rng, 230, 6), "#dfe9f5")
    _branch(canvas, rng, ground, rng.uniform(11, 15), snow=True, leaves=None)
    for _ in range(26):
        r = rng.choice((1.6, 2.4, 3.4, 6.0))
        canvas.ellipse(rng.uniform(0, VIEW), rng.uniform(0, VIEW), r, r, "#ffffff", 0.85 if r < 5 else 0.4)


def _desert(canvas: _Canvas, rng: random.Random, foot: float, ground: float) -> None:
    _sky(canvas, [(0, (124, 190, 204)), (0.4, (196, 222, 212)), (0.62, (250, 226, 190)), (1, (240, 200, 150))])
    sun = rng.uniform(40, 216)
    y = rng.uniform(36, 90)
    canvas.glow(sun, y, 56, 56, (255, 250, 226), 1.0)
    canvas.ellipse(sun, y, 17, 17, "#fffbe8", 0.9)
    for y, tone in ((146, (228, 184, 140)), (176, (236, 198, 150)), (208, (222, 176, 122))):
        canvas.path(_hill(rng, y, 13, 3), _rgb(tone))
    for _ in range(2):
        x, base, tall = (
            rng.choice((rng.uniform(8, 50), rng.uniform(206, 248))),
            rng.uniform(176, 206),
            rng.uniform(56, 96),
        )
        tone, k = "#7f9a76", tall / 80
        canvas.path(
            f"M{x:.1f} {base:.1f}v{-tall:.1f}M{x:.1f} {base - tall * 0.4:.1f}h{16 * k:.1f}v{-22 * k:.1f}"
            f"M{x:.1f} {base - tall * 0.3:.1f}h{-15 * k:.1f}v{-16 * k:.1f}",
            "none", tone, 9 * k, cap="round",
        )  # fmt: skip
    rock = [
        (foot + x, ground + dy + rng.uniform(-2, 2))
        for x, dy in ((-92, 30), (-74, 9), (-28, 1), (28, 1), (66, 10), (90, 30))
    ]
    fill = canvas.gradient(
        [(0, (226, 186, 148), 1), (0.35, (180, 130, 98), 1), (1, (112, 74, 60), 1)], line=(0, ground, 0, ground + 30)
    )
    canvas.path(_spline([*rock, (foot, ground + 50)]), fill, "#6b4638", 1.2)


def _meadow(canvas: _Canvas, rng: random.Random, foot: float, ground: float) -> None:
    _sky(canvas, [(0, (188, 222, 236)), (0.34, (232, 242, 214)), (0.55, (196, 220, 128)), (1, (120, 168, 62))])
    canvas.glow(rng.uniform(30, 226), rng.uniform(20, 70), 70, 60, (255, 252, 224), 0.9)
    canvas.path(_hill(rng, 112, 8), "#bcd78c", opacity=0.8)
    for _ in range(24):
        y = rng.uniform(112, 250)
        r = 3 + 9 * (y - 100) / 150
        tone = rng.choice(((248, 178, 204), (255, 255, 255), (255, 232, 120), (226, 130, 178), (210, 232, 140)))
        canvas.disc(rng.uniform(0, VIEW), y, r * 0.8, tone, 0.5)
    post, half = foot + rng.uniform(-4, 4), rng.uniform(32, 40)
    fill = canvas.gradient(
        [(0, (112, 98, 86), 1), (0.3, (178, 164, 146), 1), (1, (96, 82, 72), 1)], line=(post - half, 0, post + half, 0)
    )
    canvas.path(f"M{post - half:.1f} {VIEW + 4}V{ground + 3:.1f}Q{post:.1f} {ground - 3:.1f} {post + half:.1f} {ground + 3:.1f}V{VIEW + 4}Z",
                fill, "#5c4f46", 1.2)  # fmt: skip
    for _ in range(18):
        x, tall, lean = rng.uniform(0, VIEW), rng.uniform(22, 62), rng.uniform(-14, 14)
        tone = _rgb(_mix((92, 148, 52), (152, 190, 78), rng.random()))
        canvas.path(
            f"M{x - 2:.1f} {VIEW}Q{x:.1f} {VIEW - tall / 2:.1f} {x + lean:.1f} {VIEW - tall:.1f}Q{x + 3:.1f} {VIEW - tall / 2:.1f} {x + 3:.1f} {VIEW}Z",
            tone,
        )
    for _ in range(rng.randint(4, 6)):
        x, y = rng.choice((rng.uniform(6, 70), rng.uniform(186, 250))), rng.uniform(206, 246)
        petal = rng.choice(("#f7a8c8", "#ffffff", "#ffe070", "#e07ab0"))
        for k in range(5):
            a = k * 2 * math.pi / 5
            canvas.ellipse(x + 5 * math.cos(a), y + 5 * math.sin(a), 4.2, 4.2, petal)
        canvas.ellipse(x, y, 3, 3, "#f0b030")


def _open_sky(canvas: _Canvas, rng: random.Random, foot: float, ground: float) -> None:
    _sky(canvas, [(0, (96, 168, 230)), (0.6, (158, 206, 242)), (1, (214, 234, 248))])
    for _ in range(rng.randint(3, 5)):
        x, y, k = rng.uniform(0, VIEW), rng.uniform(20, 210), rng.uniform(0.7, 1.3)
        for shade, lift in (("#d3e4f4", 4), ("#f4f9ff", -2)):
            puffs = random.Random(f"{x:.6f}")
            for _ in range(6):
                dx, dy = puffs.uniform(-44, 44) * k, puffs.uniform(-7, 7) * k
                canvas.ellipse(x + dx, y + dy + lift, puffs.uniform(16, 30) * k, puffs.uniform(9, 16) * k, shade)
    sag = rng.uniform(-5, 5)
    for offset, width in ((3.0, 4.2), (21 + rng.uniform(0, 6), 2.6)):
        y = ground + offset
        canvas.path(f"M-10 {y - sag:.1f}Q128 {y + abs(sag) * 0.4:.1f} 266 {y + sag:.1f}", "none", "#3d4450", width)


HABITATS = {
    "forest": _forest, "water": _water, "snow": _snow, "desert": _desert, "meadow": _meadow, "sky": _open_sky,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------------
# The bird, drawn facing right. Body coordinates: u runs along the back from the nape to the rump and on into the tail, v
# across the body from the back (0) to the belly.

NAPE: Point = (150.0, 70.0)
ALONG: Point = (-0.74, 0.67)
ACROSS: Point = (0.67, 0.74)
HEAD: Point = (176.0, 72.0)
HEAD_RADIUS = 38.0


def _at(u: float, v: float) -> Point:
    return (NAPE[0] + u * ALONG[0] + v * ACROSS[0], NAPE[1] + u * ALONG[1] + v * ACROSS[1])


def _outline(points: Sequence[Point]) -> str:
    return _spline([_at(u, v) for u, v in points])


def _line(points: Sequence[Point]) -> str:
    return _spline([_at(u, v) for u, v in points], closed=False)


BODY = _outline([(-8, 8), (25, -5), (64, -8), (106, 0), (140, 10), (152, 28), (142, 56), (118, 86), (80, 104), (38, 106),
                 (4, 96), (-18, 74), (-24, 40)])  # fmt: skip
BACK = _outline(
    [(-8, 8), (25, -5), (64, -8), (106, 0), (140, 10), (154, 28), (140, 38), (100, 36), (60, 36), (26, 42), (-4, 40)]
)
WING = _outline([(34, 28), (66, 24), (104, 27), (136, 34), (152, 42), (128, 56), (98, 70), (66, 78), (38, 76), (20, 62),
                 (18, 44)])  # fmt: skip
BELLY_EDGE: tuple[Point, ...] = ((-24, 42), (-18, 74), (4, 96), (38, 106), (80, 104), (118, 86))  # of BODY
FEET: Point = (149.0, 228.0)  # where the bird stands, in the drawing's coordinates


def _shades(colour: str, rng: random.Random, warmth: float) -> tuple[RGB, RGB, RGB]:
    """The colour's three shades for one individual: a little lighter or darker, warmer or cooler."""
    lighter, red, blue = rng.uniform(-0.07, 0.07), 1 + 0.035 * warmth, 1 - 0.05 * warmth
    target: RGB = (255, 255, 255) if lighter > 0 else (0, 0, 0)
    drift = tuple(rng.uniform(-5, 5) for _ in range(3))

    def vary(c: RGB) -> RGB:
        r, g, b = _mix(c, target, abs(lighter))
        return ((r + drift[0]) * red, g + drift[1], (b + drift[2]) * blue)

    light, base, dark = PLUMAGE[colour]
    return vary(light), vary(base), vary(dark)


def _edge(colour: str, shades: tuple[RGB, RGB, RGB]) -> str:
    """Colour of the thin line around a part: darker than the part, or lighter where the part is black."""
    return "#737a8c" if colour == "black" else _rgb(_mix(shades[2], (24, 18, 30), 0.45))


def _check(attributes: Mapping[str, str]) -> None:
    for name, values in ATTRIBUTES.items():
        if name not in attributes:
            raise UserError(f"A bird needs the attribute {name!r}; give one of {', '.join(values)}.")
        if attributes[name] not in values:
            raise UserError(f"{name} = {attributes[name]!r} cannot be drawn; choose one of {', '.join(values)}.")


def _tail(canvas: _Canvas, colour: str, shades: tuple[RGB, RGB, RGB], long: bool, fan: float) -> None:
    end = 206.0 if long else 166.0
    edge = _edge(colour, shades)
    for k in (0, 4, 1, 3, 2):
        v = 8 + 7 * k
        tip_v = 20 + (k - 2) * (9 + fan)
        tip = end - 3 * abs(k - 2)
        fill = canvas.gradient(
            [(0, shades[2], 1), (0.5, shades[1] if k % 2 else shades[0], 1), (1, shades[1], 1)],
            line=(*_at(110, v), *_at(tip, tip_v)),
        )
        canvas.path(_outline([(108, v), (130, v - 7), (tip - 10, tip_v - 7.5), (tip, tip_v), (tip - 10, tip_v + 7.5), (130, v + 7)]),
                    fill, edge, 1.5)  # fmt: skip


def _wing(canvas: _Canvas, colour: str, shades: tuple[RGB, RGB, RGB], bars: bool) -> None:
    light, base, dark = shades
    edge = _edge(colour, shades)
    canvas.path(WING, _rgb(dark), edge, 2)
    count = 6
    for k in range(count):  # flight feathers, from the longest at the wing's tip to the shortest
        t = k / (count - 1)
        tip = (158 - 62 * t, 38 + 38 * t)
        root = (40.0, 34 + 26 * t)
        half = 9.0
        tone = _mix(base, light, 0.15 + 0.25 * (k % 2))
        fill = canvas.gradient([(0.35, tone, 1), (1, _mix(base, dark, 0.75), 1)], line=(*_at(*root), *_at(*tip)))
        middle = ((root[0] + tip[0]) / 2 + 10, (root[1] + tip[1]) / 2 + 1)
        canvas.path(
            _outline([root, (middle[0], middle[1] - half), (tip[0] - 8, tip[1] - 6), tip, (tip[0] - 14, tip[1] + 5), (middle[0], middle[1] + half)]),
            fill, edge, 1.3,
        )  # fmt: skip
    coverts = [(16, 44), (20, 62), (36, 75), (58, 77), (74, 71), (84, 58), (88, 44), (84, 30), (60, 24), (32, 28)]
    centre = _at(44, 46)
    canvas.path(
        _outline(coverts),
        canvas.gradient([(0, light, 1), (0.6, base, 1), (1, _mix(base, dark, 0.6), 1)], circle=(*centre, 46)),
        edge,
        1.2,
    )
    rows = [[(u, v) for v in range(34 + 5 * i, 70, 10)] for i, u in enumerate((32, 44, 62))]
    canvas.path(_scales(rows, 4.6), "none", edge, 1.2, 0.5)
    if bars:
        mark = _rgb(DARK_MARK if colour in ("white", "yellow") else PALE_MARK)
        for u in (52, 78):
            canvas.path(_line([(u - 6, 27), (u + 2, 40), (u + 1, 58), (u - 10, 73)]), "none", mark, 8.5, cap="round")


def _belly_edge(u: float) -> float:
    """How far (v) the belly reaches across the body at u along it."""
    for (u1, v1), (u2, v2) in zip(BELLY_EDGE, BELLY_EDGE[1:], strict=False):
        if u <= u2:
            return v1 + (v2 - v1) * max(0.0, (u - u1) / (u2 - u1))
    return BELLY_EDGE[-1][1]


def _breast(canvas: _Canvas, colour: str, pattern: str, rng: random.Random) -> None:
    mark = _rgb(PALE_MARK if colour in DARK_COLOURS else DARK_MARK)
    if pattern == "striped":
        bands = ""
        for k in range(6):
            u = -6 + 17 * k
            reach = _belly_edge(u) - 5
            bands += _line([(u - 4, 62 + 2 * k), (u + 3, 0.5 * (reach + 62 + 2 * k)), (u - 1, reach)])
        canvas.path(bands, "none", mark, 6.2, cap="round")
    elif pattern == "spotted":
        spots = ""
        for row in range(4):
            for k in range(7):
                u = -16 + 16.5 * k + (8 if row % 2 else 0) + rng.uniform(-1.5, 1.5)
                v = 60 + 12 * row + rng.uniform(-1.5, 1.5)
                if v < _belly_edge(u) - 6 and u < 96:
                    x, y = _at(u, v)
                    spots += f"M{x:.1f} {y:.1f}l.6 .9"
        canvas.path(spots, "none", mark, 9.4, cap="round")


def _scales(rows: Sequence[Sequence[Point]], size: float) -> str:
    """Small curved feather edges at the given body points."""
    d = ""
    for row in rows:
        for u, v in row:
            (x1, y1), (x2, y2), (x3, y3) = (
                _at(u - size * 0.4, v - size),
                _at(u + size * 1.5, v),
                _at(u - size * 0.4, v + size),
            )
            d += f"M{x1:.1f} {y1:.1f}Q{x2:.1f} {y2:.1f} {x3:.1f} {y3:.1f}"
    return d


def _head(canvas: _Canvas, colour: str, shades: tuple[RGB, RGB, RGB], attributes: Mapping[str, str], turn: float, light: Point,
          beak_shades: tuple[RGB, RGB, RGB]) -> tuple[list[str], list[str]]:  # fmt: skip
    """The head's plumage, and apart from it (not feathered) beak and eye."""
    x, y, r = *HEAD, HEAD_RADIUS
    plumage, features = _Canvas(canvas.defs, []), _Canvas(canvas.defs, [])
    edge = _edge(colour, shades)
    fill = canvas.gradient([(0, shades[0], 1), (0.5, shades[1], 1), (1, shades[2], 1)],
                           circle=(x + 16 * light[0], y + 16 * light[1] - 4, r * 1.35))  # fmt: skip
    hood = [(x + 31, y + 33), (x + 14, y + 43), (x - 10, y + 43), (x - 32, y + 40), (x - 41, y + 24)]
    crown = [(x - 41, y + 24), (x - 38, y - 2), (x - 25, y - 28), (x + 2, y - 36), (x + 26, y - 25), (x + 35, y - 4), (x + 37, y + 12),
             (x + 35, y + 24), (x + 31, y + 33)]  # fmt: skip
    ragged = _tufts(hood, 11, 7, (-0.6, 0.8))
    plumage.path(_spline(crown, closed=False) + _polyline(ragged) + "Z", fill, edge, 1.8)
    down = ""
    for dx, dy in (
        (-24, 26),
        (-8, 30),
        (8, 32),
        (22, 26),
        (-28, 10),
        (-12, 16),
        (4, 20),
        (18, 14),
        (-22, -6),
        (-8, -20),
        (6, -25),
        (-16, 2),
    ):
        down += f"M{x + dx + 4:.1f} {y + dy - 4:.1f}q-1 5 -6 7"
    plumage.path(down, "none", edge, 1.3, 0.4)
    gloss = -1 if light[0] < 0 else 1
    plumage.path(_spline([(x + gloss * 30, y - 12), (x + gloss * 20, y - 25), (x + gloss * 4, y - 31)], closed=False),
                 "none", _rgb(_mix(shades[0], (255, 255, 255), 0.35)), 4, 0.5, cap="round")  # fmt: skip
    long = attributes["beak_length"] == "long"
    length = 47.0 if long else 18.0
    base, thick = x + 32, 10.0 if long else 11.0
    drop = 6.0 if long else 4.0
    beak_edge = "#8a8f9c" if attributes["beak_colour"] == "black" else _rgb(_mix(beak_shades[2], (20, 16, 24), 0.55))
    upper = f"M{base - 4:.1f} {y - thick + 3:.1f}Q{base + length * 0.55:.1f} {y - thick + 2:.1f} {base + length:.1f} {y + drop:.1f}L{base - 5:.1f} {y + 5:.1f}Z"
    lower = f"M{base - 4:.1f} {y + thick + 2:.1f}Q{base + length * 0.45:.1f} {y + thick + 1:.1f} {base + length * 0.93:.1f} {y + drop + 0.5:.1f}L{base - 5:.1f} {y + 4:.1f}Z"
    features.path(lower, _rgb(beak_shades[2]), beak_edge, 1.5)
    features.path(
        upper,
        canvas.gradient([(0, beak_shades[0], 1), (1, beak_shades[1], 1)], line=(0, y - thick, 0, y + 6)),
        beak_edge,
        1.5,
    )
    ex, ey = x + 11, y - 5
    features.ellipse(ex, ey, 8.4, 8.6, "#d9d4c8" if colour in DARK_COLOURS else "#4a4046", 0.8)
    features.ellipse(ex, ey, 6.9, 7.1, "#1a1214")
    features.ellipse(ex + 0.6, ey + 2, 4.2, 3.6, "#5a3420", 0.75)
    features.ellipse(ex + 2.6 * light[0] + 0.4, ey - 2.6, 2.4, 2.4, "#ffffff")
    features.ellipse(ex - 2.2, ey + 3.2, 1.1, 1.1, "#ffffff", 0.6)
    turned = f'<g transform="rotate({turn:.1f} {x - 8:.1f} {y + 14:.1f})">'
    return [turned, *plumage.body, "</g>"], [turned, *features.body, "</g>"]


def bird_svg(attributes: Mapping[str, str], individual_seed: int) -> str:
    """The picture as SVG text with a square viewBox.

    attributes: one value for every name in ATTRIBUTES. individual_seed: everything that the attributes leave open.
    Raises UserError for a missing or unknown attribute value.
    """
    _check(attributes)

    def stream(kind: str) -> random.Random:
        return random.Random(f"{individual_seed}/{kind}")

    pose, tint, scene, marks = stream("pose"), stream("tint"), stream("scene"), stream("marks")
    facing = pose.choice((-1, 1))
    lean = pose.uniform(-11, 9)
    scale = pose.uniform(0.88, 1.0)
    turn = pose.uniform(-12, 10)
    fan = pose.uniform(-1.5, 2.5)
    shift, ground = pose.uniform(-4, 4), 226 + pose.uniform(-3, 5)
    light = (facing * pose.choice((-1, 1)) * pose.uniform(0.3, 0.9), -pose.uniform(0.5, 1.0))
    warmth = tint.uniform(-1, 1)
    parts = {p: _shades(attributes[f"{p}_colour"], random.Random(f"{individual_seed}/{p}"), warmth)
             for p in ("belly", "wing", "head", "back", "beak")}  # fmt: skip

    long_tail, long_beak = attributes["tail_length"] == "long", attributes["beak_length"] == "long"
    left, right = (2 if long_tail else 30), (256 if long_beak else 230)  # how far tail and beak reach, in the bird's x
    scale = min(scale, 246 / (right - left))
    foot = VIEW / 2 + shift + facing * scale * (FEET[0] - (left + right) / 2)
    canvas = _Canvas([], [])
    HABITATS[attributes["habitat"]](canvas, scene, foot, ground)
    canvas.body.append(
        f'<g transform="translate({foot:.1f} {ground + 1:.1f})scale({facing * scale:.3f} {scale:.3f})translate({-FEET[0]} {-FEET[1]})">'
    )
    body_turn = f'<g transform="rotate({lean:.1f} 142 208)">'

    leg = _rgb(_mix((70, 58, 56), (150, 104, 84), tint.random()))
    for x, y, foot in ((138, 196, 140), (155, 196, 158)):
        canvas.path(
            f"M{x} {y}L{foot - 2} 214L{foot} 227M{foot - 7} 228L{foot} 226L{foot + 9} 228.5M{foot} 226L{foot + 4} 230",
            "none",
            leg,
            4,
            cap="round",
        )

    canvas.body.append(body_turn)
    _tail(canvas, attributes["back_colour"], parts["back"], long_tail, fan)
    cx, cy = _at(46, 70)
    belly_light, belly_base, belly_dark = parts["belly"]
    fill = canvas.gradient([(0, belly_light, 1), (0.55, belly_base, 1), (1, belly_dark, 1)],
                           circle=(cx + 26 * light[0], cy + 26 * light[1], 84))  # fmt: skip
    canvas.path(BODY, fill, _edge(attributes["belly_colour"], parts["belly"]), 2.4)
    rows = [
        [(u, v) for u in range(-8 + 7 * (i % 2), 112, 15) if v < _belly_edge(u) - 9]
        for i, v in enumerate((62, 73, 84, 95))
    ]
    canvas.path(_scales(rows, 4.5), "none", _edge(attributes["belly_colour"], parts["belly"]), 1.3, 0.35)
    _breast(canvas, attributes["belly_colour"], attributes["breast_pattern"], marks)
    back_light, back_base, back_dark = parts["back"]
    fill = canvas.gradient([(0, back_light, 1), (0.5, back_base, 1), (1, _mix(back_base, back_dark, 0.7), 1)],
                           line=(*_at(50, -10), *_at(70, 40)))  # fmt: skip
    canvas.path(BACK, fill, _edge(attributes["back_colour"], parts["back"]), 1.8)
    rows = [[(u, v) for u in range(34 + 8 * (i % 2), 140, 15)] for i, v in enumerate((4, 14, 24))]
    canvas.path(_scales(rows, 5), "none", _edge(attributes["back_colour"], parts["back"]), 1.3, 0.45)
    canvas.body.append('<g transform="translate(4 5)">')
    canvas.path(WING, "#140e1e", opacity=0.2)
    canvas.body.append("</g>")
    _wing(canvas, attributes["wing_colour"], parts["wing"], attributes["wing_bars"] == "present")
    head, features = _head(canvas, attributes["head_colour"], parts["head"], attributes, turn, light, parts["beak"])
    grain_x, grain_y = marks.uniform(-150, 0), marks.uniform(-150, 0)
    canvas.defs.append(
        f'<pattern id="grain" patternUnits="userSpaceOnUse" x="{grain_x:.0f}" y="{grain_y:.0f}" width="{GRAIN}" height="{GRAIN}" '
        f'patternTransform="rotate(-42)"><image width="{GRAIN}" height="{GRAIN}" href="{_grain()}"/></pattern>'
    )
    canvas.path(BODY + WING, "url(#grain)", opacity=0.22)
    canvas.body += [*head, *features, "</g></g>"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{VIEW}" height="{VIEW}" viewBox="0 0 {VIEW} {VIEW}">'
        f"<defs>{''.join(canvas.defs)}</defs>{''.join(canvas.body)}</svg>"
    )


def draw_bird(attributes: Mapping[str, str], individual_seed: int, size: int) -> np.ndarray:
    """The picture as uint8 array of shape (size, size, 3), sRGB. Raises UserError as bird_svg does, and for an unfit size."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UserError(f"A picture of {size} pixels cannot be drawn; choose a size from {MIN_SIZE} to {MAX_SIZE}.")
    png = resvg_py.svg_to_bytes(
        svg_string=bird_svg(attributes, individual_seed), width=size, height=size, skip_system_fonts=True
    )
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))
