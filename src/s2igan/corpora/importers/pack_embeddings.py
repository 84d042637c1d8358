"""The text embeddings of a StackGAN pack: `{train,test}/char-CNN-RNN-embeddings.pickle` beside `filenames.pickle`.

Each pickle has, in the order of `filenames.pickle`, one array (captions, dimensions) for each picture, ten by 1,024 as
published, or one array of all (pictures, captions, dimensions). Row k is of caption k in the picture's caption file,
blank lines not counted; StackGAN's code pairs them so. Neither file says which caption a row is of, so two things are
checked: every picture has as many rows as captions, and captions that occur more than once have one embedding.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from s2igan.corpora.importers.captioned import PackList, caption_files, pack_lists, read_captions
from s2igan.corpora.importers.pickles import read_pickle
from s2igan.corpora.importers.source_files import Tree
from s2igan.errors import UserError

EMBEDDINGS = "char-CNN-RNN-embeddings.pickle"
EXPECTED = f"a StackGAN pack, {{train,test}}/{{filenames.pickle, {EMBEDDINGS}}}"
SAME = 0.05
"""Largest difference between two embeddings of one text, in parts of their length; rounding makes less than 0.001."""


@dataclass(frozen=True)
class CaptionEmbeddings:
    """Every different caption of a set, with its embedding."""

    texts: list[str]
    rows: Float16[np.ndarray, "captions dimensions"]


@dataclass
class _Found:
    """Captions and embeddings so far, and how those that occur again compare with their first occurrence."""

    number: dict[str, int] = field(default_factory=dict)
    rows: list[np.ndarray] = field(default_factory=list)
    repeated: int = 0
    different: list[str] = field(default_factory=list)

    def add(self, text: str, row: Float16[np.ndarray, " dimensions"]) -> None:
        known = self.number.setdefault(text, len(self.rows))
        if known == len(self.rows):
            self.rows.append(row)
            return
        self.repeated += 1
        first, second = self.rows[known].astype(np.float64), row.astype(np.float64)
        if np.linalg.norm(first - second) > SAME * np.linalg.norm(first):
            self.different.append(text)


def read_pack_embeddings(source: Path, keys: Collection[str], *, name: re.Pattern[str]) -> CaptionEmbeddings:
    """The embeddings of all captions of the pictures that are both in the pack and among `keys`.

    Args:
        source: the folder that the pack and the captions are in or below.
        keys: `<class folder>/<image>` of the set's pictures; the pack of Oxford-102 names them without the class.
        name: what file names of the set look like in a pack.

    Raises:
        UserError: the pack is not here or not whole, a pickle is not what it should be, a picture has another number
            of captions than of embeddings, or most captions that occur again have another embedding there.
    """
    tree = Tree(source)
    lists = pack_lists(tree, name)
    if not lists:
        raise tree.wrong("no filenames.pickle of a StackGAN pack", EXPECTED)
    files = caption_files(tree, {key.partition("/")[0] for key in keys})
    key_of = {key.partition("/")[2]: key for key in keys} | {key: key for key in keys}
    found = _Found()
    for listed in lists.values():
        path = posixpath.join(posixpath.dirname(listed.path), EMBEDDINGS)
        for entry, rows in _of_pictures(tree, path, listed):
            key = key_of.get(entry) or key_of.get(entry.rpartition("/")[2])
            if key is None or key not in files:
                continue  # a picture that is not here, or without captions
            captions = read_captions(tree, files[key])
            if len(captions) != len(rows):
                raise UserError(
                    f"{tree.source / files[key]}: {len(captions)} captions, and {tree.source / path} has {len(rows)} "
                    f"embeddings for {entry}, so that which belongs to which is unknown; fetch both again."
                )
            for text, row in zip(captions, rows, strict=True):
                found.add(text, row)
    if not found.rows:
        raise UserError(f"{tree.source}: the StackGAN pack has none of the {len(keys):,} pictures; fetch it again.")
    if len(found.different) * 2 > found.repeated:
        raise UserError(
            f"{tree.source}: {len(found.different):,} of {found.repeated:,} captions that occur again have another "
            f"embedding there, such as {found.different[0]!r}, so the rows of {EMBEDDINGS} are not in the order of "
            "filenames.pickle and of the captions; fetch the pack and the captions again."
        )
    return CaptionEmbeddings(list(found.number), np.stack(found.rows))


def _of_pictures(tree: Tree, path: str, listed: PackList) -> Iterator[tuple[str, Float16[np.ndarray, "captions _"]]]:
    """The names of a list, each with its embeddings.

    Raises:
        UserError: the pickle is missing, holds something else, or not as many as there are names.
    """
    where = tree.source / path
    if path not in tree:
        raise UserError(
            f"{where}: this part of the StackGAN pack is not here; add it, or prepare without --text-embeddings."
        )
    content = read_pickle(where)
    if not isinstance(content, list | tuple | np.ndarray):
        raise UserError(f"{where}: this is no list of embeddings; fetch the StackGAN pack again.")
    if len(content) != len(listed.names):
        raise UserError(
            f"{where}: embeddings of {len(content):,} pictures for the {len(listed.names):,} names of filenames.pickle;"
            " fetch the StackGAN pack again."
        )
    dimensions = None
    for entry, value in zip(listed.names, content, strict=True):
        rows = _rows(value)
        if rows is None or dimensions not in (None, rows.shape[1]):
            raise UserError(
                f"{where}: the embeddings of {entry} are not (captions, dimensions) finite numbers, as many dimensions "
                "as the others; fetch the StackGAN pack again."
            )
        dimensions = rows.shape[1]
        yield entry, rows


def _rows(value: Any) -> Float16[np.ndarray, "captions dimensions"] | None:
    """None where these are no embeddings."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return None
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        return None
    with np.errstate(over="ignore"):
        rows = array.astype(np.float16)
    return rows if np.isfinite(rows).all() and rows.any(axis=1).all() else None
