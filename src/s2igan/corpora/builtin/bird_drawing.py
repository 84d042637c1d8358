"""Birds drawn from a list of attributes, as SVG pictures rendered by resvg.

A picture follows from its attributes and one seed alone. The attributes decide what a sentence could say about the
bird; the seed decides everything else: pose, size, facing, the exact shade of each colour, the light, and what lies in
the background. The seed's choices do not depend on the attributes, so two birds with the same seed differ only in what
their attributes say.

The parts are drawn large and with an edge between them, because every attribute has to be readable at 64 pixels.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from s2igan.corpora.builtin.svg import (
    RGB,
    VIEW,
    Canvas,
    Point,
    Shades,
    grain,
    hill,
    individual_shades,
    mix,
    path_data,
    render,
    rgb,
    sky,
    spline,
    streams,
)
from s2igan.corpora.builtin.tables import table
from s2igan.data.layout import CROP_MARGIN

TABLE = table("bird_drawing")
ATTRIBUTES: dict[str, tuple[str, ...]] = TABLE["attributes"]
PLUMAGE: dict[str, Shades] = TABLE["plumage"]

GRAIN = 72  # side of the feather texture, in the drawing's units

DARK_COLOURS = frozenset({"red", "green", "blue", "purple", "brown", "black"})  # a pale pattern shows up on these
PALE_MARK: RGB = (250, 246, 232)
DARK_MARK: RGB = (48, 36, 38)


def _ragged(points: Sequence[Point], count: int, length: float, sweep: Point) -> str:
    """Continues a path along the open line with `count` feather tips that stand off it by `length` towards `sweep`."""
    line = []
    for s in (i * (len(points) - 1) / count for i in range(count + 1)):
        i = min(int(s), len(points) - 2)
        (x1, y1), (x2, y2) = points[i], points[i + 1]
        line.append((x1 + (x2 - x1) * (s - i), y1 + (y2 - y1) * (s - i)))
    path: list[str | float] = []
    for k, ((x1, y1), (x2, y2)) in enumerate(pairwise(line)):
        reach = length * (0.75, 1.1, 0.9)[k % 3]
        path += ["L", (x1 + x2) / 2 + sweep[0] * reach, (y1 + y2) / 2 + sweep[1] * reach, x2, y2]
    return path_data(*path)


def _grain() -> str:
    """The feather texture that lies over every bird."""
    return grain(GRAIN, (0.09, 0.2), 7, dark=(0.1, 0.02, 0.1), pale=(1, 1, 0.92))


# ----------------------------------------------------------------------------------------------------------------------
# Backgrounds: what lies behind the bird, out of focus, and what it stands on: at height `ground`, its feet at x =
# `foot`. Lights out of focus are flat discs, as a lens draws them, which costs far less than a blur. The tones are
# duller than any plumage, so that the bird stands out whatever its colours.


def _branch(canvas: Canvas, rng: random.Random, ground: float, leaves: RGB | None = None, snow: bool = False) -> None:
    thickness, tilt = rng.uniform(12, 16), rng.uniform(-9, 9)
    xs = [-20.0, 40.0, 100.0, 160.0, 220.0, 280.0]
    middle = [ground + thickness / 2 + (tilt + rng.uniform(-2, 2)) * (x - 128) / 128 for x in xs]
    swell = [thickness / 2 * rng.uniform(0.9, 1.15) for _ in xs]
    top = [(x, y - s) for x, y, s in zip(xs, middle, swell, strict=True)]
    bottom = [(x, y + s) for x, y, s in zip(xs, middle, swell, strict=True)][::-1]
    if leaves is not None:
        for _ in range(rng.randint(6, 9)):
            x = rng.choice((rng.uniform(-5, 62), rng.uniform(194, 260)))
            y = ground + thickness / 2 + tilt * (x - 128) / 128 + rng.uniform(-20, 16)
            _leaf(
                canvas, x, y, rng.uniform(13, 22), rng.uniform(0, 6.28), mix(leaves, (20, 50, 25), 0.5 * rng.random())
            )
    bark = canvas.linear(
        (0, ground - 3, 0, ground + thickness + 3), (0, (150, 124, 104)), (0.35, (98, 76, 62)), (1, (46, 34, 30))
    )
    canvas.fill(spline(top, closed=False) + "L" + spline(bottom, closed=False)[1:] + "Z", bark, "#2c211e", 1.2)
    cracks = ""
    for _ in range(4):
        x = rng.uniform(0, 220)
        y = ground + thickness * rng.uniform(0.5, 0.85) + tilt * (x - 128) / 128
        cracks += path_data("M", x, y, "q", 14, rng.uniform(-3, 3), rng.uniform(22, 40), tilt / 5)
    canvas.stroke(cracks, "#2c211e", 1.2, opacity=0.5)
    if snow:
        upper = [(x, y - rng.uniform(2, 6)) for x, y in top]
        lower = [(x, y + rng.uniform(2, 5)) for x, y in top][::-1]
        cover = spline(upper, closed=False) + "L" + spline(lower, closed=False)[1:] + "Z"
        canvas.fill(cover, "#fdfeff", "#b4c4d8", 0.8)


def _leaf(canvas: Canvas, x: float, y: float, length: float, angle: float, colour: RGB) -> None:
    ax, ay = length * math.cos(angle), length * math.sin(angle)  # along the leaf; (-ay, ax) lies across it
    tip = (x + ax, y + ay)
    blade: list[str | float] = ["M", x, y]
    for side in (-0.6, 0.6):
        blade += ["Q", x + 0.5 * ax - side * ay, y + 0.5 * ay + side * ax, *(tip if side < 0 else (x, y))]
    canvas.fill(path_data(*blade, "Z"), rgb(colour))
    canvas.stroke(path_data("M", x, y, "L", x + 0.9 * ax, y + 0.9 * ay), rgb(mix(colour, (255, 255, 220), 0.35)), 1)


def _forest(canvas: Canvas, rng: random.Random, foot: float, ground: float) -> None:
    sky(canvas, rng, (0, (146, 168, 126)), (0.55, (92, 120, 84)), (1, (44, 66, 48)))
    canvas.glow(rng.uniform(50, 206), rng.uniform(36, 100), 72, (240, 242, 200), 0.95)
    for _ in range(rng.randint(4, 6)):  # trunks, their blurred edges as three strips
        x, width = rng.uniform(-10, VIEW), rng.uniform(14, 34)
        tone = rgb(mix((58, 58, 46), (104, 108, 82), rng.random()))
        for inset, opacity in ((0, 0.3), (3, 0.4), (6, 0.5)):
            canvas.rect(x + inset, 0, width - 2 * inset, VIEW, tone, opacity)
    for _ in range(16):
        tone = rng.choice(("#bece78", "#82a058", "#4a6a42", "#ecebb0"))
        r = rng.uniform(7, 22)
        canvas.ellipse(rng.uniform(0, VIEW), rng.uniform(0, 210), r, r, tone, rng.uniform(0.2, 0.42))
    canvas.fill(hill(rng, 236, 8), "#2f4a34", opacity=0.8)
    _branch(canvas, rng, ground, leaves=(112, 158, 62))


def _water(canvas: Canvas, rng: random.Random, foot: float, ground: float) -> None:
    horizon = rng.uniform(84, 116)
    sky(canvas, rng, (0, (200, 222, 230)), (0.5, (236, 238, 226)))
    canvas.fill(hill(rng, horizon - 8, 7), "#86a3a0")
    lake = canvas.linear((0, horizon, 0, VIEW), (0, (176, 212, 216)), (0.4, (96, 158, 178)), (1, (26, 86, 118)))
    canvas.rect(0, horizon, VIEW, VIEW - horizon, lake)
    for _ in range(22):
        near = rng.random() ** 1.3
        tone = rng.choice(("#ecf8f8", "#cee8ec", "#1e5470"))
        y = horizon + 2 + (VIEW - horizon) * near
        canvas.ellipse(rng.uniform(0, VIEW), y, 10 + 34 * near, 0.8 + 2.2 * near, tone, 0.4)
    for side in (rng.uniform(-6, 34), rng.uniform(222, 262)):
        for _ in range(rng.randint(3, 5)):
            x, lean, top = side + rng.uniform(-18, 18), rng.uniform(-16, 16), rng.uniform(40, 120)
            reed = rgb(mix((96, 122, 66), (58, 88, 60), rng.random()))
            canvas.stroke(path_data("M", x, VIEW, "Q", x, (VIEW + top) / 2, x + lean, top), reed, 3.2)
            if rng.random() < 0.55:
                canvas.ellipse(x + lean, top + 6, 4.5, 15, "#6b4a30", turn=lean)
    for i in range(3):  # rings in the water
        rx, ry = 92 + 16 * i, 8 + 4 * i
        ring = path_data(
            "M", foot - rx, ground + 25, "a", rx, ry, "0 0 0", 2 * rx, 0.0, "a", rx, ry, "0 0 0", -2 * rx, 0.0
        )
        canvas.stroke(ring, "#cfe6ea", 1.6)
    rim = [(-76, 24), (-56, 8), (-18, 1), (22, 2), (56, 11), (76, 25), (0, 33)]
    stone = canvas.linear((0, ground, 0, ground + 30), (0, (176, 178, 170)), (0.4, (112, 116, 114)), (1, (54, 62, 68)))
    canvas.fill(spline([(foot + x, ground + y + rng.uniform(-2, 2)) for x, y in rim]), stone, "#39434a", 1.2)
    canvas.ellipse(foot - 42, ground + 11, 16, 4, "#7c9456", 0.8, -14)


def _snow(canvas: Canvas, rng: random.Random, foot: float, ground: float) -> None:
    sky(canvas, rng, (0, (138, 160, 190)), (0.6, (184, 200, 220)), (1, (214, 222, 234)))
    canvas.glow(rng.uniform(40, 216), rng.uniform(30, 80), 66, (252, 236, 224), 0.9)
    for _ in range(rng.randint(5, 7)):  # firs
        x, top, wide = rng.uniform(0, VIEW), rng.uniform(40, 120), rng.uniform(20, 34)
        step, crown, frost = (208 - top) / 4, "", ""
        for k in range(4):
            y, w = top + k * step, wide * (0.4 + 0.2 * k)
            crown += path_data("M", x, y - 10, "L", x + w, y + step + 4, "Q", x, y + step - 4, x - w, y + step + 4, "Z")
            left, right = (x - w * 0.7, y + step * 0.65), (x + w * 0.55, y + step * 0.5)
            frost += path_data("M", x, y - 10, "L", *right, "Q", x, y + step * 0.3, *left, "Z")
        canvas.fill(crown, rgb(mix((92, 122, 138), (140, 164, 182), rng.random())))
        canvas.fill(frost, "#e6eef6", opacity=0.8)
    canvas.fill(hill(rng, 200, 8), "#cad8ea")
    canvas.fill(hill(rng, 230, 6), "#dfe9f5")
    _branch(canvas, rng, ground, snow=True)
    for _ in range(26):
        r = rng.choice((1.6, 2.4, 3.4, 6.0))
        canvas.ellipse(rng.uniform(0, VIEW), rng.uniform(0, VIEW), r, r, "#ffffff", 0.85 if r < 5 else 0.4)


def _desert(canvas: Canvas, rng: random.Random, foot: float, ground: float) -> None:
    sky(canvas, rng, (0, (124, 190, 204)), (0.4, (196, 222, 212)), (0.62, (250, 226, 190)))
    x, y = rng.uniform(40, 216), rng.uniform(34, 86)
    canvas.glow(x, y, 56, (255, 250, 226), 1.0)
    canvas.ellipse(x, y, 17, 17, "#fffbe8", 0.9)
    for y, tone in ((146, "#e4bc92"), (176, "#ecca9c"), (208, "#deb480")):
        canvas.fill(hill(rng, y, 13, 3), tone)
    for _ in range(2):
        x = rng.choice((rng.uniform(8, 50), rng.uniform(206, 248)))
        base, k = rng.uniform(176, 206), rng.uniform(0.7, 1.2)
        trunk = path_data("M", x, base, "v", -80 * k, "M", x, base - 32 * k, "h", 16 * k, "v", -22 * k)
        canvas.stroke(
            trunk + path_data("M", x, base - 24 * k, "h", -15 * k, "v", -16 * k), "#7f9a76", 9 * k, round_ends=True
        )
    rim = [(-92, 30), (-74, 9), (-28, 1), (28, 1), (66, 10), (90, 30), (0, 50)]
    rock = canvas.linear((0, ground, 0, ground + 30), (0, (226, 186, 148)), (0.35, (180, 130, 98)), (1, (112, 74, 60)))
    canvas.fill(spline([(foot + x, ground + y + rng.uniform(-2, 2)) for x, y in rim]), rock, "#6b4638", 1.2)


def _meadow(canvas: Canvas, rng: random.Random, foot: float, ground: float) -> None:
    sky(canvas, rng, (0, (180, 216, 236)), (0.34, (232, 242, 214)), (0.55, (196, 220, 128)), (1, (120, 168, 62)))
    canvas.glow(rng.uniform(30, 226), rng.uniform(20, 70), 62, (255, 252, 224), 0.9)
    canvas.fill(hill(rng, 112, 8), "#bcd78c", opacity=0.8)
    for _ in range(26):  # flowers far off
        y = rng.uniform(116, 250)
        tone = rng.choice(("#f8b2cc", "#ffffff", "#ffe878", "#e282b2", "#d2e88c"))
        r = 2.4 + 7 * (y - 100) / 150
        canvas.ellipse(rng.uniform(0, VIEW), y, r, r, tone, 0.55)
    x, half = foot + rng.uniform(-4, 4), rng.uniform(32, 40)
    wood = canvas.linear((x - half, 0, x + half, 0), (0, (112, 98, 86)), (0.3, (178, 164, 146)), (1, (96, 82, 72)))
    post = path_data(
        "M", x - half, VIEW + 4.0, "V", ground + 3, "Q", x, ground - 3, x + half, ground + 3, "V", VIEW + 4.0, "Z"
    )
    canvas.fill(post, wood, "#5c4f46", 1.2)
    blades = ["", "", ""]
    for i in range(24):
        x, top, lean = rng.uniform(0, VIEW), VIEW - rng.uniform(22, 64), rng.uniform(-14, 14)
        middle = (VIEW + top) / 2
        blades[i % 3] += path_data(
            "M", x - 2, VIEW, "Q", x, middle, x + lean, top, "Q", x + 3, middle, x + 3, VIEW, "Z"
        )
    for tone, grass in zip(("#5c9434", "#7aa846", "#98be4e"), blades, strict=True):
        canvas.fill(grass, tone)
    for _ in range(rng.randint(4, 6)):
        x, y = rng.choice((rng.uniform(6, 70), rng.uniform(186, 250))), rng.uniform(206, 246)
        petal = rng.choice(("#f7a8c8", "#ffffff", "#ffe070", "#e07ab0"))
        turns = (2 * math.pi * k / 5 for k in range(5))
        petals = "".join(path_data("M", x + 5 * math.cos(a), y + 5 * math.sin(a), "l .1 0") for a in turns)
        canvas.stroke(petals, petal, 8.4, round_ends=True)
        canvas.ellipse(x, y, 3, 3, "#f0b030")


def _open_sky(canvas: Canvas, rng: random.Random, foot: float, ground: float) -> None:
    sky(canvas, rng, (0, (96, 168, 230)), (0.6, (158, 206, 242)), (1, (214, 234, 248)))
    for _ in range(rng.randint(3, 5)):
        x, y, k = rng.uniform(0, VIEW), rng.uniform(20, 210), rng.uniform(0.7, 1.3)
        puffs = [
            (x + rng.uniform(-44, 44) * k, y + rng.uniform(-7, 7) * k, rng.uniform(16, 30) * k, rng.uniform(9, 16) * k)
            for _ in range(6)
        ]
        for tone, drop in (("#cfe2f4", 4.0), ("#f6faff", -2.0)):
            for px, py, rx, ry in puffs:
                canvas.ellipse(px, py + drop, rx, ry, tone)
    sag = rng.uniform(-5, 5)
    for drop, width in ((3.0, 4.2), (21 + rng.uniform(0, 6), 2.6)):
        y = ground + drop
        canvas.stroke(path_data("M", -10.0, y - sag, "Q", 128.0, y + abs(sag) * 0.4, 266.0, y + sag), "#3d4450", width)


Scene = Callable[[Canvas, random.Random, float, float], None]
SCENES: dict[str, Scene] = {
    "forest": _forest, "water": _water, "snow": _snow, "desert": _desert, "meadow": _meadow, "sky": _open_sky,
}  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------------
# The bird, drawn facing right. Body coordinates: u runs along the back from the nape to the rump and on into the tail,
# v across the body from the back (0) to the belly.

NAPE: Point = (150.0, 70.0)
ALONG: Point = (-0.74, 0.67)
ACROSS: Point = (0.67, 0.74)
HEAD: Point = (176.0, 72.0)
FEET: Point = (149.0, 228.0)  # where the bird stands


def _at(u: float, v: float) -> Point:
    return (NAPE[0] + u * ALONG[0] + v * ACROSS[0], NAPE[1] + u * ALONG[1] + v * ACROSS[1])


def _outline(*points: Point) -> str:
    return spline([_at(u, v) for u, v in points])


def _curve(*points: Point) -> str:
    return spline([_at(u, v) for u, v in points], closed=False)


BELLY_EDGE: tuple[Point, ...] = ((-24, 40), (-18, 74), (4, 96), (38, 106), (80, 104), (118, 86), (142, 56))
BACK_EDGE: tuple[Point, ...] = ((-8, 8), (25, -5), (64, -8), (106, 0), (140, 10))
BODY = _outline(*BACK_EDGE, (152, 28), *BELLY_EDGE[::-1])
BACK = _outline(*BACK_EDGE, (154, 28), (140, 38), (100, 36), (60, 36), (26, 42), (-4, 40))
WING = _outline(
    (34, 28), (66, 24), (104, 27), (136, 34), (152, 42), (128, 56), (98, 70), (66, 78), (38, 76), (20, 62), (18, 44)
)  # fmt: skip
COVERTS = _outline(
    (16, 44), (20, 62), (36, 75), (58, 77), (74, 71), (84, 58), (88, 44), (84, 30), (60, 24), (32, 28)
)  # fmt: skip


def _belly_edge(u: float) -> float:
    """How far (v) the belly reaches across the body at u."""
    for (u1, v1), (u2, v2) in pairwise(BELLY_EDGE):
        if u <= u2:
            return v1 + (v2 - v1) * max(0.0, (u - u1) / (u2 - u1))
    return BELLY_EDGE[-1][1]


def _scales(rows: Sequence[Sequence[Point]], size: float) -> str:
    """Small curved feather edges at the given body points."""
    path: list[str | float] = []
    for row in rows:
        for u, v in row:
            path += ["M", *_at(u - size * 0.4, v - size)]
            path += ["Q", *_at(u + size * 1.5, v), *_at(u - size * 0.4, v + size)]
    return path_data(*path)


def _edge(colour: str, shades: Shades) -> str:
    """Colour of the thin line around a part: darker than the part, or lighter where the part is black."""
    return "#737a8c" if colour == "black" else rgb(mix(shades[2], (24, 18, 30), 0.45))


def _tail(canvas: Canvas, colour: str, shades: Shades, long: bool, fan: float) -> None:
    light, base, shade = shades
    end = 206.0 if long else 166.0
    edge = _edge(colour, shades)
    for k in (0, 4, 1, 3, 2):  # the middle feather lies on top
        root, tip_v, tip = 8 + 7 * k, 20 + (k - 2) * (9 + fan), end - 3 * abs(k - 2)
        line = (*_at(110, root), *_at(tip, tip_v))
        upper, lower = ((130, root - 7), (tip - 10, tip_v - 7.5)), ((tip - 10, tip_v + 7.5), (130, root + 7))
        feather = _outline((108, root), *upper, (tip, tip_v), *lower)
        canvas.fill(feather, canvas.linear(line, (0, shade), (0.7, base if k % 2 else light)), edge, 1.5)


def _belly(canvas: Canvas, colour: str, shades: Shades, pattern: str, light: Point, rng: random.Random) -> None:
    x, y = _at(46, 70)
    sides = ((0, shades[0]), (0.55, shades[1]), (1, shades[2]))
    edge = _edge(colour, shades)
    lit = (x + 62 * light[0], y + 62 * light[1], x - 58 * light[0], y - 58 * light[1])
    canvas.fill(BODY, canvas.linear(lit, *sides), edge, 2.4)
    rows = [
        [(u, v) for u in range(-8 + 7 * (i % 2), 112, 15) if v < _belly_edge(u) - 9]
        for i, v in enumerate((62, 73, 84, 95))
    ]
    canvas.stroke(_scales(rows, 4.5), edge, 1.3, opacity=0.35)
    mark = rgb(PALE_MARK if colour in DARK_COLOURS else DARK_MARK)
    if pattern == "striped":
        bands = ""
        for k in range(5):
            u, inner = -5 + 18.5 * k, 62 + 2.5 * k
            outer = _belly_edge(u) - 5
            bands += _curve((u - 4, inner), (u + 3, (inner + outer) / 2), (u - 1, outer))
        canvas.stroke(bands, mark, 5.6, round_ends=True)
    elif pattern == "spotted":
        spots = ""
        for row in range(4):
            for k in range(6):
                u = -16 + 18 * k + (9 if row % 2 else 0) + rng.uniform(-1.5, 1.5)
                v = 60 + 12.5 * row + rng.uniform(-1.5, 1.5)
                if v < _belly_edge(u) - 6 and u < 92:
                    spots += path_data("M", *_at(u, v), "l .6 .9")
        canvas.stroke(spots, mark, 8.8, round_ends=True)


def _back(canvas: Canvas, colour: str, shades: Shades) -> None:
    light, base, shade = shades
    edge = _edge(colour, shades)
    across = canvas.linear((*_at(50, -10), *_at(70, 40)), (0, light), (0.5, base), (1, mix(base, shade, 0.7)))
    canvas.fill(BACK, across, edge, 1.8)
    rows = [[(u, v) for u in range(34 + 8 * (i % 2), 140, 15)] for i, v in enumerate((4, 14, 24))]
    canvas.stroke(_scales(rows, 5), edge, 1.3, opacity=0.45)


def _wing(canvas: Canvas, colour: str, shades: Shades, bars: bool) -> None:
    light, base, shade = shades
    edge = _edge(colour, shades)
    canvas.body.append('<g transform="translate(4 5)">')
    canvas.fill(WING, "#140e1e", opacity=0.2)  # the shadow it casts
    canvas.body.append("</g>")
    canvas.fill(WING, rgb(shade), edge, 2)
    for k in range(6):  # flight feathers, from the longest, at the wing's tip, to the shortest
        t = k / 5
        (u1, v1), (u2, v2) = (40, 34 + 26 * t), (158 - 62 * t, 38 + 38 * t)
        u, v = (u1 + u2) / 2 + 10, (v1 + v2) / 2 + 1
        feather = _outline((u1, v1), (u, v - 9), (u2 - 8, v2 - 6), (u2, v2), (u2 - 14, v2 + 5), (u, v + 9))
        tone = mix(base, light, 0.12 + 0.25 * (k % 2))
        canvas.fill(feather, rgb(mix(tone, shade, 0.15)), edge, 1.3)
    sides = ((0, light), (0.6, base), (1, mix(base, shade, 0.6)))
    canvas.fill(COVERTS, canvas.radial(*_at(44, 46), 46, *sides), edge, 1.2)
    rows = [[(u, v) for v in range(34 + 5 * i, 70, 10)] for i, u in enumerate((32, 44, 62))]
    canvas.stroke(_scales(rows, 4.6), edge, 1.2, opacity=0.5)
    if bars:
        mark = rgb(DARK_MARK if colour in ("white", "yellow") else PALE_MARK)
        both = "".join(_curve((u - 6, 29), (u + 2, 41), (u + 1, 58), (u - 10, 72)) for u in (52, 78))
        canvas.stroke(both, mark, 8.5, round_ends=True)


def _head(canvas: Canvas, colour: str, shades: Shades, light: Point) -> None:
    x, y = HEAD
    edge = _edge(colour, shades)
    sides = ((0, shades[0]), (0.5, shades[1]), (1, shades[2]))
    crown = [(-41, 24), (-38, -2), (-25, -28), (2, -36), (26, -25), (35, -4), (37, 12), (35, 24), (31, 33)]
    collar = [(31, 33), (14, 43), (-10, 43), (-32, 40), (-41, 24)]
    shape = spline([(x + dx, y + dy) for dx, dy in crown], closed=False)
    shape += _ragged([(x + dx, y + dy) for dx, dy in collar], 11, 7, (-0.6, 0.8)) + "Z"
    canvas.fill(shape, canvas.radial(x + 16 * light[0], y + 16 * light[1] - 4, 51, *sides), edge, 1.8)
    down = [
        (-24, 26), (-8, 30), (8, 32), (22, 26), (-28, 10), (-12, 16), (4, 20), (18, 14), (-22, -6), (-8, -20), (6, -25),
    ]  # fmt: skip
    tufts = "".join(path_data("M", x + dx + 4, y + dy - 4, "q -1 5 -6 7") for dx, dy in down)
    canvas.stroke(tufts, edge, 1.3, opacity=0.4)
    side = -1 if light[0] < 0 else 1
    gloss = [(x + side * 30, y - 12), (x + side * 20, y - 25), (x + side * 4, y - 31)]
    bright = rgb(mix(shades[0], (255, 255, 255), 0.35))
    canvas.stroke(spline(gloss, closed=False), bright, 4, opacity=0.5, round_ends=True)


def _beak(canvas: Canvas, colour: str, shades: Shades, long: bool) -> None:
    length, thick, drop = (47.0, 10.0, 6.0) if long else (18.0, 11.0, 4.0)
    x, y = HEAD[0] + 32, HEAD[1]
    edge = "#8a8f9c" if colour == "black" else rgb(mix(shades[2], (20, 16, 24), 0.55))
    hook = (x + length * 0.45, y + thick + 1, x + length * 0.93, y + drop + 0.5)
    canvas.fill(path_data("M", x - 4, y + thick + 2, "Q", *hook, "L", x - 5, y + 4, "Z"), rgb(shades[2]), edge, 1.5)
    ridge = (x + length * 0.55, y - thick + 2, x + length, y + drop)
    paint = canvas.linear((0, y - thick, 0, y + 6), (0, shades[0]), (1, shades[1]))
    canvas.fill(path_data("M", x - 4, y - thick + 3, "Q", *ridge, "L", x - 5, y + 5, "Z"), paint, edge, 1.5)


def _eye(canvas: Canvas, head_colour: str, light: Point) -> None:
    x, y = HEAD[0] + 11, HEAD[1] - 5
    canvas.ellipse(x, y, 8.4, 8.6, "#d9d4c8" if head_colour in DARK_COLOURS else "#4a4046", 0.8)
    canvas.ellipse(x, y, 6.9, 7.1, "#1a1214")
    canvas.ellipse(x + 0.6, y + 2, 4.2, 3.6, "#5a3420", 0.75)
    canvas.ellipse(x + 2.6 * light[0] + 0.4, y - 2.6, 2.4, 2.4, "#ffffff")
    canvas.ellipse(x - 2.2, y + 3.2, 1.1, 1.1, "#ffffff", 0.6)


def _legs(canvas: Canvas, rng: random.Random) -> None:
    y = FEET[1]
    path = ""
    for knee, foot in ((138, 140), (155, 158)):
        path += f"M{knee} {y - 32}L{foot - 2} {y - 14}L{foot} {y - 1}"
        path += f"M{foot - 7} {y}L{foot} {y - 2}L{foot + 9} {y + 0.5}M{foot} {y - 2}L{foot + 4} {y + 2}"
    canvas.stroke(path, rgb(mix((70, 58, 56), (150, 104, 84), rng.random())), 4, round_ends=True)


def bird_svg(attributes: Mapping[str, str], individual_seed: int) -> str:
    """The picture as SVG text with a square viewBox.

    attributes: one value for every name in ATTRIBUTES. individual_seed: decides all that the attributes leave open.
    """
    stream = streams(individual_seed)
    pose, tint, marks = stream("pose"), stream("tint"), stream("marks")
    facing = pose.choice((-1, 1))
    lean, turn, fan = pose.uniform(-13, 10), pose.uniform(-12, 10), pose.uniform(-1.5, 2.5)
    size, shift, ground = pose.uniform(0.84, 0.96), pose.uniform(-4, 4), pose.uniform(218, 226)
    light = (pose.choice((-1, 1)) * pose.uniform(0.3, 0.9), -pose.uniform(0.5, 1.0))  # towards it, in the bird's frame
    warmth = tint.uniform(-1, 1)
    shades = {
        part: individual_shades(PLUMAGE[attributes[f"{part}_colour"]], stream(part), warmth)
        for part in ("belly", "wing", "head", "back", "beak")
    }

    # The bird is placed by the reach of its beak and tail, so that the longest still fit into a crop from the middle.
    long_tail, long_beak = attributes["tail_length"] == "long", attributes["beak_length"] == "long"
    left, right = (2 if long_tail else 30), (256 if long_beak else 230)
    size = min(size, 0.95 * VIEW / CROP_MARGIN / (right - left))
    foot = VIEW / 2 + shift + facing * size * (FEET[0] - (left + right) / 2)

    canvas = Canvas()
    SCENES[attributes["habitat"]](canvas, stream("scene"), foot, ground)
    place = (
        f"translate({foot:.1f} {ground + 1:.1f})scale({facing * size:.3f} {size:.3f})translate({-FEET[0]} {-FEET[1]})"
    )
    canvas.body.append(f'<g transform="{place}">')
    _legs(canvas, tint)
    canvas.body.append(f'<g transform="rotate({lean:.1f} 142 208)">')
    _tail(canvas, attributes["back_colour"], shades["back"], long_tail, fan)
    _belly(canvas, attributes["belly_colour"], shades["belly"], attributes["breast_pattern"], light, marks)
    _back(canvas, attributes["back_colour"], shades["back"])
    _wing(canvas, attributes["wing_colour"], shades["wing"], attributes["wing_bars"] == "present")
    part_of_it = tint.uniform(0, GRAIN)
    canvas.defs.append(
        f'<pattern id="grain" patternUnits="userSpaceOnUse" x="{part_of_it:.0f}" width="{GRAIN}" height="{GRAIN}" '
        f'patternTransform="rotate(-42)"><image width="{GRAIN}" height="{GRAIN}" href="{_grain()}"/></pattern>'
    )
    canvas.body.append(f'<path d="{BODY}{WING}" fill="url(#grain)" fill-opacity=".2" fill-rule="evenodd"/>')
    canvas.body.append(f'<g transform="rotate({turn:.1f} {HEAD[0] - 8} {HEAD[1] + 14})">')
    _head(canvas, attributes["head_colour"], shades["head"], light)
    _beak(canvas, attributes["beak_colour"], shades["beak"], long_beak)
    _eye(canvas, attributes["head_colour"], light)
    canvas.body.append("</g></g></g>")
    return canvas.svg()


def draw_bird(attributes: Mapping[str, str], individual_seed: int, size: int) -> npt.NDArray[np.uint8]:
    """The picture as (size, size, 3) array, sRGB. Raises UserError for a size out of range."""
    return render(bird_svg(attributes, individual_seed), size)
