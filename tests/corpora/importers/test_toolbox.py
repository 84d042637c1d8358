"""Toolbox databases: records of markers."""

from pathlib import Path

import pytest

from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.corpora.importers.toolbox import IMPORTER
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

WORDS = r"""\_sh v3.0  400  MDF 4.0
\_DateStampHasFourDigitYear

\lx wulu
\ge dog
\pc dog.jpg
\sf words.wav 1.2 3.4
\sp Ana  Lopez

\lx so
\ge house,
    home
\pc C:\Pictures\House.JPG
\sf so.wav

\lx ji
\ge water

\lx muso
\pc woman.jpg
\sf muso.wav

\lx wari
\pc dog.jpg
"""


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


def make(root: Path) -> Path:
    texts(root, {"lexicon.txt": WORDS, "readme.txt": "Words of 2024\n"})
    recordings(root, "audio/words.wav", "audio/so.wav", "audio/muso.wav")
    pictures(root, "dog.jpg", "house.jpg")
    return root


def test_records_with_a_picture_and_a_recording(tmp_path):
    corpus = read(make(tmp_path))
    assert [(r.audio, r.image, r.start_seconds, r.end_seconds, r.text, r.speaker) for r in corpus.rows] == [
        ("audio/words.wav", "dog.jpg", 1.2, 3.4, "wulu", "speaker-1"),
        ("audio/so.wav", "house.jpg", None, None, "so", None),
    ]
    assert reasons(corpus)["lexicon.txt"] == (
        "record 4 (woman.jpg): woman.jpg is nowhere below the source; record 5 (dog.jpg): it names no recording"
    )


def test_a_text_transcribed_in_elan(tmp_path):
    make(tmp_path)
    record = "\\ref t.{n}\n\\ELANBegin {n}.5\n\\ELANEnd {n}.9\n\\tx ni\n\\nt dog.jpg\n\n"
    texts(tmp_path, {"story.txt": "\\id story\n" + "".join(record.format(n=n) for n in (1, 2)), "lexicon.txt": ""})
    recordings(tmp_path, "story.wav")
    assert [(r.audio, r.start_seconds, r.end_seconds, r.text) for r in read(tmp_path).rows] == [
        ("story.wav", 1.5, 1.9, "ni"),
        ("story.wav", 2.5, 2.9, "ni"),
    ]


def test_times_that_make_no_sense_and_no_database(tmp_path):
    make(tmp_path)
    texts(tmp_path, {"lexicon.txt": WORDS.replace("1.2 3.4", "3.4 1.2")})
    assert "its times 3.4 and 1.2 make no sense" in reasons(read(tmp_path))["lexicon.txt"]
    (tmp_path / "lexicon.txt").unlink()
    with pytest.raises(UserError, match="no record with both in 0 databases"):
        IMPORTER.read(tmp_path, ReadOptions())


@pytest.mark.parametrize("times", ["61.2 63.4", "61,2 63,4", "1:01.2 1:03.4", "00:01:01,2;00:01:03,4"])
def test_times_as_people_write_them(tmp_path, times):
    make(tmp_path)
    texts(tmp_path, {"lexicon.txt": WORDS.replace("1.2 3.4", times)})
    first = read(tmp_path).rows[0]
    assert (first.start_seconds, first.end_seconds) == (61.2, 63.4)


def test_times_that_are_not_understood_are_never_left_out(tmp_path):
    make(tmp_path)
    recordings(tmp_path, "lexicon.wav")
    texts(tmp_path, {"lexicon.txt": WORDS.replace("1.2 3.4", "from 1 to 3")})
    corpus = read(tmp_path)
    assert "audio/words.wav" not in {row.audio for row in corpus.rows}
    assert "'words.wav from 1 to 3' is no file, perhaps with two times" in reasons(corpus)["lexicon.txt"]
