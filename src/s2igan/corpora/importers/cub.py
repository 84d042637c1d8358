"""CUB-200-2011 with the captions of Reed et al. 2016, on the paper's split of 150 and 50 classes."""

from __future__ import annotations

import posixpath
import re
from functools import partial
from pathlib import Path

from s2igan.corpora.importers.captioned import Picture, captioned_corpus, pack_splits
from s2igan.corpora.importers.pack_embeddings import read_pack_embeddings
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import Finder, NotFoundError, Tree, stem
from s2igan.corpora.lists import held_out_classes
from s2igan.data.images import Box
from s2igan.errors import UserError

EXPECTED = "CUB_200_2011/{images/, images.txt, image_class_labels.txt, classes.txt, bounding_boxes.txt}"
CAPTIONS_EXPECTED = "cvpr2016_cub/text_c10/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.txt and the like"
NAME = re.compile(r"\d{3}\.[^/]+/[^/]+$")


def read(source: Path, options: ReadOptions) -> Corpus:
    """Pictures in the publisher's order, ten captions each; see `Importer.read`."""
    tree = Tree(source)
    pack = pack_splits(tree, NAME)
    home = _home(tree)
    if home is None and pack is None:
        raise tree.wrong("no images.txt beside an image_class_labels.txt", EXPECTED)
    problems: list[Problem] = []
    if home is not None:
        keys, box_of = _lists(tree, home)
    else:
        keys, box_of = sorted(pack or ()), {}
    hints = () if home is None else (posixpath.join(home, "images"),)
    finder, held_out = Finder(tree, *hints), held_out_classes("cub")
    pictures, boxes = [], {}
    for key in keys:
        split = pack.get(key) if pack is not None else "test" if int(key[:3]) in held_out else "train"
        if split is None:
            problems.append(Problem(f"{key}.jpg", "the StackGAN pack lists it neither for training nor for testing"))
            continue
        try:
            path = finder(f"{key}.jpg")
        except NotFoundError as missing:
            problems.append(Problem(f"{key}.jpg", str(missing)))
            continue
        pictures.append(Picture(key, path, split))
        if key in box_of:
            boxes[path] = box_of[key]
    if not pictures:
        raise tree.wrong(f"none of the {len(keys):,} listed pictures", EXPECTED)
    problems += [
        Problem(f"{key}.jpg", "the StackGAN pack lists it, images.txt does not")
        for key in sorted((pack or {}).keys() - set(keys))
    ]
    return captioned_corpus(tree, pictures, problems, listed=keys, boxes=boxes, expected=CAPTIONS_EXPECTED)


def _home(tree: Tree) -> str | None:
    """The folder with the publisher's lists."""
    found = [
        posixpath.dirname(path)
        for path in tree.ending("images.txt")
        if posixpath.join(posixpath.dirname(path), "image_class_labels.txt") in tree
    ]
    if len(found) > 1 and found[0].count("/") == found[1].count("/"):
        raise UserError(
            f"{tree.source}: CUB is here twice, in {found[0] or '.'} and in {found[1]}; name the folder of one."
        )
    return found[0] if found else None


def _lists(tree: Tree, home: str) -> tuple[list[str], dict[str, Box]]:
    """Keys in the order of their numbers, and bounding boxes by key; the files are joined by number, not by line.

    Raises:
        UserError: a list is missing, has a line that is none, or the class folder and the class label disagree.
    """
    images = _table(tree, posixpath.join(home, "images.txt"), 1)
    labels = _table(tree, posixpath.join(home, "image_class_labels.txt"), 1)
    names = _table(tree, posixpath.join(home, "classes.txt"), 1)
    boxes_path = posixpath.join(home, "bounding_boxes.txt")
    boxes = _table(tree, boxes_path, 4)
    keys: list[str] = []
    box_of: dict[str, Box] = {}
    for number in sorted(images):
        name = images[number][0]
        key = stem(name)
        if not NAME.match(key):
            raise UserError(
                f"{tree.source / home / 'images.txt'}: {name!r} is not <number>.<class>/<name>.jpg; fetch CUB again."
            )
        label = labels.get(number, ("nothing",))[0]
        class_name = names.get(int(label), ("nothing",))[0] if label.isdecimal() else "nothing"
        if class_name != key.partition("/")[0]:
            raise UserError(
                f"{tree.source / home / 'image_class_labels.txt'}: image {number} ({name}) is labelled {label}, which "
                f"classes.txt calls {class_name}; fetch CUB again."
            )
        keys.append(key)
        if number in boxes:
            try:
                left, top, width, height = map(float, boxes[number])
            except ValueError:
                raise UserError(f"{tree.source / boxes_path}: the box of image {number} is no four numbers.") from None
            box_of[key] = (left, top, width, height)
    return keys, box_of


def _table(tree: Tree, path: str, columns: int) -> dict[int, tuple[str, ...]]:
    """`<number> <value> ...` a line."""
    if path not in tree:
        raise tree.wrong(f"no {path}", EXPECTED)
    table = {}
    for line in tree.read_lines(path):
        number, *values = line.split(None, columns) if columns == 1 else line.split()
        if not number.isdecimal() or len(values) != columns:
            raise UserError(
                f"{tree.source / path}: the line {line!r} is not a number and {columns} more; fetch it again."
            )
        table[int(number)] = tuple(values)
    return table


IMPORTER = Importer.called("cub", read, text_embeddings=partial(read_pack_embeddings, name=NAME))
