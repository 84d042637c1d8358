"""What a user can ask of the search for words: the flags of `s2igan words`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from s2igan.errors import UserError


@dataclass(frozen=True)
class WordSearch:
    """How words are looked for. The defaults were chosen on the development split of language 1 (docs/unwritten.md)."""

    utterances: int = 1000
    """recordings to look in, chosen at random"""
    clusters: int = 180
    """kinds of segments; about twice as many as words are expected"""
    prominence: float = 0.3
    """how much the change of speech must rise above its surroundings where a boundary may be, in its standard
    deviations"""
    span: int = 2
    """frames of 30 ms before and after, whose means are compared"""
    boundary_cost: float = 2.0
    """what a boundary costs in the choice among those; more gives fewer and longer segments"""
    against: Literal["auto", "attributes", "pictures"] = "auto"
    """what words may go with: attributes of the pictures, where they are known, or clusters of pictures"""
    picture_clusters: int = 20
    """kinds of pictures, where no attributes are known"""
    examples: int = 5
    """recordings of each word on the page"""
    shown: int = 40
    """words on the page, those that tell most of the picture"""
    swaps: int = 0
    """recordings in which a found word of a colour takes the place of another, to see whether the picture follows"""

    def __post_init__(self) -> None:
        for name in ("utterances", "span", "examples", "shown"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: choose 1 or more.")
        if self.swaps < 0:
            raise UserError(f"--swaps {self.swaps}: choose 0 or more.")
        for name in ("clusters", "picture_clusters"):
            if getattr(self, name) < 2:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: choose 2 or more.")
        for name in ("prominence", "boundary_cost"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name):g}: choose a number above 0.")
