"""What a user can ask of the preparation of a source: the flags of `s2igan prepare` and `s2igan run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s2igan.errors import UserError
from s2igan.sound_containers import MAX_SECONDS

PROPORTIONS = (0.8, 0.1, 0.1)
"""Of the pictures, for train, validation and test."""


@dataclass(frozen=True)
class PrepareOptions:
    """How the source is read, split and spoken; its size and seed are given beside this, since training shares them."""

    window: Literal["hann", "hamming"] = "hann"
    """of the log-mel"""
    voice: tuple[str, ...] = ()
    """who speaks captions that have no recording, such as espeak:en-us+f3; repeat it for several voices"""
    proportions: tuple[float, float, float] = PROPORTIONS
    """of train, validation and test, where the corpus brings no splits"""
    speaker_disjoint: bool = False
    """no speaker is in two splits"""
    keep_personal_data: bool = False
    """keep names, birth years, places and devices of speakers where the corpus has them"""
    allow_rejected: bool = False
    """go on where over 20 % of the corpus cannot be used"""
    max_seconds: float = MAX_SECONDS
    """longer descriptions are left out; 600 at most"""
    trim_silence: bool = False
    """leave out the silence before and after what is said, but for a fifth of a second"""
    text_embeddings: bool = False
    """of cub and oxford102, keep the char-CNN-RNN embeddings of a StackGAN pack in the source for the recipe
    stackgan-v2-text-reed"""

    def __post_init__(self) -> None:
        if not 0 < self.max_seconds <= MAX_SECONDS:
            raise UserError(f"--max-seconds {self.max_seconds:g}: must be over 0, and at most {MAX_SECONDS:g}.")
