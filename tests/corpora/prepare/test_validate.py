"""Validation finds what `prepare` would reject, and leaves no trace."""

import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from own_corpus import own_corpus, picture, recording
from s2igan.corpora.importers.folder import IMPORTER
from s2igan.corpora.prepare import validate as validate_module
from s2igan.corpora.prepare.corpus import prepare_corpus
from s2igan.corpora.prepare.validate import detect, in_words, validate_source
from s2igan.data.manifest import read_manifest
from s2igan.errors import UserError


@pytest.fixture(autouse=True)
def only_folders(monkeypatch):
    """The other layouts have tests of their own."""
    monkeypatch.setattr(validate_module, "IMPORTERS", ("folder",))


def check(source, **options):
    return validate_source(source, **({"jobs": 1} | options))


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
    report = prepare_corpus("folder", source, tmp_path / "out", size=16, jobs=1)
    assert (findings.n_rejected, findings.total) == (report["rejected"], report["rows"])
    assert len(findings.usable) == report["utterances"]
    assert findings.hours == pytest.approx(report["hours"], rel=0.05)
    manifest = {row.audio: row.split for row in read_manifest(tmp_path / "out/manifest.jsonl")}
    assert all(manifest[row.audio] == row.split for row in findings.usable)
    assert findings.passes


def test_counts_per_reason_and_examples(tmp_path):
    source = own_corpus(tmp_path / "source", n=40)
    spoil(source)
    words = in_words(source, check(source))
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
    assert detect(own_corpus(tmp_path / "a", n=1)) == "aikuma"
    found |= {"aikuma": refuse, "elan": refuse}
    assert detect(tmp_path / "a") == "folder"


def test_a_source_that_is_nothing_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture with a description"):
        check(tmp_path / "empty")
    with pytest.raises(UserError, match="no corpus 'x'"):
        check(tmp_path / "empty", corpus="x")
