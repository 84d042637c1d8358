"""A recipe: the complete configuration of both stages. Importing this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s2igan.training.beyond import Beyond
    from s2igan.training.rdg import RDGConfig
    from s2igan.training.sen import SENConfig


@dataclass(frozen=True)
class TrainingSet:
    """The set that a base recipe is meant for: a dry run counts its images where no store is given."""

    images: int
    classes: int
    """0 where the set has none."""


def _paper_only() -> Beyond:
    from s2igan.training.beyond import Beyond

    return Beyond()


@dataclass(frozen=True)
class Recipe:
    """Both stages, complete."""

    name: str
    sen: SENConfig
    rdg: RDGConfig
    beyond: Beyond = field(default_factory=_paper_only)
    training_set: TrainingSet | None = None
    """Only estimates use it."""

    def __post_init__(self) -> None:
        self.beyond.small.check(self.rdg)
