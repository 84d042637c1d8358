"""What CUB and Oxford-102 share: the captions of Reed et al. 2016, recordings of them, and StackGAN's file lists.

All three name a picture by its key, `<class folder>/<image>` without suffix, and lie anywhere below the source:

- captions: `text_c10/<class folder>/<image>.txt`, a caption a line, ten lines (other folders than `text_c10` also do);
- recordings: `<any folder>/<class folder>/<image>_<k>.wav` of caption k, from 0 (or flac, ogg, mp3);
- StackGAN packs: `train/filenames.pickle` and `test/filenames.pickle`, lists of keys or of `jpg/<image>`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s2igan.corpora.importers.pickles import read_pickle
from s2igan.corpora.importers.source import Corpus, Problem
from s2igan.corpora.importers.source_files import Tree, stem, suffix
from s2igan.data.images import Box
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError
from s2igan.file_kinds import AUDIO_SUFFIXES

LANGUAGE = "en"
CAPTIONS = "text_c10"
FEW = 2
"""Pictures or captions that are named one by one also where a class has no others."""


@dataclass(frozen=True)
class Picture:
    """A picture of the set, whether or not it has captions."""

    key: str
    """`<class folder>/<image>`, without suffix."""
    path: str
    split: str

    @property
    def class_name(self) -> str:
        """The class folder."""
        return self.key.partition("/")[0]


def captioned_corpus(
    tree: Tree,
    pictures: Sequence[Picture],
    problems: Iterable[Problem],
    *,
    listed: Iterable[str],
    boxes: dict[str, Box],
    expected: str,
) -> Corpus:
    """A row for every caption of every picture, in their order.

    `audio` is the recording of the caption where any caption of the set has one, else empty: then all are to be spoken.

    Args:
        problems: what was found so far.
        listed: the keys of all pictures that the set has, here or not.
        boxes: by path of the picture.
        expected: where the captions should be, in words.

    Raises:
        UserError: there are no captions for any of the pictures.
    """
    classes = {picture.class_name for picture in pictures}
    captions = caption_files(tree, classes)
    recordings = _keyed(tree, AUDIO_SUFFIXES, classes)
    wanted = {picture.key for picture in pictures}
    if not wanted & captions.keys():
        raise tree.wrong(f"no caption of the {len(pictures):,} pictures", expected)
    rows, found = [], list(problems)
    used = set()
    silent, written = _ByClass("captions without a recording"), _ByClass("pictures without captions")
    for picture in pictures:
        path = captions.get(picture.key)
        lines = [] if path is None else read_captions(tree, path)
        written.add(picture, bool(lines))
        if not lines:
            reason = "the picture has no captions" if path is None else f"the captions in {path} are empty"
            written.problem(picture, reason)
        for number, text in enumerate(lines):
            audio = ""
            if recordings:
                name = f"{picture.key}_{number}"
                audio = recordings.get(name, "")
                silent.add(picture, bool(audio))
                if not audio:
                    silent.problem(picture, f"there are recordings, but none called {name}")
                    continue
                used.add(name)
            rows.append(
                Utterance(
                    audio,
                    picture.path,
                    class_name=picture.class_name,
                    split=picture.split,
                    language=LANGUAGE,
                    text=text,
                )
            )
    found += [*written.problems(), *silent.problems()]
    known = {*listed, *wanted}
    for key, path in captions.items():
        if key not in known and f"/{CAPTIONS}/" in f"/{path}":
            found.append(Problem(path, "captions of a picture that the set does not list"))
    for name, path in recordings.items():
        if name not in used and name.rpartition("_")[0] in wanted:
            found.append(Problem(path, "a recording of a caption that is not there"))
    return Corpus(
        rows, {path: boxes[path] for path in dict.fromkeys(row.image for row in rows) if path in boxes}, tuple(found)
    )


class _ByClass:
    """Problems of pictures: one for a class of which everything is missing, as where half of a set was not fetched."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._whole: dict[str, list[bool]] = {}
        self._problems: dict[str, list[Problem]] = {}

    def add(self, picture: Picture, is_there: bool) -> None:
        """Counts one of what a picture should have."""
        self._whole.setdefault(picture.class_name, []).append(is_there)

    def problem(self, picture: Picture, reason: str) -> None:
        """What is missing of it."""
        self._problems.setdefault(picture.class_name, []).append(Problem(picture.path, reason))

    def problems(self) -> list[Problem]:
        """In the order of the classes."""
        found = []
        for name, own in self._problems.items():
            if len(own) > FEW and not any(self._whole[name]):
                remedy = "fetch the archive that holds this class"
                reason = f"all {len(own):,} {self._what} in this class, nothing of it is here; {remedy}"
                found.append(Problem(name, reason, lost=len(own)))
            else:
                found += own
        return found


def caption_files(tree: Tree, classes: set[str]) -> dict[str, str]:
    """The caption files of the classes' folders, by the key of the picture."""
    return _keyed(tree, {".txt"}, classes)


def read_captions(tree: Tree, path: str) -> list[str]:
    """The captions in a file, as they stand in a manifest, in their order; blank lines are none."""
    return [caption for caption in map(_clean, tree.read_lines(path)) if caption]


@dataclass(frozen=True)
class PackList:
    """`filenames.pickle` of one split."""

    path: str
    names: tuple[str, ...]
    """`<class folder>/<image>` or `jpg/<image>`, without suffix, in the order of the pack's other files."""


def pack_splits(tree: Tree, name: re.Pattern[str]) -> dict[str, str] | None:
    """The file names that a StackGAN pack lists, each with its split; None where there is no such pack.

    Raises:
        UserError: as `pack_lists`.
    """
    return {entry: split for split, listed in pack_lists(tree, name).items() for entry in listed.names} or None


def pack_lists(tree: Tree, name: re.Pattern[str]) -> dict[str, PackList]:
    """The file names that a StackGAN pack lists for training and for testing; nothing where there is no such pack.

    `name` is what file names of the set look like, since a folder may hold the packs of several.

    Raises:
        UserError: a list cannot be read, is no list of names, has another length than its classes, or names a picture
            in both splits; or half a pack or two packs are here.
    """
    splits: dict[str, str] = {}
    packs: dict[str, PackList] = {}
    for split in ("train", "test"):
        for path in tree.ending(f"{split}/filenames.pickle"):
            where = tree.source / path
            names = read_pickle(where)
            if not isinstance(names, list | tuple) or not all(isinstance(entry, str) for entry in names):
                raise UserError(f"{where}: this is no list of file names; fetch the StackGAN pack again.")
            strange = [entry for entry in names if not name.match(entry)]
            if len(strange) == len(names):
                continue
            if strange:
                raise UserError(f"{where}: {strange[0]!r} is no name of this set; fetch the StackGAN pack again.")
            if split in packs:
                raise UserError(
                    f"{tree.source}: two lists of {split} pictures are here, {packs[split].path} and {path}; remove "
                    "one."
                )
            _check_classes(tree, path, len(names))
            bare = tuple(stem(entry) if suffix(entry) == ".jpg" else entry for entry in names)
            packs[split] = PackList(path, bare)
            for entry in bare:
                if splits.setdefault(entry, split) != split:
                    raise UserError(f"{where}: {entry} is among the train pictures as well; fetch the pack again.")
    if len(packs) == 1:
        (found,) = packs.values()
        raise UserError(
            f"{tree.source / found.path}: the other half of this StackGAN pack is not here; add it, or remove it."
        )
    return packs


def _check_classes(tree: Tree, names: str, count: int) -> None:
    path = posixpath.join(posixpath.dirname(names), "class_info.pickle")
    if path not in tree:
        return
    classes = read_pickle(tree.source / path)
    if not isinstance(classes, list | tuple) or not all(isinstance(label, int) for label in classes):
        raise UserError(f"{tree.source / path}: this is no list of class numbers; fetch the StackGAN pack again.")
    if len(classes) != count:
        raise UserError(
            f"{tree.source / path}: {len(classes):,} classes for the {count:,} names of filenames.pickle; fetch the "
            "StackGAN pack again."
        )


def _keyed(tree: Tree, suffixes: Iterable[str], classes: set[str]) -> dict[str, str]:
    """Files in folders called like a class, by `<folder>/<name without suffix>`.

    Of several, the one below `text_c10`, then the least deep.
    """
    best: dict[str, tuple[bool, int, str]] = {}
    for path in tree.with_suffix(suffixes):
        parts = path.rsplit("/", 2)
        if len(parts) < 2 or parts[-2] not in classes:
            continue
        rank = (f"/{CAPTIONS}/" not in f"/{path}", path.count("/"), path)
        key = f"{parts[-2]}/{stem(parts[-1])}"
        if key not in best or rank < best[key]:
            best[key] = rank
    return {key: path for key, (_, _, path) in best.items()}


def _clean(caption: str) -> str:
    """What a voice can read: no replacement characters of earlier conversions, single blanks."""
    return " ".join(caption.replace("\ufffd", " ").split())
