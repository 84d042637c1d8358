"""The record of a score: the number, what it lies between, and how it was measured."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from rich.table import Table

METRICS, VERSION = "metrics.json", 4
"""The record of an evaluation, and the version of its form."""
SAMPLE_SHEET, FIGURE3 = "sample_sheet", "figure3"
"""Folders beside it, each with a JSON file of its name."""

ALL, HALF = 1.0 - 1e-9, 0.5
"""Shares of 1 that chance may reach; see `informative`."""
UNKNOWN = "–"
NAME_WIDTH = 16
"""Characters that a name has at least in a terminal's table, however narrow."""


@dataclass(frozen=True)
class Items:
    """What a score is the mean of: a value for each caption or query, so that two models can be compared pairwise."""

    numbers: Int[np.ndarray, " items"]
    """Of the utterances, or of the images, in the store."""
    clusters: Int[np.ndarray, " items"]
    """Their classes, which a bootstrap draws first."""
    values: Float[np.ndarray, " items"]


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
    interval: Sequence[float | None] | None = None
    """Ends of the 95 % bootstrap interval of `value`, where there is one; an end that is not finite is None."""
    normalised: float | None = None
    """(value - chance) / (ceiling - chance), where it is given."""
    normalised_interval: Sequence[float] | None = None
    """Ends of its 95 % bootstrap interval."""
    chance: float | None = None
    ceiling: float | None = None
    ceiling_name: str | None = None
    unit: Literal["fraction", "distance", "number"] = "fraction"
    better: Literal["higher", "lower"] = "higher"
    headline: bool = False
    items: Items | None = field(default=None, compare=False, repr=False)
    """What it is the mean of, where it is one; not in the record, but in a file beside it."""

    @property
    def group(self) -> str:
        """The part of the key before the first slash."""
        return self.key.partition("/")[0]

    def record(self) -> dict[str, Any]:
        """As it stands in metrics.json, which has lists for tuples."""
        fields = dataclasses.asdict(replace(self, items=None)).items()
        kept = {name: list(v) if isinstance(v, tuple) else v for name, v in fields if name != "items"}
        return {"group": self.group, **kept}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Score:
        """The score of a `record`."""
        return cls(**{own.name: record[own.name] for own in dataclasses.fields(cls) if own.name != "items"})

    def shown(self, value: float | None) -> str:
        """A value in the unit of this score, for people: "62.3 %", "43.22", or "–" where there is none."""
        if value is None or not math.isfinite(value):
            return UNKNOWN
        return f"{100 * value:.1f} %" if self.unit == "fraction" else f"{value:.4g}"

    @property
    def spread(self) -> str:
        """How sure the value is, for people: "± 5.1 %" or "61.0 % to 64.2 %"; empty where that is not known."""
        if self.interval is not None:
            low, high = (self.shown(end) for end in self.interval)
            return f"{low} to {high}" if high != UNKNOWN else f"above {low}"
        return f"± {self.shown(self.std)}" if self.std is not None else ""

    @property
    def shown_normalised(self) -> str:
        """`normalised` with its interval, such as "0.88 (0.84 to 0.91)"; empty where there is none."""
        if self.normalised is None:
            return ""
        value, *ends = (f"{number:z.2f}" for number in (self.normalised, *(self.normalised_interval or ())))
        return f"{value} ({' to '.join(ends)})" if ends else value

    @property
    def share(self) -> str:
        """How much of the ceiling was reached, such as "63 %"; empty where that means nothing."""
        return f"{100 * self.value / self.ceiling:.0f} %" if self.unit == "fraction" and self.ceiling else ""

    @property
    def bounds(self) -> str:
        """Interval, chance and ceiling for people; empty where there are none."""
        words = [] if self.interval is None else [f"95 % interval {self.spread}"]
        words += [] if self.chance is None else [f"chance {self.shown(self.chance)}"]
        if self.ceiling is not None:
            reached = f" (reached {self.share} of it)" if self.share else ""
            words.append(f"{self.ceiling_name} {self.shown(self.ceiling)}{reached}")
        return ", ".join(words)


@dataclass(frozen=True)
class Group:
    """Scores that share a protocol."""

    key: str
    title: str
    protocol: str
    """How they were measured, for a reader."""
    scores: Sequence[Score] = ()
    evidence: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)
    """What the scores were computed of that is no feature of a generated or a real image: what was drawn at random, and
    features of other images. Not in the record, but in a file beside it."""

    @property
    def headlines(self) -> list[Score]:
        """The scores that say most."""
        return [score for score in self.scores if score.headline]

    @property
    def ceiling_name(self) -> str:
        """What the column of ceilings is called."""
        return next((score.ceiling_name for score in self.scores if score.ceiling_name), "ceiling")

    @property
    def columns(self) -> list[str]:
        """Heads of what `cells` gives; a column that would be empty is left out."""
        return ["reached", *self._optional]

    def cells(self, score: Score) -> list[str]:
        """A score for a table: the value, and beside it what the group knows of it."""
        return [score.shown(score.value), *(_CELLS[kind](score) for kind in self._optional.values())]

    @property
    def _optional(self) -> dict[str, str]:
        """Head and kind of the columns that at least one score fills."""
        normalised = any(score.shown_normalised for score in self.scores)
        spread = "95 % interval" if any(score.interval for score in self.scores) else "±"
        heads = {"spread": spread, "chance": "chance", "ceiling": self.ceiling_name}
        heads |= {"normalised": "normalised"} if normalised else {"share": "of it"}
        filled = {kind for kind in heads for score in self.scores if _CELLS[kind](score) not in ("", UNKNOWN)}
        return {head: kind for kind, head in heads.items() if kind in filled}


_CELLS: dict[str, Callable[[Score], str]] = {
    "spread": lambda score: score.spread,
    "chance": lambda score: score.shown(score.chance),
    "ceiling": lambda score: score.shown(score.ceiling),
    "share": lambda score: score.share,
    "normalised": lambda score: score.shown_normalised,
}


def informative(group: Group) -> Group:
    """The group without scores that guessing reaches in full, such as Recall@10 among ten images; Recall@1 stays.

    Where guessing reaches more than half of a headline, the largest k of its kind of which it reaches less becomes the
    headline in its place, if there is one. A headline that guessing reaches in full, as mAP of one class, is none.
    """
    kept = [score for score in group.scores if _rank(score) in (None, 1) or (score.chance or 0.0) < ALL]
    wanted: set[str] = set()
    for score in group.scores:
        if score.headline and _rank(score) is not None and (score.chance or 0.0) > HALF:
            kind = [other for other in kept if _kind(other) == _kind(score) and (other.chance or 0.0) <= HALF]
            wanted |= {max(kind, key=lambda other: _rank(other) or 0).key} if kind else set()
        elif score.headline and (score.chance or 0.0) < ALL:
            wanted.add(score.key)
    return replace(group, scores=[replace(score, headline=score.key in wanted) for score in kept])


def _rank(score: Score) -> int | None:
    match = re.search(r"@(\d+)", score.key)
    return int(match[1]) if match else None


def _kind(score: Score) -> str:
    return re.sub(r"@\d+", "@", score.key)


def score_table(group: Group) -> Table:
    """The scores of a group with chance and ceiling, as a table for the terminal."""
    table = Table(title=group.title, caption=group.protocol, title_justify="left", caption_justify="left")
    table.add_column("score", min_width=NAME_WIDTH)
    for column in group.columns:
        table.add_column(column, justify="right")
    for score in group.scores:
        table.add_row(score.name, *group.cells(score))
    return table
