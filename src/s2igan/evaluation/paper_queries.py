"""The images that the paper's mAP and recall are asked about, where the set is one of the paper's (method.md 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

from s2igan.corpora.lists import ClassSet, held_out_images, map_gallery, map_queries
from s2igan.evaluation.evaluation_split import EvaluationSplit

RecallSet = Literal["flickr8k", "places"]
"""The sets without classes."""
CAPTIONS: dict[RecallSet, int] = {"flickr8k": 5, "places": 1}
"""Spoken captions of each image (method.md section 5)."""


@dataclass(frozen=True)
class PaperQueries:
    """The paper's list, as far as the store has its images."""

    name: ClassSet | RecallSet
    positions: Int[np.ndarray, " queries"]
    """In `EvaluationSplit.images`, in the order of the list; one of the split's utterances describes each."""
    listed: int
    """Queries in the paper's list; of Flickr8k these are 994 of the 1,000 test images."""
    fakes: int
    """Captions of the listed images: as many images are generated, one for each."""

    @classmethod
    def of(cls, split: EvaluationSplit) -> PaperQueries | None:
        """None where the split is not that of one of the paper's sets, which its images' names say.

        In sets with classes an image is known by its class and its file name
        (`001.Black_footed_Albatross/Black_Footed_Albatross_0085_92`), in Flickr8k by its file name, in Places by the
        folders of its scene as well (`b/bedroom/gsun_fef87a80f13c1b4398d7e75365db4ef3`). A few may be missing, since a
        picture that cannot be read is left out of a store.
        """
        store = split.store
        described = np.flatnonzero(np.isin(split.images, store.image_index[split.utterances]))
        paths = {int(number): store.image_path(int(split.images[number])).with_suffix("") for number in described}
        lists: list[tuple[ClassSet | RecallSet, tuple[str, ...], int]]
        if store.has_classes:
            lists = [(name, map_queries(name), len(map_gallery(name))) for name in get_args(ClassSet)]
        else:
            lists = [(name, held_out_images(name), n * len(held_out_images(name))) for name, n in CAPTIONS.items()]
        for name, queries, fakes in lists:
            if store.has_classes:
                position = {
                    f"{store.classes[store.image_class[split.images[n]]]}/{path.name}": n for n, path in paths.items()
                }
            else:
                depths = sorted({key.count("/") + 1 for key in queries})
                position = {"/".join(path.parts[-depth:]): n for depth in depths for n, path in paths.items()}
            found = [position[key] for key in queries if key in position]
            if 2 * len(found) > len(queries):
                return cls(name, np.array(found), len(queries), fakes)
        return None
