"""The paper's lists, which ship with the package, agree with each other and with docs/method.md."""

import hashlib
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from s2igan.corpora import lists
from s2igan.corpora.lists import ClassSet

SETS: dict[ClassSet, tuple[int, int]] = {"cub": (200, 50), "oxford102": (102, 20)}


def number_of(key: str) -> int:
    folder = key.partition("/")[0]
    return int(folder.removeprefix("class_").partition(".")[0])


@pytest.mark.parametrize("name", SETS)
def test_classes_queries_and_gallery_agree(name: ClassSet) -> None:
    total, held_out = SETS[name]
    classes, queries, gallery = lists.held_out_classes(name), lists.map_queries(name), lists.map_gallery(name)
    assert len(classes) == held_out
    assert classes <= set(range(1, total + 1))
    assert len(set(queries)) == len(queries) == 2 * held_out
    assert Counter(map(number_of, queries)) == dict.fromkeys(classes, 2)
    assert gallery == tuple((key, number) for key in queries for number in range(10))


def test_oxford_holds_out_its_first_classes() -> None:
    assert lists.held_out_classes("oxford102") == set(range(1, 21))
    assert lists.held_out_classes("cub") != set(range(1, 51))


def test_lists_of_images() -> None:
    flickr, places = lists.held_out_images("flickr8k"), lists.held_out_images("places")
    assert (len(flickr), len(places)) == (994, 2779)
    assert len({*flickr, *places}) == 994 + 2779
    assert all(key.replace("_", "").isalnum() for key in flickr)
    scenes = {key.rpartition("/")[0] for key in places}
    assert len(scenes) == 7
    assert "d/dinette/home" in scenes


def test_no_blank_lines_and_no_carriage_returns() -> None:
    files = [file for file in resources.files(lists).iterdir() if file.name.endswith(".txt")]
    assert len(files) == 8
    for file in files:
        text = file.read_bytes()
        assert text.endswith(b"\n")
        assert not text.startswith(b"\n")
        assert b"\r" not in text
        assert b"\n\n" not in text


def test_lists_are_those_of_the_record() -> None:
    """Copies with a class swapped would still agree with each other."""
    digest = hashlib.sha256()
    for file in sorted(Path(str(resources.files(lists))).glob("*.txt")):
        digest.update(file.read_bytes())
    assert digest.hexdigest() == "a1cd06e21ef9b528309f81581078b71df437e44b28a6d82428b8ffa8a0305e8a"
