"""The study of made-up languages, on a few birds: every row is there, and the same command goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import unwritten

from s2igan.recipes import resolve
from tiny_corpus import shrunk


def test_every_row_is_trained_and_scored_once(tmp_path, monkeypatch):
    monkeypatch.setattr(unwritten, "SIZE", 32)
    tiny = shrunk(resolve("birds-rdg"), steps=2)
    study = unwritten.Study(
        tmp_path,
        languages=("invented:5", "invented-b:5"),
        few=(3,),
        few_steps=1,
        sen=tiny,
        corpus={"classes": 14, "individuals": 1, "captions": 2, "jobs": 1},
    )
    found = unwritten.measure(study, tmp_path / "table.md")
    rows = {row["row"]: row for row in found["rows"]}
    few, tuned = "invented:5, 3 recordings", "invented:5, 3 recordings, from English"
    assert list(rows) == ["english", "invented:5", "invented-b:5", "invented:5 and english mixed", few, tuned]
    alone = rows["invented:5"]["recordings"]
    assert rows["invented:5 and english mixed"]["recordings"] == 2 * alone
    assert [rows[name]["recordings"] for name in (few, tuned)] == [3, 3]
    assert [rows[name]["steps"] for name in ("english", few, tuned)] == [2, 1, 1]
    assert rows[tuned]["begun_from"] == "run-english"
    config = json.loads((tmp_path / "run-tuned-3" / "config.json").read_text())
    assert config["init_from"]["parts"] == ["speech"]
    for row in found["rows"]:
        assert 0 < row["scores"]["sen/map"]["value"] <= 1
        assert 0 < row["scores"]["sen/map"]["chance"] < 1
    table = (tmp_path / "table.md").read_text()
    assert table.count("\n") == 2 + len(rows) + 2
    share = rows["invented:5"]["scores"]["sen/map"]["value"] / rows["english"]["scores"]["sen/map"]["value"]
    assert f"| {share:.0%} |" in table

    def never(*arguments, **options):
        pytest.fail("trained again")

    monkeypatch.setattr(unwritten, "train_run", never)
    again = unwritten.measure(replace(study), tmp_path / "again.md")
    assert again["rows"] == found["rows"]
    assert (tmp_path / "again.md").read_text() == table
