"""The built-in corpus that training is tried with first: drawn birds of invented species (see `drawn`)."""

from __future__ import annotations

from collections.abc import Mapping

from s2igan.corpora.builtin.bird_captions import caption
from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES, bird_svg, draw_bird
from s2igan.corpora.builtin.drawn import DrawnSet


def class_name(number: int, attributes: Mapping[str, str]) -> str:
    """The folder and class of a species: `017_red-bellied_blue-winged`."""
    return f"{number:03d}_{attributes['belly_colour']}-bellied_{attributes['wing_colour']}-winged"


DRAWN_SET = DrawnSet(
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
