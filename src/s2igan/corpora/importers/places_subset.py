"""The paper's subset of Places Audio: seven indoor scenes, tested on 2,779 pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from s2igan.corpora.importers import places
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.corpora.importers.source_files import stem
from s2igan.corpora.importers.spoken_lists import SpokenCaption
from s2igan.corpora.lists import held_out_images


def read(source: Path, options: ReadOptions) -> Corpus:
    """As `places`, of the seven scenes only: the paper's pictures are for testing, all others for training.

    The lists are those of `places`, in whichever split a picture is there.
    """
    listed = frozenset(held_out_images("places"))
    scenes = frozenset(key.rpartition("/")[0] for key in listed)

    def split_of(caption: SpokenCaption, split: str) -> str | None:
        key = stem(caption.image)
        if key.rpartition("/")[0] not in scenes:
            return None
        return "test" if key in listed else "train"

    return places.read_lists(source, split_of, "the seven scenes")


IMPORTER = replace(
    places.IMPORTER, name="places-subset", title="Places Audio Captions, the paper's seven scenes", read=read
)
