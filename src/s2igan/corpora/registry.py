"""The corpora that `s2igan prepare` knows, by name. An importer's module is imported when it is asked for."""

from __future__ import annotations

import importlib
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2igan.errors import UserError

if TYPE_CHECKING:
    from s2igan.corpora.builtin.drawn import DrawnSet
    from s2igan.corpora.importers.source import Importer


@dataclass(frozen=True)
class BuiltIn:
    """What is known of a built-in set before its module is imported."""

    title: str
    classes: int
    """Species that it usually has."""


BUILT_IN = {
    "birds": BuiltIn(
        "Drawn birds of invented species, each described aloud by synthetic voices; needs no source", classes=250
    ),
    "flowers": BuiltIn(
        "Drawn flowers of invented species, made in the manner of the birds; needs no source", classes=100
    ),
}
"""By the names of their modules in `corpora/builtin`."""
INDIVIDUALS, CAPTIONS = 16, 6
"""Pictures of a species, and descriptions of a picture, that a built-in set usually has."""
IMPORTERS = (
    "folder",
    "cub",
    "oxford102",
    "flickr8k",
    "places",
    "places-subset",
    "spokencoco",
    "aikuma",
    "elan",
    "textgrid",
    "flextext",
    "toolbox",
    "lhotse",
    "hf-folder",
    "webdataset",
)
"""Names of importers, which are the names of their modules in `corpora/importers`, with `_` for `-`."""
PUBLISHED = frozenset({"cub", "oxford102", "flickr8k", "places", "places-subset", "spokencoco"})
"""Corpora that others report figures on: their pictures, recordings and splits are kept as published."""
INDENT = "    "


def drawn_set(name: str) -> DrawnSet:
    """The built-in set of one of the names in `BUILT_IN`."""
    found: DrawnSet = importlib.import_module(f"s2igan.corpora.builtin.{name}").DRAWN_SET
    return found


def importer(name: str) -> Importer:
    """The importer of a kind of source.

    Raises:
        UserError: there is none of this name.
    """
    if name not in IMPORTERS:
        raise UserError(f"there is no corpus {name!r} to import; choose one of {', '.join(IMPORTERS)}.")
    found: Importer = importlib.import_module(f"s2igan.corpora.importers.{name.replace('-', '_')}").IMPORTER
    return found


def overview() -> str:
    """Every corpus: what it is, where it is published, and the layout that is expected; for people."""
    lines = ["Built in: s2igan prepare NAME --out OUT", ""]
    lines += [f"{name}: {built_in.title}" for name, built_in in BUILT_IN.items()]
    lines += ["", "Imported: s2igan prepare NAME --source DIR --out OUT"]
    for name in IMPORTERS:
        found = importer(name)
        layout = textwrap.indent(found.layout.strip("\n"), INDENT)
        lines += ["", f"{name}: {found.title}", f"  published: {found.published}", "  expected:", layout]
    return "\n".join(lines)
