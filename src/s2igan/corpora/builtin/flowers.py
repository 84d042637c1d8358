"""The built-in analogue of Oxford-102: drawn flowers of invented species (see `drawn`)."""

from s2igan.corpora.builtin.drawn import DrawnSet
from s2igan.corpora.builtin.flower_captions import caption
from s2igan.corpora.builtin.flower_drawing import ATTRIBUTES, draw_flower

DRAWN_SET = DrawnSet(
    name="flowers",
    attributes=ATTRIBUTES,
    draw=draw_flower,
    caption=caption,
    class_name="{petal_count}-petalled_{petal_colour}",
    changed_sentences={
        "petal_colour": "this flower has five {} petals and a yellow centre",
        "centre_colour": "this flower has pink petals and a large {} centre",
        "petal_count": "this is a red flower with {} round petals",
    },
    kept_in_sentences={
        "petal_colour": {"petal_count": "five", "centre_colour": "yellow"},
        "centre_colour": {"petal_colour": "pink", "centre_size": "large"},
        "petal_count": {"petal_colour": "red", "petal_shape": "round"},
    },
)
