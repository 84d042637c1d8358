"""The built-in corpus: balanced species, a split without leaks, and the same bytes however it is prepared."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2igan.audio import SAMPLE_RATE, check_waveform, load_audio
from s2igan.corpora.builtin import drawn
from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES, draw_bird
from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import (
    DEVELOPMENT_VOICES,
    TEST_VOICES,
    TRAINING_VOICES,
    VOICES_OF_SPLIT,
    Description,
    describe,
    differences,
    prepare,
    species,
    split_classes,
)
from s2igan.data.manifest import SPLITS, read_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.speech import parse_voice
from s2igan.speech.espeak import Espeak

COLOURS_OF_PARTS = ("belly_colour", "wing_colour", "head_colour", "back_colour")


# ---------------------------------------------------------------------------------------------------------- species


def of_split(kinds: list[dict[str, str]], name: str) -> list[dict[str, str]]:
    return [kind for kind, split in zip(kinds, split_classes(BIRDS, len(kinds)), strict=True) if split == name]


@pytest.mark.parametrize(
    ("classes", "counts"),
    [(250, (120, 30, 50, 50)), (60, (29, 7, 12, 12)), (14, (10, 1, 1, 2)), (13, (10, 1, 1, 1)), (20, (10, 2, 4, 4))],
)
def test_the_split_is_by_class_in_proportion(classes, counts):
    splits = split_classes(BIRDS, classes)
    assert splits == [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]


@pytest.mark.parametrize("classes", [-1, 0, 12, 1001])
def test_too_few_or_too_many_classes_are_refused(classes):
    with pytest.raises(UserError, match=f"--classes {classes}: the birds need 13 to 1000 classes"):
        species(BIRDS, classes)


@pytest.fixture(scope="module", params=[0, 7])
def kinds(request) -> list[dict[str, str]]:
    return species(BIRDS, 92, seed=request.param)


@pytest.mark.parametrize(("classes", "seed"), [(60, 0), (60, 7), (14, 0), (33, 1)])
def test_species_are_complete_and_different_and_training_shows_every_value(classes, seed):
    kinds = species(BIRDS, classes, seed)
    assert len(kinds) == classes
    assert all(kind.keys() == ATTRIBUTES.keys() for kind in kinds)
    assert len({tuple(kind.values()) for kind in kinds}) == classes  # so the test combinations are new
    for name, values in ATTRIBUTES.items():
        assert {kind[name] for kind in of_split(kinds, "train")} == set(values)


def test_every_value_is_equally_frequent_in_each_split(kinds):
    for split, (name, values) in itertools.product(SPLITS, ATTRIBUTES.items()):
        counts = Counter(kind[name] for kind in of_split(kinds, split))
        assert max(counts.values()) - min(counts[value] for value in values) <= 1


def test_attributes_tell_nothing_about_each_other_in_training(kinds):
    """By chi-square, of which independent draws give as much as there are degrees of freedom.

    With 44 classes in the 100 cells of two colours, none of them twice, 0.69 of that is the least possible.
    """
    train = of_split(kinds, "train")
    chi_square, freedom = 0.0, 0
    for a, b in itertools.combinations(ATTRIBUTES, 2):
        counts = Counter((kind[a], kind[b]) for kind in train)
        of_a, of_b = (Counter(kind[name] for kind in train) for name in (a, b))
        for x, y in itertools.product(ATTRIBUTES[a], ATTRIBUTES[b]):
            expected = of_a[x] * of_b[y] / len(train)
            assert abs(counts[x, y] - expected) < 2, (a, x, b, y)
            chi_square += (counts[x, y] - expected) ** 2 / expected
        freedom += (len(ATTRIBUTES[a]) - 1) * (len(ATTRIBUTES[b]) - 1)
    assert chi_square < 0.65 * freedom


def test_pairs_of_colours_hardly_repeat(kinds):
    """44 classes, 100 pairs of colours for each pair of parts: chance would repeat about 8 of them."""
    repeated = 0
    for a, b in itertools.combinations(COLOURS_OF_PARTS, 2):
        counts = Counter((kind[a], kind[b]) for kind in of_split(kinds, "train"))
        assert max(counts.values()) <= 2
        repeated += sum(count - 1 for count in counts.values())
    assert repeated <= 4


@pytest.mark.parametrize("classes", [13, 60, 250])
def test_species_that_training_does_not_see_differ_from_every_other_in_four_attributes(classes):
    kinds = species(BIRDS, classes)
    splits = split_classes(BIRDS, classes)
    least = [
        min(sum(kind[name] != other[name] for name in ATTRIBUTES) for other in kinds if other is not kind)
        for kind, split in zip(kinds, splits, strict=True)
        if split != "train"
    ]
    assert min(least) >= 4
    assert differences(BIRDS, kinds) == least


def test_species_follow_from_the_seed():
    assert species(BIRDS, 20, seed=3) == species(BIRDS, 20, seed=3)
    assert species(BIRDS, 20, seed=3) != species(BIRDS, 20, seed=4)


# ----------------------------------------------------------------------------------------------------------- voices


def descriptions(split: str, count: int, **options) -> list[Description]:
    kind = species(BIRDS, 14)[0]
    return [describe(BIRDS, kind, split, random.Random(f"{split}{i}"), **options) for i in range(count)]


def test_development_and_test_voices_are_heard_nowhere_else():
    assert len(TRAINING_VOICES) == len(set(TRAINING_VOICES)) >= 20
    assert len(TEST_VOICES) == 2
    assert not set(TRAINING_VOICES) & set(TEST_VOICES)
    trained_variants = {voice.partition("+")[2] for voice in TRAINING_VOICES}
    assert len(DEVELOPMENT_VOICES) == 2
    unheard = [voice.partition("+")[2] for voice in (*DEVELOPMENT_VOICES, *TEST_VOICES)]
    assert not trained_variants & set(unheard)
    assert len(set(unheard)) == 4
    for split, voices in VOICES_OF_SPLIT.items():
        assert {d.speaker for d in descriptions(split, 800)} == {f"espeak:{voice}" for voice in voices}
    assert list(VOICES_OF_SPLIT) == list(SPLITS)


def test_speed_and_pitch_vary_within_their_ranges():
    voices = [parse_voice(d.voice) for d in descriptions("train", 400)]
    assert all(isinstance(voice, Espeak) for voice in voices)
    for option, (low, high) in (("rate", drawn.RATES), ("pitch", drawn.PITCHES), ("range", drawn.RANGES)):
        values = [getattr(voice, option) for voice in voices]
        assert low <= min(values) < low + 5
        assert high - 5 < max(values) <= high


def test_extra_voices_speak_the_first_caption_of_each_species_of_training_and_validation(tmp_path, no_store):
    extra = ("espeak:de", "espeak:sw")
    prepare(BIRDS, tmp_path, classes=14, individuals=2, captions=2, size=16, seed=5, jobs=1, extra_voices=extra)
    rows = read_manifest(tmp_path / "manifest.jsonl")
    first = [row for row in rows if row.audio.endswith("/00_0.flac") and row.split in ("train", "validation")]
    assert [row for row in rows if row.speaker in extra] == first
    assert {row.speaker for row in first} == set(extra)


def test_species_that_are_near_to_another_are_told(tmp_path, monkeypatch):
    """Ten attributes cannot differ in eleven."""
    monkeypatch.setattr(drawn, "MIN_DIFFERENT", 11)
    monkeypatch.setattr(drawn, "PATIENCE", 10)
    said: list[str] = []
    options = {"individuals": 1, "captions": 1, "size": 16, "jobs": 1, "extra_voices": ()}
    prepare(BIRDS, tmp_path, 14, **options, say=said.append)
    least = min(differences(BIRDS, species(BIRDS, 14)))
    words = (
        f"4 of 4 species outside of training differ from another one in fewer than 11 attributes, at least in {least}"
    )
    assert said == [f"{words}."]
    store = Store.open(tmp_path)
    assert store.report["least_differences"] == {"wanted": 11, "found": least, "species_below": 4}
    assert words.replace(" of 4", "", 1) in store.summary()


def test_speech_of_captions_is_usable_and_moderately_long(tmp_path):
    kinds, seconds = species(BIRDS, 60), []
    for i, (kind, split) in enumerate(zip(kinds, split_classes(BIRDS, 60), strict=True)):
        description = describe(BIRDS, kind, split, random.Random(i))
        wave = parse_voice(description.voice).synthesize(description.text)
        check_waveform(wave, description.voice)
        assert np.abs(wave).max() > 0.05
        seconds.append(len(wave) / SAMPLE_RATE)
    assert 1.2 < min(seconds) < max(seconds) < 9.5
    assert 3.2 < np.mean(seconds) < 4.3


def test_speech_files_are_the_speech_to_11_bits(prepared):
    row = read_manifest(prepared / "manifest.jsonl")[0]
    key = "5/0/0"
    description = describe(BIRDS, row.attributes, "train", random.Random(f"{key}/caption/0"))
    wave = parse_voice(description.voice).synthesize(description.text)
    np.testing.assert_allclose(load_audio(prepared / row.audio), wave, atol=0.51 / 2**10)
    assert (prepared / row.audio).stat().st_size < 0.45 * 2 * len(wave)


# ------------------------------------------------------------------------------------------------------ preparation


def files(root: Path) -> dict[str, bytes]:
    """Everything but the store, whose own tests are elsewhere."""
    kept = [path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] != "store"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in kept}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """14 species, an individual each, two captions, for training at 16 px; the store included."""
    out = tmp_path_factory.mktemp("birds")
    prepare(BIRDS, out, classes=14, individuals=1, captions=2, size=16, seed=5, jobs=1, extra_voices=())
    return out


@pytest.fixture
def no_store(monkeypatch) -> list[tuple]:
    """Leaves out the store; gives the calls that would have built it."""
    calls: list[tuple] = []

    def leave_out(*args, made, **options):
        for _ in made:
            pass
        calls.append((args, options))

    monkeypatch.setattr("s2igan.data.pack.build_store", leave_out)
    return calls


def test_the_corpus_is_whole(prepared):
    rows = read_manifest(prepared / "manifest.jsonl")
    assert len(rows) == 28
    kinds = species(BIRDS, 14, seed=5)
    by_class = {name: list(group) for name, group in itertools.groupby(rows, lambda row: row.class_name)}
    assert [group[0].attributes for group in by_class.values()] == kinds
    assert [group[0].split for group in by_class.values()] == split_classes(BIRDS, 14)
    for number, (name, group) in enumerate(by_class.items()):
        assert name == f"{number:03d}_{kinds[number]['belly_colour']}-bellied_{kinds[number]['wing_colour']}-winged"
        assert len({row.audio for row in group}) == len({row.text for row in group}) == 2
        assert {row.image for row in group} == {f"images/{name}/00.png"}
    for row in rows:
        assert row.language == "en"
        assert row.speaker.removeprefix("espeak:") in VOICES_OF_SPLIT[row.split]
        assert set(row.mentions) <= set(row.attributes)
        assert (prepared / row.image).stat().st_size > 100
        assert 1.0 < len(load_audio(prepared / row.audio)) / SAMPLE_RATE < 10.0
    assert len(files(prepared)) >= 14 + 28 + 2


def test_the_store_holds_it(prepared):
    store = Store.open(prepared)
    assert len(store) == 28
    assert {name: len(store.split_indices(name)) for name in SPLITS} == {
        "train": 20,
        "validation": 2,
        "development": 2,
        "test": 4,
    }
    assert store.training_splits("sen") == store.training_splits("rdg") == ("train",)
    assert store.report["least_differences"]["species_below"] == 0
    assert "attributes, at least" not in store.summary()
    assert store.images.shape == (14, 19, 19, 3)


def test_the_development_split_can_be_evaluated_with_its_own_voices(prepared):
    store = Store.open(prepared)
    split = EvaluationSplit.of(store, "development")
    assert split.utterances.tolist() == store.split_indices("development").tolist()
    assert split.protocol["split"] == "development"
    assert split.voices.endswith("that speak in no other split")
    trained = {store.speaker(i) for i in store.split_indices("train", "validation", "test")}
    assert not trained & {store.speaker(i) for i in split.utterances}


def test_pictures_are_the_drawn_birds(prepared):
    from PIL import Image

    rows = read_manifest(prepared / "manifest.jsonl")
    seed = random.Random("5/3/0/drawing").getrandbits(32)
    row = next(row for row in rows if row.class_name.startswith("003_"))
    np.testing.assert_array_equal(np.asarray(Image.open(prepared / row.image)), draw_bird(row.attributes, seed, 19))


def test_processes_and_order_change_no_byte(prepared, tmp_path, no_store):
    prepare(BIRDS, tmp_path, classes=14, individuals=1, captions=2, size=16, seed=5, jobs=2, extra_voices=())
    there = files(tmp_path)
    here = {name: content for name, content in files(prepared).items() if name in there}
    assert there == here
    assert {"manifest.jsonl", "birds.json"} < there.keys()
    facts = {
        "least_differences": {"wanted": 4, "found": min(differences(BIRDS, species(BIRDS, 14, 5))), "species_below": 0}
    }
    assert no_store == [((tmp_path / "manifest.jsonl", tmp_path), {"image_size": 16, "facts": facts, "jobs": 2})]


def test_log_mels_are_those_of_the_files(prepared, tmp_path):
    """They were made beside the files; decoded from them they are the same, and so is every byte of the store."""
    report = build_store(prepared / "manifest.jsonl", tmp_path, image_size=16, jobs=1)
    assert len(report["shards"]) == 2
    for name in report["shards"]:
        assert (tmp_path / "store" / name).read_bytes() == (prepared / "store" / name).read_bytes()


def test_another_seed_changes_everything(prepared, tmp_path, no_store):
    prepare(BIRDS, tmp_path, classes=14, individuals=1, captions=1, size=16, seed=6, jobs=1, extra_voices=())
    other = {content for name, content in files(tmp_path).items()}
    assert not other & set(files(prepared).values())


def test_an_interrupted_preparation_goes_on(prepared, tmp_path, no_store, monkeypatch):
    options = {"classes": 14, "individuals": 1, "captions": 2, "size": 16, "seed": 5, "jobs": 1}
    options["extra_voices"] = ()
    speak, count = drawn.speak, itertools.count()

    def interrupted(*args: Any, **options: Any) -> np.ndarray:
        if next(count) == 9:
            raise KeyboardInterrupt
        return speak(*args, **options)

    monkeypatch.setattr(drawn, "speak", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(BIRDS, tmp_path, **options)
    begun = files(tmp_path)
    assert begun["manifest.jsonl"] == files(prepared)["manifest.jsonl"]
    empty, *finished = sorted(name for name in begun if name.endswith((".flac", ".png")))
    (tmp_path / empty).write_bytes(b"")  # as a power cut leaves it
    (tmp_path / finished[0]).parent.joinpath(f".left.flac.{os.uname().nodename}-{os.getpid()}.tmp").write_bytes(b"half")
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in finished}

    prepare(BIRDS, tmp_path, **options)
    there = files(tmp_path)
    assert there == {name: content for name, content in files(prepared).items() if name in there}
    assert {name for name in files(prepared) if name.endswith((".flac", ".png", ".jsonl"))} - {"rejected.jsonl"} <= set(
        there
    )
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in finished} == before
    assert next(count) == 28 + 2 - (1 if empty.endswith(".png") else 0)  # each sentence once, but the interrupted one


def test_more_captions_and_individuals_keep_what_is_there(prepared, tmp_path, no_store):
    prepare(BIRDS, tmp_path, classes=14, individuals=1, captions=1, size=16, seed=5, jobs=1, extra_voices=())
    first = files(tmp_path)
    prepare(BIRDS, tmp_path, classes=14, individuals=1, captions=2, size=16, seed=5, jobs=1, extra_voices=())
    then = files(tmp_path)
    assert len(then) == len(first) + 14
    assert all(then[name] == content for name, content in first.items() if name != "manifest.jsonl")
    assert then["manifest.jsonl"] == files(prepared)["manifest.jsonl"]


def test_a_folder_of_other_birds_is_refused(prepared, tmp_path, no_store):
    before = files(prepared)
    with pytest.raises(UserError, match="made with classes 14, seed 5, not classes 15, seed 6; choose another"):
        prepare(BIRDS, prepared, 15, 1, 2, size=16, seed=6, jobs=1, extra_voices=())
    with pytest.raises(UserError, match=r"extra_voices \[\], not extra_voices \['espeak:de'\]"):
        prepare(BIRDS, prepared, 14, 1, 2, size=16, seed=5, jobs=1, extra_voices=["espeak:de"])
    assert files(prepared) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"individuals": 0}, "--individuals 0: choose 1 or more"),
        ({"captions": 0}, "--captions 0: choose 1 or more"),
        ({"classes": 5}, "--classes 5"),
        ({"extra_voices": ["espeak:xx"]}, "no language 'xx'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        prepare(BIRDS, tmp_path / "new", **{"classes": 14} | options)
    assert not (tmp_path / "new").exists()
