"""Oxford-102 flowers with the captions of Reed et al. 2016, on the paper's split of 82 and 20 classes."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from s2igan.corpora.importers.captioned import Picture, captioned_corpus, pack_splits
from s2igan.corpora.importers.pack_embeddings import read_pack_embeddings
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import Tree
from s2igan.corpora.lists import held_out_classes
from s2igan.errors import UserError

EXPECTED = "102flowers/{jpg/image_00001.jpg ..., imagelabels.mat}"
CAPTIONS_EXPECTED = "cvpr2016_flowers/text_c10/class_00001/image_06734.txt and the like"
NAME = re.compile(r"(?:[^/]+/)?image_\d{5}(?:\.jpg)?$")
N_CLASSES = 102


def read(source: Path, options: ReadOptions) -> Corpus:
    """Pictures in the order of their numbers, ten captions each; see `Importer.read`."""
    tree = Tree(source)
    labels = _labels(tree, tree.one("imagelabels.mat", EXPECTED))
    pack = pack_splits(tree, NAME)
    in_pack = None if pack is None else {name.rpartition("/")[2]: split for name, split in pack.items()}
    held_out = held_out_classes("oxford102")
    keys: list[str] = []
    pictures: list[Picture] = []
    problems: list[Problem] = []
    for number, label in enumerate(labels, start=1):
        name = f"image_{number:05d}"
        keys.append(f"class_{label:05d}/{name}")
        split = in_pack.get(name) if in_pack is not None else "test" if label in held_out else "train"
        if split is None:
            problems.append(Problem(f"{name}.jpg", "the StackGAN pack lists it neither for training nor for testing"))
            continue
        found = tree.ending(f"jpg/{name}.jpg") or tree.ending(f"{name}.jpg")
        if found:
            pictures.append(Picture(keys[-1], found[0], split))
        else:
            problems.append(Problem(f"{name}.jpg", f"{name}.jpg is nowhere below the source"))
    if not pictures:
        raise tree.wrong(f"none of the {len(labels):,} labelled pictures", EXPECTED)
    return captioned_corpus(tree, pictures, problems, listed=keys, boxes={}, expected=CAPTIONS_EXPECTED)


def _labels(tree: Tree, path: str) -> list[int]:
    """The class of each picture, 1 to 102, in the order of their numbers.

    Raises:
        UserError: the file is no MATLAB file with such labels.
    """
    from scipy.io import loadmat

    where = tree.source / path
    try:
        content = loadmat(where, appendmat=False)
    except Exception as error:  # a damaged file makes the reader raise nearly anything
        raise UserError(
            f"{where}: not a readable MATLAB file ({error or type(error).__name__}); fetch it again."
        ) from error
    labels = content.get("labels")
    if labels is None:
        keys = ", ".join(sorted(key for key in content if not key.startswith("__"))) or "nothing"
        raise UserError(f"{where}: expected the variable 'labels', and found {keys}; fetch imagelabels.mat again.")
    flat = np.asarray(labels).ravel()
    if flat.dtype.kind not in "uif" or not len(flat) or not np.isin(flat, np.arange(1, N_CLASSES + 1)).all():
        raise UserError(
            f"{where}: expected labels from 1 to {N_CLASSES}, and found others; fetch imagelabels.mat again."
        )
    return [int(label) for label in flat]


IMPORTER = Importer.called("oxford102", read, text_embeddings=partial(read_pack_embeddings, name=NAME))
