"""Many recordings at once: pictures of files, folders, patterns and standard input.

`s2igan-edge` uses this file too, so here is no PyTorch.
"""

from __future__ import annotations

import glob
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from s2igan.audio import SAMPLE_RATE, Audio, waveform
from s2igan.errors import UserError
from s2igan.file_kinds import AUDIO_SUFFIXES
from s2igan.files import disk_errors
from s2igan.pictures import Pictures, write_picture

STANDARD_INPUT = "-"
RECORDINGS_AT_ONCE = 16
"""Drawn together; the pictures of the first are written before the next are drawn."""
SHEET_GAP = 4
"""White pixels between the images of a contact sheet."""
SHEET_PICTURES = 400
"""On one contact sheet; more are left off it."""
CONTACT_SHEET = "contact-sheet.png"


@runtime_checkable
class Drawer(Protocol):
    """A model in use, such as `SpeechToImage`."""

    @property
    def method(self) -> str:
        """How it draws, in words."""

    def check(self, samples: int, seed: int, *, truncation: float | None, guidance: float | None) -> None:
        """UserError where a call with these options would refuse them."""

    def check_length(self, wave: Float[np.ndarray, " samples"], name: str) -> None:
        """UserError, beginning with `name`, if a waveform (22,050 Hz) is too short."""

    def __call__(
        self, audio: list[Audio], samples: int, seed: int, *, truncation: float | None, guidance: float | None
    ) -> Sequence[Pictures]:
        """What is drawn for each recording."""


class Recording(NamedTuple):
    """What was named on the command line."""

    name: str
    audio: Audio

    @property
    def stem(self) -> str:
        """What its pictures are called."""
        return "stdin" if self.name == STANDARD_INPUT else Path(self.name).stem


def find_recordings(names: Sequence[str]) -> list[Recording]:
    """What words of a command line name: files, all sound files below a folder, those that match a pattern such as
    `*.wav`, or the content of standard input (`-`). Each once, in the order of the words.

    Raises:
        UserError: nothing was named, a folder has no sound file, or nothing matches a pattern.
    """
    found: dict[str, Recording] = {}
    for name in names:
        if name == STANDARD_INPUT:
            found[name] = Recording(name, sys.stdin.buffer.read())
            continue
        for path in _paths(name):
            found.setdefault(str(path), Recording(str(path), path))
    if not found:
        raise UserError("no recording was named; give sound files, folders, patterns such as 'said/*.wav', or - .")
    return list(found.values())


def _paths(name: str) -> Iterable[Path]:
    path = Path(name)
    if path.is_dir():
        below = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
        if not below:
            kinds = ", ".join(sorted(AUDIO_SUFFIXES))
            raise UserError(f"{name}: no sound file is in this folder (looked for {kinds}); name another.")
        return below
    if glob.has_magic(name) and not path.exists():
        matching = sorted(map(Path, glob.glob(name, recursive=True)))
        if not matching:
            raise UserError(f"{name}: nothing matches this pattern; check it.")
        return itertools.chain.from_iterable(_paths(str(match)) if match.is_dir() else [match] for match in matching)
    return [path]


def generate_files(
    model: Drawer,
    recordings: Sequence[Recording],
    out: Path,
    samples: int,
    seed: int,
    *,
    truncation: float | None = None,
    guidance: float | None = None,
) -> Iterator[dict[str, Any] | UserError]:
    """Writes `<recording>-<sample>.png` for every sample of every recording, and at the end `contact-sheet.png`.

    Yields a record (audio, method, sample, seed, image, width, height) as each picture is written, and the error of
    each recording that cannot be used; the others go on.

    Raises:
        UserError: `out` cannot be made, or an option is out of range.
    """
    options: dict[str, Any] = {"truncation": truncation, "guidance": guidance}
    model.check(samples, seed, **options)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    rows: list[Sequence[Image.Image]] = []
    names: set[str] = set()
    for recording, drawn in _drawn(model, recordings, samples, seed, options):
        if isinstance(drawn, UserError):
            yield drawn
            continue
        stem, numbers = recording.stem, itertools.count(2)
        while stem in names:  # recordings of the same name in different folders
            stem = f"{recording.stem}-again{next(numbers)}"
        names.add(stem)
        if len(rows) * samples < SHEET_PICTURES:
            rows.append(drawn.images)
        for sample, (image, of_image) in enumerate(zip(drawn, drawn.seeds, strict=True), start=1):
            path = out / f"{stem}-{sample}.png"
            write_picture(path, image)
            facts = {"audio": recording.name, "method": model.method, "sample": sample, "seed": of_image}
            yield {**facts, "image": str(path), "width": image.width, "height": image.height}
    if rows:
        write_picture(out / CONTACT_SHEET, contact_sheet(rows))


def _drawn(
    model: Drawer, recordings: Sequence[Recording], samples: int, seed: int, options: dict[str, Any]
) -> Iterator[tuple[Recording, Pictures | UserError]]:
    """Each recording with what was drawn for it, or why nothing was."""
    for first in range(0, len(recordings), RECORDINGS_AT_ONCE):
        waves = [(recording, heard(model, recording)) for recording in recordings[first : first + RECORDINGS_AT_ONCE]]
        usable: list[Audio] = [(wave, SAMPLE_RATE) for _, wave in waves if not isinstance(wave, UserError)]
        drawn = iter(model(usable, samples, seed, **options))
        for recording, wave in waves:
            yield recording, wave if isinstance(wave, UserError) else next(drawn)


def heard(model: Drawer, recording: Recording) -> np.ndarray | UserError:
    """A recording's waveform, or why the model cannot use it."""
    try:
        wave = waveform(recording.audio)
        model.check_length(wave, recording.name)
    except UserError as error:
        return error
    return wave


def contact_sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures of one size in rows, with white between and around them."""
    side, longest = rows[0][0].width + SHEET_GAP, max(map(len, rows))
    sheet = Image.new("RGB", (longest * side + SHEET_GAP, len(rows) * side + SHEET_GAP), "white")
    for down, row in enumerate(rows):
        for right, image in enumerate(row):
            sheet.paste(image, (SHEET_GAP + right * side, SHEET_GAP + down * side))
    return sheet
