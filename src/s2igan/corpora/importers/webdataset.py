"""WebDataset: files of one sample share their name up to its first dot, packed into tars."""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.hf_folder import CLASSES, LANGUAGES, SPEAKERS, TEXTS, first_of
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import IMAGE_SUFFIXES, Tree, suffix
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError
from s2igan.file_kinds import AUDIO_SUFFIXES

EXPECTED = (
    "tars whose members share a name up to its first dot: 000001.jpg, 000001.wav, perhaps 000001.json or 000001.txt"
)
KINDS = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES, "fact": frozenset({".json", ".txt", ".cls"})}


def read(source: Path, options: ReadOptions) -> Corpus:
    """A row for each sample with one picture and each of its recordings; see `Importer.read`."""
    tree = Tree(source)
    samples: dict[str, dict[str, list[str]]] = {}
    for path in tree.paths:
        folder, name = posixpath.split(path)
        kind = next((kind for kind, suffixes in KINDS.items() if suffix(path) in suffixes), None)
        if kind is not None:
            samples.setdefault(posixpath.join(folder, name.partition(".")[0]), {}).setdefault(kind, []).append(path)
    told = sum(any(suffix(path) in (".json", ".cls") for path in sample.get("fact", [])) for sample in samples.values())
    if not told or 2 * told < len(samples):
        raise tree.wrong("no .json or .cls of most samples", EXPECTED)
    rows: list[Utterance] = []
    problems: list[Problem] = []
    for key, sample in samples.items():
        images = sample.get("image", [])
        fields = _facts(tree, sample.get("fact", []), problems)
        text = first_of(fields, TEXTS)
        if len(images) != 1 or not (sample.get("audio") or text):
            what = f"{len(images)} pictures" if len(images) != 1 else "neither a recording nor a text"
            problems.append(Problem(images[0] if images else key, f"the sample {key} has {what}"))
            continue
        rows += [
            Utterance(
                audio,
                images[0],
                class_name=first_of(fields, CLASSES),
                speaker=first_of(fields, SPEAKERS),
                language=first_of(fields, LANGUAGES),
                text=text,
            )
            for audio in sample.get("audio", [""])
        ]
    if not rows:
        first = f"; the first problem: {problems[0].path}: {problems[0].reason}" if problems else ""
        raise UserError(f"{tree.source}: expected {EXPECTED}, and found no sample with both{first}.")
    return Corpus(rows, problems=tuple(problems))


def _facts(tree: Tree, paths: list[str], problems: list[Problem]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for path in paths:
        content = tree.read_text(path).strip()
        if suffix(path) == ".json":
            try:
                found = json.loads(content)
            except ValueError:
                problems.append(Problem(path, "not readable as JSON; the sample is kept", lost=0))
                continue
            fields |= found if isinstance(found, dict) else {}
        elif content:
            fields.setdefault("text" if suffix(path) == ".txt" else "class", " ".join(content.split()))
    return fields


IMPORTER = Importer.called("webdataset", read)
