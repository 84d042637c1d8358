"""What goes beyond the paper: one file for each idea, with its own settings; the paper's rows leave all of it off."""

from __future__ import annotations

from dataclasses import dataclass, field

from s2igan.training.beyond.condition_start import ConditionStart
from s2igan.training.beyond.in_use import InUse
from s2igan.training.beyond.noise_penalty import NoisePenalty
from s2igan.training.beyond.translation import Translation
from s2igan.training.beyond.warm_start import WarmStart

__all__ = ["Beyond", "ConditionStart", "InUse", "NoisePenalty", "Translation", "WarmStart"]


@dataclass(frozen=True)
class Beyond:
    """Settings of everything that goes beyond the paper."""

    condition_start: ConditionStart = field(default_factory=ConditionStart)
    warm_start: WarmStart = field(default_factory=WarmStart)
    noise_penalty: NoisePenalty = field(default_factory=NoisePenalty)
    translation: Translation = field(default_factory=Translation)
    in_use: InUse = field(default_factory=InUse)
