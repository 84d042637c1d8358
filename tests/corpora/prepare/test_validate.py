"""Validation finds what `prepare` would reject, and leaves no trace."""

import csv
import json
import shutil
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from own_corpus import own_corpus, picture, recording
from s2igan.corpora.importers.folder import IMPORTER
from s2igan.corpora.prepare import validate as validate_module
from s2igan.corpora.prepare.corpus import prepare_corpus
from s2igan.corpora.prepare.findings import as_json, summary, write_fix_list
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.corpora.prepare.validate import detect, validate_source
from s2igan.data.manifest import read_manifest
from s2igan.errors import UserError


@pytest.fixture(autouse=True)
def only_folders(monkeypatch):
    """The other layouts have tests of their own."""
    monkeypatch.setattr(validate_module, "IMPORTERS", ("folder",))


def check(source, **options):
    return validate_source(source, **({"jobs": 1, "max_seconds": 60.0} | options))


def spoil(source):
    (source / "images/p00.png").write_bytes(b"")
    soundfile.write(source / "audio/p01_1.wav", np.zeros(8000), 8000)
    wave = (source / "audio/p02_1.wav").read_bytes()
    (source / "audio/p02_1.wav").write_bytes(wave[: len(wave) // 2])
    recording(source / "audio/p03_1.wav", 5, seconds=0.1)
    recording(source / "audio/p04_1.wav", 6, seconds=61)
    shutil.copy(source / "audio/p05_1.wav", source / "audio/p05_2.wav")
    picture(source / "images/lone.png", 77)
    (source / "audio/odd.dss").write_bytes(b"x")


def test_it_finds_what_prepare_rejects_and_the_same_splits(tmp_path):
    source = own_corpus(tmp_path / "source", n=40)
    spoil(source)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    findings = check(source)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    report = prepare_corpus("folder", source, tmp_path / "out", PrepareOptions(max_seconds=60), size=16, jobs=1)
    assert (findings.n_rejected, findings.total) == (report["rejected"], report["rows"])
    assert len(findings.usable) == report["utterances"]
    assert findings.hours == pytest.approx(report["hours"], rel=0.05)
    manifest = {row.audio: row.split for row in read_manifest(tmp_path / "out/manifest.jsonl")}
    assert all(manifest[row.audio] == row.split for row in findings.usable)
    assert findings.passes


def test_counts_per_reason_and_examples(tmp_path):
    source = own_corpus(tmp_path / "source", n=40)
    spoil(source)
    words = summary(source, check(source))
    assert "73 of 80 utterances can be used" in words
    assert "9 of 82 would be rejected:" in words
    for line in (
        "    1  the image file is empty",
        "    1  silent",
        "    1  cut off",
        "    1  too short",
        "    1  too long",
        "    1  the same recording",
        "        audio/odd.dss: .dss cannot be decoded; convert it to a wav or mp3",
        "        images/lone.png: a picture without a description: there is no lone.wav, .mp3 or the like",
    ):
        assert line in words


def test_over_a_fifth_does_not_pass(tmp_path):
    source = own_corpus(tmp_path / "source", n=8, recordings=1)
    (source / "audio/p00_1.wav").write_bytes(b"")
    assert check(source).passes
    (source / "audio/p01_1.wav").write_bytes(b"")
    findings = check(source)
    assert (findings.n_rejected, findings.total, findings.passes) == (2, 8, False)


def test_archives_are_unpacked_elsewhere(tmp_path):
    source = own_corpus(tmp_path / "source", n=4)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in sorted(source.rglob("*.*")):
            file.write(path, path.relative_to(source))
    shutil.rmtree(source)
    assert len(check(tmp_path / "a.zip").usable) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    source = own_corpus(tmp_path / "source", n=10)
    spoil(source)
    monkeypatch.setattr(validate_module, "ITEMS_PER_TASK", 4)
    assert check(source, jobs=1) == check(source, jobs=2)


def test_the_layout_is_recognised(tmp_path, monkeypatch):
    def refuse(folder, options):
        raise UserError("another layout")

    def accept(folder, options):
        return IMPORTER.read(folder, options)

    found = {"cub": refuse, "aikuma": accept, "elan": accept, "folder": accept}
    monkeypatch.setattr(validate_module, "IMPORTERS", ("folder", "cub", "aikuma", "elan"))
    monkeypatch.setattr(validate_module, "importer", lambda name: replace(IMPORTER, name=name, read=found[name]))
    assert detect(own_corpus(tmp_path / "a", n=1)) == ("aikuma", {"cub": "another layout"})
    found |= {"aikuma": refuse, "elan": refuse}
    assert detect(tmp_path / "a") == ("folder", dict.fromkeys(("cub", "aikuma", "elan"), "another layout"))
    findings = check(tmp_path / "a")
    assert findings.recognised == ("folder",)
    assert "  not read as 'elan': another layout" in summary(tmp_path / "a", findings)


def test_a_source_that_is_nothing_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture with a description"):
        check(tmp_path / "empty")
    with pytest.raises(UserError, match="no corpus 'x'"):
        check(tmp_path / "empty", corpus="x")


def test_what_a_program_reads_and_what_is_sent_to_who_recorded(tmp_path):
    source = own_corpus(tmp_path / "source", n=40)
    spoil(source)
    findings = check(source)
    told = json.loads(json.dumps(as_json(findings)))
    assert (told["usable"], told["n_rejected"], told["passes"]) == (73, 9, True)
    assert sum(kind["lost"] for kind in told["kinds"].values()) >= 9
    assert told["kinds"]["silent"]["count"] == 1
    write_fix_list(tmp_path / "mend.csv", source, findings)
    lines = list(csv.reader((tmp_path / "mend.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert lines[0] == ["file", "what is wrong", "what to do"]
    assert ["audio/p02_1.wav", *lines[[line[0] for line in lines].index("audio/p02_1.wav")][1:]][2].startswith(
        "copy it from"
    )
    with pytest.raises(UserError, match="lies inside the source"):
        write_fix_list(source / "mend.csv", source, findings)


def test_at_most_a_screen(tmp_path):
    source = own_corpus(tmp_path / "source", n=30)
    spoil(source)
    for number in range(40):
        (source / f"images/x{number}.png").write_bytes(b"%PDF" if number % 2 else b"<html>")
        (source / f"notes{number}.x{number}").write_bytes(b"?")
    assert len(summary(source, check(source)).splitlines()) <= 40


def test_a_quick_look_decodes_nothing(tmp_path, monkeypatch):
    source = own_corpus(tmp_path / "source", n=20)
    (source / "images/p00.png").write_bytes(b"<html></html>")
    (source / "audio/p01_1.wav").write_bytes(b"")
    monkeypatch.setattr(validate_module, "_check", None)
    findings = check(source, quick=True)
    assert len(findings.usable) == 37
    words = summary(source, findings)
    assert "    1  this is a web page" in words
    assert "    1  the file is empty" in words
    assert "Nothing was decoded" in words


def test_ten_thousand_files_are_looked_at_within_a_minute(tmp_path):
    for number in range(5_000):
        (tmp_path / f"a{number:05d}.jpg").write_bytes(b"\xff\xd8\xff\xe0 picture %d" % number)
        (tmp_path / f"a{number:05d}.wav").write_bytes(b"RIFF    WAVE sound %d" % number)
    start = time.process_time()
    assert len(check(tmp_path, quick=True).usable) == 5_000
    assert time.process_time() - start < 60


def test_an_importer_that_came_near_says_why(tmp_path):
    """What is wrong with the .eaf, not that nothing fits the rules of folders."""
    monkey = ("folder", "elan", "textgrid")
    (tmp_path / "talk.eaf").write_text("<ANNOTATION_DOCUMENT>torn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate_module, "IMPORTERS", monkey)
        with pytest.raises(
            UserError, match=r"as 'elan': expected .*not readable as an ELAN file.*; as 'folder': "
        ) as raised:
            check(tmp_path)
    assert "textgrid" not in str(raised.value)


def test_where_a_class_lacks_its_counterpart_its_folder_is_named(tmp_path):
    for label in range(3):
        for number in range(5):
            folder = tmp_path / f"photos/c{label}"
            folder.mkdir(parents=True, exist_ok=True)
            picture(folder / f"p{label}{number}.png", 10 * label + number)
            if label == 0:
                recording(folder / f"p{label}{number}.wav", number)
    words = summary(tmp_path, check(tmp_path))
    assert "    10  a picture without a description" in words
    assert "more; most are in photos/c1 (5), photos/c2 (5)" in words
