"""A drawing that takes no time: a coloured square of one of two sizes, somewhere on noise."""

from collections.abc import Mapping

import numpy as np

from s2igan.corpora.builtin.drawn import DrawnSet
from s2igan.evaluation.attributes import ClassifierConfig

ATTRIBUTES = {"colour": ("red", "green", "blue"), "extent": ("small", "large")}


def draw_square(attributes: Mapping[str, str], individual: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(individual)
    picture = rng.integers(60, 120, (side, side, 3), dtype=np.uint8)
    half = round(side * {"small": 0.12, "large": 0.28}[attributes["extent"]])
    x, y = rng.integers(half, side - half, size=2)
    colour = np.zeros(3, np.uint8)
    colour[ATTRIBUTES["colour"].index(attributes["colour"])] = 230
    picture[y - half : y + half, x - half : x + half] = colour
    return picture


def unused(*_: object) -> None:
    raise AssertionError("only pictures are drawn here")


TOY = DrawnSet(
    name="toy",
    attributes=ATTRIBUTES,
    draw=draw_square,
    caption=unused,
    class_name="{colour}",
)
SMALL = ClassifierConfig(image_size=16, width=6, drawings=480, held_out=60, epochs=8, batch_size=32, dropout=0.0)
