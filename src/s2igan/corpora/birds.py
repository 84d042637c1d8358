"""The built-in corpus that training is tried with first: drawn birds of invented species (see `drawn`)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from s2igan.corpora import drawn
from s2igan.corpora.bird_captions import caption
from s2igan.corpora.bird_drawing import ATTRIBUTES, bird_svg, draw_bird
from s2igan.corpora.drawn import Description, DrawnSet


def class_name(number: int, attributes: Mapping[str, str]) -> str:
    """The folder and class of a species: `017_red-bellied_blue-winged`."""
    return f"{number:03d}_{attributes['belly_colour']}-bellied_{attributes['wing_colour']}-winged"


BIRDS = DrawnSet(
    name="birds",
    kind="bird",
    attributes=ATTRIBUTES,
    svg=bird_svg,
    draw=draw_bird,
    caption=caption,
    class_name=class_name,
    changed_sentences={
        "belly_colour": "this bird has a {} belly and black wings",
        "wing_colour": "this bird has {} wings and a yellow belly",
        "head_colour": "this bird has a {} head and white wings",
    },
    headlines=frozenset({"belly_colour", "wing_colour", "head_colour"}),
)


def split_classes(classes: int) -> list[str]:
    """`drawn.split_classes` of the birds: 44 train, 4 validation and 12 test of 60, and in proportion."""
    return drawn.split_classes(BIRDS, classes)


def species(classes: int = 60, seed: int = 0) -> list[dict[str, str]]:
    """`drawn.species` of the birds: the attributes of each class, in the order of `split_classes`."""
    return drawn.species(BIRDS, classes, seed)


def describe(
    attributes: Mapping[str, str],
    split: str,
    rng: random.Random,
    extra_voices: Sequence[str] = (),
    extra_share: float = 0.0,
) -> Description:
    """`drawn.describe` of the birds: one caption of a bird and a voice of its split to speak it."""
    return drawn.describe(BIRDS, attributes, split, rng, extra_voices, extra_share)


def prepare_birds(
    out: str | Path,
    classes: int = 60,
    individuals: int = 40,
    captions: int = 10,
    size: int = 64,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
    extra_voices: Sequence[str] | None = None,
    extra_share: float = drawn.NEURAL_SHARE,
) -> None:
    """Draw the birds, have their captions spoken, and pack both for training under `out`.

    Arguments, files and errors: `drawn.prepare`.
    """
    drawn.prepare(BIRDS, out, classes, individuals, captions, size, seed, jobs, progress, extra_voices, extra_share)
