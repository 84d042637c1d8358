"""The paper's lists, one entry a line in the text files beside this one: test classes, and who is scored on what.

Image keys have no suffix and use `/`. They are facts of Wang et al. 2020 and its published evaluation (method.md 6).
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

ClassSet = Literal["cub", "oxford102"]
"""The sets with classes."""


def held_out_classes(name: ClassSet) -> frozenset[int]:
    """The classes, counted from 1 as in the publisher's label file, that are never trained on."""
    return frozenset(map(int, _lines(f"{name}_test_classes")))


def map_queries(name: ClassSet) -> tuple[str, ...]:
    """The real images that are queries of the paper's mAP, two of each test class: `<class folder>/<image>`."""
    return _lines(f"{name}_map_queries")


def map_gallery(name: ClassSet) -> tuple[tuple[str, int], ...]:
    """The captions whose fakes are the gallery: key of the image, and which of its captions, from 0."""
    pairs = (line.rsplit(" ", 1) for line in _lines(f"{name}_map_gallery"))
    return tuple((key, int(number)) for key, number in pairs)


def held_out_images(name: Literal["flickr8k", "places"]) -> tuple[str, ...]:
    """The test images: of Flickr8k those of the reference's recall, of Places those of the seven-class subset."""
    return _lines(f"{name}_test_images")


def _lines(name: str) -> tuple[str, ...]:
    return tuple((resources.files(__name__) / f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1])
