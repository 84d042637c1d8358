"""The built-in analogue of Oxford-102: drawn flowers of invented species (see `drawn`)."""

from __future__ import annotations

from collections.abc import Mapping

from s2igan.corpora.builtin.drawn import DrawnSet
from s2igan.corpora.builtin.flower_captions import caption
from s2igan.corpora.builtin.flower_drawing import ATTRIBUTES, draw_flower, flower_svg


def class_name(number: int, attributes: Mapping[str, str]) -> str:
    """The folder and class of a species: `017_five-petalled_blue`."""
    return f"{number:03d}_{attributes['petal_count']}-petalled_{attributes['petal_colour']}"


DRAWN_SET = DrawnSet(
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
