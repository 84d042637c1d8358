"""The built-in corpus that training is tried with first: drawn birds of invented species (see `drawn`)."""

from s2igan.corpora.builtin.bird_captions import caption
from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES, draw_bird
from s2igan.corpora.builtin.drawn import DrawnSet

DRAWN_SET = DrawnSet(
    name="birds",
    attributes=ATTRIBUTES,
    draw=draw_bird,
    caption=caption,
    class_name="{belly_colour}-bellied_{wing_colour}-winged",
    changed_sentences={
        "belly_colour": "this bird has a {} belly and black wings",
        "wing_colour": "this bird has {} wings and a yellow belly",
        "head_colour": "this bird has a {} head and white wings",
    },
    kept_in_sentences={
        "belly_colour": {"wing_colour": "black"},
        "wing_colour": {"belly_colour": "yellow"},
        "head_colour": {"wing_colour": "white"},
    },
)
