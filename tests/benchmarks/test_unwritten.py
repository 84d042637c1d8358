"""The study of made-up languages, on a few birds: every row is there, nothing is done twice, and what is linked or
copied there is looked at before it is believed."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import unwritten
from safetensors.numpy import load_file

from s2igan.errors import UserError
from s2igan.evaluation import evaluate as evaluation
from s2igan.evaluation.attributes import ClassifierConfig
from s2igan.evaluation.scores import METRICS
from s2igan.files import atomic_write_json
from s2igan.recipes import resolve
from s2igan.training import train
from s2igan.training.trainer import Trainer
from tiny_corpus import shrunk

LANGUAGE, OTHER = "invented:5", "invented-b:5"
MIXED, FEW = f"{LANGUAGE} and english mixed", f"{LANGUAGE}, 3 recordings"
TUNED = f"{FEW}, from english"
DRAWN = "english, drawn", f"{LANGUAGE}, drawn"
ROWS = ["english", LANGUAGE, OTHER, MIXED, FEW, TUNED, *DRAWN]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A classifier of attributes that is trained in a moment."""
    plain = evaluation.load_or_train_classifier
    settings = functools.partial(
        ClassifierConfig, image_size=16, width=4, drawings=48, held_out=16, epochs=1, batch_size=16
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "load_or_train_classifier", lambda drawing, _: plain(drawing, settings()))
        yield


def study_in(out: Path, **changes) -> unwritten.Study:
    draws = shrunk(resolve("demo"))
    trainer = replace(draws.sen.trainer, steps=3)
    sen = replace(shrunk(resolve("birds-rdg")), sen=replace(draws.sen, trainer=trainer))
    study = unwritten.Study(
        out,
        languages=(LANGUAGE, OTHER),
        few=(3,),
        few_steps=1,
        drawn=(LANGUAGE,),
        captions=6,
        sen=sen,
        draws=draws,
        sizes={"classes": 14, "individuals": 1, "captions": 2},
    )
    return replace(study, **changes)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A study that was interrupted in a training and in an evaluation, and whose last row failed at first."""
    out = tmp_path_factory.mktemp("unwritten") / "out"
    study, said = study_in(out), []
    plain_step, plain_evaluate = Trainer._after_step, evaluation.evaluate

    def interrupted(self, _):
        plain_step(self, interrupted=self.step == 2)

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    def broken(run, *arguments, **options):
        if run.name == "run-few-3":
            raise UserError("no room")
        return plain_evaluate(run, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_after_step", interrupted)
        with pytest.raises(KeyboardInterrupt, match="saved at step 2"):
            unwritten.measure(study, jobs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            unwritten.measure(study, jobs=1)
    log = (study.run("english") / "log.txt").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate", broken)
        said.append(unwritten.measure(study, jobs=1))
    said.append(unwritten.measure(study, jobs=1))
    return study, said, log


def test_every_row_is_trained_and_scored(measured):
    study, (_, found), _ = measured
    rows = {row["row"]: row for row in found["rows"]}
    assert list(rows) == ROWS
    assert found["left"] == []
    assert found["failed"] == {}
    alone = rows[LANGUAGE]["recordings"]
    assert rows[MIXED]["recordings"] == 2 * alone
    assert [rows[name]["recordings"] for name in (FEW, TUNED)] == [3, 3]
    assert [rows[name]["steps"] for name in ("english", FEW, TUNED, *DRAWN)] == [3, 1, 1, 3, 3]
    assert rows[TUNED]["begun_from"] == "english"
    assert json.loads((study.run("tuned-3") / "config.json").read_text())["init_from"]["parts"] == ["speech"]
    assert [rows[name]["beside"] for name in (LANGUAGE, MIXED, FEW, TUNED)] == ["english", LANGUAGE, LANGUAGE, FEW]
    for row in found["rows"]:
        score = row["scores"]["sen/map"]
        assert 0 < score["chance"] < 1
        assert score["interval"][0] <= score["value"] <= score["interval"][1]
        assert row["trained_by"]["s2igan"]
    for name in DRAWN:
        assert {"attributes/per_caption", "attributes/belly_colour"} <= rows[name]["scores"].keys()
    assert found["protocol"].startswith("Every row is trained by stage 1")
    assert json.loads((study.out / unwritten.JSON).read_text()) == json.loads(json.dumps(found))


def test_it_goes_on_in_the_middle_of_a_training_and_of_an_evaluation(measured):
    study, _, log = measured
    assert "interrupted and saved at step 2" in log
    assert "resumed at step 2" in log
    assert (study.run("english") / "log.txt").read_text() == log, "scored without training again"


def test_a_row_that_fails_is_named_and_the_others_go_on(measured):
    _, (first, _), _ = measured
    assert first["failed"] == {FEW: "no room"}
    assert [row["row"] for row in first["rows"]] == [name for name in ROWS if name != FEW]


def test_nothing_is_done_twice(measured, monkeypatch):
    study, (_, found), _ = measured
    table = (study.out / unwritten.TABLE).read_text()
    monkeypatch.setattr(unwritten, "do", lambda *_: pytest.fail("done again"))
    assert study.pieces() == []
    assert unwritten.measure(study, jobs=1)["rows"] == found["rows"]
    assert (study.out / unwritten.TABLE).read_text() == table
    longer = replace(study, few=(3, 4))
    assert [piece.title for piece in longer.pieces()] == [
        "data of few-4",
        f"{LANGUAGE}, 4 recordings",
        f"{LANGUAGE}, 4 recordings, from english",
    ]
    with pytest.raises(UserError, match=r"scored by another protocol \(max_captions was 6, is now 7\)"):
        replace(study, captions=7).pieces()


def test_a_drawn_row_has_the_stage_1_of_its_language(measured):
    study, *_ = measured
    for name in ("english", "invented-5"):
        own, shared = (load_file(study.run(run) / "sen" / "weights.safetensors") for run in (f"drawn-{name}", name))
        assert all((own[key] == shared[key]).all() for key in shared)
    other = replace(study, draws=resolve("laptop"))
    starts = {row.run: row.start for row in other.rows()}
    assert starts["drawn-english"] in (None, "english")
    narrow = replace(study.draws, sen=replace(study.draws.sen, distinctive=0.5))
    assert {row.start for row in replace(study, draws=narrow).rows() if row.kind == "drawn"} == {None}


def test_differences_and_shares_are_of_the_same_captions(measured):
    _, (_, found), _ = measured
    rows = {row["row"]: row for row in found["rows"]}
    for name in (LANGUAGE, OTHER, MIXED, FEW, TUNED):
        row = rows[name]
        values = [each["scores"]["sen/map_all"]["value"] for each in (row, rows[row["beside"]])]
        difference = row["difference"]["sen/map_all"]
        assert difference["value"] == pytest.approx(values[0] - values[1])
        assert difference["interval"][0] <= difference["value"] <= difference["interval"][1]
        assert ("share" in row) == (name in (LANGUAGE, OTHER))
        if "share" in row:
            assert row["share"]["value"] == pytest.approx(values[0] / values[1])
    assert [one["row"] for one in found["mean_average_precision"]] == [LANGUAGE, OTHER]
    assert {one["row"] for one in found["attributes"]} == {DRAWN[1]}
    drawn = rows[DRAWN[1]]
    named = {key for key in drawn["scores"] if key.startswith("attributes/")} - {"attributes/mean"}
    assert drawn["difference"].keys() == named
    assert len(found["attributes"]) == len(named) - 1


def test_the_table_has_every_row_with_chance_and_oracle(measured):
    study, (_, found), _ = measured
    first, second, protocol = (study.out / unwritten.TABLE).read_text().split("\n\n")
    assert protocol.strip() == found["protocol"]
    lines = first.splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [
        *ROWS[:6],
        "chance",
        "oracle that knows the attributes named",
    ]
    share = next(row for row in found["rows"] if row["row"] == LANGUAGE)["share"]["value"]
    assert f"| {100 * share:.1f} % (" in lines[3]
    assert lines[3].endswith((" yes |", " yes, not surely |", " no |", " no, not surely |"))
    assert lines[2].endswith("|  |  |  |  |")
    lines = second.splitlines()
    assert lines[0].startswith(f"| attribute | captions | {DRAWN[1]} | {DRAWN[0]} | difference |")
    assert {len(line.split(" | ")) for line in lines} == {8}
    assert any(line.startswith("| belly colour |") for line in lines)


@pytest.mark.parametrize(
    ("value", "ends", "word"),
    [
        (0.95, (0.91, 0.99), "yes"),
        (0.95, (0.85, 1.05), "yes, not surely"),
        (0.85, (0.75, 0.95), "no, not surely"),
        (0.7, (0.6, 0.8), "no"),
    ],
)
def test_what_is_aimed_at_is_met_surely_only_where_the_interval_says_so(value, ends, word):
    assert unwritten._word(unwritten._met({"value": value, "interval": ends}, 0.9)) == word


def test_the_share_of_equal_rows_is_one_without_doubt():
    values, species = np.random.default_rng(0).random((1, 60)), np.repeat(np.arange(6), 10)
    assert unwritten._share(values, values, species, seed=0) == {"value": 1.0, "interval": pytest.approx((1.0, 1.0))}
    low, high = unwritten._share(values, values[:, ::-1], species, seed=0)["interval"]
    assert low < 1 < high


# ------------------------------------------------------------------------------------ what is linked or copied to OUT


@pytest.fixture
def copied(measured, tmp_path) -> unwritten.Study:
    """OUT with links to the data of the study, without its runs."""
    study = replace(measured[0], out=tmp_path / "copied")
    study.out.mkdir()
    for data in measured[0].out.glob("data-*"):
        (study.out / data.name).symlink_to(data)
    return study


def piece_of(study: unwritten.Study, title: str) -> unwritten.Piece:
    return next(piece for piece in study.pieces() if piece.title == title)


def test_a_run_that_was_copied_there_is_scored_and_not_trained(measured, copied, monkeypatch):
    monkeypatch.setattr(train, "train_run", lambda *_, **__: pytest.fail("trained again"))
    shutil.copytree(measured[0].run("english"), copied.run("english"), ignore=shutil.ignore_patterns("eval*", ".unw*"))
    copied.do(piece_of(copied, "english"), "cpu", 1)
    both = (study.run("english") / "evaluation" / METRICS for study in (copied, measured[0]))
    scores = [json.loads(file.read_text())["scores"] for file in both]
    assert scores[0] == scores[1]


def test_a_run_of_another_row_is_refused(measured, copied):
    shutil.copytree(measured[0].run("invented-5"), copied.run("english"), ignore=shutil.ignore_patterns(".unw*"))
    with pytest.raises(UserError, match="its stage 1 was trained on another store"):
        copied.do(piece_of(copied, "english"), "cpu", 1)
    shutil.copytree(measured[0].run("tuned-3"), copied.run("few-3"), ignore=shutil.ignore_patterns(".unw*"))
    with pytest.raises(UserError, match=f"is no run of the row {FEW} .initial weights was"):
        copied.do(piece_of(copied, FEW), "cpu", 1)


def test_data_of_another_language_or_of_other_birds_are_refused(measured, copied, monkeypatch):
    monkeypatch.setattr(train, "train_run", lambda *_, **__: pytest.fail("trained"))
    link = copied.folder(unwritten.Corpus.of(LANGUAGE))
    link.unlink()
    link.symlink_to(copied.folder(unwritten.Corpus.of(OTHER)).resolve())
    with pytest.raises(UserError, match=r"data-invented-5: is in invented-b:5 at 64 px, not in invented:5 at 64 px"):
        copied.do(piece_of(copied, LANGUAGE), "cpu", 1)
    link.unlink()
    fewer = replace(copied, sizes={"classes": 14, "individuals": 1, "captions": 1})
    fewer.do(piece_of(fewer, "data of invented-5"), "cpu", 1)
    with pytest.raises(UserError, match=r"data-invented-5: the splits are not those of .*data-english"):
        copied.do(piece_of(copied, LANGUAGE), "cpu", 1)


def test_a_budget_begins_nothing_that_would_end_later(copied):
    found = unwritten.measure(copied, budget_hours=0, jobs=1)
    assert found["rows"] == []
    assert found["left"] == [*ROWS[:6], "what reads attributes", *DRAWN]
    assert (copied.out / unwritten.TABLE).exists()


def test_the_command_line_names_the_study(tmp_path, monkeypatch, capsys):
    asked = []

    def measure(study, devices, budget):
        asked.append((study, devices, budget))
        return {"failed": {"english": "no room"}}

    monkeypatch.setattr(unwritten, "measure", measure)
    words = f"--out {tmp_path} --languages invented:2 --few 7 --steps 5 --few-steps 4 --drawn invented:2 --captions 9"
    monkeypatch.setattr(sys, "argv", ["unwritten.py", *words.split(), "--devices", "cpu", "cpu", "--budget", "1.5"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit, match="failed: english; the same command tries them again"):
        unwritten.main()
    (study, devices, budget) = asked[0]
    assert (devices, budget) == (("cpu", "cpu"), 1.5)
    assert (study.languages, study.few, study.drawn, study.captions) == (("invented:2",), (7,), ("invented:2",), 9)
    assert [row.recipe.sen.trainer.steps for row in study.rows() if row.kind != "drawn"] == [5, 5, 5, 4, 4]
    assert json.loads(capsys.readouterr().out)["failed"] == {"english": "no room"}
    monkeypatch.setattr(sys, "argv", ["unwritten.py", "--out", str(tmp_path), "--few", "--plan"])
    unwritten.main()
    assert capsys.readouterr().out.splitlines()[:3] == ["data of english", "english", "data of invented-1"]
    atomic_write_json(tmp_path / "run-english" / unwritten.DONE, {"seed": 1})
    with pytest.raises(SystemExit, match="was scored by another protocol"):
        unwritten.main()
