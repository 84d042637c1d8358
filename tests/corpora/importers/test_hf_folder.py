"""Audio- and image-folders of the Hugging Face hub."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2igan.corpora.importers.hf_folder import IMPORTER
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


def files(root: Path) -> None:
    pictures(root, "train/img/1.jpg", "train/img/2.jpg", "test/3.jpg")
    recordings(root, "train/1.wav", "train/2.wav", "test/3.wav")


def test_a_csv_for_each_split(tmp_path):
    files(tmp_path)
    texts(
        tmp_path,
        {
            "train/metadata.csv": "file_name,image_file_name,transcription,speaker_id,label\n"
            '1.wav,img/1.jpg,"a dog, brown",7,dog\n2.wav,img/2.jpg,,8,cat\n9.wav,img/2.jpg,,8,cat\n,img/2.jpg,,,\n',
            "test/metadata.csv": "file_name,image_file_name,label\n3.wav,3.jpg,dog\n",
        },
    )
    corpus = read(tmp_path)
    assert {(r.audio, r.image, r.text, r.speaker, r.class_name, r.split) for r in corpus.rows} == {
        ("train/1.wav", "train/img/1.jpg", "a dog, brown", "7", "dog", "train"),
        ("train/2.wav", "train/img/2.jpg", None, "8", "cat", "train"),
        ("test/3.wav", "test/3.jpg", None, None, "dog", "test"),
    }
    assert reasons(corpus) == {
        "9.wav": "9.wav is nowhere below the source",
        "train/metadata.csv": "line 4 names no file that is a recording or a text",
    }


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_image_folders(tmp_path, kind):
    files(tmp_path)
    lines = [
        {"file_name": "img/1.jpg", "audio_file_name": "1.wav", "language": "bam"},
        {"file_name": "img/2.jpg", "text": "a cat"},
    ]
    if kind == "jsonl":
        texts(tmp_path, {"train/metadata.jsonl": "".join(json.dumps(line) + "\n" for line in lines)})
    else:
        pq.write_table(
            pa.Table.from_pylist([{"audio_file_name": None, "text": None, "language": None} | line for line in lines]),
            tmp_path / "train/metadata.parquet",
        )
    assert [(r.audio, r.image, r.text, r.language) for r in read(tmp_path).rows] == [
        ("train/1.wav", "train/img/1.jpg", None, "bam"),
        ("", "train/img/2.jpg", "a cat", None),
    ]


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_of_any_spreadsheet(tmp_path, sign, codec):
    files(tmp_path)
    text = f"image_file_name{sign}audio_file_name{sign}text\r\nimg/1.jpg{sign}1.wav{sign}tête\r\n"
    text += f"img/2.jpg{sign}2.wav{sign}\r\n"
    (tmp_path / "train/metadata.csv").write_bytes(text.encode(codec))
    assert [(r.audio, r.text) for r in read(tmp_path).rows] == [("train/1.wav", "tête"), ("train/2.wav", None)]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("metadata.jsonl", '{"file_name": "img/1.jpg", "audio_file_name": "1.wav"}\n{broken\n[1]\n'),
        ("metadata.csv", "file_name,audio_file_name,text\nimg/1.jpg,1.wav,x\nimg/2.jpg,2.wav," + "x" * 200_000 + "\n"),
    ],
)
def test_a_bad_line_costs_itself_alone(tmp_path, name, lines):
    files(tmp_path)
    texts(tmp_path, {f"train/{name}": lines})
    corpus = read(tmp_path)
    assert [row.audio for row in corpus.rows] == ["train/1.wav"]
    assert {problem.path for problem in corpus.problems} == {f"train/{name}"}


def test_wrong_layouts(tmp_path):
    files(tmp_path)
    with pytest.raises(UserError, match=r"no metadata\.csv"):
        IMPORTER.read(tmp_path, ReadOptions())
    texts(tmp_path, {"metadata.jsonl": "{broken\n"})
    with pytest.raises(UserError, match=r"metadata\.jsonl: line 1 is no JSON"):
        IMPORTER.read(tmp_path, ReadOptions())
    texts(tmp_path, {"metadata.jsonl": '{"file_name": "1.wav"}\n'})
    with pytest.raises(UserError, match="found no line with both; the first problem"):
        IMPORTER.read(tmp_path, ReadOptions())
