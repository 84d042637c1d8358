"""Any tree of pictures and recordings: matched by the stem of their names, or listed in a manifest.

**Names.** `market.jpg` is described by `market.wav`, and by `market_1.wav`, `market-2.mp3`, `market (3).ogg`: a number
after the stem tells recordings of one picture apart. Capitals and the way that accents are encoded (NFC, NFD) do not
matter where that leaves no doubt. A recording's own name goes before its name without the number, and a picture in the
same folder before one elsewhere.

**Folders.** Pictures and recordings lie together, or in separate trees of one shape (`images/dog/a.jpg` beside
`audio/dog/a.wav`): folders named as in `KIND_FOLDERS` do not count. A recording without a picture in its own folder
belongs to the only picture of its stem anywhere, so that recordings may be sorted by speaker.

**Classes.** The folders that hold the pictures are classes if all pictures lie exactly one level deep (folders of
`KIND_FOLDERS` not counted), in two folders or more, most of which hold several pictures. Anything else, a flat folder
or one sorted deeper or unevenly, has no classes; a manifest can always say otherwise.

**Parts.** `market_ana_fr.wav` or `ana-market.wav` belongs to `market.jpg` as well, where no other rule finds a picture:
the longest beginning of the name that is a picture's, else the longest part. What the others mean, `name_parts` says.

**Text.** `market_1.txt` beside a recording, or `market.txt` beside a picture with a line for each recording in the
order of their names, says what was said. A picture with text and no recording gives one description per line,
to be spoken.

**Unread kinds.** What nothing here can decode (`CONVERT`) is matched like the rest, so that it is the one fault of its
description: `market.jpg` beside `market.dss` does not lack a recording. Beside its converted copy it is no fault; nor
is `market.m4a` read as a second recording beside `market.wav`.

A file `manifest.csv`, `.tsv`, `.jsonl` or `.parquet` at the top wins: then nothing is matched by name.
"""

from __future__ import annotations

import difflib
import itertools
import os
import posixpath
import re
import statistics
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from s2igan.corpora.importers.name_parts import SEPARATORS, with_parts
from s2igan.corpora.importers.pseudonyms import Pseudonyms
from s2igan.corpora.importers.source import Corpus, Importer, Problem, ReadOptions
from s2igan.corpora.importers.source_files import (
    IMAGE_SUFFIXES,
    same_name,
    spellings,
    walk,
)
from s2igan.data.manifest import FORMATS, Utterance, check_rows, iter_manifest
from s2igan.errors import UserError
from s2igan.file_kinds import AUDIO_SUFFIXES, FILM_SUFFIXES
from s2igan.text_utils import unicode_text

UNREAD_IMAGES = frozenset({".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2", ".psd", ".svg"})
UNREAD_SOUNDS = frozenset({".dss", ".ds2", ".dvf", ".msv", ".vox", ".mpg", ".mpeg", ".flv", ".tta"})
CONVERT = {**dict.fromkeys(UNREAD_IMAGES, "a jpg or png"), **dict.fromkeys(UNREAD_SOUNDS, "a wav or mp3")}
"""Pictures and recordings that nothing here can decode, and what to convert them to."""
KINDS = {"unread": frozenset(CONVERT), "image": IMAGE_SUFFIXES, "sound": AUDIO_SUFFIXES, "text": frozenset({".txt"})}
ORIGINAL_IMAGES = UNREAD_IMAGES | {".heic", ".heif", ".hif", ".avif"}
ORIGINAL_SOUNDS = (
    UNREAD_SOUNDS | FILM_SUFFIXES | {".m4a", ".m4b", ".aac", ".amr", ".awb", ".3ga", ".wma", ".mka", ".weba"}
)
"""What people convert, and keep beside the copy, which is read."""
KIND_FOLDERS = frozenset({
    "images", "image", "img", "imgs", "pictures", "picture", "pics", "photos", "photo", "jpg", "jpeg",
    "audio", "audios", "sound", "sounds", "recording", "recordings", "speech", "wav", "wavs", "mp3", "voice",
    "text", "texts", "txt", "captions", "transcripts",
})  # fmt: skip
"""Names of folders that say what kind of file is in them, not what it is about."""
DOCUMENTS = re.compile(r"(readme|licen[cs]e|copying|citation|changelog|notes?)\b.*", re.IGNORECASE)
"""Names of files at the top that describe a corpus to people; skipped in silence."""
NUMBERED = re.compile(r"(?P<stem>.+?)(?:[-_. ]+\(?(?P<number>\d{1,4})\)?|\((?P<other>\d{1,4})\))")
MAX_COMPARED = 5_000
"""Pictures among which the nearest name is looked for."""
MANIFEST = "manifest"
EXAMPLES = 3
"""Names that a message lists."""


def read(folder: Path, options: ReadOptions = ReadOptions()) -> Corpus:  # noqa: B008
    """The corpus in a folder, or the one that a manifest lists where `folder` is a manifest.

    Raises:
        UserError: nothing in it is a picture with a description, or there are two manifests.
    """
    if folder.is_file():
        return _read_manifest(folder)
    problems: list[Problem] = []
    files = sorted(walk(folder, problems))
    manifests = [
        file for file in files if "/" not in file and _stem(file).casefold() == MANIFEST and _suffix(file) in FORMATS
    ]
    if len(manifests) > 1:
        raise UserError(f"{folder}: holds {' and '.join(manifests)}; keep the one that counts and rename the others.")
    if manifests:
        return _read_manifest(folder / manifests[0])
    return _match(folder, files, problems, options)


# ------------------------------------------------------------------------------------------------------------ manifests


def _read_manifest(path: Path) -> Corpus:
    rows, problems = [], []
    lines = []
    on_disk = _OnDisk(path.parent)
    for line, row in iter_manifest(path):
        if isinstance(row, UserError):
            reason = str(row).removeprefix(str(path)).partition(": ")[2].rstrip(".")
            problems.append(Problem(path.name, f"line {line}: {reason}"))
        else:
            rows.append(replace(row, audio=on_disk(row.audio), image=on_disk(row.image)))
            lines.append(line)
    if not rows:
        raise UserError(f"{path}: none of its {len(problems)} lines can be used; the first, {problems[0].reason}.")
    check_rows(zip(lines, rows, strict=True), path)
    return Corpus(rows, problems=tuple(problems))


class _OnDisk:
    """Finds what a manifest names, where the disk spells it otherwise: `\\` for `/`, capitals, accents in another
    encoding. Other systems do not tell these apart, so that a manifest which was right there is wrong here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, list[str]] | None = None

    def __call__(self, path: str) -> str:
        """The path as the disk has it; as it was where that is the file, or none or several could be meant."""
        if os.path.lexists(self._folder / path):
            return path
        if self._found is None:
            self._found = {}
            for file in walk(self._folder, []):
                self._found.setdefault(same_name(file), []).append(file)
        for spelling in spellings(path):
            found = self._found.get(same_name(posixpath.normpath(spelling.replace("\\", "/"))), [])
            if len(found) == 1:
                return found[0]
        return path


# ------------------------------------------------------------------------------------------------------------- the tree


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.casefold()


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _place(path: str) -> str:
    """The folder without folders that only name a kind."""
    parts = [part for part in PurePosixPath(path).parent.parts if part.casefold() not in KIND_FOLDERS]
    return unicodedata.normalize("NFC", "/".join(parts))


def _forms(text: str) -> tuple[str, str, str]:
    """As written; with capitals set aside; and with signs between words, zeros before numbers and the codes of URLs set
    aside as well. Accents in one encoding."""
    loose = "/".join(" ".join(SEPARATORS.split(part)).strip() for part in same_name(unquote(text)).split("/"))
    return unicodedata.normalize("NFC", text), same_name(text), re.sub(r"(?<!\d)0+(?=\d)", "", loose)


@dataclass
class _Picture:
    path: str
    sounds: list[tuple[int, str]] = field(default_factory=list)
    """Number (-1 without) and path of each recording, also of those that cannot be decoded."""
    text: str | None = None
    """Path of the text of the picture's own stem."""

    @property
    def readable(self) -> list[str]:
        """Paths of the recordings that can be decoded."""
        return [path for _, path in self.sounds if _suffix(path) in AUDIO_SUFFIXES]


class _Index:
    """Pictures by stem, in their folder and anywhere, in each of their `_forms`."""

    def __init__(self, pictures: Iterable[_Picture], otherwise: _Index | None = None) -> None:
        """`otherwise` is asked for what none of the pictures matches."""
        self.otherwise = otherwise
        self.found: dict[tuple[int, str | None, str], list[_Picture]] = {}
        for picture in pictures:
            place, stem = _forms(_place(picture.path)), _forms(_stem(picture.path))
            for form in (0, 1, 2):
                for where in (place[form], None):
                    self.found.setdefault((form, where, stem[form]), []).append(picture)

    def match(self, path: str, *, numbered: bool = True) -> tuple[int, list[_Picture]]:
        """The number in the name, and the pictures that it may belong to by the strictest rule that finds any."""
        place, stem = _forms(_place(path)), _stem(path)
        names = [(-1, stem)]
        if numbered and (match := NUMBERED.fullmatch(stem)):
            names.append((int(match["number"] or match["other"]), match["stem"]))
        for where, form, (number, name) in itertools.product((place, (None, None, None)), (0, 1, 2), names):
            found = self.found.get((form, where[form], _forms(name)[form]))
            if found:
                return number, found
        return (-1, []) if self.otherwise is None else self.otherwise.match(path, numbered=numbered)

    def match_part(self, path: str) -> tuple[list[_Picture], list[str]]:
        """The picture whose name is the longest beginning of this name, else the longest part, and the other parts."""
        stem = _stem(path)
        between = list(SEPARATORS.finditer(stem))
        starts, ends = [0, *(at.end() for at in between)], [*(at.start() for at in between), len(stem)]
        runs = [(start, end) for start in starts for end in ends if start < end and (start, end) != (0, len(stem))]
        for start, end in sorted(runs, key=lambda run: (run[0] > 0, run[0] - run[1], run[0])):
            name = stem[start:end]
            if start and name.isdecimal():
                continue
            _, found = self.match(posixpath.join(posixpath.dirname(path), f"{name}.x"), numbered=False)
            if len(found) == 1:
                return found, [part for part in SEPARATORS.split(f"{stem[:start]} {stem[end:]}") if part]
        return [], []


def _match(folder: Path, files: list[str], problems: list[Problem], options: ReadOptions) -> Corpus:
    kinds = _by_kind(files)
    kinds["image"], image_copies = _without_copies(kinds["image"], ORIGINAL_IMAGES)
    kinds["sound"], sound_copies = _without_copies(kinds["sound"], ORIGINAL_SOUNDS)
    unread_images, converted = _without_copies(
        [path for path in kinds["unread"] if _suffix(path) in UNREAD_IMAGES], UNREAD_IMAGES, kinds["image"]
    )
    unread_sounds, also_converted = _without_copies(
        [path for path in kinds["unread"] if _suffix(path) in UNREAD_SOUNDS], UNREAD_SOUNDS, kinds["sound"]
    )
    pictures, unread = [_Picture(path) for path in kinds["image"]], [_Picture(path) for path in unread_images]
    index, sounds = _Index(pictures, otherwise=_Index(unread)), [*kinds["sound"], *unread_sounds]
    stems = [] if len(pictures) > MAX_COMPARED else [_stem(picture.path) for picture in pictures]
    parts, ambiguous = _share_out(sounds, index, stems, problems)
    texts, leftover = _texts(kinds["text"], index, sounds)
    problems += leftover
    rows = [row for picture in pictures for row in _described(folder, picture, texts, ambiguous, problems)]
    if not rows:
        raise UserError(_nothing(folder, kinds))
    for picture in unread:
        written = len(_lines(folder, picture.text, problems) or ()) if picture.text is not None else 0
        problems.append(_to_convert(picture.path, len(picture.readable) if picture.sounds else max(1, written)))
    problems += _unknown(
        [*kinds["other"], *converted, *also_converted, *image_copies, *sound_copies],
        {_forms(_stem(path))[1] for path in (*kinds["image"], *unread_images, *sounds)},
    )
    rows, notes = with_parts(_with_classes(rows), parts, Pseudonyms(options.keep_personal_data))
    return Corpus(rows, problems=tuple(sorted(problems, key=lambda problem: problem.path)), notes=notes)


def _by_kind(files: Iterable[str]) -> dict[str, list[str]]:
    """Files by the `KINDS` and "other", without documents for people."""
    kinds: dict[str, list[str]] = {"image": [], "sound": [], "text": [], "unread": [], "other": []}
    for path in files:
        suffix = _suffix(path)
        kind = next((name for name, suffixes in KINDS.items() if suffix in suffixes), "other")
        if kind not in ("text", "other") or "/" in path or not DOCUMENTS.fullmatch(path):
            kinds[kind].append(path)
    return kinds


def _share_out(
    sounds: Iterable[str], index: _Index, stems: Sequence[str], problems: list[Problem]
) -> tuple[dict[str, list[str]], set[str]]:
    """Gives each recording to its picture.

    Args:
        stems: names of pictures among which the nearest one is looked for.

    Returns:
        The other parts of the names of recordings that hold a picture's name as a part; and the pictures of which one
        of several may be meant.
    """
    parts: dict[str, list[str]] = {}
    ambiguous: set[str] = set()
    for path in sounds:
        number, found = index.match(path)
        if not found:
            found, parts[path] = index.match_part(path)
            number = next((int(part) for part in parts[path] if part.isdecimal()), -1)
        if len(found) == 1:
            found[0].sounds.append((number, path))
        elif found:
            ambiguous.update(picture.path for picture in found)
        if _suffix(path) in UNREAD_SOUNDS:
            problems.append(_to_convert(path))
        elif len(found) > 1:
            named = _named(picture.path for picture in found)
            problems.append(Problem(path, f"it may belong to any of {len(found)} pictures of its name: {named}"))
        elif not found:
            near = difflib.get_close_matches(_stem(path), stems, n=1, cutoff=0.6)
            nearest = f"; the nearest name is {near[0]}" if near else ""
            reason = f"a recording without a picture: there is no {_stem(path)}.jpg, .png or the like{nearest}"
            problems.append(Problem(path, reason))
    return parts, ambiguous


def _described(
    folder: Path, picture: _Picture, texts: Mapping[str, str], ambiguous: Collection[str], problems: list[Problem]
) -> Iterator[Utterance]:
    """The utterances of a picture, spoken or written; a problem where there is none."""
    picture.sounds.sort()
    if picture.sounds:
        yield from _told(folder, picture, texts, problems)
    elif picture.text is not None:
        lines = _lines(folder, picture.text, problems)
        yield from (Utterance("", picture.path, text=line) for line in lines or ())
        if lines == []:
            problems.append(Problem(picture.path, f"a picture without a description: {picture.text} is empty"))
    elif picture.path in ambiguous:
        problems.append(
            Problem(picture.path, "a picture whose name another one has, so that no recording can be told its own")
        )
    else:
        problems.append(
            Problem(
                picture.path,
                f"a picture without a description: there is no {_stem(picture.path)}.wav, .mp3 or the like",
            )
        )


def _without_copies(
    paths: Sequence[str], originals: Collection[str], others: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """Those of one kind, and apart from them the originals of whose name another is among them or `others`."""

    def name(path: str) -> tuple[str, str]:
        return same_name(_place(path)), same_name(_stem(path))

    seen = {name(path) for path in (*others, *(path for path in paths if _suffix(path) not in originals))}
    alone: list[str] = []
    copies: list[str] = []
    for path in sorted(paths, key=lambda path: _suffix(path) in FILM_SUFFIXES):  # a phone's living picture is no speech
        is_copy = _suffix(path) in originals and name(path) in seen
        (copies if is_copy else alone).append(path)
        seen.add(name(path))
    return alone, copies


def _to_convert(path: str, lost: int = 1) -> Problem:
    return Problem(path, f"{_suffix(path)} cannot be decoded; convert it to {CONVERT[_suffix(path)]}", lost)


def _texts(paths: list[str], index: _Index, sounds: list[str]) -> tuple[dict[str, str], list[Problem]]:
    """The text of each recording, by the recording's path; a picture's is noted with the picture. And what is left."""
    own: dict[tuple[str, str], list[str]] = {}
    for sound in sounds:
        own.setdefault((_place(sound), _forms(_stem(sound))[0]), []).append(sound)
    texts, problems = {}, []
    for path in paths:
        told = own.get((_place(path), _forms(_stem(path))[0]), [])
        _, found = index.match(path, numbered=False)
        if told:
            texts.update(dict.fromkeys(told, path))
        if len(found) == 1:
            found[0].text = path
        elif not told:
            problems.append(Problem(path, "a text without a picture or a recording of its name"))
    return texts, problems


def _told(folder: Path, picture: _Picture, texts: Mapping[str, str], problems: list[Problem]) -> Iterator[Utterance]:
    """The utterances of a picture with recordings, of those that can be decoded."""
    every = [path for _, path in picture.sounds]
    line_of: dict[str, str] = {}
    if picture.text is not None and picture.text not in {texts.get(path) for path in every}:
        found = _lines(folder, picture.text, problems)
        told = next((paths for paths in (every, picture.readable) if found and len(paths) == len(found)), None)
        if found is not None and told is None:
            problems.append(
                Problem(picture.text, f"{len(found)} lines of text for the {len(every)} recordings of {picture.path}")
            )
        line_of = dict(zip(told or (), found or (), strict=True))
    for path in picture.readable:
        line, own = line_of.get(path), texts.get(path)
        if own is not None:
            line = " ".join(_lines(folder, own, problems) or ()) or None
        yield Utterance(path, picture.path, text=line)


def _lines(folder: Path, path: str, problems: list[Problem]) -> list[str] | None:
    """The lines of a text that say something; None, and a problem, where it is not text."""
    try:
        content = unicode_text((folder / path).read_bytes())
    except (UnicodeDecodeError, OSError):
        problems.append(Problem(path, "the text is not readable as UTF-8"))
        return None
    return [stripped for line in content.splitlines() if (stripped := line.strip())]


def _with_classes(rows: list[Utterance]) -> list[Utterance]:
    place = {row.image: _place(row.image) for row in rows}
    sizes: dict[str, int] = {}
    for name in place.values():
        sizes[name] = sizes.get(name, 0) + 1
    one_deep = all(name and "/" not in name for name in sizes)
    if not one_deep or len(sizes) < 2 or statistics.median(sizes.values()) < 2:
        return rows
    return [replace(row, class_name=place[row.image]) for row in rows]


def _unknown(paths: list[str], stems: set[str]) -> list[Problem]:
    """A line for each file of an unknown kind; annotations beside pictures and recordings share one by their ending."""
    problems: list[Problem] = []
    beside: dict[str, list[str]] = {}
    for path in paths:
        suffix = _suffix(path)
        if suffix and _forms(_stem(path))[1] in stems:
            beside.setdefault(suffix, []).append(path)
        else:
            problems.append(Problem(path, "neither a picture nor a recording by the ending of its name"))
    for suffix, those in beside.items():
        more = f", and {len(those) - 1} more like it" if len(those) > 1 else ""
        problems.append(Problem(those[0], f"{suffix} beside a picture or recording is not read{more}"))
    return problems


def _named(paths: Iterable[str]) -> str:
    listed = list(paths)
    rest = f" and {len(listed) - EXAMPLES} more" if len(listed) > EXAMPLES else ""
    return ", ".join(listed[:EXAMPLES]) + rest


def _nothing(folder: Path, kinds: Mapping[str, list[str]]) -> str:
    found = ", ".join(f"{len(kinds[kind])} {word}" for kind, word in (("image", "pictures"), ("sound", "recordings")))
    examples = _named([*kinds["image"][:2], *kinds["sound"][:2], *kinds["unread"][:2], *kinds["other"][:2]])
    convert = {_suffix(path): CONVERT[_suffix(path)] for path in kinds["unread"]}
    remedy = "".join(f"; {suffix} cannot be decoded, convert it to {kind}" for suffix, kind in sorted(convert.items()))
    return (
        f"{folder}: no picture with a description was found, among {found}"
        f"{f' ({examples})' if examples else ''}{remedy}; expected are a picture and a recording of one name, such as "
        "a.jpg and a.wav, or a manifest.csv that says what belongs together."
    )


IMPORTER = Importer.called("folder", read)
