"""Interlinear texts of FieldWorks."""

from pathlib import Path

import pytest

from s2igan.corpora.importers.flextext import IMPORTER
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

TEXT = """<?xml version="1.0" encoding="utf-8"?>
<document version="2"><interlinear-text guid="1"><item type="title" lang="en">Market</item>
<paragraphs><paragraph><phrases>
<phrase begin-time-offset="1000" end-time-offset="2500" speaker="Ana Lopez" media-file="m1"><item type="segnum">1</item>
<words><word><item type="txt" lang="bam">wulu</item></word><word><item type="txt" lang="bam">be</item></word></words>
<item type="gls" lang="en">there is a dog</item><item type="note" lang="en">dog.jpg</item></phrase>
<phrase begin-time-offset="2500" end-time-offset="4000" speaker="Ana Lopez"><item type="txt" lang="bam">so</item>
<item type="note" lang="en">house.jpg</item></phrase>
<phrase speaker="Ana Lopez"><item type="txt" lang="bam">so</item><item type="note" lang="en">house.jpg</item></phrase>
</phrases></paragraph></paragraphs>
<media-files offset-type=""><media guid="m1" location="file:///C:/x/talk%201.wav"/></media-files></interlinear-text></document>
"""


def read(root: Path, **options: bool) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions(**options))
    is_usable(corpus, root)
    return corpus


def make(root: Path, content: str = TEXT) -> Path:
    texts(root, {"market.flextext": content})
    recordings(root, "wavs/talk 1.wav")
    pictures(root, "dog.jpg", "house.jpg")
    return root


def test_phrases_that_name_pictures(tmp_path):
    corpus = read(make(tmp_path))
    assert [(r.audio, r.image, r.start_seconds, r.end_seconds, r.text, r.speaker) for r in corpus.rows] == [
        ("wavs/talk 1.wav", "dog.jpg", 1.0, 2.5, "wulu be", "speaker-1"),
        ("wavs/talk 1.wav", "house.jpg", 2.5, 4.0, "so", "speaker-1"),
    ]
    assert reasons(corpus) == {"market.flextext": "'house.jpg' in the tier note has no time in the recording"}
    assert {row.speaker for row in read(tmp_path, keep_personal_data=True).rows} == {"Ana Lopez"}


def test_bad_files_do_not_stop_the_others(tmp_path):
    make(tmp_path)
    texts(tmp_path, {"torn.flextext": TEXT[:300], "other.flextext": "<TEI/>"})
    assert {"torn.flextext", "other.flextext"} < set(reasons(read(tmp_path)))
    with pytest.raises(UserError, match=r"no \.flextext is here"):
        IMPORTER.read(tmp_path / "wavs", ReadOptions())


def test_texts_of_several_recordings_in_one_file(tmp_path):
    second = TEXT[TEXT.index("<interlinear-text") : TEXT.index("</document>")]
    second = second.replace("talk%201", "talk%202").replace('guid="m1"', 'guid="m2"').replace('"m1"', '"m2"')
    make(tmp_path, TEXT.replace("</document>", second + "</document>"))
    recordings(tmp_path, "wavs/talk 2.wav")
    assert [(row.audio, row.image) for row in read(tmp_path).rows] == [
        (f"wavs/talk {number}.wav", picture) for number in (1, 2) for picture in ("dog.jpg", "house.jpg")
    ]
    both = '<media guid="m0" location="file:///C:/x/talk%202.wav"/><media guid="m1"'
    texts(tmp_path, {"market.flextext": TEXT.replace('<media guid="m1"', both)})
    assert {(row.audio, row.image) for row in read(tmp_path).rows} == {
        ("wavs/talk 1.wav", "dog.jpg"),
        ("wavs/talk 2.wav", "house.jpg"),
    }
