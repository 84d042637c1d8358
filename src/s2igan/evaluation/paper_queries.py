"""The images that the paper's mAP and recall are asked about, where the set is one of the paper's (method.md 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

from s2igan.corpora.lists import ClassSet, held_out_images, map_gallery, map_queries
from s2igan.evaluation.evaluation_split import Subject


@dataclass(frozen=True)
class PaperQueries:
    """The paper's list, as far as the store has its images."""

    name: ClassSet
    positions: Int[np.ndarray, " queries"]
    """In `Subject.images`, in the order of the list; one of the subject's utterances describes each."""
    listed: int
    """Queries in the paper's list."""
    fakes: int
    """Captions in the paper's list, all of these images."""

    @classmethod
    def of(cls, subject: Subject) -> PaperQueries | None:
        """None where the split is not that of one of the paper's sets, which its images' names say.

        An image is known by its class and its file name: `001.Black_footed_Albatross/Black_Footed_Albatross_0085_92`. A
        few may be missing, since a picture that cannot be read is left out of a store.
        """
        store = subject.store
        if not store.has_classes:
            return None
        described = np.isin(subject.images, store.image_index[subject.utterances])
        position = {
            f"{store.classes[store.image_class[image]]}/{store.image_path(int(image)).stem}": number
            for number, image in enumerate(subject.images)
            if described[number]
        }
        for name in get_args(ClassSet):
            queries = map_queries(name)
            found = [position[key] for key in queries if key in position]
            if 2 * len(found) > len(queries):
                return cls(name, np.array(found), len(queries), len(map_gallery(name)))
        return None


RecallSet = Literal["flickr8k", "places"]
"""The sets without classes."""
CAPTIONS: dict[RecallSet, int] = {"flickr8k": 5, "places": 1}
"""Spoken captions of each image (method.md section 5)."""


@dataclass(frozen=True)
class PaperImages:
    """The paper's test images of a set without classes, as far as the store has them."""

    name: RecallSet
    positions: Int[np.ndarray, " queries"]
    """In `Subject.images`, in the order of the list; one of the subject's utterances describes each."""
    listed: int
    """Images in the paper's list; of Flickr8k these are 994 of the 1,000 test images."""

    @property
    def fakes(self) -> int:
        """Captions of the listed images: as many images are generated, one for each."""
        return self.listed * CAPTIONS[self.name]

    @classmethod
    def of(cls, subject: Subject) -> PaperImages | None:
        """None where the split is not that of one of the paper's sets, which its images' paths say.

        An image is known by the end of its path: `2762301555_48a0d0aa24`, and in Places with the folders of its scene,
        `b/bedroom/gsun_fef87a80f13c1b4398d7e75365db4ef3`. A few may be missing, since a picture that cannot be read is
        left out of a store.
        """
        store = subject.store
        if store.has_classes:
            return None
        described = np.flatnonzero(np.isin(subject.images, store.image_index[subject.utterances]))
        parts = {number: store.image_path(int(subject.images[number])).with_suffix("").parts for number in described}
        for name in get_args(RecallSet):
            listed = held_out_images(name)
            depths = sorted({key.count("/") + 1 for key in listed})
            position = {"/".join(path[-depth:]): number for depth in depths for number, path in parts.items()}
            found = [position[key] for key in listed if key in position]
            if 2 * len(found) > len(listed):
                return cls(name, np.array(found), len(listed))
        return None
