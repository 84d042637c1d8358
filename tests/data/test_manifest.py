"""The manifest: what is read back is what was written, and what is wrong is named."""

import csv
import json
import math
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from s2igan.data.manifest import (
    COLUMNS,
    Utterance,
    _fields,
    check_rows,
    iter_manifest,
    read_manifest,
    split_name,
    write_manifest,
)
from s2igan.errors import UserError

FULL = Utterance(
    audio="audio/a b/é.wav",
    image="images/x.png",
    start_seconds=0.25,
    end_seconds=3.5,
    class_name='Black-footed albatross, "the" bird',
    split="validation",
    speaker="f1",
    language="wym",
    text='a bird, with "red" wings;\nand a long tail',
    attributes={"belly colour": "red", "tail": "long=very; long"},
    mentions=("tail", "belly colour"),
)
PLAIN = Utterance(audio="b.wav", image="y.jpg")


def write_lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(**fields: object) -> dict[str, object]:
    return {"audio": "a.wav", "image": "a.png"} | fields


def write_csv(path: Path, rows: Iterable[Utterance], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            fields = _fields(row)
            for name in ("attributes", "mentions"):
                if name in fields:
                    fields[name] = json.dumps(fields[name], ensure_ascii=False)
            writer.writerow(fields)


def write_parquet(path: Path, rows: Iterable[Utterance]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = dict.fromkeys(COLUMNS, pa.string()) | {
        "start_seconds": pa.float64(),
        "end_seconds": pa.float64(),
        "attributes": pa.map_(pa.string(), pa.string()),
        "mentions": pa.list_(pa.string()),
    }
    fields = [_fields(row) for row in rows]
    for row in fields:
        if "attributes" in row:
            row["attributes"] = list(row["attributes"].items())
    table = pa.Table.from_pylist(fields, schema=pa.schema(list(types.items())))
    pq.write_table(table, path)


def write_as(path: Path, rows: list[Utterance]) -> None:
    """In the format that the name asks for, as other programs write it."""
    match path.suffix.lower():
        case ".jsonl":
            write_manifest(path, rows)
        case ".parquet":
            write_parquet(path, rows)
        case suffix:
            write_csv(path, rows, "\t" if suffix == ".tsv" else ",")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet", ".CSV"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    bare = Utterance(audio="c.wav", image="z.jpg", class_name="none", end_seconds=1e-3)
    rows = [FULL, bare]
    write_as(tmp_path / f"manifest{suffix}", rows)
    assert read_manifest(tmp_path / f"manifest{suffix}") == rows
    assert [path.name for path in tmp_path.iterdir()] == [f"manifest{suffix}"], "no temporary file is left"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_round_trip_of_random_rows(tmp_path: Path, suffix: str) -> None:
    rng = random.Random(3)
    words = ["red", "é", '"', ",", ";", "=", "{", "[", "\t", "a b", "日本", "'"]

    def word() -> str:
        return "x" + "".join(rng.choice(words) for _ in range(4)) + "y"

    rows = []
    for i in range(50):
        attributes = {word(): word() for _ in range(rng.randrange(4))}
        rows.append(
            Utterance(
                audio=f"{i}/{word()}.wav",
                image=f"{i}/{word()}.png",
                start_seconds=rng.choice([None, rng.random()]),
                end_seconds=rng.choice([None, 1 + rng.random()]),
                split=rng.choice([None, "train", "test"]),
                text=rng.choice([None, word()]),
                attributes=attributes,
                mentions=tuple(list(attributes)[: rng.randrange(4)]),
            )
        )
    write_as(tmp_path / f"m{suffix}", rows)
    assert read_manifest(tmp_path / f"m{suffix}") == rows


def test_a_spreadsheet_of_european_taste(tmp_path: Path) -> None:
    text = "\ufeffaudio;image;start_seconds;split;attributes;mentions;my notes\r\n"
    text += 'a.wav;a.png;"1,5";Dev;"belly=red; tail = long";tail;hello\r\n\r\n./b.wav;sub//b.png;;;;;\r\n'
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode("utf-8"))
    first, second = read_manifest(path)
    assert first.start_seconds == 1.5
    assert first.split == "validation"
    assert first.attributes == {"belly": "red", "tail": "long"}
    assert first.mentions == ("tail",)
    assert second == Utterance(audio="b.wav", image="sub/b.png")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (row(audio="/etc/passwd"), "absolute"),
        (row(image="C:\\a.png"), "absolute"),
        (row(image="\\\\server\\a.png"), "absolute"),
        (row(audio="../a.wav"), "leaves"),
        (row(audio="x/../../a.wav"), "leaves"),
        (row(audio="x\\..\\..\\a.wav"), "leaves"),
        (row(image=".."), "leaves"),
        (row(image="."), "leaves"),
        (row(image="a\0.png"), "character"),
        (row(image=""), "'image' is missing"),
        ({"audio": "a.wav"}, "'image' is missing"),
        (row(audio=3), "'audio' is missing"),
        (row(start_seconds="soon"), "start_seconds 'soon'"),
        (row(start_seconds=-1), "0 or more"),
        (row(start_seconds=True), "not a number"),
        (row(end_seconds=float("inf")), "finite"),
        (row(start_seconds=2, end_seconds=2), "later than"),
        (row(end_seconds=0), "later than"),
        (row(split="tset"), "train, validation, development, test"),
        (row(spilt="test"), "write 'split'"),
        (row(speaker=["x"]), "speaker"),
        (row(attributes="red"), "not name=value"),
        (row(attributes={"a": ["b"]}), "not one word"),
        (row(attributes=["a"]), "not an object"),
        (row(mentions=["tail"]), "not among the attributes"),
        (row(attributes={"a": "b"}, mentions=[1]), "list of attribute names"),
    ],
)
def test_a_bad_row_is_named_and_the_others_survive(tmp_path: Path, fields: dict[str, object], reason: str) -> None:
    path = write_lines(tmp_path / "m.jsonl", row(), fields, row(audio="b.wav"))
    with pytest.raises(UserError, match=r"m\.jsonl, line 2: ") as caught:
        read_manifest(path)
    assert reason in str(caught.value)
    rows = list(iter_manifest(path))
    assert [line for line, _ in rows] == [1, 2, 3]
    assert [isinstance(found, Utterance) for _, found in rows] == [True, False, True]


@pytest.mark.parametrize("line", ["{", "[1]", "3", '"x"', "[" * 100_000])
def test_broken_json_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(row()) + "\n\n" + line + "\n")
    with pytest.raises(UserError, match=r"m\.jsonl, line 3: not a JSON object"):
        read_manifest(path)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b'{"audio": "\xe9.wav", "image": "a.png"}\n')
    with pytest.raises(UserError, match=r"line 1: the text is not UTF-8"):
        read_manifest(tmp_path / "m.jsonl")
    (tmp_path / "m.csv").write_bytes(b"audio,image\n\xe9.wav,a.png\n")
    with pytest.raises(UserError, match=r"m\.csv: the text is not UTF-8"):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize(
    "bad",
    ['a.wav,a.png,"one that nothing closes', 'a.wav,a.png,"said" twice', f"a.wav,a.png,{'long ' * 40_000}"],
)
def test_a_broken_record_costs_itself_and_no_other(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "m.csv"
    good = [f'{i}.wav,{i}.png,"two\nlines, and a comma"' for i in range(150)]
    path.write_text("\n".join(["audio,image,text", *good[:70], bad, *good[70:]]) + "\n")
    rows = dict(iter_manifest(path))
    problems = {line: row for line, row in rows.items() if isinstance(row, UserError)}
    assert list(problems) == [142]
    assert str(problems[142]).startswith(f"{path}, line 142: not readable as CSV")
    read = [row for row in rows.values() if not isinstance(row, UserError)]
    assert [row.audio for row in read] == [f"{i}.wav" for i in range(150)]
    assert {row.text for row in read} == {"two\nlines, and a comma"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m.jsonl", b"", "holds no utterances"),
        ("m.csv", b"", "must name the columns"),
        ("m.csv", b"audio,image\n", "holds no utterances"),
        ("m.csv", b"audio,picture\na,b\n", "'picture'"),
        ("m.csv", b'audio,image\n"a,b\n', "not readable as CSV"),
        ("m.csv", b"audio,image\na.wav\n", "line 2: 1 cells"),
        ("m.parquet", b"PAR1 nothing", "Parquet"),
        ("m.xlsx", b"", r"\.csv"),
        (None, b"", "no such manifest"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str | None, content: bytes, reason: str) -> None:
    path = tmp_path / (name or "m.jsonl")
    if name:
        path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (
            row(split="train"),
            row(audio="b.wav", split="test"),
            "image a.png is in the split train on line 1 and in test on line 2",
        ),
        (row(split="train"), row(audio="b.wav"), "train on line 1 and in none on line 2"),
        (row(split="train"), row(image="b.png", split="test"), "recording a.wav is in the split train on line 1"),
        (row(), row(image="./a.png", split="test"), "a.png is in the split none"),
        (
            row(split="train", start_seconds=2, end_seconds=4),
            row(image="b.png", split="test", start_seconds=0, end_seconds=2.1),
            "recording a.wav",
        ),
        (
            row(split="train", start_seconds=2),
            row(image="b.png", split="test", start_seconds=9, end_seconds=10),
            "recording a.wav",
        ),
        (row(**{"class": "x"}), row(audio="b.wav", **{"class": "y"}), "class 'x' on line 1 and 'y' on line 2"),
        (row(**{"class": "x"}), row(audio="b.wav", image="b.png"), "line 1 has a class and line 2 has none"),
        (row(attributes={"a": "b"}), row(attributes={"a": "c"}), "other attributes on line 2"),
    ],
)
def test_rows_that_contradict_each_other(tmp_path: Path, first: dict, second: dict, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        read_manifest(write_lines(tmp_path / "m.jsonl", first, second))
    assert reason in str(caught.value)


def test_parts_of_one_recording_may_be_in_two_splits(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "m.jsonl",
        row(split="test", image="b.png", start_seconds=2, end_seconds=3),
        row(split="train", start_seconds=0, end_seconds=2),
        row(split="train", start_seconds=0, end_seconds=2),
        row(split="train", start_seconds=3),
    )
    assert len(read_manifest(path)) == 4


def test_overlaps_are_found_as_by_comparing_every_pair() -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(300):
        rows = []
        for i in range(rng.randrange(2, 7)):
            start = float(rng.randrange(12))
            split = rng.choice(["train", "test", "validation"])
            rows.append(Utterance("a.wav", f"{i}.png", start, start + rng.randrange(1, 4), split=split))
        leak = any(
            a.split != b.split and a.start_seconds < b.end_seconds and b.start_seconds < a.end_seconds
            for a in rows
            for b in rows
        )
        try:
            check_rows(enumerate(rows, start=1), "m.csv")
            found = False
        except UserError:
            found = True
        assert found == leak
        seen.add(leak)
    assert seen == {True, False}


def test_split_names() -> None:
    assert [split_name(name) for name in ("Train", "val", "dev", "TEST ")] == [
        "train",
        "validation",
        "validation",
        "test",
    ]
    with pytest.raises(ValueError, match="holdout"):
        split_name("holdout")


def test_writing_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        write_manifest(tmp_path / "file" / "m.jsonl", [PLAIN])


def test_a_failed_write_keeps_the_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, [PLAIN])

    def rows() -> object:
        yield FULL
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_manifest(path, rows())
    assert read_manifest(path) == [PLAIN]
    assert list(tmp_path.iterdir()) == [path]


def test_what_hands_write_into_tables(tmp_path: Path) -> None:
    """Capitals in the first line, a column twice, cells left out, half a character."""
    path = tmp_path / "m.csv"
    path.write_text("Audio,IMAGE,Class\na.wav,a.jpg,dog\n")
    assert read_manifest(path) == [Utterance("a.wav", "a.jpg", class_name="dog")]
    path.write_text("audio,image,Audio\na.wav,a.jpg,b.wav\n")
    with pytest.raises(UserError, match=r"m\.csv: the first line names the column 'audio' twice"):
        read_manifest(path)
    path.write_text("audio,image,text,speaker\na.wav,a.jpg,yes\n")
    with pytest.raises(UserError, match=r"3 cells where the first line names 4 columns; leave cells empty"):
        read_manifest(path)
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio": "a.wav", "image": "a.jpg", "text": "\\ud83d\\ude00"}\n')
    assert read_manifest(path)[0].text == "😀"
    path.write_text('{"audio": "a.wav", "image": "a.jpg", "text": "\\uD83D"}\n')
    with pytest.raises(UserError, match=r"m\.jsonl, line 1: an escape stands for half a character"):
        read_manifest(path)


def test_what_pandas_writes_for_an_empty_cell_is_empty(tmp_path):
    path = tmp_path / "manifest.jsonl"
    odd = ("start_seconds", "end_seconds", "class", "split", "speaker", "language", "text", "attributes", "mentions")
    path.write_text(json.dumps({"audio": "a.wav", "image": "a.jpg", **dict.fromkeys(odd, math.nan)}) + "\n")
    assert read_manifest(path) == [Utterance("a.wav", "a.jpg")]
    path.write_text('{"audio": "a.wav", "image": "a.jpg", "attributes": {"beak": NaN, "tail": "long"}}\n')
    assert read_manifest(path)[0].attributes == {"tail": "long"}
    path.write_text('{"audio": NaN, "image": "a.jpg"}\n')
    with pytest.raises(UserError, match="'audio' is missing"):
        read_manifest(path)


@pytest.mark.parametrize("surplus", [",", ",,,", ", ,"])
def test_empty_surplus_cells_are_dropped(tmp_path, surplus):
    path = tmp_path / "manifest.csv"
    path.write_text(f"audio,image\na.wav,a.jpg{surplus}\n")
    assert read_manifest(path) == [Utterance("a.wav", "a.jpg")]
    path.write_text(f"audio,image\na.wav,a.jpg{surplus}x\n")
    with pytest.raises(UserError, match="cells where the first line names 2"):
        read_manifest(path)


SHEET = 'audio,image,text\na/dog.wav,p/dog.jpg,"the dog, brown"\na/cat.wav,p/cat.jpg,tête\n'


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_what_spreadsheets_save_as_unicode(tmp_path: Path, codec: str, name: str) -> None:
    rows = [{"audio": "a/dog.wav", "image": "p/dog.jpg", "text": "the dog, brown"}]
    rows.append({"audio": "a/cat.wav", "image": "p/cat.jpg", "text": "tête"})
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    (tmp_path / name).write_bytes((SHEET if name == "m.csv" else lines).encode(codec))
    assert [row.text for row in read_manifest(tmp_path / name)] == ["the dog, brown", "tête"]


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("beginning", ["", "\n \n", "sep={}\n", "SEP={}\r\n"])
def test_what_stands_between_cells(tmp_path: Path, sign: str, beginning: str) -> None:
    text = beginning.format(sign) + f"audio{sign}image{sign}text\na/dog.wav{sign}p/dog.jpg{sign}it is\n"
    (tmp_path / "m.csv").write_text(text)
    assert read_manifest(tmp_path / "m.csv") == [Utterance("a/dog.wav", "p/dog.jpg", text="it is")]


def test_empty_surplus_cells_of_the_header_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(SHEET.replace("text\n", "text,,\n", 1))
    assert [row.text for row in read_manifest(tmp_path / "m.csv")] == ["the dog, brown", "tête"]


@pytest.mark.parametrize(
    ("written", "seconds"), [("1:01.5", 61.5), ("00:01:01,5", 61.5), ("1:00:00", 3600.0), ("75", 75.0)]
)
def test_times_as_players_show_them(tmp_path: Path, written: str, seconds: float) -> None:
    (tmp_path / "m.tsv").write_text(f"audio\timage\tstart_seconds\na.wav\ta.jpg\t{written}\n")
    assert read_manifest(tmp_path / "m.tsv")[0].start_seconds == seconds


@pytest.mark.parametrize("written", ["1:60", "1:-1", "1:2:3:4", "1:", ":1", "1:99:00"])
def test_times_that_are_none(tmp_path: Path, written: str) -> None:
    (tmp_path / "m.tsv").write_text(f"audio\timage\tstart_seconds\na.wav\ta.jpg\t{written}\n")
    with pytest.raises(UserError, match="is not a number of seconds"):
        read_manifest(tmp_path / "m.tsv")


@pytest.mark.parametrize("word", ["nan", "NaN"])
def test_not_a_number_in_words_is_empty(tmp_path: Path, word: str) -> None:
    (tmp_path / "m.csv").write_text(f"audio,image,speaker,class,start_seconds\na.wav,a.jpg,{word},{word},{word}\n")
    assert read_manifest(tmp_path / "m.csv") == [Utterance("a.wav", "a.jpg")]
