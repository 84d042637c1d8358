"""The record of a score: the number, what it lies between, and how it was measured."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rich.table import Table

FULL, HALF = 1.0 - 1e-9, 0.5
"""Of what guessing reaches."""


@dataclass(frozen=True)
class Score:
    """One number; `value`, `chance` and `ceiling` are fractions of 1 unless ``unit`` says otherwise."""

    key: str
    """Unique name, group first: `sen/map`."""
    name: str
    """What stands in tables."""
    value: float
    protocol: Mapping[str, Any]
    """Whatever one needs to measure it again: split, counts, extractor, seed."""
    std: float | None = None
    """Standard deviation over repeated draws of the queries, where there are any."""
    chance: float | None = None
    ceiling: float | None = None
    ceiling_name: str | None = None
    unit: Literal["fraction", "distance"] = "fraction"
    better: Literal["higher", "lower"] = "higher"
    headline: bool = False

    @property
    def group(self) -> str:
        """The part of the key before the first slash."""
        return self.key.partition("/")[0]

    def record(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        return {"key": self.key, "name": self.name, "group": self.group} | {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("key", "name")
        }


@dataclass(frozen=True)
class Group:
    """Scores that share a protocol."""

    key: str
    title: str
    protocol: str
    """How they were measured, for a reader."""
    scores: Sequence[Score] = field(default_factory=tuple)


def telling(group: Group) -> Group:
    """The group without scores that guessing reaches in full, such as Recall@10 among ten images; Recall@1 stays.

    A headline of which guessing reaches more than half is handed to the largest k of its kind of which it does not, and
    is given up where there is none, as is mAP of one class: a small test split is no reason for a large figure.
    """
    kept = [score for score in group.scores if _rank(score) in (None, 1) or (score.chance or 0.0) < FULL]
    wanted: set[str] = set()
    for score in group.scores:
        if score.headline and _rank(score) is not None and (score.chance or 0.0) > HALF:
            kind = [other for other in kept if _kind(other) == _kind(score) and (other.chance or 0.0) <= HALF]
            wanted |= {max(kind, key=lambda other: _rank(other) or 0).key} if kind else set()
        elif score.headline and (score.unit == "distance" or (score.chance or 0.0) < FULL):
            wanted.add(score.key)
    return replace(group, scores=[replace(score, headline=score.key in wanted) for score in kept])


def _rank(score: Score) -> int | None:
    match = re.search(r"@(\d+)", score.key)
    return int(match[1]) if match else None


def _kind(score: Score) -> str:
    return re.sub(r"@\d+", "@", score.key)


def score_table(group: Group) -> Table:
    """The scores of a group with chance and ceiling, as a table for the terminal."""
    ceilings = [score.ceiling_name for score in group.scores if score.ceiling_name]
    table = Table(title=group.title, caption=group.protocol, title_justify="left", caption_justify="left")
    table.add_column("score")
    for column in ("reached", "chance", ceilings[0] if ceilings else "ceiling", "of it"):
        table.add_column(column, justify="right", no_wrap=True)
    for score in group.scores:
        share = score.value / score.ceiling if score.ceiling and score.unit == "fraction" else None
        table.add_row(
            score.name,
            _number(score.value, score.unit) + (f" ± {_number(score.std, score.unit)}" if score.std else ""),
            _number(score.chance, score.unit),
            _number(score.ceiling, score.unit),
            _number(share, "fraction"),
        )
    return table


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if unit == "fraction" else f"{value:.4g}"
