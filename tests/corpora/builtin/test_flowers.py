"""The flowers as a corpus; what they share with the birds is tested there."""

from __future__ import annotations

import importlib
import itertools
import shutil
from collections import Counter
from pathlib import Path

import pytest

from s2igan.corpora.builtin import drawn
from s2igan.corpora.builtin.drawn import VOICES_OF_SPLIT, differences, prepare, species, split_classes, version
from s2igan.corpora.builtin.flower_drawing import ATTRIBUTES
from s2igan.corpora.builtin.flowers import DRAWN_SET as FLOWERS
from s2igan.data.manifest import SPLITS, read_manifest
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.drawings import drawn_set_with


@pytest.mark.parametrize(("classes", "counts"), [(100, (48, 12, 20, 20)), (10, (7, 1, 1, 1)), (60, (29, 7, 12, 12))])
def test_the_split_is_that_of_the_birds(classes, counts):
    splits = split_classes(FLOWERS, classes)
    assert splits == [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]


def test_too_few_classes_are_refused():
    with pytest.raises(UserError, match="--classes 9: the flowers need 10 to 1000 classes"):
        species(FLOWERS, 9)


def test_species_are_balanced_and_the_test_is_new():
    kinds, splits = species(FLOWERS, 100), split_classes(FLOWERS, 100)
    assert min(differences(FLOWERS, kinds)) >= 4
    train, test = ([kind for kind, of in zip(kinds, splits, strict=True) if of == name] for name in ("train", "test"))
    for name, values in ATTRIBUTES.items():
        for group in (train, test):
            counts = Counter(kind[name] for kind in group)
            assert max(counts.values()) - min(counts[value] for value in values) <= 1
    for new, seen in itertools.product(test, train):
        assert sum(new[name] != seen[name] for name in ATTRIBUTES) >= 4


def test_many_classes_end_and_those_held_out_are_new(monkeypatch):
    monkeypatch.setattr(drawn, "PATIENCE", 50)
    kinds = species(FLOWERS, 1000, seed=1)
    assert 1 <= min(differences(FLOWERS, kinds)) < 4


def test_the_corpus_is_whole_and_known_to_the_evaluation(tmp_path):
    options = {"classes": 10, "individuals": 1, "captions": 1, "size": 16, "seed": 5, "jobs": 1}
    options["extra_voices"] = ()
    prepare(FLOWERS, tmp_path, **options)
    rows = read_manifest(tmp_path / "manifest.jsonl")
    assert len(rows) == 10
    assert [row.attributes for row in rows] == species(FLOWERS, 10, seed=5)
    for number, row in enumerate(rows):
        kind = row.attributes
        assert row.class_name == f"{number:03d}_{kind['petal_count']}-petalled_{kind['petal_colour']}"
        assert row.speaker.removeprefix("espeak:") in VOICES_OF_SPLIT[row.split]
        assert 2 <= len(row.mentions) <= 5
    store = Store.open(tmp_path)
    found = drawn_set_with(store.attributes)
    assert found is not None
    assert found.name == "flowers"
    with pytest.raises(UserError, match="holds flowers made with seed 5, not seed 6"):
        prepare(FLOWERS, tmp_path, **options | {"seed": 6})
    (tmp_path / "flowers.json").unlink()
    with pytest.raises(UserError, match="holds another corpus"):
        prepare(FLOWERS, tmp_path, **options)


def test_sentences_of_figure_3_name_what_they_change():
    for name, sentence in FLOWERS.changed_sentences.items():
        assert sentence.count("{}") == 1
        assert name in FLOWERS.attributes


def test_the_version_is_that_of_the_source_of_drawings_and_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what an attribute's first value does not show."""
    found = [version(FLOWERS)]
    for name in ("flower_drawing", "flower_captions", "svg", "phrases", "drawn"):
        module = importlib.import_module(f"s2igan.corpora.builtin.{name}")
        assert module.__file__ is not None
        sources = [file for file in Path(module.__file__).parent.iterdir() if file.stem == name and file.is_file()]
        copies = [Path(shutil.copy(file, tmp_path)) for file in sources]
        monkeypatch.setattr(module, "__file__", str(tmp_path / f"{name}.py"))
        assert version(FLOWERS) == found[-1]
        for copy in copies:
            copy.write_bytes(copy.read_bytes() + b"# changed\n")
            found.append(version(FLOWERS))
    assert len(found) == 1 + 5 + 4  # four have a table beside them
    assert len(set(found)) == len(found)
