"""The built-in analogue of Oxford-102: drawn flowers of invented species (see `drawn`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from s2igan.corpora import drawn
from s2igan.corpora.drawn import DrawnSet
from s2igan.corpora.flower_captions import caption
from s2igan.corpora.flower_drawing import ATTRIBUTES, draw_flower, flower_svg


def class_name(number: int, attributes: Mapping[str, str]) -> str:
    """The folder and class of a species: `017_five-petalled_blue`."""
    return f"{number:03d}_{attributes['petal_count']}-petalled_{attributes['petal_colour']}"


FLOWERS = DrawnSet(
    name="flowers",
    kind="flower",
    attributes=ATTRIBUTES,
    svg=flower_svg,
    draw=draw_flower,
    caption=caption,
    class_name=class_name,
    changed_sentences={
        "petal_colour": "this flower has five {} petals and a yellow centre",
        "centre_colour": "this flower has pink petals and a large {} centre",
        "petal_count": "this is a red flower with {} round petals",
    },
    headlines=frozenset({"petal_colour", "centre_colour", "petal_count"}),
)


def split_classes(classes: int) -> list[str]:
    """`drawn.split_classes` of the flowers: 29 train, 3 validation and 8 test of 40, and in proportion."""
    return drawn.split_classes(FLOWERS, classes)


def species(classes: int = 40, seed: int = 0) -> list[dict[str, str]]:
    """`drawn.species` of the flowers: the attributes of each class, in the order of `split_classes`."""
    return drawn.species(FLOWERS, classes, seed)


def prepare_flowers(
    out: str | Path,
    classes: int = 40,
    individuals: int = 40,
    captions: int = 10,
    size: int = 64,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
    extra_voices: Sequence[str] | None = None,
    extra_share: float = drawn.NEURAL_SHARE,
) -> None:
    """Draw the flowers, have their captions spoken, and pack both for training under `out`.

    Arguments, files and errors: `drawn.prepare`.
    """
    drawn.prepare(FLOWERS, out, classes, individuals, captions, size, seed, jobs, progress, extra_voices, extra_share)
