"""What is drawn for a recording, and its way to the disk. `s2igan-edge` uses this file too, so here is no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from PIL import Image

from s2igan.errors import UserError
from s2igan.files import atomic_write

LAST_SEED = 2**63 - 1
"""What torch's generators take."""


@dataclass(frozen=True, eq=False)
class Pictures(Sequence[Image.Image]):
    """What was drawn for one recording: a sequence of its images, from the first sample to the last."""

    scales: Mapping[int, Sequence[Image.Image]]
    """The images at each resolution that the model makes, by side in pixels, from the lowest."""
    seed: int
    """Of the first image."""
    speech_seconds: float
    """Length of the recording."""

    @property
    def images(self) -> Sequence[Image.Image]:
        """Those at the highest resolution."""
        return self.scales[max(self.scales)]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each image: with it as `seed`, and `samples=1`, that image alone is drawn again."""
        return picture_seeds(self.seed, len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Image.Image]: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Sequence[Image.Image]:
        return self.images[index]


def picture_seeds(seed: int, samples: int) -> tuple[int, ...]:
    """The seeds of the images of a recording: `seed`, `seed + 1`, ...; UserError if either is out of range."""
    if samples < 1:
        raise UserError(f"samples = {samples} makes no image: choose 1 or more.")
    if not 0 <= seed <= LAST_SEED - (samples - 1):
        raise UserError(f"seed = {seed} is out of range: choose a number from 0 to 2**63 - {samples}.")
    return tuple(range(seed, seed + samples))


def write_picture(path: Path, image: Image.Image) -> None:
    """Writes a PNG, and its folder; UserError where it cannot be written."""
    with atomic_write(path) as file:
        image.save(file, "PNG")
