"""Praat TextGrids in all forms that Praat and others write."""

from pathlib import Path

import pytest

from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.corpora.importers.textgrid import IMPORTER
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

PICTURES = [(0.0, 1.0, ""), (1.0, 3.5, "dog.jpg"), (3.5, 6.25, "house 2.png")]
WORDS = [(0.0, 1.0, ""), (1.0, 3.5, 'a ""dog"" [1]\nruns 3.5 times'), (3.5, 6.25, "a house")]


def long_form(*tiers: tuple[str, list[tuple[float, float, str]]]) -> str:
    lines = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 6.25 ", "tiers? <exists> ",
        f"size = {len(tiers)} ", "item []: ",
    ]  # fmt: skip
    for number, (name, notes) in enumerate(tiers, start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", "        xmax = 6.25 ", f"        intervals: size = {len(notes)} "]
        for place, (start, end, value) in enumerate(notes, start=1):
            lines += [f"        intervals [{place}]:", f"            xmin = {start} ", f"            xmax = {end} "]
            lines += [f'            text = "{value}" ']
    return "\n".join(lines) + "\n"


def short_form(*tiers: tuple[str, list[tuple[float, float, str]]]) -> str:
    lines = ['File type = "ooTextFile"', '"TextGrid"', "", "0", "6.25", "<exists>", str(len(tiers))]
    for name, notes in tiers:
        lines += ['"IntervalTier"', f'"{name}"', "0", "6.25", str(len(notes))]
        for start, end, value in notes:
            lines += [str(start), str(end), f'"{value}"']
    return "\n".join(lines) + "\n"


def make(root: Path, content: bytes | str) -> Path:
    texts(root, {"talk.TextGrid": content})
    recordings(root, "talk.WAV")
    pictures(root, "p/dog.jpg", "p/house 2.png")
    return root


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


@pytest.mark.parametrize("form", [long_form, short_form])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_pictures_times_and_words(tmp_path, form, codec):
    content = form(("picture", PICTURES), ("words", WORDS)).encode(codec)
    corpus = read(make(tmp_path, b"\xff\xfe" * (codec == "utf-16-le") + content))
    assert not corpus.problems
    assert [(row.audio, row.image, row.start_seconds, row.end_seconds, row.text) for row in corpus.rows] == [
        ("talk.WAV", "p/dog.jpg", 1.0, 3.5, 'a "dog" [1]\nruns 3.5 times'),
        ("talk.WAV", "p/house 2.png", 3.5, 6.25, "a house"),
    ]


def test_a_tier_of_points_has_no_times(tmp_path):
    content = short_form(("picture", PICTURES)).replace("<exists>\n1", "<exists>\n2")
    content += '"TextTier"\n"clicks"\n0\n6.25\n1\n2.5\n"dog.jpg"\n'
    corpus = read(make(tmp_path, content))
    assert len(corpus.rows) == 2
    assert reasons(corpus)["talk.TextGrid"] == "'dog.jpg' in the tier clicks has no time in the recording"


def test_bad_files_do_not_stop_the_others(tmp_path):
    whole = long_form(("picture", PICTURES))
    make(tmp_path, whole)
    texts(
        tmp_path,
        {
            "torn.TextGrid": whole[: len(whole) // 2],
            "binary.TextGrid": b"ooBinaryFile\x08TextGrid\0\0",
            "web.TextGrid": "<html></html>",
            "odd.TextGrid": whole.replace("xmin = 1.0", 'xmin = "one"'),
        },
    )
    corpus = read(tmp_path)
    assert len(corpus.rows) == 2
    found = reasons(corpus)
    assert set(found) == {"torn.TextGrid", "binary.TextGrid", "web.TextGrid", "odd.TextGrid"}
    assert "it is cut off" in found["torn.TextGrid"]
    assert "save it as a text file in Praat" in found["binary.TextGrid"]


def test_wrong_layout(tmp_path):
    with pytest.raises(UserError, match=r"no \.textgrid is here or below"):
        IMPORTER.read(tmp_path, ReadOptions())


def test_sizes_that_lie(tmp_path):
    content = short_form(("picture", PICTURES))
    make(tmp_path, content.replace(f"\n{len(PICTURES)}\n", "\n2\n"))
    with pytest.raises(UserError, match="more stands in it than its sizes say"):
        IMPORTER.read(tmp_path, ReadOptions())
