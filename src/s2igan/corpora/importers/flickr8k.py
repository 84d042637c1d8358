"""Flickr8k with the spoken captions of the Flickr Audio Caption Corpus, on the publisher's split."""

from __future__ import annotations

import csv
import posixpath
import re
from pathlib import Path

from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import Finder, NotFoundError, Tree, base_name
from s2igan.data.manifest import Utterance
from s2igan.errors import UserError

LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "validation": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
EXPECTED = "Flickr8k_Dataset/, Flickr8k_text/Flickr_8k.trainImages.txt (and dev, test) and flickr_audio/wav2capt.txt"
CAPTION = re.compile(r"(\S+)\s+(\S+?)\s*#\s*(\d+)$")  # <wav> <image>.jpg #<k>
WAV = re.compile(r"(.+)_(\d)\.wav$", re.IGNORECASE)  # <image>_<k>.wav
TOKEN = re.compile(r"(\S+)#(\d+)\s+(.+)$")  # <image>.jpg#<k> <caption>


def read(source: Path, options: ReadOptions) -> Corpus:
    """Recordings in the order of the pictures' lists; see `Importer.read`.

    As mirrors have it, without the lists, there are no splits; without wav2capt.txt recordings are known by their
    names; and without recordings the captions are to be spoken.
    """
    tree = Tree(source)
    captions = next(iter(tree.ending("wav2capt.txt")), None)
    text_of = _texts(tree)
    listed = any(tree.ending(name) for name in LISTS.values())
    if captions is None and (listed or not text_of):
        raise tree.wrong("no wav2capt.txt", EXPECTED)
    spoken, problems = _spoken(tree, captions)
    split_of: dict[str, str | None] = _splits(tree) if listed else dict.fromkeys((*spoken, *text_of))
    audio_home = posixpath.dirname(captions or "")
    speaker_of = _speakers(tree, audio_home)
    images = Finder(tree, "Flickr8k_Dataset", "Flicker8k_Dataset", "Images")
    wavs = Finder(tree, posixpath.join(audio_home, "wavs"))
    rows = []
    for image, own_split in split_of.items():
        try:
            picture = images(image)
        except NotFoundError as missing:
            problems.append(Problem(image, str(missing)))
            continue
        if not spoken:
            written = sorted(text_of.get(image, {}).items())
            rows += [Utterance("", picture, split=own_split, language="en", text=text) for _, text in written]
        elif image not in spoken:
            problems.append(Problem(picture, "wav2capt.txt has no recording of it"))
        for number, wav in sorted(spoken.get(image, ())):
            try:
                audio = wavs(wav)
            except NotFoundError as missing:
                problems.append(Problem(wav, str(missing)))
                continue
            text = text_of.get(image, {}).get(number)
            rows.append(
                Utterance(audio, picture, split=own_split, speaker=speaker_of.get(wav), language="en", text=text)
            )
    problems += [
        Problem(image, f"its {len(spoken[image])} recordings are of a picture in none of the three lists")
        for image in sorted(spoken.keys() - split_of.keys())
    ]
    if not rows:
        raise tree.wrong("no picture of the lists with a recording", EXPECTED)
    return Corpus(rows, problems=tuple(problems))


def _splits(tree: Tree) -> dict[str, str | None]:
    """Of each picture, by the publisher's lists, in their order; UserError where one is in two."""
    split_of: dict[str, str | None] = {}
    for split, name in LISTS.items():
        path = tree.one(name, EXPECTED)
        for image in tree.read_lines(path):
            if split_of.setdefault(image, split) != split:
                raise UserError(
                    f"{tree.source / path}: {image} is in the list of {split_of[image]} as well; fetch it again."
                )
    return split_of


def _spoken(tree: Tree, captions: str | None) -> tuple[dict[str, list[tuple[int, str]]], list[Problem]]:
    """Number and name of each picture's recordings: of wav2capt.txt, or else by the names of all wavs."""
    spoken: dict[str, list[tuple[int, str]]] = {}
    if captions is None:
        for own in filter(None, map(WAV.match, map(base_name, tree.with_suffix({".wav"})))):
            spoken.setdefault(f"{own[1]}.jpg", []).append((int(own[2]), own[0]))
        return spoken, []
    problems = []
    for line in tree.read_lines(captions):
        match = CAPTION.match(line)
        if match is None:
            problems.append(Problem(captions, f"the line {line!r} is not <wav> <image>.jpg #<number>"))
            continue
        wav, image, number = match.groups()
        spoken.setdefault(image, []).append((int(number), wav))
    return spoken, problems


def _speakers(tree: Tree, home: str) -> dict[str, str]:
    """The publisher's number of each recording's speaker."""
    path = posixpath.join(home, "wav2spk.txt")
    if path not in tree:
        return {}
    pairs = (line.split() for line in tree.read_lines(path))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _texts(tree: Tree) -> dict[str, dict[int, str]]:
    """The written captions of each picture by number: of the publisher's file, or of a mirror's with a header line."""
    found = tree.ending("Flickr8k.token.txt")
    matches = map(TOKEN.match, tree.read_lines(found[0]) if found else ())
    texts: dict[str, dict[int, str]] = {}
    for match in filter(None, matches):
        texts.setdefault(match[1], {})[int(match[2])] = match[3].strip()
    mirrored = next(
        (path for path in tree.ending("captions.txt") if tree.read_lines(path)[:1] == ["image,caption"]), None
    )
    if texts or mirrored is None:
        return texts
    for cells in csv.reader(tree.read_lines(mirrored)[1:]):
        if len(cells) == 2:
            own = texts.setdefault(cells[0], {})
            own[len(own)] = cells[1].strip()
    return texts


IMPORTER = Importer.called("flickr8k", read)
