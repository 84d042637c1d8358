"""What Places Audio and SpokenCOCO share: lists of spoken captions in JSON, a file for each split."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2igan.corpora.importers.source import Corpus, Problem
from s2igan.corpora.importers.source_files import Finder, NotFoundError, Tree
from s2igan.data.manifest import SPLITS, Utterance, split_name
from s2igan.errors import UserError

SPLIT_WORD = re.compile(r"(?:^|_)(train|val|valid|validation|dev|test)(?=_|$)")


@dataclass(frozen=True, slots=True)
class SpokenCaption:
    """One spoken caption as a list has it; paths are relative to folders of the publisher."""

    image: str
    wav: str
    speaker: str | None
    text: str | None


def json_lists(tree: Tree, name: re.Pattern[str], editions: Sequence[str], expected: str) -> dict[str, list[str]]:
    """The JSON files of each split.

    `name` is what their names look like, without suffix. The words in a name that are neither this nor the split's nor
    `seen` or `unseen` say which edition of the lists it belongs to (`2020`); of several editions the first of
    `editions` is taken, since one recording may be in other splits in another.

    Raises:
        UserError: there is no such file, or there are two of one name.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for path in tree.with_suffix({".json"}):
        file_name = path.rpartition("/")[2][: -len(".json")]
        match, word = name.search(file_name), SPLIT_WORD.search(file_name)
        if match is None or word is None:
            continue
        rest = name.sub("", file_name[: word.start()] + file_name[word.end() :])
        edition = "_".join(part for part in rest.split("_") if part not in ("", "seen", "unseen"))
        found.setdefault(edition, {}).setdefault(split_name(word[1]), []).append(path)
    chosen = next((edition for edition in editions if edition in found), min(found, default=None))
    if chosen is None:
        raise tree.wrong("no list of spoken captions", expected)
    for paths in found[chosen].values():
        names = [path.rpartition("/")[2] for path in paths]
        twice = next((path for path, own in zip(paths, names, strict=True) if names.count(own) > 1), None)
        if twice is not None:
            raise UserError(
                f"{tree.source}: {twice} is here more than once, in several folders; name the folder of one."
            )
    return {split: found[chosen][split] for split in SPLITS if split in found[chosen]}


def read_list(tree: Tree, path: str, compact: Callable[[dict[str, Any]], Any], expected: str) -> Mapping[str, Any]:
    """The object of one list: its base paths and `data`.

    `compact` makes of each inner object, as it is parsed, what is kept of it: half a million of them are large.

    Raises:
        UserError: the file is no JSON, or has no `data`.
    """

    def hook(fields: dict[str, Any]) -> Any:
        return fields if "data" in fields else compact(fields)

    content = tree.read_json(path, hook)
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list):
        raise UserError(f"{tree.source / path}: expected {expected}, and found no list 'data'; fetch the file again.")
    return content


def spoken_corpus(
    tree: Tree,
    lists: Mapping[str, Iterable[tuple[str, Iterable[SpokenCaption | None]]]],
    finders: Callable[[str], Finder],
    expected: str,
    whose: str = "the lists",
) -> Corpus:
    """Finds recordings and pictures of all captions.

    Args:
        lists: by split, each list's path with its captions; None is an entry that makes no sense.
        finders: gives the finder of a kind, `wav` or `image`.
        expected: the layout, in words.
        whose: what the captions are of, in words.

    Raises:
        UserError: none of the recordings, or none of the pictures, is below the source.
    """
    wavs, images = finders("wav"), finders("image")
    split_of: dict[str, str] = {}
    rows: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    problems: list[Problem] = []
    used: set[str] = set()
    found = {"spoken caption": 0, "recording": 0, "picture": 0}
    path_of: dict[str, str] = {}
    for split in reversed([split for split in SPLITS if split in lists]):  # who is tested on is never trained on
        for path, captions in lists[split]:
            for number, spoken in enumerate(captions, start=1):
                if spoken is None:
                    problems.append(Problem(path, f"entry {number} is no spoken caption"))
                    continue
                found["spoken caption"] += 1
                try:
                    audio = wavs(spoken.wav)
                    found["recording"] += 1
                    image = path_of.get(spoken.image) or path_of.setdefault(spoken.image, images(spoken.image))
                    found["picture"] += 1
                except NotFoundError as missing:
                    problems.append(Problem(spoken.wav, str(missing)))
                    continue
                other = split_of.setdefault(image, split)
                if other != split or audio in used:
                    reason = "listed twice" if other == split else f"its picture is in the split {other} as well"
                    problems.append(Problem(audio, reason))
                    continue
                used.add(audio)
                rows[split].append(
                    Utterance(audio, image, split=split, speaker=spoken.speaker, language="en", text=spoken.text)
                )
    if not any(rows.values()):
        missing_kind = next((kind for kind, count in found.items() if not count), "usable caption")
        raise tree.wrong(f"no {missing_kind} of {whose}", expected)
    return Corpus([row for split in SPLITS for row in rows[split]], problems=tuple(problems))


def text_of(fields: Mapping[str, Any], name: str) -> str | None:
    """A text or a number of an entry as text; None where there is none."""
    value = fields.get(name)
    return str(value).strip() or None if isinstance(value, str | int) and not isinstance(value, bool) else None
