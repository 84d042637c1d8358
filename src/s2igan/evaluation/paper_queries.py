"""The images that the paper's mAP is asked about, where the set is one of the paper's (SPEC section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Int

from s2igan.corpora.lists import ClassSet, map_gallery, map_queries
from s2igan.evaluation.subject import Subject


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
