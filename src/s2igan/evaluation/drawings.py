"""Pictures drawn on demand, with random attributes: what the attribute classifier learns from.

This module does not import torch, so that the processes that draw start quickly.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from s2igan.corpora.builtin import svg
from s2igan.corpora.builtin.drawn import OVERSAMPLING, DrawnSet
from s2igan.corpora.builtin.tables import source
from s2igan.corpora.registry import BUILT_IN, drawn_set
from s2igan.parallel import each_done

DRAWINGS_PER_TASK = 50
"""About a second of drawing: few enough for a progress bar, many enough that a task costs nothing."""

FIRST_INDIVIDUAL = 1 << 40
"""Individuals are numbered from here, where no corpus numbers its own: no picture of a corpus is drawn here."""


def drawn_set_with(attributes: Mapping[str, tuple[str, ...]]) -> DrawnSet | None:
    """The drawn set that has exactly these attributes, and these values among others (a small corpus need not show
    every one); None where a store's pictures are no such drawings."""
    for drawn in map(drawn_set, BUILT_IN):
        known = drawn.attributes
        if attributes.keys() == known.keys() and all(set(attributes[name]) <= set(known[name]) for name in known):
            return drawn
    return None


def fingerprint(drawn: DrawnSet) -> str:
    """Changes when the pictures might: a hash of the drawing's code, its tables and the renderer's version."""
    digest = hashlib.sha256(source(sys.modules[drawn.draw.__module__]) + source(svg))
    digest.update(f"{importlib.metadata.version('resvg-py')} {OVERSAMPLING}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Share:
    """Some of the pictures, for one process."""

    drawn: DrawnSet
    side: int
    first: int
    codes: Int[np.ndarray, "count attributes"]
    file: Path

    def make(self) -> None:
        pictures = np.empty((len(self.codes), self.side, self.side, 3), np.uint8)
        for i, row in enumerate(self.codes):
            chosen = {
                name: values[code] for (name, values), code in zip(self.drawn.attributes.items(), row, strict=True)
            }
            large = self.drawn.draw(chosen, self.first + i, OVERSAMPLING * self.side)
            # As `data.images.load_image` brings a corpus's pictures to the stored size.
            small = Image.fromarray(large).resize((self.side, self.side), Image.Resampling.BICUBIC)
            pictures[i] = np.asarray(small)
        np.save(self.file, pictures)


def draw_random(
    drawn: DrawnSet,
    count: int,
    side: int,
    *,
    seed: int,
    jobs: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[UInt8[np.ndarray, "count side side 3"], Int[np.ndarray, "count attributes"]]:
    """Pictures with attributes drawn uniformly and independently of each other, and the numbers of their values.

    Args:
        seed: of the attributes and the individuals; other seeds give other individuals.
        jobs: processes; one per usable core unless given.
        advance: told how many pictures are finished, as they are.

    Raises:
        UserError: a process was killed.
    """
    rng = np.random.default_rng([seed, 0xD8A3])
    sizes = [len(values) for values in drawn.attributes.values()]
    codes = rng.integers(0, sizes, size=(count, len(sizes)))
    first = FIRST_INDIVIDUAL * (seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        shares = [
            _Share(drawn, side, first + start, codes[start : start + DRAWINGS_PER_TASK], Path(folder) / f"{start}.npy")
            for start in range(0, count, DRAWINGS_PER_TASK)
        ]
        for share in each_done(_Share.make, shares, jobs):
            advance(len(share.codes))
        return np.concatenate([np.load(share.file) for share in shares]), codes
