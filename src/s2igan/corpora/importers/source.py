"""What an importer is: a layout on disk in, the rows of a manifest out.

Each source has a file of its own in this folder, which ends in `IMPORTER = Importer.called(...)`. An importer only
looks: it reads the lists that a publisher ships and the names of files, never decodes a picture or a recording, and
writes nothing. Decoding, splits, speech for captions and packing are the same for every source and come afterwards.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2igan.data.images import Box
from s2igan.data.manifest import Utterance

if TYPE_CHECKING:
    from s2igan.corpora.importers.pack_embeddings import CaptionEmbeddings


@dataclass(frozen=True)
class ReadOptions:
    """What a user can ask of every importer."""

    keep_personal_data: bool = False
    """Keep names, birth years, places and devices of speakers where a corpus has them."""


@dataclass(frozen=True)
class Problem:
    """Something of the source that is left out, and why: a line of `rejected.jsonl`."""

    path: str
    """Relative to the source."""
    reason: str
    """A clause without a full stop."""
    lost: int = 1
    """What it counts towards the share that may be rejected: the descriptions that are lost with it; 1 for what stands
    alone, 0 where other problems count them."""

    def record(self) -> dict[str, Any]:
        """As in `rejected.jsonl`, where `lost` stands if it is not 1."""
        return {"path": self.path, "reason": self.reason} | ({"lost": self.lost} if self.lost != 1 else {})


@dataclass(frozen=True)
class Corpus:
    """What an importer found; paths are relative to the source's folder, with `/`."""

    rows: list[Utterance]
    """In an order that does not depend on the file system. `split` is None where the publisher has none. `audio` is
    empty where there is only text, to be spoken."""
    boxes: Mapping[str, Box] = field(default_factory=dict)
    """Bounding boxes by image path, where the publisher has them."""
    problems: tuple[Problem, ...] = ()
    """Orphans, missing counterparts, lines that make no sense."""
    notes: tuple[str, ...] = ()
    """Sentences that a user should read, such as what was taken for a speaker."""


@dataclass(frozen=True)
class Importer:
    """One kind of source."""

    name: str
    """As in `s2igan prepare NAME`."""
    title: str
    """What it is, in a few words."""
    published: str
    """Where it is published, for people."""
    layout: str
    """The tree that is expected, indented as text."""
    read: Callable[[Path, ReadOptions], Corpus]
    """Reads a folder (archives are unpacked before).

    Raises UserError for another layout, in a sentence that says what was found and what was expected.
    """
    text_embeddings: Callable[[Path, Collection[str]], CaptionEmbeddings] | None = None
    """Reads published embeddings of the captions, given the folder and `<class>/<image>` of the pictures; None where
    nobody has published any. UserError as `pack_embeddings.read_pack_embeddings`."""

    @classmethod
    def called(
        cls,
        name: str,
        read: Callable[[Path, ReadOptions], Corpus],
        text_embeddings: Callable[[Path, Collection[str]], CaptionEmbeddings] | None = None,
    ) -> Importer:
        """The importer of which `importers.toml` tells the rest."""
        about = tomllib.loads((resources.files(__package__) / "importers.toml").read_text(encoding="utf-8"))[name]
        return cls(name, **about, read=read, text_embeddings=text_embeddings)
