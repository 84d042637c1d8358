"""Files for miniature sources: real pictures and recordings, as small as they can be."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from s2igan.corpora.importers.source import Corpus


def pictures(root: Path, *paths: str) -> None:
    """JPEG (or what the suffix says) of 16 x 12 pixels, each of another shade."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (7 * number % 256, 90, 60)).save(root / path)


def recordings(root: Path, *paths: str, seconds: float = 0.02) -> None:
    """Wavs of 16 kHz, 20 ms of a tone unless told, each of another pitch."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        wave = 0.3 * np.sin(2 * np.pi * (200 + 10 * number) * np.arange(round(16000 * seconds)) / 16000)
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


def python_2(value: Any) -> bytes:
    """The pickle that Python 2.7 and numpy 1 write of strings, small numbers, lists and float32 arrays of two or three
    dimensions: its strings are bytes."""
    return b"\x80\x02" + _python_2(value) + b"."


def _python_2(value: Any) -> bytes:
    if isinstance(value, str | bytes):
        raw = value.encode("latin1") if isinstance(value, str) else value
        return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw
    if isinstance(value, int):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
    if isinstance(value, list):
        items = b"".join(map(_python_2, value))
        return b"]" + items + b"a" if len(value) == 1 else b"](" + items + b"e"
    tuple_of = {2: b"\x86", 3: b"\x87"}[value.ndim]
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"".join(map(_python_2, value.shape))
        + tuple_of
        + b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + _python_2(np.ascontiguousarray(value, "<f4").tobytes())
        + b"tb"
    )
