"""Pictures drawn on demand, with random attributes: what the attribute classifier learns from.

This module does not import torch, so that the processes that draw start quickly.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Mapping
from functools import partial

import numpy as np
from jaxtyping import Int, UInt8

from s2igan.corpora.builtin import svg
from s2igan.corpora.builtin.drawn import ENGLISH, LANGUAGE, DrawnSet
from s2igan.corpora.builtin.invented import spoken_in
from s2igan.corpora.builtin.tables import source
from s2igan.corpora.registry import BUILT_IN, drawn_set
from s2igan.data.store import Store
from s2igan.parallel import each_result, track

DRAWINGS_PER_TASK = 50
"""About a second of drawing: few enough for a progress bar, many enough that a task costs nothing."""

FIRST_INDIVIDUAL = 1 << 40
"""Individuals are numbered from here, where no corpus numbers its own: no picture of a corpus is drawn here."""


def drawn_set_with(attributes: Mapping[str, tuple[str, ...]], language: str = ENGLISH) -> DrawnSet | None:
    """The drawn set that has exactly these attributes, and these values among others (a small corpus need not show
    every one), described in a language; None where a store's pictures are no such drawings."""
    for drawn in map(drawn_set, BUILT_IN):
        known = drawn.attributes
        if attributes.keys() == known.keys() and all(set(attributes[name]) <= set(known[name]) for name in known):
            return spoken_in(drawn, language)
    return None


def drawn_set_of(store: Store) -> DrawnSet | None:
    """The drawn set of a store's pictures, in its language; None where they are no such drawings."""
    return drawn_set_with(store.attributes, store.report.get(LANGUAGE, ENGLISH))


def fingerprint(drawn: DrawnSet) -> str:
    """Changes when the pictures might: a hash of the drawing's code, its tables and the renderer's version."""
    digest = hashlib.sha256(source(sys.modules[drawn.draw.__module__]) + source(svg))
    digest.update(importlib.metadata.version("resvg-py").encode())
    return digest.hexdigest()


def _draw(
    drawn: DrawnSet, side: int, first: int, share: tuple[int, np.ndarray]
) -> UInt8[np.ndarray, "count side side 3"]:
    """The pictures of some rows of codes, of which ``share`` has the number of the first; individuals as numbered."""
    start, codes = share
    pictures = np.empty((len(codes), side, side, 3), np.uint8)
    for i, row in enumerate(codes):
        chosen = {name: values[code] for (name, values), code in zip(drawn.attributes.items(), row, strict=True)}
        pictures[i] = drawn.draw(chosen, first + start + i, side)
    return pictures


def draw_random(
    drawn: DrawnSet,
    count: int,
    side: int,
    *,
    seed: int,
    jobs: int | None = None,
) -> tuple[UInt8[np.ndarray, "count side side 3"], Int[np.ndarray, "count attributes"]]:
    """Pictures with attributes drawn uniformly and independently of each other, and the numbers of their values.

    Other seeds give other individuals. As many processes draw as there are usable cores, or ``jobs``; UserError where
    one was killed.
    """
    rng = np.random.default_rng([seed, 0xD8A3])
    sizes = [len(values) for values in drawn.attributes.values()]
    codes = rng.integers(0, sizes, size=(count, len(sizes)))
    pictures = np.empty((count, side, side, 3), np.uint8)
    shares = [(start, codes[start : start + DRAWINGS_PER_TASK]) for start in range(0, count, DRAWINGS_PER_TASK)]
    work = partial(_draw, drawn, side, FIRST_INDIVIDUAL * (seed + 1))
    for (start, _), made in track(each_result(work, shares, jobs), "Drawing", total=len(shares)):
        pictures[start : start + len(made)] = made
    return pictures, codes
