"""Places Audio Captions: 400,000 pictures of the Places205 set, each described by one recording."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.source import Corpus, Importer, ReadOptions
from s2igan.corpora.importers.source_files import Finder, Tree
from s2igan.corpora.importers.spoken_lists import SpokenCaption, json_lists, read_list, spoken_corpus, text_of
from s2igan.data.manifest import SPLITS

EXPECTED = "PlacesAudio_400k_distro/{metadata/train_2020.json and the like, wavs/} and the pictures of Places205"
LIST_EXPECTED = (
    '{"image_base_path": ..., "audio_base_path": ..., "data": [{"wav", "image", "uttid", "speaker", "asr_text"}]}'
)
NAME = re.compile(r"^(?=(?:train|val|dev|test)(?:_|$))")
EDITIONS = ("2020", "")


def read(source: Path, options: ReadOptions) -> Corpus:
    """Recordings in the order of the lists; `text` is what a recogniser wrote. See `Importer.read`."""
    return read_lists(source)


def read_lists(
    source: Path,
    split_of: Callable[[SpokenCaption, str], str | None] = lambda _, split: split,
    whose: str = "the lists",
) -> Corpus:
    """The captions in the splits that `split_of` names, given a caption and the split of its list; None is none.

    `whose` is what the captions are of, in words.

    Raises:
        UserError: there is no list, one cannot be read, or nothing that is listed is here.
    """
    tree = Tree(source)
    hints: dict[str, list[str]] = {"wav": [], "image": []}
    lists: dict[str, list[tuple[str, list[SpokenCaption | None]]]] = {split: [] for split in SPLITS}
    for split, paths in json_lists(tree, NAME, EDITIONS, EXPECTED).items():
        for path in paths:
            content = read_list(tree, path, _spoken, LIST_EXPECTED)
            for kind, name in (("wav", "audio_base_path"), ("image", "image_base_path")):
                hints[kind] += [hint for hint in _hints(tree, path, content.get(name)) if hint not in hints[kind]]
            captions = [entry if isinstance(entry, SpokenCaption) else None for entry in content["data"]]
            for wanted in SPLITS:
                own = [caption for caption in captions if (split_of(caption, split) if caption else split) == wanted]
                lists[wanted].append((path, own))
    return spoken_corpus(tree, lists, lambda kind: Finder(tree, *hints[kind]), EXPECTED, whose)


def _spoken(fields: dict[str, Any]) -> SpokenCaption | None:
    image, wav = text_of(fields, "image"), text_of(fields, "wav")
    if image is None or wav is None:
        return None
    return SpokenCaption(image, wav, text_of(fields, "speaker"), text_of(fields, "asr_text"))


def _hints(tree: Tree, path: str, base: Any) -> list[str]:
    """The base path that a list names, if it is below the source, and the folder in which `metadata/` lies."""
    home = posixpath.dirname(posixpath.dirname(path))
    root = tree.source.resolve()
    folder = (root / home / base).resolve() if isinstance(base, str) else root
    if not folder.is_relative_to(root):  # the publisher's own disk, most of the time
        return [home]
    below = folder.relative_to(root).as_posix()
    return ["" if below == "." else below, home]


IMPORTER = Importer.called("places", read)
