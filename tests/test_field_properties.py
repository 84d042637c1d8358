"""Whatever is in a file: a decoder gives the right samples or pixels, or a sentence; and what is valid is not refused.

Every case is bounded in time and memory (`bounded.py`): 1 GB above the start. Of the valid files all are right, so that
refusing is no way out. S2IGAN_CASES sets how many files each test makes.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bounded import bounded
from field_sounds import RATE, encoded, voice
from s2igan import audio
from s2igan.corpora.importers.elan import IMPORTER
from s2igan.corpora.importers.source import ReadOptions
from s2igan.data.images import load_image
from s2igan.data.manifest import Utterance, read_manifest
from s2igan.errors import UserError

CASES = int(os.environ.get("S2IGAN_CASES", "25"))
every_case = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VOICE = voice(0.8)
WAVS = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"]
CONTAINERS = [
    *(("WAV", subtype) for subtype in WAVS),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_24"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
]
CODED = ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "VORBIS", "OPUS")


def outcome(read: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What is read within the bounds of time and memory, or the sentence of a refusal."""
    with bounded():
        try:
            return read(*arguments), ""
        except UserError as error:
            return None, str(error)


def alike(found: np.ndarray, expected: np.ndarray, coded: bool) -> bool:
    """The same length but for a codec's block, and the same sound but for what coding and a few bits change."""
    if abs(len(found) - len(expected)) > (2_000 if coded else 2):
        return False
    n = min(len(found), len(expected))
    return float(np.corrcoef(found[:n], expected[:n])[0, 1]) > (0.8 if coded else 0.995)


@every_case
@given(
    container=st.sampled_from(CONTAINERS),
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    channels=st.integers(1, 4),
    seconds=st.floats(0.2, 0.8),
)
def test_valid_sounds_are_right(
    tmp_path: Path, container: tuple[str, str], rate: int, channels: int, seconds: float
) -> None:
    format, subtype = container
    channels = min(channels, {"GSM610": 1, "IMA_ADPCM": 2, "MS_ADPCM": 2, "OPUS": 2}.get(subtype, channels))
    if subtype == "OPUS" and rate in (11_025, 22_050, 44_100):
        rate = 48_000
    wave = voice(seconds, rate=rate)
    content = encoded(np.stack([wave] * channels, 1), rate, format=format, subtype=subtype)
    (tmp_path / "a.wav").write_bytes(content)
    found, refusal = outcome(audio.load_audio, tmp_path / "a.wav")
    assert not refusal
    assert alike(found, soxr.resample(wave, rate, audio.SAMPLE_RATE), subtype in CODED)


@every_case
@given(
    container=st.sampled_from(CONTAINERS),
    edits=st.lists(
        st.tuples(
            st.sampled_from(["byte", "word", "cut", "drop", "insert"]),
            st.floats(0, 1),
            st.binary(min_size=4, max_size=4),
        ),
        min_size=1,
        max_size=3,
    ),
    in_header=st.booleans(),
)
def test_damaged_sounds_are_sound_or_a_sentence(
    tmp_path: Path, container: tuple[str, str], edits: list[tuple[str, float, bytes]], in_header: bool
) -> None:
    """Never a traceback, a hang, a length that the bytes cannot hold, or what is no number."""
    content = bytearray(encoded(VOICE, RATE, format=container[0], subtype=container[1]))
    for kind, share, value in edits:
        at = int(share * (min(len(content), 120) if in_header else len(content) - 1))
        if kind == "byte":
            content[at : at + 1] = value[:1]
        elif kind == "word":
            content[at : at + 4] = value
        elif kind == "cut":
            del content[max(1, at) :]
        elif kind == "drop":
            del content[at : at + 4]
        else:
            content[at:at] = value
    (tmp_path / "a.wav").write_bytes(content)
    found, refusal = outcome(audio.load_audio, tmp_path / "a.wav")
    if refusal:
        assert refusal.startswith(str(tmp_path / "a.wav"))
        assert len(refusal.splitlines()) == 1
        return
    assert np.isfinite(found).all()
    assert audio.MIN_SAMPLES <= len(found) <= (audio.MAX_SECONDS + 1) * audio.SAMPLE_RATE


@every_case
@given(
    container=st.sampled_from([entry for entry in CONTAINERS if entry[1] not in ("IMA_ADPCM", "MS_ADPCM", "GSM610")]),
    share=st.floats(0.15, 0.8),
)
def test_a_sound_that_is_cut_off_is_never_taken_for_whole(
    tmp_path: Path, container: tuple[str, str], share: float
) -> None:
    content = encoded(VOICE, RATE, format=container[0], subtype=container[1])
    (tmp_path / "a.wav").write_bytes(content[: int(share * len(content))])
    found, refusal = outcome(audio.load_audio, tmp_path / "a.wav")
    assert refusal, len(found)


def test_the_bounds_themselves() -> None:
    with pytest.raises(AssertionError, match="it hangs"), bounded(seconds=0.05):
        time.sleep(5)
    with pytest.raises(AssertionError, match="it took"), bounded(most=100_000_000):
        np.ones(50_000_000)
    with bounded():
        np.ones(5_000_000)


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "HSV", "LAB"]
FORMATS = ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "AVIF", "JPEG2000"]


@every_case
@given(
    mode=st.sampled_from(MODES),
    format=st.sampled_from(FORMATS),
    side=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    orientation=st.integers(0, 9),
    damage=st.none() | st.tuples(st.floats(0, 1), st.binary(max_size=6)),
)
def test_pictures_are_pixels_or_a_sentence(
    tmp_path: Path, mode: str, format: str, side: tuple[int, int], orientation: int, damage: tuple[float, bytes] | None
) -> None:
    picture = Image.linear_gradient("L").resize(side)
    try:
        picture = picture.convert(mode) if mode not in ("LAB", "HSV") else picture.convert("RGB").convert(mode)
        exif = picture.getexif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        picture.save(buffer, format, exif=exif)
    except (OSError, ValueError, KeyError):
        return  # this format does not take this mode
    content = bytearray(buffer.getvalue())
    if damage is not None:
        at = int(damage[0] * (len(content) - 1))
        content[at : at + len(damage[1])] = damage[1]
    (tmp_path / "a.jpg").write_bytes(content)
    found, refusal = outcome(load_image, tmp_path / "a.jpg", 16)
    if refusal:
        assert refusal.startswith(str(tmp_path / "a.jpg"))
        assert damage is not None, (mode, format)
        return
    assert found.shape == (16, 16, 3)
    if damage is None and orientation in (0, 1, 9) and mode in ("L", "RGB", "LA", "RGBA") and format != "GIF":
        grey = found.mean(2)
        assert grey[-1].mean() > grey[0].mean() + 50


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@every_case
@given(
    rows=st.lists(st.tuples(names, names, names | st.just("")), min_size=1, max_size=5),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    surplus=st.integers(0, 2),
)
def test_manifests_of_any_spreadsheet(
    tmp_path: Path,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    quoting: int,
    end: str,
    mark: bool,
    surplus: int,
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow(["audio", "image", "text"])
    expected = []
    for number, (audio_name, image_name, words) in enumerate(rows):
        cells = [f"a/{number}{audio_name}.wav", f"b/{number}{image_name}.jpg", words]
        writer.writerow([*cells, *[""] * surplus])
        expected.append(cells)
    path = tmp_path / ("m.tsv" if delimiter == "\t" else "m.csv")
    path.write_bytes(b"\xef\xbb\xbf" * mark + text.getvalue().encode())
    found, refusal = outcome(read_manifest, path)
    if refusal:
        assert any("/" in name or "\\" in name for row in rows for name in row[:2]), refusal
        return
    assert [(row.audio.partition("/")[0], row.text) for row in found] == [
        (cells[0].partition("/")[0], cells[2].strip() or None) for cells in expected
    ]
    assert all(isinstance(row, Utterance) for row in found)


values = st.sampled_from(["dog.jpg", "house.jpg", "nothing.jpg", "", "1", "the dog", "&amp;"])
times = st.sampled_from(["0", "500", "1000.5", "2000", "-3", "x", "1e9", "nan", None])


@every_case
@given(
    slots=st.lists(times, min_size=2, max_size=8),
    tiers=st.lists(
        st.lists(
            st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9), st.integers(0, 12), values), max_size=5
        ),
        min_size=1,
        max_size=4,
    ),
    parents=st.lists(st.integers(0, 4), min_size=4, max_size=4),
)
def test_trees_of_elan_are_rows_or_sentences(
    tmp_path: Path,
    slots: list[str | None],
    tiers: list[list[tuple[bool, int, int, int, str]]],
    parents: list[int],
) -> None:
    order = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{n}"{"" if time is None else f" TIME_VALUE={quoteattr(time)}"}/>'
        for n, time in enumerate(slots)
    )
    bodies, number = [], 0
    for place, notes in enumerate(tiers):
        inner = []
        for is_aligned, one, two, other, value in notes:
            text = f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE>" if value else ""
            if is_aligned:
                inner.append(
                    f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="ts{one}" '
                    f'TIME_SLOT_REF2="ts{two}">{text}</ALIGNABLE_ANNOTATION></ANNOTATION>'
                )
            else:
                inner.append(
                    f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a{number}" ANNOTATION_REF="a{other}" '
                    f'PREVIOUS_ANNOTATION="a{one}">{text}</REF_ANNOTATION></ANNOTATION>'
                )
            number += 1
        up = f' PARENT_REF="t{parents[place]}"' if parents[place] < place else ""
        bodies.append(f'<TIER TIER_ID="t{place}"{up}>{"".join(inner)}</TIER>')
    (tmp_path / "a.eaf").write_text(
        f"<ANNOTATION_DOCUMENT><TIME_ORDER>{order}</TIME_ORDER>{''.join(bodies)}</ANNOTATION_DOCUMENT>"
    )
    for name in ("a.wav", "dog.jpg", "house.jpg"):
        (tmp_path / name).write_bytes(b"")
    corpus, refusal = outcome(IMPORTER.read, tmp_path, ReadOptions())
    if refusal:
        return
    assert corpus.rows
    for row in corpus.rows:
        assert row.start_seconds is not None
        assert row.end_seconds is not None
        assert 0 <= row.start_seconds < row.end_seconds
    spans = [(row.start_seconds, row.end_seconds, row.image) for row in corpus.rows]
    assert len(set(spans)) == len(spans)
