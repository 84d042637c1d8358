"""Splits: nothing leaks, the proportions hold, small and odd corpora get a sentence."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from s2igan.corpora.prepare.splits import Splits, with_splits
from s2igan.data.manifest import Utterance, check_rows
from s2igan.errors import UserError


def corpus(n: int = 100, captions: int = 2, classes: int = 0, speakers: int = 0) -> list[Utterance]:
    return [
        Utterance(
            f"{i}_{k}.wav",
            f"{i}.jpg",
            class_name=f"class {i % classes}" if classes else None,
            speaker=f"speaker {(i + k) % speakers}" if speakers else None,
        )
        for i in range(n)
        for k in range(captions)
    ]


def of(found: Splits, name: str) -> dict[str, str]:
    """Split by picture, class, speaker ...; fails where one is in two."""
    splits: dict[str, str] = {}
    for row in found.rows:
        value = getattr(row, name)
        assert splits.setdefault(value, row.split) == row.split, f"{name} {value} is in two splits"
    return splits


def test_by_picture_in_proportion():
    found = with_splits(corpus())
    assert Counter(of(found, "image").values()) == {"train": 80, "validation": 10, "test": 10}
    assert found.notes == ()
    halves = with_splits(corpus(), proportions=(0.5, 0.0, 0.5))
    assert Counter(of(halves, "image").values()) == {"train": 50, "test": 50}


def test_by_class_where_there_are_classes():
    found = with_splits(corpus(classes=20))
    assert Counter(of(found, "class_name").values()) == {"train": 16, "validation": 2, "test": 2}


def test_the_seed_decides():
    assert with_splits(corpus(), seed=1) == with_splits(corpus(), seed=1)
    assert with_splits(corpus(), seed=1) != with_splits(corpus(), seed=2)


def test_few_classes_are_not_kept_apart():
    found = with_splits(corpus(classes=3))
    assert Counter(of(found, "image").values()) == {"train": 80, "validation": 10, "test": 10}
    assert "3 classes, too few" in found.notes[0]
    four = with_splits(corpus(classes=4))
    assert Counter(of(four, "class_name").values()) == {"train": 2, "validation": 1, "test": 1}


def test_pictures_that_share_a_recording_stay_together():
    rows = [Utterance(f"{i // 2}.wav", f"{i}.jpg") for i in range(40)]
    found = with_splits(rows)
    of(found, "audio")
    check_rows(enumerate(found.rows), "x")


def test_overlapping_parts_stay_together_and_others_need_not():
    chain = [Utterance("long.wav", f"{i}.jpg", float(i), i + 1.5) for i in range(30)]
    assert {row.split for row in with_splits(chain).rows} == {"train"}
    inside = [Utterance("long.wav", f"{i}.jpg", float(i), i + 1.0) for i in range(30)]
    covering = [*inside, Utterance("long.wav", "all.jpg")]
    assert {row.split for row in with_splits(covering).rows} == {"train"}
    found = with_splits(inside)
    assert Counter(row.split for row in found.rows) == {"train": 24, "validation": 3, "test": 3}
    check_rows(enumerate(found.rows), "x")


def test_files_of_the_same_bytes_stay_together():
    same = {f"{i}.jpg": "0.jpg" for i in range(1, 50)} | {f"{i}_0.wav": "50_0.wav" for i in range(51, 100)}
    found = with_splits(corpus(), same=same)
    splits = of(found, "image")
    assert len({splits[f"{i}.jpg"] for i in range(50)}) == 1
    assert len({splits[f"{i}.jpg"] for i in range(50, 100)}) == 1


def test_speakers_are_kept_apart_on_request():
    rows = [replace(row, speaker=f"speaker {int(row.image[:-4]) % 10}") for row in corpus()]
    assert any(
        len({row.split for row in with_splits(rows).rows if row.speaker == f"speaker {k}"}) > 1 for k in range(10)
    )
    found = with_splits(rows, speaker_disjoint=True)
    assert Counter(of(found, "speaker").values()) == {"train": 8, "validation": 1, "test": 1}
    of(found, "image")


def test_speakers_who_share_pictures_cannot_be_kept_apart():
    with pytest.raises(UserError, match="no split keeps the 3 speakers apart"):
        with_splits(corpus(speakers=3), speaker_disjoint=True)
    rows = corpus(speakers=2)
    with pytest.raises(UserError, match=r"1 of 200 have none, the first 3_0\.wav"):
        with_splits(
            [replace(row, speaker=None) if row.audio == "3_0.wav" else row for row in rows], speaker_disjoint=True
        )


def test_speakers_go_before_classes():
    rows = [replace(row, speaker=f"speaker {int(row.image[:-4]) // 10}") for row in corpus(classes=5)]
    found = with_splits(rows, speaker_disjoint=True)  # everyone speaks of every class
    assert len(set(of(found, "speaker").values())) == 3
    assert "There is 1 class that share no" in found.notes[0]


def brought(rows: list[Utterance], is_test: Callable[[int], bool]) -> list[Utterance]:
    """Rows whose corpus splits them into train and test, by number of the picture."""
    return [replace(row, split="test" if is_test(int(row.image[:-4])) else "train") for row in rows]


def test_what_the_corpus_brings_stays_and_pictures_of_every_class_are_held_out():
    rows = brought(corpus(n=300, classes=20), lambda picture: picture % 20 >= 15)
    found = with_splits(rows)
    assert found.validation_from_train
    assert [row.split == "test" for row in found.rows] == [row.split == "test" for row in rows]
    assert Counter(of(found, "image").values()) == {"train": 200, "validation": 25, "test": 75}
    per_class = Counter(row.class_name for row in found.rows if row.split == "validation")
    assert set(per_class) == {f"class {k}" for k in range(15)}
    assert set(per_class.values()) <= {2, 4}  # one or two pictures of two captions: 15 / 9 is 1.67
    assert "25 pictures of its training split are held out to choose stage 1" in found.notes[0]
    assert with_splits(rows, seed=1).rows != found.rows
    complete = [replace(row, split=("train", "validation", "test")[i % 3]) for i, row in enumerate(corpus(captions=1))]
    assert with_splits(complete) == Splits(complete)


def test_of_small_classes_nothing_is_held_out():
    sizes = {"large": 30, "three": 3, "pair": 2, "one": 1}
    names = [name for name, size in sizes.items() for _ in range(size)]
    rows = [Utterance(f"{i}.wav", f"{i}.jpg", class_name=name, split="train") for i, name in enumerate(names)]
    left = Counter(row.class_name for row in with_splits(rows).rows if row.split == "train")
    assert left == {"large": 26, **{name: sizes[name] for name in ("three", "pair", "one")}}
    few = with_splits(rows[-3:])
    assert {row.split for row in few.rows} == {"train"}
    assert not few.validation_from_train
    assert "too few pictures for training to hold any of them out" in few.notes[0]


def test_what_is_held_out_shares_nothing_with_what_is_left():
    rows = [replace(row, speaker=f"speaker {int(row.image[:-4]) % 10}") for row in corpus(classes=4)]
    rows = brought(rows, lambda picture: picture % 10 == 9)
    same = {f"{i}.jpg": "0.jpg" for i in range(4, 40, 4)}  # of one class
    found = with_splits(rows, same=same, speaker_disjoint=True)
    splits = of(found, "image")
    assert len({splits[path] for path in same}) == 1
    assert "validation" in of(found, "speaker").values()


def test_brought_splits_with_a_speaker_in_two_refuse_the_request():
    rows = [replace(row, split="train" if i < 100 else "test") for i, row in enumerate(corpus(speakers=3))]
    with pytest.raises(UserError, match=r"brings its own splits, and 'speaker .' speaks in train and in test"):
        with_splits(rows, speaker_disjoint=True)


def test_what_is_missing_gets_a_sentence():
    rows = [replace(row, split="train" if i < 100 else None) for i, row in enumerate(corpus())]
    notes = " ".join(with_splits(rows).notes)
    assert "100 of 200 utterances have no split" in notes
    assert "brings no test split" in notes


@pytest.mark.parametrize(
    ("n", "splits", "missing"),
    [
        (1, {"train": 1}, "a validation and a test split"),
        (2, {"train": 2}, "a validation and a test split"),
        (3, {"train": 2, "test": 1}, "a validation split"),
        (4, {"train": 2, "test": 1, "validation": 1}, None),
    ],
)
def test_the_smallest_corpora(n, splits, missing):
    found = with_splits(corpus(n))
    assert Counter(of(found, "image").values()) == splits
    assert (missing is None) == (found.notes == ())
    if missing is not None:
        assert missing in found.notes[0]


@pytest.mark.parametrize("proportions", [(0.0, 0.5, 0.5), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_proportions_that_make_no_sense(proportions):
    with pytest.raises(UserError, match="--proportions"):
        with_splits(corpus(), proportions=proportions)


def test_one_class_is_as_good_as_none():
    found = with_splits([replace(row, class_name="bird") for row in corpus()])
    assert {row.class_name for row in found.rows} == {None}
    assert "All pictures for training are of the class 'bird'" in found.notes[-1]
    brought = [
        replace(row, class_name=row.image[0], split="train" if row.image[0] == "1" else "test") for row in corpus()
    ]
    assert {row.class_name for row in with_splits(brought, proportions=(1.0, 0.0, 0.0)).rows} == {None}
    assert {row.class_name for row in with_splits(corpus(classes=2)).rows} == {"class 0", "class 1"}
