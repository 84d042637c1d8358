"""Files for miniature sources: real pictures and recordings, as small as they can be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from s2igan.corpora.source import Corpus


def pictures(root: Path, *paths: str) -> None:
    """JPEG (or what the suffix says) of 16 x 12 pixels, each of another shade."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (7 * number % 256, 90, 60)).save(root / path)


def recordings(root: Path, *paths: str) -> None:
    """Wavs of 16 kHz, 20 ms of a tone, each of another pitch."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        wave = 0.3 * np.sin(2 * np.pi * (200 + 10 * number) * np.arange(320) / 16000)
        soundfile.write(root / path, wave, 16000, subtype="PCM_16")


def texts(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Files with this content, byte for byte."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.encode() if isinstance(content, str) else content)


def reasons(corpus: Corpus) -> dict[str, str]:
    """What is left out and why; two problems of one path are joined."""
    found: dict[str, str] = {}
    for problem in corpus.problems:
        assert not problem.reason.endswith("."), problem
        found[problem.path] = f"{found[problem.path]}; {problem.reason}" if problem.path in found else problem.reason
    return found


def is_usable(corpus: Corpus, root: Path) -> None:
    """Every path is of a file below the source, and the rows may stand in one manifest."""
    from s2igan.data.manifest import check_rows

    for row in corpus.rows:
        for path in (row.audio, row.image) if row.audio else (row.image,):
            assert (root / path).is_file(), path
            assert (root / path).resolve().is_relative_to(root.resolve()), path
    assert set(corpus.boxes) <= {row.image for row in corpus.rows}
    check_rows(enumerate((row for row in corpus.rows if row.audio), start=1), "manifest")
