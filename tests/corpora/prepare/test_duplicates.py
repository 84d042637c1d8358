"""Duplicates by bytes: found, kept once, and never in two splits of a user's own corpus."""

from dataclasses import replace

from s2igan.corpora.prepare.duplicates import cleaned, equal_files, published
from s2igan.data.manifest import Utterance

A, B, C = Utterance("a.wav", "a.jpg"), Utterance("b.wav", "b.jpg"), Utterance("c.wav", "c.jpg")


def test_equal_files_are_found_by_their_bytes(tmp_path):
    contents = {"a": b"1234", "b": b"1234", "c": b"1235", "d": b"12345", "e": b"", "f": b"", "g": b"1234"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert equal_files(tmp_path, [*contents, "absent", "b"]) == {"b": "a", "g": "a"}


def test_nothing_changes_without_duplicates():
    assert cleaned([A, B, C], {}).rows == [A, B, C]


def test_a_picture_under_two_names_becomes_one():
    found = cleaned([A, B, C], {"b.jpg": "a.jpg"})
    assert [row.image for row in found.rows] == ["a.jpg", "a.jpg", "c.jpg"]
    assert [row.audio for row in found.rows] == ["a.wav", "b.wav", "c.wav"]
    assert found.problems == ()
    assert "1 picture is a copy of another, the first b.jpg" in found.notes[0]


def test_a_description_that_is_there_twice_is_left_out():
    found = cleaned([A, B, C], {"b.jpg": "a.jpg", "b.wav": "a.wav"})
    assert found.rows == [A, C]
    (problem,) = found.problems
    assert (problem.path, problem.reason) == ("b.wav", "the same recording as a.wav, of the same picture")
    assert cleaned([A, B, C], {"b.wav": "a.wav"}).rows == [A, B, C], "of another picture it is no duplicate"


def test_parts_of_one_recording_are_no_duplicates():
    rows = [Utterance("a.wav", "a.jpg", 0.0, 1.0), Utterance("b.wav", "a.jpg", 1.0, 2.0)]
    assert cleaned(rows, {"b.wav": "a.wav"}).rows == rows


def test_a_picture_with_two_classes_keeps_the_first():
    rows = [replace(A, class_name="x"), replace(B, class_name="y")]
    found = cleaned(rows, {"b.jpg": "a.jpg"})
    assert found.rows == rows[:1]
    assert found.problems[0].reason == "the same picture as a.jpg, which has the class 'x'"


def test_leaks_leave_the_test_split_whole():
    rows = [replace(A, split="train"), replace(B, split="test"), replace(C, split="validation")]
    found = cleaned(rows, {"b.jpg": "a.jpg"})
    assert found.rows == rows[1:]
    assert found.problems[0].reason == "the same picture as b.jpg, which is in the split test"
    found = cleaned(rows, {"b.wav": "a.wav", "c.wav": "a.wav"})
    assert found.rows == [rows[1]]
    assert [problem.path for problem in found.problems] == ["a.wav", "c.wav"]


def test_published_corpora_stay_as_they_are_and_leaks_are_told():
    rows = [replace(A, split="train"), replace(B, split="test"), replace(C, split="train")]
    found = published(rows, {"b.jpg": "a.jpg", "c.wav": "a.wav"})
    assert found.rows == rows
    assert found.problems == ()
    (note,) = found.notes
    assert note.startswith("1 pictures of the published corpus are in several of its splits")
