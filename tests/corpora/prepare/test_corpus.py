"""From a source to a store: everything lands in the manifest, resumes after a kill."""

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from own_corpus import own_corpus, picture, recording
from s2igan.audio import load_audio
from s2igan.corpora import registry
from s2igan.corpora.importers.folder import IMPORTER
from s2igan.corpora.importers.source import Corpus, Problem, ReadOptions
from s2igan.corpora.prepare.corpus import kind_of, prepare_corpus
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.corpora.prepare.validate import validate_source
from s2igan.data import pack
from s2igan.data.dataset import SpeechImageData
from s2igan.data.images import load_image
from s2igan.data.manifest import Utterance, read_manifest
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.spectrograms import log_mel


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes that make a store: several threads round a few numbers otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prepared(source: Path, out: Path, name: str = "folder", *, seed: int = 0, jobs: int = 1, **options):
    said: list[str] = []
    beside = {"size": 16, "seed": seed, "jobs": jobs, "say": said.append}
    report = prepare_corpus(name, source, out, PrepareOptions(**options), **beside)
    return report, "\n".join(said)


def content(out: Path) -> dict[str, bytes]:
    names = ["manifest.jsonl", "rejected.jsonl", *(f"store/{path.name}" for path in (out / "store").iterdir())]
    return {name: (out / name).read_bytes() for name in names}


def rejected(out: Path) -> dict[str, str]:
    lines = (out / "rejected.jsonl").read_text().splitlines()
    return {record["path"]: record["reason"] for record in map(json.loads, lines)}


def given(monkeypatch, corpus: Corpus, name: str = "folder") -> None:
    """Let an importer find a corpus."""
    importer = replace(IMPORTER, name=name, read=lambda folder, options: corpus)
    monkeypatch.setitem(sys.modules, f"s2igan.corpora.importers.{name}", SimpleNamespace(IMPORTER=importer))


def test_stage_2_alone_trains_on_what_is_held_out_of_a_published_training_set(tmp_path, monkeypatch):
    """And no stage on what is tested on; a corpus without splits, or with all three, holds validation out of both."""

    def data(name: str, split_of: dict[int, str]) -> Store:
        source, out = own_corpus(tmp_path / name, n=30, classes=5, recordings=1), tmp_path / f"{name}-out"
        found = IMPORTER.read(source, ReadOptions())
        rows = [replace(row, split=split_of.get(int(row.class_name[-1]))) for row in found.rows]
        given(monkeypatch, replace(found, rows=rows))
        prepared(source, out)
        again, said = prepared(source, out)
        assert again["validation_from_train"] == ("stage 2 trains on all of it" in said)
        return Store.open(out)

    def images(store: Store, *splits: str) -> set[int]:
        return set(store.image_index[store.split_indices(*splits)].tolist())

    store = data("published", dict.fromkeys(range(3), "train") | {3: "test", 4: "test"})
    sen, rdg = (SpeechImageData(store, store.training_splits(stage), 16) for stage in ("sen", "rdg"))
    held_out, test = images(store, "validation"), images(store, "test")
    assert len(held_out) == 2
    assert len(test) == 12
    assert set(rdg.images) - set(sen.images) == held_out
    assert (len(sen), len(rdg)) == (16, 18)
    assert sen.n_classes == rdg.n_classes == 3
    assert not test & set(rdg.images.tolist())

    for splits in ({}, dict.fromkeys(range(3), "train") | {3: "validation", 4: "test"}):
        store = data(f"own{len(splits)}", splits)
        assert images(store, "validation")
        assert store.training_splits("sen") == store.training_splits("rdg") == ("train",)


def test_everything_of_the_source_is_in_the_store(tmp_path):
    source, out = own_corpus(tmp_path / "source", classes=5), tmp_path / "out"
    (source / "audio/lone.wav").write_bytes((source / "audio/kind 0/p00_1.wav").read_bytes()[:3000])
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    report, said = prepared(source, out)
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before, "the source is only read"
    rows, store = read_manifest(out / "manifest.jsonl"), Store.open(out)
    assert len(rows) == len(store) == 20
    for i, row in enumerate(rows):
        name = Path(row.image).stem
        assert row.image == f"source/images/kind {int(name[1:]) % 5}/{name}.png"
        assert Path(row.audio).stem[:3] == name
        assert row.class_name == f"kind {int(name[1:]) % 5}"
        assert store.audio_path(i) == out / row.audio
        wave = load_audio(source / Path(row.audio).relative_to("source"))
        expected = log_mel(torch.from_numpy(wave)).half().numpy()
        assert np.array_equal(store.mel(i), expected)
        pixels = load_image(source / Path(row.image).relative_to("source"), 19)
        assert np.array_equal(store.images[store.image_index[i]], pixels)
    assert {name: counts["classes"] for name, counts in report["splits"].items()} == {
        "train": 3,
        "validation": 1,
        "development": 0,
        "test": 1,
    }
    assert rejected(out) == {
        "source/audio/lone.wav": "a recording without a picture: there is no lone.jpg, .png or the like"
    }
    assert (report["rejected"], report["rows"]) == (1, 21)
    assert "1 of 21 rows could not be used" in said
    assert "1  a recording without a picture, such as source/audio/lone.wav" in said


def test_a_second_time_the_same_is_written_and_added_files_are_added(tmp_path):
    source, out = own_corpus(tmp_path / "source"), tmp_path / "out"
    prepared(source, out)
    before = content(out)
    prepared(source, out)
    assert content(out) == before
    picture(source / "images/new.png", 99)
    recording(source / "audio/new.wav", 99)
    report, _ = prepared(source, out)
    assert report["images"] == 11
    changed = recording(source / "audio/new.wav", 98, seconds=0.7)
    prepared(source, out)
    store = Store.open(out)
    (i,) = (i for i in range(len(store)) if store.audio_path(i).name == "new.wav")
    assert store.n_frames[i] == len(log_mel(torch.from_numpy(load_audio(changed))))


def test_a_moved_store_still_trains_and_finds_its_source(tmp_path):
    prepared(own_corpus(tmp_path / "source"), tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    store = Store.open(tmp_path / "moved")
    assert store.audio_path(0).is_file()
    shutil.rmtree(tmp_path / "source")
    store = Store.open(tmp_path / "moved")
    assert len(store.mel(0)) == store.n_frames[0]
    assert store.images[:].shape == (10, 19, 19, 3)


def test_a_source_that_moved_is_found_under_its_new_name(tmp_path):
    source, out = own_corpus(tmp_path / "source"), tmp_path / "out"
    prepared(source, out)
    before = content(out)
    source.rename(tmp_path / "elsewhere")
    prepared(tmp_path / "elsewhere", out)
    assert content(out) == before


def test_archives_and_a_link_that_moves_along(tmp_path):
    source = own_corpus(tmp_path / "source")
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as file:
        for path in sorted(source.rglob("*.*")):
            file.write(path, path.relative_to(tmp_path))
        file.writestr("../evil.png", b"x")
    report, _ = prepared(tmp_path / "corpus.zip", tmp_path / "out")
    assert report["utterances"] == 20
    assert rejected(tmp_path / "out") == {"source/corpus.zip/../evil.png": "its name leads out of the archive"}
    (tmp_path / "out").rename(tmp_path / "moved")
    assert Store.open(tmp_path / "moved").audio_path(0).is_file()


def test_a_manifest_as_source(tmp_path):
    source = own_corpus(tmp_path / "source", n=4, recordings=1)
    lines = [f"audio/p{i:02d}_1.wav,images/p{i:02d}.png,{'test' if i == 3 else 'train'}\n" for i in range(4)]
    (source / "mine.csv").write_text("audio,image,split\n" + "".join(lines))
    report, _ = prepared(source / "mine.csv", tmp_path / "out", proportions=(1.0, 0.0, 0.0))
    assert report["splits"]["train"]["images"] == 3
    assert report["splits"]["test"]["images"] == 1


# ------------------------------------------------------------------------------------------------------------- killed


PREPARER = """
import sys
from s2igan.corpora.prepare.corpus import prepare_corpus
from s2igan.data import pack
pack.MEL_SHARD_ITEMS, pack.IMAGE_SHARD_ITEMS = 2, 1
prepare_corpus("folder", sys.argv[1], sys.argv[2], size=16, jobs=1, say=print)
"""


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(pack, "MEL_SHARD_ITEMS", 2)
    monkeypatch.setattr(pack, "IMAGE_SHARD_ITEMS", 1)


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path, small_shards):
    source, out = own_corpus(tmp_path / "source", n=15), tmp_path / "out"
    (tmp_path / "preparer.py").write_text(PREPARER)
    with subprocess.Popen([sys.executable, str(tmp_path / "preparer.py"), str(source), str(out)]) as process:
        deadline = time.monotonic() + 60
        while len(list((out / "store").glob("*.safetensors"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    done = {path: path.stat().st_mtime_ns for path in (out / "store").glob("*.safetensors")}
    assert 3 <= len(done) < 30, "killed in the middle"
    assert not (out / "store/report.json").exists()
    prepared(source, out)
    prepared(source, tmp_path / "undisturbed")
    assert content(out) == content(tmp_path / "undisturbed")
    assert {path: path.stat().st_mtime_ns for path in done} == done, "finished shards are not made again"


def test_killed_while_reading_the_corpus_it_goes_on(tmp_path):
    source, out = own_corpus(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    (out / ".prepare.lock").write_text("")
    (out / "prepare.json").write_text("{half")
    prepared(source, out)
    assert len(Store.open(out)) == 20


def test_a_second_preparation_of_the_same_folder_is_refused(tmp_path, monkeypatch):
    source, out = own_corpus(tmp_path / "source"), tmp_path / "out"
    second = []

    def meanwhile(*arguments, **options):
        with pytest.raises(UserError, match=r"out: another process is preparing a corpus here; wait") as caught:
            prepared(source, out)
        second.append(caught)
        return build_store(*arguments, **options)

    build_store = pack.build_store
    monkeypatch.setattr(pack, "build_store", meanwhile)
    prepared(source, out)
    assert len(second) == 1
    monkeypatch.undo()
    assert prepared(source, out, seed=1)[0]["utterances"] == 20, "later it may be split again"


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_items_are_named_counted_and_stop_it_over_a_fifth(tmp_path):
    source, out = own_corpus(tmp_path / "source", recordings=1), tmp_path / "out"
    (source / "images/p00.png").write_bytes(b"")
    soundfile.write(source / "audio/p01_1.wav", np.zeros(8000), 8000)
    recording(source / "audio/p02_1.wav", 5, seconds=0.2)
    picture(source / "images/lone.png", 77)
    with pytest.raises(UserError, match=r"4 of 11 utterances cannot be used.*--allow-rejected"):
        prepared(source, out)
    found = rejected(out)
    assert set(found) == {
        f"source/{name}" for name in ("images/p00.png", "audio/p01_1.wav", "audio/p02_1.wav", "images/lone.png")
    }
    assert "empty" in found["source/images/p00.png"]
    assert "silent" in found["source/audio/p01_1.wav"]
    assert "too short, 0.20 s" in found["source/audio/p02_1.wav"]
    report, said = prepared(source, out, allow_rejected=True)
    assert (report["utterances"], report["rejected"], report["rows"]) == (7, 4, 11)
    assert "4 of 11 rows" in said


def test_a_fault_is_named_once_and_counts_for_what_is_lost_with_it(tmp_path):
    """Whatever is wrong with a recording, its picture is not said to lack one, and the other way round."""
    source, out = own_corpus(tmp_path / "source", n=20), tmp_path / "out"
    for k in (1, 2):  # all recordings of a picture
        (source / f"audio/p00_{k}.wav").write_bytes(b"RIFF nothing")
        (source / f"audio/p01_{k}.wav").rename(source / f"audio/p01_{k}.dss")
    (source / "images/p02.png").write_bytes(b"\x89PNG")  # a picture of two recordings
    (source / "images/p03.png").rename(source / "images/p03.cr2")
    report, said = prepared(source, out)
    assert (report["utterances"], report["rejected"], report["rows"]) == (32, 8, 40)
    records = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert sorted((record["path"], record.get("lost", 1)) for record in records) == [
        ("source/audio/p00_1.wav", 1),
        ("source/audio/p00_2.wav", 1),
        ("source/audio/p01_1.dss", 1),
        ("source/audio/p01_2.dss", 1),
        ("source/images/p02.png", 2),
        ("source/images/p03.cr2", 2),
    ]
    assert "1  .cr2 cannot be decoded, such as source/images/p03.cr2" in said
    before = content(out)
    prepared(source, out)
    assert content(out) == before
    findings = validate_source(source, "folder", jobs=1)
    assert (findings.n_rejected, findings.total, findings.passes) == (8, 40, True)
    assert sorted(record["path"] for record in findings.rejected) == sorted(
        record["path"].removeprefix("source/") for record in records
    )


def test_what_is_lost_with_a_picture_stops_it_over_a_fifth(tmp_path):
    source, out = own_corpus(tmp_path / "source", n=9), tmp_path / "out"
    (source / "images/p00.png").rename(source / "images/p00.cr2")
    (source / "images/p01.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"4 of 18 utterances cannot be used"):
        prepared(source, out)
    assert not validate_source(source, "folder", jobs=1).passes
    (source / "images/p01.png").rename(source / "images/p01.cr2")
    with pytest.raises(UserError, match=r"4 of 18 utterances cannot be used"):  # before anything is decoded
        prepared(source, tmp_path / "other")


def test_a_corpus_of_orphans_stops_before_anything_is_decoded(tmp_path, monkeypatch):
    source, out = own_corpus(tmp_path / "source", n=3, recordings=1), tmp_path / "out"
    picture(source / "images/lone.png", 77)
    monkeypatch.setattr("s2igan.data.pack._build_shards", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"1 of 4 utterances cannot be used, the first \(source/images/lone\.png"):
        prepared(source, out)
    assert list(rejected(out)) == ["source/images/lone.png"]


def test_copies_of_a_picture_are_one_and_never_in_two_splits(tmp_path):
    source = own_corpus(tmp_path / "source", recordings=1)
    for i in range(1, 5):
        shutil.copy(source / "images/p00.png", source / f"images/p{i:02d}.png")
    shutil.copy(source / "audio/p05_1.wav", source / "audio/p05_2.wav")
    report, said = prepared(source, tmp_path / "out")
    assert report["images"] == 6
    assert report["utterances"] == 10
    assert "4 pictures are copies of another" in said
    assert rejected(tmp_path / "out") == {
        "source/audio/p05_2.wav": "the same recording as source/audio/p05_1.wav, of the same picture"
    }


def test_names_that_are_no_text_are_left_out(tmp_path):
    source = own_corpus(tmp_path / "source", recordings=1)
    odd = b"p\xff.png"
    shutil.copy(source / "images/p00.png", bytes(source / "images") + b"/" + odd)
    shutil.copy(source / "audio/p01_1.wav", bytes(source / "audio") + b"/p\xff.wav")
    report, _ = prepared(source, tmp_path / "out")
    assert report["utterances"] == 10
    (reason,) = rejected(tmp_path / "out").values()
    assert "not UTF-8" in reason


@pytest.mark.parametrize(("name", "shown"), [(b"caf\xe9", "caf\\xe9"), (b"two\nlines", "two\\nlines")])
def test_names_that_are_no_text_and_have_no_counterpart(tmp_path, name, shown):
    """As archives of other systems leave them: the name stands in the path, and would in the reason."""
    source = own_corpus(tmp_path / "source", recordings=1)
    shutil.copy(source / "images/p00.png", bytes(source / "images") + b"/" + name + b".png")
    shutil.copy(source / "audio/p01_1.wav", bytes(source / "audio") + b"/" + name + b"x.wav")
    prepared(source, tmp_path / "out")
    reason = "the name of the file is not UTF-8 or has a line break; rename it"
    assert rejected(tmp_path / "out") == {
        f"source/images/{shown}.png": reason,
        f"source/audio/{shown}x.wav": reason,
    }
    assert {record["reason"] for record in validate_source(source).rejected} == {reason}


# ---------------------------------------------------------------------------------------------- captions to be spoken


def speaker(monkeypatch, calls):
    """Stands for `s2igan.corpora.prepare.speak`, which has tests of its own."""

    def speak_rows(rows, voices, out, *, seed, jobs):
        calls.append((voices, seed))
        spoken, problems = [], []
        for i, row in enumerate(rows):
            if not row.audio and row.text != "unspeakable":
                row = replace(row, audio=f"speech/{i}.wav", speaker=voices[0])
                recording(out / row.audio, 7000 + i)
            elif not row.audio:
                problems.append(Problem(row.image, "a description that no voice could speak"))
                continue
            spoken.append(row)
        return spoken, problems

    monkeypatch.setitem(sys.modules, "s2igan.corpora.prepare.speak", SimpleNamespace(speak_rows=speak_rows))


def written(root: Path, n: int = 10) -> list[Utterance]:
    for i in range(n):
        picture(root / f"p{i}.png", i)
    return [Utterance("", f"p{i}.png", text=f"picture {i}") for i in range(n)]


def test_captions_are_spoken_by_the_voices_named(tmp_path, monkeypatch):
    calls = []
    speaker(monkeypatch, calls)
    given(monkeypatch, Corpus(written(tmp_path / "source")))
    with pytest.raises(UserError, match=r"10 descriptions in writing and no recording; .*--voice espeak:en-us"):
        prepared(tmp_path / "source", tmp_path / "out")
    report, said = prepared(tmp_path / "source", tmp_path / "out", voice=("espeak:fr", "espeak:de"), seed=3)
    assert calls == [(("espeak:fr", "espeak:de"), 3)]
    assert report["utterances"] == 10
    assert "10 captions are spoken by espeak:fr, espeak:de" in said
    store = Store.open(tmp_path / "out")
    assert store.audio_path(0).parent == tmp_path / "out/speech"
    assert store.speaker(0) == "espeak:fr"


def test_a_misspelt_voice_is_told_although_everything_was_recorded(tmp_path):
    own_corpus(tmp_path / "source")
    with pytest.raises(UserError, match=r"espeek:fr.*no such voice"):
        prepared(tmp_path / "source", tmp_path / "out", voice=("espeak:fr", "espeek:fr"))
    assert not (tmp_path / "out").exists()


def test_published_captions_have_a_voice_of_their_own(tmp_path, monkeypatch):
    calls = []
    speaker(monkeypatch, calls)
    rows = [replace(row, split="test" if i < 3 else "train") for i, row in enumerate(written(tmp_path / "source"))]
    rows[5] = replace(rows[5], text="unspeakable")
    given(monkeypatch, Corpus(rows, boxes={"p4.png": (2.0, 2.0, 10.0, 10.0)}), "cub")
    prepared(tmp_path / "source", tmp_path / "out", "cub")
    assert calls == [(("espeak:en-us",), 0)]
    store = Store.open(tmp_path / "out")
    assert rejected(tmp_path / "out") == {"source/p5.png": "a description that no voice could speak"}
    (i,) = (i for i in range(store.n_images) if store.image_path(i).name == "p4.png")
    assert np.array_equal(store.images[i], load_image(tmp_path / "source/p4.png", 19, (2.0, 2.0, 10.0, 10.0)))
    assert store.report["splits"]["test"]["images"] == 3
    assert store.report["splits"]["validation"]["images"] == 1, "held out of training"


def test_without_a_voice_what_is_only_written_is_left_out(tmp_path):
    source = own_corpus(tmp_path / "source", recordings=1)
    picture(source / "images/told.png", 50)
    (source / "images/told.txt").write_text("in writing")
    report, _ = prepared(source, tmp_path / "out")
    assert report["utterances"] == 10
    assert rejected(tmp_path / "out") == {
        "source/images/told.png": "a description in writing only; name a --voice to have it spoken"
    }


# ------------------------------------------------------------------------------------------------------------- places


def test_folders_that_hold_something_else_are_refused(tmp_path):
    source, out = own_corpus(tmp_path / "source"), tmp_path / "out"
    with pytest.raises(UserError, match=r"lies inside the source"):
        prepared(source, source / "out")
    assert not (source / "out").exists()
    prepared(source, out)
    (out / "prepare.json").unlink()
    with pytest.raises(UserError, match="holds another prepared corpus"):
        prepared(source, out)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="a file is here"):
        prepared(source, tmp_path / "file")
    (tmp_path / "taken/source").mkdir(parents=True)
    with pytest.raises(UserError, match="in the way of the link"):
        prepared(source, tmp_path / "taken")
    with pytest.raises(UserError, match="no such folder"):
        prepared(tmp_path / "absent", tmp_path / "new")


def test_another_corpus_in_the_same_folder_is_refused(tmp_path, monkeypatch):
    source, out = own_corpus(tmp_path / "source"), tmp_path / "out"
    prepared(source, out)
    given(monkeypatch, Corpus([]), "places")
    with pytest.raises(UserError, match="holds the corpus 'folder', not 'places'"):
        prepared(source, out, "places")


def test_an_unknown_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no corpus 'cup' to import; choose one of folder, cub"):
        prepared(tmp_path, tmp_path / "out", "cup")


# --------------------------------------------------------------------------------------------------------------- words


def test_reasons_are_counted_by_what_they_have_in_common():
    for one, other in (
        ("too long, 61.3 s where at most 60 s are read", "too long, 99.0 s where at most 60 s are read"),
        ("not a readable image (broken data stream)", "not a readable image (truncated (3))"),
        ("the image is 3 x 4 px, under 8", "the image is 5 x 900 px, under 8"),
        ("the same recording as a/b.wav, of the same picture", "the same recording as c d.wav, of the same picture"),
        ("line 3: end_seconds (2) must be", "line 14: end_seconds (5.5) must be"),
    ):
        assert kind_of(one) == kind_of(other)
    assert kind_of("audio 'C:\\\\a.wav' is an absolute path; write") == kind_of("audio '/a/b.wav' is an absolute path")
    assert kind_of("the name is not UTF-8; rename it") == "the name is not UTF-8"
    assert kind_of("silent, nothing was recorded") != kind_of("cut off, its last 2 s are missing")


def test_the_registry_names_its_modules():
    assert set(registry.PUBLISHED) < set(registry.IMPORTERS)
