"""Flowers drawn from a list of attributes, as SVG pictures rendered by resvg.

A picture follows from its attributes and one seed alone. The attributes decide what a sentence could say about the
flower; the seed decides everything else: how it is turned and tilted, its size and stem, the exact shade of each
colour, the light, and what lies in the background. The seed's choices do not depend on the attributes, so two flowers
with the same seed differ only in what their attributes say.

The flower is drawn large and with an edge around each petal, because every attribute has to be readable at 64 pixels.
What is behind it is out of focus: it is rendered small and blurred, and stretched to the picture, which costs less than
to draw it sharply.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from s2igan.corpora.builtin.svg import (
    RGB,
    VIEW,
    Canvas,
    Point,
    Shades,
    data_address,
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

TABLE = table("flower_drawing")
ATTRIBUTES: dict[str, tuple[str, ...]] = TABLE["attributes"]
PETALS: dict[str, Shades] = TABLE["petals"]
CENTRES: dict[str, Shades] = TABLE["centres"]
EDGES: dict[str, RGB] = TABLE["edges"]
DARK_PETALS = frozenset({"red", "purple", "blue"})  # pale marks show up on these, dark ones on the others
PALE_MARK: RGB = (255, 244, 214)
DARK_MARK: RGB = (104, 14, 52)
RING: RGB = (58, 6, 36)

PETAL_NUMBER = {"three": 3, "four": 4, "five": 5, "six": 6, "eight": 8, "many": 15}
REACH = 80.0  # from the middle of the flower to the tips of its petals
WIDEST = {"round": 0.6, "pointed": 0.46, "heart": 0.6}  # half the width of a petal over its length ...
FILLING = {"round": 1.12, "pointed": 0.82, "heart": 1.1}  # ... and where there are many, over what makes them touch
NARROW = {"three": 0.2, "four": 0.19, "five": 0.18, "six": 0.165, "eight": 0.145, "many": 0.088}  # the same
CENTRE_RADIUS = {"small": 13.5, "large": 25.0}
GOLDEN_ANGLE = 2.399963  # radians between one floret and the next

GRAIN = 64  # side of the petals' texture, in the drawing's units
BLUR, BACKGROUND_SIZE = 3.2, 72  # of the background: standard deviation in the drawing's units, and pixels a side
MARGIN = 9  # of the background, on each side


# ----------------------------------------------------------------------------------------------------------------------
# Backgrounds: the tones are duller than any petal, so that the flower stands out whatever its colours.


def _bokeh(canvas: Canvas, rng: random.Random, count: int, tones: Sequence[str], top: float, bottom: float) -> None:
    """Lights out of focus, larger towards the bottom, which is nearer."""
    for _ in range(count):
        y = rng.uniform(top, bottom)
        r = rng.uniform(5, 11) + 9 * max(0.0, y / VIEW) * rng.random()
        canvas.ellipse(rng.uniform(-8, VIEW + 8), y, r, r, rng.choice(tones), rng.uniform(0.28, 0.6))


def _grass(canvas: Canvas, rng: random.Random, tones: Sequence[str], tall: float, count: int = 26) -> None:
    for i in range(count):
        x, top, lean = rng.uniform(-10, VIEW + 10), VIEW - tall * rng.uniform(0.35, 1), rng.uniform(-22, 22)
        middle = (VIEW + top) / 2
        blade = path_data("M", x - 4, VIEW, "Q", x, middle, x + lean, top, "Q", x + 6, middle, x + 5, VIEW, "Z")
        canvas.fill(blade, tones[i % len(tones)])


def _forest(canvas: Canvas, rng: random.Random) -> None:
    sky(canvas, rng, (0, (126, 152, 108)), (0.5, (66, 96, 66)), (1, (26, 44, 34)))
    canvas.glow(rng.uniform(40, 216), rng.uniform(10, 70), 90, (246, 246, 190), 0.95)
    for _ in range(rng.randint(5, 7)):
        x, width = rng.uniform(-10, VIEW), rng.uniform(12, 30)
        bark = mix((44, 42, 36), (92, 88, 68), rng.random())
        lit = canvas.linear((x, 0, x + width, 0), (0, mix(bark, (180, 170, 120), 0.4)), (0.4, bark), (1, (30, 32, 28)))
        canvas.rect(x, -4, width, 214 + rng.uniform(-14, 14), lit, 0.9)
    beams = "".join(
        path_data("M", x, -10, "l", 26, 0, "l", 70, 230, "l", -60, 0, "Z") for x in (rng.uniform(-60, 200), 120)
    )
    canvas.fill(beams, "#f2f3c0", opacity=0.13)
    canvas.fill(hill(rng, 208, 8), "#223a28")
    _bokeh(canvas, rng, 14, ("#c4d67c", "#86a85a", "#4e7246", "#f0eeb4"), 0, 150)
    _grass(canvas, rng, ("#2c4c2e", "#3c6236", "#1f3826"), 70)
    _bokeh(canvas, rng, 7, ("#8fae58", "#5c8446"), 190, 256)


def _pond(canvas: Canvas, rng: random.Random) -> None:
    horizon = rng.uniform(44, 70)
    sky(canvas, rng, (0, (196, 224, 236)), (0.3, (238, 240, 226)))
    canvas.fill(hill(rng, horizon - 10, 8), "#6f9a84")
    water = canvas.linear((0, horizon, 0, VIEW), (0, (160, 208, 218)), (0.45, (58, 138, 164)), (1, (14, 66, 98)))
    canvas.rect(-10, horizon, VIEW + 20, VIEW - horizon + 10, water)
    for _ in range(26):
        near = rng.random() ** 1.2
        y = horizon + 3 + (VIEW - horizon) * near
        tone = rng.choice(("#eefafa", "#c6e6ee", "#124a68", "#0e4058"))
        canvas.ellipse(rng.uniform(0, VIEW), y, 12 + 36 * near, 1.4 + 3.4 * near, tone, 0.5)
    for _ in range(rng.randint(6, 8)):
        near = rng.uniform(0.25, 1)
        x, y = rng.uniform(-10, VIEW + 10), horizon + (VIEW - horizon) * near
        rx = 14 + 28 * near
        canvas.ellipse(x, y + 3, rx, rx * 0.36, "#0c3c50", 0.6)
        canvas.ellipse(x, y, rx, rx * 0.34, rng.choice(("#5f9c5a", "#7cb168", "#4c8652")))
        canvas.fill(path_data("M", x, y, "l", rx, -rx * 0.22, "l", 0, rx * 0.3, "Z"), "#2c7288")
    for side in (rng.uniform(-6, 30), rng.uniform(226, 262)):
        for _ in range(rng.randint(3, 5)):
            x, lean, top = side + rng.uniform(-16, 16), rng.uniform(-16, 16), rng.uniform(10, 90)
            reed = rgb(mix((104, 140, 70), (52, 96, 62), rng.random()))
            canvas.stroke(path_data("M", x, VIEW, "Q", x, (VIEW + top) / 2, x + lean, top), reed, 5)
            canvas.ellipse(x + lean, top + 4, 5.5, 18, "#6b4628", turn=lean)


def _meadow(canvas: Canvas, rng: random.Random) -> None:
    sky(canvas, rng, (0, (150, 202, 240)), (0.3, (230, 242, 232)), (0.42, (206, 226, 140)), (1, (96, 156, 50)))
    canvas.glow(rng.uniform(30, 226), rng.uniform(10, 50), 66, (255, 252, 224), 0.9)
    canvas.fill(hill(rng, 92, 9), "#a6cc78")
    canvas.fill(hill(rng, 112, 8), "#c4dc80")
    _bokeh(canvas, rng, 40, ("#f7a6c6", "#ffffff", "#ffe26a", "#d678b4", "#9aa8ec", "#e6f2a0"), 112, 250)
    _grass(canvas, rng, ("#6aa23a", "#86b64a", "#4f8a34", "#a4c858"), 84)
    _bokeh(canvas, rng, 8, ("#ffd8e8", "#fff6b0", "#ffffff"), 200, 250)


def _mountains(canvas: Canvas, rng: random.Random) -> None:
    sky(canvas, rng, (0, (74, 138, 206)), (0.5, (176, 210, 236)), (0.7, (226, 234, 240)))
    for base, tall, rock, count in ((170.0, 120.0, (128, 146, 176), 4), (192.0, 86.0, (92, 108, 138), 5)):
        for i in range(count):
            x = (i + rng.uniform(0.1, 0.9)) * VIEW / count
            height = tall * rng.uniform(0.65, 1)
            wide = height * rng.uniform(0.62, 0.85)
            top = base - height
            face = canvas.linear(
                (x - wide, 0, x + wide, 0), (0, mix(rock, (255, 250, 240), 0.3)), (0.5, rock), (1, rock)
            )
            canvas.fill(path_data("M", x, top, "L", x + wide, base + 30, "L", x - wide, base + 30, "Z"), face)
            cap = path_data(
                "M", x, top, "L", x + wide * 0.34, top + height * 0.4, "l", -wide * 0.14, -height * 0.07,
                "l", -wide * 0.12, height * 0.14, "l", -wide * 0.16, -height * 0.12, "L", x - wide * 0.34,
                top + height * 0.4, "Z",
            )  # fmt: skip
            canvas.fill(cap, "#f6faff")
    canvas.fill(hill(rng, 198, 10), "#7d9a6c")
    canvas.fill(hill(rng, 222, 8), "#64825a")
    for _ in range(rng.randint(6, 8)):
        x, y, r = rng.uniform(-8, VIEW + 8), rng.uniform(206, 256), rng.uniform(10, 26)
        stone = canvas.linear((x, y - r, x, y + r), (0, (206, 206, 204)), (0.6, (132, 134, 140)), (1, (76, 80, 92)))
        canvas.ellipse(x, y, r, r * 0.62, stone)
    _bokeh(canvas, rng, 7, ("#e8eef4", "#c4d49a"), 200, 250)


def _desert(canvas: Canvas, rng: random.Random) -> None:
    sky(canvas, rng, (0, (110, 192, 206)), (0.3, (206, 226, 208)), (0.48, (252, 226, 184)))
    x, y = rng.uniform(30, 226), rng.uniform(18, 60)
    canvas.glow(x, y, 60, (255, 250, 224), 1.0)
    canvas.ellipse(x, y, 17, 17, "#fffbe6")
    for top, lit, dark in ((108, (236, 196, 150), (206, 156, 114)), (146, (240, 206, 156), (212, 160, 108)),
                           (190, (232, 186, 130), (190, 134, 86))):  # fmt: skip
        dune = canvas.linear((0, top - 12, 0, top + 60), (0, lit), (1, dark))
        canvas.fill(hill(rng, top, 15, 3), dune)
    for _ in range(3):
        x = rng.choice((rng.uniform(0, 60), rng.uniform(196, 256)))
        base, k = rng.uniform(140, 206), rng.uniform(0.8, 1.4)
        trunk = path_data("M", x, base, "v", -84 * k, "M", x, base - 32 * k, "h", 18 * k, "v", -24 * k)
        trunk += path_data("M", x, base - 22 * k, "h", -17 * k, "v", -20 * k)
        canvas.stroke(trunk, "#557a58", 12 * k, round_ends=True)
        canvas.stroke(path_data("M", x - 3 * k, base, "v", -82 * k), "#9cbc86", 3 * k, round_ends=True)
    for _ in range(rng.randint(5, 7)):
        x, y, r = rng.uniform(0, VIEW), rng.uniform(212, 256), rng.uniform(8, 20)
        stone = canvas.linear((x, y - r, x, y + r), (0, (238, 206, 172)), (1, (140, 92, 66)))
        canvas.ellipse(x, y, r, r * 0.55, stone)


def _garden(canvas: Canvas, rng: random.Random) -> None:
    sky(canvas, rng, (0, (176, 214, 246)), (0.3, (232, 240, 246)))
    canvas.fill(hill(rng, 44, 12, 7), "#5c8a5a")
    canvas.rect(-10, 62, VIEW + 20, 90, "#46764a")
    _bokeh(canvas, rng, 16, ("#6f9f5c", "#37643e", "#8ab46c"), 34, 120)
    _bokeh(canvas, rng, 9, ("#e48aa2", "#f3d27a", "#eef0f2"), 44, 110)
    step, x = rng.uniform(29, 34), rng.uniform(-30, 0)
    boards = ""
    for _ in range(11):
        boards += path_data("M", x, 216, "V", 92, "L", x + 9, 78, "L", x + 18, 92, "V", 216, "Z")
        x += step
    canvas.rect(-10, 112, VIEW + 20, 12, "#c3ccdc")
    canvas.rect(-10, 172, VIEW + 20, 12, "#c3ccdc")
    canvas.fill(boards, canvas.linear((0, 78, 0, 216), (0, (238, 241, 247)), (1, (190, 199, 214))))
    soil = canvas.linear((0, 200, 0, VIEW), (0, (134, 98, 74)), (1, (74, 50, 40)))
    canvas.fill(hill(rng, 208, 4), soil)
    _grass(canvas, rng, ("#4f8240", "#6a9a4c", "#3c6a38"), 56, 20)
    _bokeh(canvas, rng, 8, ("#f0b8c8", "#f6e4a0", "#c6b4ea"), 196, 250)


Scene = Callable[[Canvas, random.Random], None]
SCENES: dict[str, Scene] = {
    "forest": _forest, "pond": _pond, "meadow": _meadow, "mountains": _mountains, "desert": _desert, "garden": _garden,
}  # fmt: skip


def _companions(canvas: Canvas, rng: random.Random, petals: Shades, centre: Shades) -> None:
    """Other flowers of the kind, far behind."""
    for side in (rng.uniform(14, 58), rng.uniform(198, 242)):
        x, y, r = side, rng.uniform(128, 214), rng.uniform(9, 14)
        canvas.stroke(path_data("M", x, y, "Q", x, 240, x + rng.uniform(-8, 8), 262), "#55803f", 3.5)
        turn = rng.uniform(0, 6.28)
        tone = rgb(mix(petals[1], (150, 160, 150), 0.18))
        for k in range(6):
            a = turn + k * math.pi / 3
            canvas.ellipse(x + r * 0.8 * math.cos(a), y + r * 0.7 * math.sin(a), r * 0.62, r * 0.58, tone)
        canvas.ellipse(x, y, r * 0.42, r * 0.4, rgb(centre[1]))


def _background(habitat: str, rng: random.Random, petals: Shades, centre: Shades) -> str:
    """The scene out of focus, as the address of an image."""
    canvas = Canvas()
    SCENES[habitat](canvas, rng)
    _companions(canvas, rng, petals, centre)
    blur = (
        f'<filter id="blur" filterUnits="userSpaceOnUse" x="-16" y="-16" width="{VIEW + 32}" height="{VIEW + 32}" '
        f'color-interpolation-filters="sRGB"><feGaussianBlur stdDeviation="{BLUR}"/></filter>'
    )
    canvas.defs.append(blur)
    canvas.body = ['<g filter="url(#blur)">', *canvas.body, "</g>"]
    return data_address(canvas.svg(), BACKGROUND_SIZE)


def _grain() -> str:
    """The texture of every petal, whose streaks run along it."""
    return grain(GRAIN, (0.22, 0.05), 11, dark=(0.2, 0.05, 0.2), pale=(1, 1, 0.96))


# ----------------------------------------------------------------------------------------------------------------------
# Petals, each drawn upwards from the middle of the flower at (0, 0).


def _petal_sides(shape: str, w: float, length: float) -> tuple[list[Point], list[Point]]:
    """The left side of a petal from its base to its tip and the right one back; w is half its width."""
    b = min(0.3 * w, 7.0)
    left = {
        "round": [(-b, 0), (-0.72 * w, -0.32), (-w, -0.64), (-0.66 * w, -0.93), (0, -1.0)],
        "pointed": [(-b, 0), (-0.8 * w, -0.22), (-w, -0.44), (-0.66 * w, -0.72), (-0.22 * w, -0.92), (0, -1.0)],
        "narrow": [(-b, 0), (-0.7 * w, -0.3), (-w, -0.62), (-0.8 * w, -0.9), (0, -1.0)],
        "heart": [(-b, 0), (-0.64 * w, -0.34), (-w, -0.68), (-0.9 * w, -0.92), (-0.5 * w, -1.0), (0, -0.76)],
    }[shape]
    points = [(x, y * length) for x, y in left]
    return points, [(-x, y) for x, y in points[::-1]]


def _petal(shape: str, w: float, length: float) -> str:
    left, right = _petal_sides(shape, w, length)
    return spline(left, closed=False) + "L" + spline(right, closed=False)[1:] + "Z"


def _half_petal(shape: str, w: float, length: float) -> str:
    left, _ = _petal_sides(shape, w, length)
    return spline(left, closed=False) + path_data("Q", -0.12 * w, -0.5 * length, 0.0, 0.0) + "Z"


def _marks(canvas: Canvas, attributes: Mapping[str, str], w: float, length: float) -> None:
    """The pattern of a petal, over its colour."""
    pattern, heart = attributes["petal_pattern"], attributes["petal_shape"] == "heart"
    mark = rgb(PALE_MARK if attributes["petal_colour"] in DARK_PETALS else DARK_MARK)
    far = 0.7 if heart else 0.84
    if pattern == "striped":
        lines = path_data("M", 0.0, -0.3 * length, "L", 0.0, -far * length)
        if w > 9:
            for side in (-1, 1):
                x = side * 0.5 * w
                lines += path_data("M", 0.5 * x, -0.34 * length, "Q", x, -0.55 * length, x, -0.78 * length)
        canvas.stroke(lines, mark, min(6.2, max(3.2, 0.2 * w)), round_ends=True)
    elif pattern == "spotted":
        wide = w > 9
        spots = ""
        for k, t in enumerate((0.44, 0.58, 0.72, 0.85)):
            across = ((0.0,), (-0.36, 0.36), (-0.56, 0.0, 0.56), (-0.3, 0.3))[k] if wide else (0.0,)
            for s in across:
                if not (heart and t > 0.8):
                    spots += path_data("M", s * w, -t * length, "l", 0.1, 0.1)
        if heart and wide:
            spots += "".join(path_data("M", s * w, -0.86 * length, "l", 0.1, 0.1) for s in (-0.52, 0.52))
        canvas.stroke(spots, mark, min(8.4, max(4.6, 0.24 * w)), round_ends=True)


def _ring_of_petals(
    canvas: Canvas, attributes: Mapping[str, str], shades: Shades, length: float, name: str
) -> tuple[str, str]:
    """Defines the petals of one ring; the names of their outline and of the whole petal."""
    count, shape, pattern = attributes["petal_count"], attributes["petal_shape"], attributes["petal_pattern"]
    light, base, shade = shades
    touching = 0.68 * math.tan(math.pi / PETAL_NUMBER[count])
    w = length * (NARROW[count] if shape == "narrow" else min(WIDEST[shape], FILLING[shape] * touching))
    w = w * REACH / length if count == "many" else w  # the shorter ring's are as wide
    outline = _petal(shape, w, length)
    stops: list[tuple[float, RGB]]
    stops = [(0, mix(shade, base, 0.2)), (0.5, base), (0.8, mix(base, light, 0.45)), (1, light)]
    if pattern == "ringed":
        r = 0.5 * REACH / length
        stops = [(0, RING), (r - 0.07, RING), (r + 0.03, base), (0.85, mix(base, light, 0.45)), (1, light)]
    paint = canvas.radial(0, 0, length, *stops)
    dark_edge = (128, 130, 160) if attributes["petal_colour"] == "white" else mix(shade, (40, 8, 40), 0.4)
    own = Canvas()
    own.defs = canvas.defs
    if pattern == "edged":
        own.fill(outline, rgb(EDGES[attributes["petal_colour"]]), rgb(dark_edge), 1.6)
        inner_w, inner_length = (0.56 * w, 0.88 * length) if w < 14 else (0.76 * w, 0.86 * length)
        own.fill(_petal(shape, inner_w, inner_length), paint)
    else:
        own.fill(outline, paint, rgb(dark_edge), 1.6)
    own.fill(_half_petal(shape, 0.97 * w, 0.985 * length), rgb(shade), opacity=0.2)  # a fold
    veins = path_data("M", 0.0, -0.16 * length, "L", 0.0, -(0.7 if shape == "heart" else 0.9) * length)
    for x in (-0.42, 0.42) if w > 12 else ():
        veins += path_data("M", 0.4 * x * w, -0.2 * length, "Q", x * w, -0.45 * length, 1.3 * x * w, -0.76 * length)
    own.stroke(veins, rgb(shade), 1.1, opacity=0.4)
    if count != "many":  # whose petals are too small for it
        own.fill(outline, "url(#grain)", opacity=0.22)
    _marks(own, attributes, w, length)
    canvas.defs.append(f'<path id="{name}-outline" d="{outline}"/><g id="{name}">{"".join(own.body)}</g>')
    return f"{name}-outline", name


def _petals(canvas: Canvas, attributes: Mapping[str, str], shades: Shades, light: Point, rng: random.Random) -> None:
    number = PETAL_NUMBER[attributes["petal_count"]]
    many = attributes["petal_count"] == "many"
    jitter = [(rng.uniform(-3, 3), rng.uniform(0.95, 1.05), rng.uniform(0.95, 1.02)) for _ in range(32)]
    first = rng.random()
    rings = ((REACH, 0.0, "back"), (0.7 * REACH, 0.5, "front")) if many else ((REACH, 0.0, "petal"),)
    for length, turn, name in rings:
        outline, petal = _ring_of_petals(canvas, attributes, shades, length, name)
        step = 360 / number
        order = range(number) if number % 2 else [*range(0, number, 2), *range(1, number, 2)]
        for k in order:
            twist, wide, long = jitter[k + (16 if name == "front" else 0)]
            angle = (first + turn + k) * step + twist * (0.5 if number > 6 else 1)
            towards = math.sin(math.radians(angle)) * light[0] - math.cos(math.radians(angle)) * light[1]
            place = f'transform="rotate({angle:.1f})scale({wide:.3f} {long:.3f})"'
            shadow = (
                f'transform="translate({-3 * light[0]:.1f} {-3 * light[1]:.1f})rotate({angle:.1f})scale(1.04 1.02)"'
            )
            canvas.body.append(f'<use href="#{outline}" {shadow} fill="#1c0a24" fill-opacity=".22"/>')
            canvas.body.append(f'<use href="#{petal}" {place}/>')
            tone, amount = ("#fffbe8", 0.2 * towards) if towards > 0 else ("#180a30", -0.2 * towards)
            canvas.body.append(f'<use href="#{outline}" {place} fill="{tone}" fill-opacity="{amount:.2f}"/>')


def _stamens(canvas: Canvas, attributes: Mapping[str, str], radius: float, rng: random.Random) -> None:
    dark = attributes["petal_colour"] in DARK_PETALS or attributes["petal_pattern"] == "ringed"
    filament, anther, rim = ("#fdf6d8", "#ffe98a", "#5e3c14") if dark else ("#7c2c40", "#6a2412", "#fff0c0")
    ends = []
    for k in range(9):
        angle = (k + rng.uniform(-0.2, 0.2)) * 2 * math.pi / 9
        reach = radius + rng.uniform(15, 20)
        ends.append((reach * math.cos(angle), reach * math.sin(angle), angle))
    lines = "".join(path_data("M", 0.0, 0.0, "Q", 0.5 * x - 0.12 * y, 0.5 * y + 0.12 * x, x, y) for x, y, _ in ends)
    canvas.stroke(lines, filament, 3.0)
    for x, y, angle in ends:
        canvas.ellipse(x, y, 6.0, 4.7, rim, turn=math.degrees(angle) + 90)
        canvas.ellipse(x, y, 5.0, 3.8, anther, turn=math.degrees(angle) + 90)


def _centre(canvas: Canvas, shades: Shades, radius: float, light: Point) -> None:
    bright, base, shade = shades
    canvas.ellipse(-2.5 * light[0], -2.5 * light[1], radius + 4, radius + 4, "#1c0a20", 0.28)  # the shadow it casts
    paint = canvas.radial(
        0.35 * radius * light[0], 0.35 * radius * light[1], 1.25 * radius, (0, bright), (0.55, base), (1, shade)
    )
    canvas.ellipse(0, 0, radius + 0.8, radius + 0.8, rgb(mix(shade, (20, 10, 10), 0.35)))
    canvas.ellipse(0, 0, radius, radius, paint)
    count = round(0.2 * radius * radius)
    dark, pale = "", ""
    for k in range(count):  # florets, as a sunflower sets them
        r, angle = (radius - 2.2) * math.sqrt((k + 0.5) / count), k * GOLDEN_ANGLE
        x, y = r * math.cos(angle), r * math.sin(angle)
        dark += path_data("M", x - 0.5 * light[0], y - 0.5 * light[1], "l", 0.1, 0.1)
        pale += path_data("M", x + 0.5 * light[0], y + 0.5 * light[1], "l", 0.1, 0.1)
    canvas.stroke(dark, rgb(shade), 3.4, opacity=0.55, round_ends=True)
    canvas.stroke(pale, rgb(mix(bright, base, 0.25)), 2.3, opacity=0.85, round_ends=True)


# ----------------------------------------------------------------------------------------------------------------------
# Stem and leaves


def _broad_leaf(canvas: Canvas, length: float, green: Shades) -> None:
    light, base, shade = green
    side = [(0.0, 0.0), (-21.0, -0.2 * length), (-27.0, -0.45 * length), (-15.0, -0.8 * length), (0.0, -length)]
    other = [(-x, y) for x, y in side[::-1]]
    blade = spline(side, closed=False) + "L" + spline(other, closed=False)[1:] + "Z"
    canvas.fill(
        blade, canvas.linear((-27, 0, 27, 0), (0, light), (0.49, base), (0.52, shade), (1, base)), "#1f3f22", 1.6
    )
    veins = path_data("M", 0.0, 0.0, "L", 0.0, -0.96 * length)
    for t in (0.2, 0.38, 0.56, 0.72):
        for s in (-1, 1):
            veins += path_data("M", 0.0, -t * length, "q", s * 8, -10, s * 17 * (1.1 - 0.6 * t), -16)
    canvas.stroke(veins, rgb(mix(light, (255, 255, 220), 0.5)), 1.4, opacity=0.8)


def _narrow_leaf(canvas: Canvas, length: float, green: Shades) -> None:
    light, base, shade = green
    for bend, reach in ((-26.0, 0.92), (4.0, 1.12), (30.0, 0.88)):
        end = (bend * 1.6, -reach * length)
        blade = path_data(
            "M", -4.0, 0.0, "Q", bend - 8, -0.5 * length, *end, "Q", bend + 7, -0.45 * length, 5.0, 0.0, "Z"
        )
        canvas.fill(blade, canvas.linear((-12, 0, 12, 0), (0, light), (1, mix(base, shade, 0.5))), "#1f3f22", 1.3)
        canvas.stroke(path_data("M", 0.0, 0.0, "Q", bend, -0.5 * length, *end), rgb(light), 1, opacity=0.7)


def _feathery_leaf(canvas: Canvas, length: float, green: Shades) -> None:
    light, base, _ = green
    leaflets = ["", ""]
    for k in range(9):
        t = 0.16 + 0.1 * k
        reach = 30 * (1.12 - t) + 3
        low = -t * length
        for s in (-1, 1):
            x, y = s * reach, low - 0.62 * reach
            upper = path_data("M", 0.0, low, "Q", 0.7 * x, low - 2, x, y)
            leaflets[s < 0] += f"{upper} {path_data('Q', 0.3 * x, y + 2, 0.0, low - 5, 'Z')}"
    for path, tone in zip(leaflets, (light, base), strict=True):
        canvas.fill(path, rgb(tone), "#1f3f22", 1.0)
    tip = path_data("M", -3.0, -1.02 * length, "Q", 0.0, -1.2 * length, 3.0, -1.02 * length, "Z")
    canvas.fill(tip, rgb(base), "#1f3f22", 1.0)
    canvas.stroke(path_data("M", 0.0, 0.0, "L", 0.0, -1.06 * length), rgb(mix(base, (30, 60, 30), 0.3)), 2.4)


Leaf = Callable[[Canvas, float, Shades], None]
LEAVES: dict[str, Leaf] = {"broad": _broad_leaf, "narrow": _narrow_leaf, "feathery": _feathery_leaf}


def _stem(canvas: Canvas, attributes: Mapping[str, str], head: Point, foot: float, rng: random.Random) -> None:
    tone = rng.random()
    green: Shades = (
        mix((166, 206, 92), (146, 200, 122), tone),
        mix((92, 152, 52), (74, 148, 76), tone),
        mix((46, 98, 34), (36, 92, 56), tone),
    )
    bow = rng.uniform(-10, 10)
    x, y = head
    middle = ((x + foot) / 2 + bow, 190.0)
    joint = ((x + foot) / 2 + bow * 0.7, 226.0)
    line = path_data("M", x, y, "Q", *middle, foot, 264.0)
    for side in (-1, 1):
        angle, length = side * rng.uniform(56, 68), rng.uniform(88, 98)
        place = f"translate({joint[0]:.1f} {joint[1] + rng.uniform(-4, 6):.1f})rotate({angle:.1f})scale({side} 1)"
        canvas.body.append(f'<g transform="{place}">')
        LEAVES[attributes["leaf_shape"]](canvas, length, green)
        canvas.body.append("</g>")
    canvas.stroke(line, "#1f3f22", 8.6)
    canvas.stroke(line, rgb(green[1]), 6.2)
    canvas.body.append('<g transform="translate(-1.3 0)">')
    canvas.stroke(line, rgb(green[0]), 1.8, opacity=0.8)
    canvas.body.append("</g>")


def flower_svg(attributes: Mapping[str, str], individual_seed: int) -> str:
    """The picture as SVG text with a square viewBox.

    attributes: one value for every name in ATTRIBUTES. individual_seed: decides all that the attributes leave open.
    """
    stream = streams(individual_seed)
    pose, tint = stream("pose"), stream("tint")
    size, squash, tilt = pose.uniform(0.92, 1.06), pose.uniform(0.84, 1.0), pose.uniform(-30, 30)
    head = (VIEW / 2 + pose.uniform(-12, 12), pose.uniform(94, 104))
    foot = VIEW / 2 + pose.uniform(-26, 26)
    light = (pose.choice((-1, 1)) * pose.uniform(0.3, 0.9), -pose.uniform(0.5, 1.0))  # towards it
    warmth = tint.uniform(-1, 1)
    petals = individual_shades(PETALS[attributes["petal_colour"]], stream("petals"), warmth)
    centre = individual_shades(CENTRES[attributes["centre_colour"]], stream("centre"), warmth)

    canvas = Canvas()
    scene = _background(attributes["habitat"], stream("scene"), petals, centre)
    # A little larger than the picture, since the blur mixes what lies outside into the border.
    side = VIEW + 2 * MARGIN
    canvas.body.append(f'<image x="{-MARGIN}" y="{-MARGIN}" width="{side}" height="{side}" href="{scene}"/>')
    _stem(canvas, attributes, head, foot, stream("stem"))
    canvas.body.append(
        f'<g transform="translate({head[0]:.1f} {head[1]:.1f})rotate({tilt:.1f})scale({size:.3f} {size * squash:.3f})'
        f'rotate({-tilt:.1f})">'
    )
    canvas.defs.append(
        f'<pattern id="grain" patternUnits="userSpaceOnUse" x="{tint.uniform(0, GRAIN):.0f}" width="{GRAIN}" '
        f'height="{2 * GRAIN}"><image width="{GRAIN}" height="{2 * GRAIN}" href="{_grain()}" '
        f'preserveAspectRatio="none"/></pattern>'
    )
    _petals(canvas, attributes, petals, light, stream("petal"))
    radius = CENTRE_RADIUS[attributes["centre_size"]]
    if attributes["stamens"] == "present":
        _stamens(canvas, attributes, radius, stream("stamens"))
    _centre(canvas, centre, radius, light)
    canvas.body.append("</g>")
    return canvas.svg()


def draw_flower(attributes: Mapping[str, str], individual_seed: int, size: int) -> npt.NDArray[np.uint8]:
    """The picture as (size, size, 3) array, sRGB. Raises UserError for a size out of range."""
    return render(flower_svg(attributes, individual_seed), size)
