"""What goes beyond the paper: one file for each idea, with its own settings; the paper's rows leave all of it off."""

from __future__ import annotations

from dataclasses import dataclass, field

from s2igan.training.beyond.condition_start import ConditionStart
from s2igan.training.beyond.in_use import InUse

__all__ = ["Beyond", "ConditionStart", "InUse"]


@dataclass(frozen=True)
class Beyond:
    """Settings of everything that goes beyond the paper."""

    condition_start: ConditionStart = field(default_factory=ConditionStart)
    in_use: InUse = field(default_factory=InUse)
