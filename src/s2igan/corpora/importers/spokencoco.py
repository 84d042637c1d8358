"""SpokenCOCO: the written captions of MS-COCO, read aloud."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.source import Corpus, Importer, ReadOptions
from s2igan.corpora.importers.source_files import Finder, Tree
from s2igan.corpora.importers.spoken_lists import SpokenCaption, json_lists, read_list, spoken_corpus, text_of

EXPECTED = (
    "SpokenCOCO/{SpokenCOCO_train.json, SpokenCOCO_val.json, wavs/} and the COCO pictures train2014/ and val2014/"
)
LIST_EXPECTED = '{"data": [{"image", "captions": [{"text", "speaker", "uttid", "wav"}]}]}'
NAME = re.compile(r"^SpokenCOCO(?=_|$)")
EDITIONS = ("", "unrolled_karpathy", "unrolled")


def read(source: Path, options: ReadOptions) -> Corpus:
    """Recordings in the order of the lists; see `Importer.read`."""
    tree = Tree(source)
    homes = {"": None}
    lists: dict[str, list[tuple[str, Iterator[SpokenCaption | None]]]] = {}
    for split, paths in json_lists(tree, NAME, EDITIONS, EXPECTED).items():
        for path in paths:
            homes[posixpath.dirname(path)] = None
            content = read_list(tree, path, _compact, LIST_EXPECTED)
            lists.setdefault(split, []).append((path, _captions(content["data"])))
    return spoken_corpus(tree, lists, lambda kind: Finder(tree, *homes), EXPECTED)


def _compact(fields: dict[str, Any]) -> Any:
    """Of a caption (wav, speaker, text), of a picture (image, its captions)."""
    if "wav" in fields:
        return text_of(fields, "wav"), text_of(fields, "speaker"), text_of(fields, "text")
    own = fields.get("captions", fields.get("caption"))  # the unrolled lists have one caption a picture
    return text_of(fields, "image"), own if isinstance(own, list) else [own]


def _captions(data: list[Any]) -> Iterator[SpokenCaption | None]:
    for entry in data:
        image, captions = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, [None])
        for caption in captions:
            if image is None or not isinstance(caption, tuple) or len(caption) != 3 or caption[0] is None:
                yield None
            else:
                yield SpokenCaption(image, *caption)


IMPORTER = Importer.called("spokencoco", read)
