"""Coordinates of what the page draws: curves of training, bars of scores and of time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

MAX_POINTS = 240
"""Points of one curve; longer ones are averaged over neighbours."""
WIDTH, HEIGHT, TOP = 250, 96, 6
"""Of the area of a curve, in units of its viewBox, and where it begins."""
PHASES = 5
"""Colours in the stylesheet for the bar of phases."""

Point = tuple[float, float]
"""Step and value."""


class Curve(NamedTuple):
    """A small line chart with its newest value."""

    name: str
    first: Point
    last: Point
    low: float
    high: float
    line: str
    """An SVG path."""


def curve(name: str, points: Sequence[Point]) -> Curve | None:
    """The chart of a term without its values that are not finite; None where there are no others."""
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if not points:
        return None
    low, high = min(y for _, y in points), max(y for _, y in points)
    return Curve(name, points[0], points[-1], low, high, _path(thinned(points), low, high))


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MAX_POINTS`, each the mean of neighbours."""
    group = math.ceil(len(points) / MAX_POINTS)
    parts = [points[start : start + group] for start in range(0, len(points), group)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _path(points: Sequence[Point], low: float, high: float) -> str:
    """An SVG path; one point becomes a short stroke."""
    first, last = points[0][0], points[-1][0]
    across, up = (last - first) or 1.0, (high - low) or 1.0
    places = [f"{WIDTH * (x - first) / across:.1f} {TOP + HEIGHT * (1 - (y - low) / up):.1f}" for x, y in points]
    return "M" + "L".join(places) + ("h4" if len(places) == 1 else "")


def number(value: float) -> str:
    """A value of a curve in few characters."""
    return f"{value:.3g}" if abs(value) < 1e5 else f"{value:.1e}"


def place(value: float) -> str:
    """Where a fraction stands on a bar from 0 to 1."""
    return f"{100 * min(1.0, max(0.0, value)):.2f}%" if math.isfinite(value) else "0%"


def phases(seconds: Mapping[str, float]) -> Iterator[tuple[str, str, float, float, str]]:
    """Of each part of a bar of time: name, time in words, where it starts and its share (both in percent), fill."""
    total, start = sum(seconds.values()) or 1.0, 0.0
    for i, (name, spent) in enumerate(seconds.items()):
        share = 100 * spent / total
        yield name, duration(spent), start, share, f"var(--phase-{i % PHASES + 1})"
        start += share


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
