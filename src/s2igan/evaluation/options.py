"""How a model is scored. Importing this module is cheap: the command line does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Protocol = Literal["sample", "paper"]


@dataclass(frozen=True)
class EvaluationOptions:
    """What `evaluate.evaluate` is asked for."""

    split: str = "test"
    """What to score on."""
    seed: int = 0
    """Of every random choice and of the noise."""
    max_captions: int = 1000
    """Captions, drawn at random, that an image each is generated for."""
    protocol: Protocol = "sample"
    """"paper": one image of every caption of the split, and the Fréchet distance whatever the counts are."""
    consistency: bool = False
    """Train encoders that no generator saw, once for a set, and score by them whether speech and images fit."""
    keep_images: bool = False
    """Leave the generated images and the real ones that they are compared with, as PNG."""
    fid_weights: str | Path | None = None
    """File of the FID Inception, or "download"; without it there are no scores on Inception."""
    allow_other_data: bool = False
    """Score on another set than the one that the model was trained on; the record says so."""
    conditions: bool = False
    """Also score it under other conditions, such as noise (`conditions.condition_groups`); the table goes to
    `conditions.md` beside the scores, for a model card."""


@dataclass(frozen=True)
class OtherConditions:
    """Conditions that a user adds to those of `EvaluationOptions.conditions`; each is a row of the table."""

    voices: tuple[str, ...] = ()
    """Voice strings (`s2igan.speech.parse_voice`): each speaks the captions anew."""
    rooms: tuple[Path, ...] = ()
    """Recordings of a room's answer to a click."""


NO_OTHERS = OtherConditions()
