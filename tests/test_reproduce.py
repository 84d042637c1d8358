"""The paper's tables at toy size: rows on equal terms, resumed, within a budget, with verdicts that pairs allow."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recompute
from safetensors.numpy import load_file, save_file

from s2igan import cli, recipes, reproduce
from s2igan.errors import UserError
from s2igan.evaluation import evaluate as evaluation
from s2igan.evaluation.attributes import ClassifierConfig
from s2igan.evaluation.options import EvaluationOptions
from s2igan.evaluation.scores import Score
from s2igan.parallel import elsewhere
from s2igan.report.reproduction import (
    COLUMNS,
    PUBLISHED,
    Line,
    columns_of,
    differing,
    over_seeds,
    paired_items,
    same,
    used_in_training,
    verdict,
    verdicts,
)
from s2igan.reproduce import Clock, Piece, Plan, do, named_rows, pieces, side_by_side
from s2igan.training.beyond import Beyond, WarmStart
from s2igan.training.train import train_run
from s2igan.training.trainer import TrainerConfig
from small_birds import make_bird_store
from tiny_corpus import tiny_recipe

OPTIONS = EvaluationOptions(max_captions=8, keep_images=True)
ROWS = "s2igan:2,no-rs:2,no-sen"


@pytest.fixture(scope="module", autouse=True)
def tiny_base():
    """A base recipe of toy width, and a quick classifier of attributes."""
    plain = evaluation.load_or_train_classifier
    quick = functools.partial(
        ClassifierConfig, image_size=16, width=4, drawings=48, held_out=16, epochs=1, batch_size=16
    )
    with pytest.MonkeyPatch.context() as patch:
        warm = Beyond(warm_start=WarmStart(TrainerConfig(steps=2), batch_size=4, encoder_width=4))
        patch.setitem(recipes.BASES, "tiny", lambda: replace(tiny_recipe(2), name="tiny", beyond=warm))
        patch.setattr(evaluation, "load_or_train_classifier", lambda drawing, _: plain(drawing, quick()))
        yield


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    return make_bird_store(tmp_path_factory.mktemp("reproduced-birds"))


def made(birds, out, rows=ROWS, **options):
    said = []
    given = {"base": "tiny", "options": OPTIONS, "devices": ("cpu",)} | options
    page = reproduce.reproduce(str(birds.directory), out, rows=rows, say=said.append, **given)
    return page, json.loads((out / "reproduction.json").read_text()), said


@pytest.fixture(scope="module")
def reproduced(birds, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduced") / "out"
    return out, *made(birds, out)


def test_rows_have_means_and_deviations_over_seeds_beside_the_published_figures(reproduced):
    out, _, content, _ = reproduced
    rows = {row["name"]: row for row in content["rows"]}
    assert list(rows) == ["s2igan", "no-rs", "no-sen"]
    assert [row["seeds"] for row in rows.values()] == [[0, 1], [0, 1], [0]]
    assert rows["s2igan"]["tables"] == ["table1", "ablations"]
    assert rows["no-rs"]["published"] == {"CUB": {"mAP": 8.54, "FID": 15.59, "IS": 4.14}}
    scores = {}
    for seed in (0, 1):
        record = json.loads((out / "rows" / f"s2igan-{seed}" / "evaluation" / "metrics.json").read_text())
        scores[seed] = {score["key"]: score["value"] for score in record["scores"]}
    keys = [column["key"] for column in content["columns"]]
    assert {"fakes/map_lite2", "attributes/per_caption", "sen/map"} <= set(keys)
    for key in keys:
        found = rows["s2igan"]["scores"][key]
        values = [scores[seed][key] for seed in (0, 1)]
        assert found["values"] == values
        assert found["mean"] == pytest.approx(np.mean(values))
        assert found["std"] == pytest.approx(np.std(values, ddof=1))
        if key != "sen/map":
            assert rows["no-sen"]["scores"][key]["std"] is None
    assert all(min(row["seconds"][part] for part in ("warm_start", "stage_2")) > 0 for row in rows.values())
    assert content["evaluation"]["split"] == "test"
    columns = {column["key"]: column for column in content["columns"]}
    assert columns["attributes/per_caption"]["protocol"]["split"] == "test"
    assert (content["runs"], content["differing"]) == ({"scored": 5, "planned": 5}, [])


def test_beside_a_score_stands_what_it_is_worth(reproduced):
    """Chance, what real images reach in two ways, what it was seen by, and who else used that."""
    _, page, content, _ = reproduced
    columns = {column["key"]: column for column in content["columns"]}
    assert columns["fakes/map_lite2"]["used_in_training"] == "no training used them"
    assert used_in_training("distances/kd_lite0") == "training used these features too"
    assert all(column["used_in_training"] and column["protocol"]["extractor"] for column in columns.values())
    assert isinstance(columns["independent/kd_lite2"]["real_against_real"], float)
    assert "dealt at random" in page.read_text()
    assert 0 < columns["sen/map"]["chance"] < columns["sen/map"]["ceiling"] <= 1
    text = page.read_text()
    for words in ("no training used them", "half of the real images", "higher is better", "lower is better"):
        assert words in text, words


def test_figure_3_stands_in_numbers_also_where_a_row_has_none(reproduced):
    _, _, content, _ = reproduced
    keys = [column["key"] for column in content["columns"] if column["table"] == "figure3"]
    assert keys[:2] == ["figure3/belly_colour", "figure3/belly_colour/stays"]
    found = {"a": {}, "b": {"figure3/x": Score("figure3/x", "x followed", 0.5, {})}}
    assert [key for key, _ in columns_of(list(found.values()))] == ["figure3/x"]


def test_scores_of_a_stage_1_that_was_not_trained_are_left_out(reproduced):
    _, page, content, _ = reproduced
    rows = {row["name"]: row for row in content["rows"]}
    assert "sen/map" in rows["no-rs"]["scores"]
    assert "sen/map" not in rows["no-sen"]["scores"]
    assert ("no-sen", "sen/map") not in {(pair["row"], pair["score"]) for pair in content["verdicts"]}
    assert rows["no-sen"]["steps"]["stage_1"] == "0"
    assert "0 steps" in page.read_text()


def test_runs_that_were_not_scored_alike_are_named():
    record = {"split": "test", "environment": {"time": "1", "torch": "2.0"}}
    other = {"split": "test", "environment": {"time": "2", "torch": "2.1"}}
    kept = ("split", "environment")
    assert differing({"a": {0: record, 1: record | {"environment": record["environment"] | {"time": "3"}}}}, kept) == []
    assert differing({"a": {0: record}, "b": {2: other}}, kept) == ["environment (torch) of b, seed 2"]
    assert differing({}, kept) == []


def test_more_than_real_images_reach_is_marked():
    def cell(value, **more):
        score = Score(
            "a/is", "IS", value, {}, **({"ceiling": 6.9, "ceiling_name": "real images", "unit": "number"} | more)
        )
        return over_seeds([score, score])["beyond_real"]

    assert cell(10.5)
    assert not cell(6.5)
    assert not cell(10.5, better="lower")
    assert not cell(10.5, ceiling_name="oracle")
    assert not cell(10.5, ceiling=None, ceiling_name=None)


def test_what_differs_between_rows_is_no_common_chance():
    assert same([0.1, 0.1]) == 0.1
    assert same([0.1, 0.2]) is same([0.1, None]) is same([]) is None


def test_rows_share_a_stage_1_seed_by_seed(reproduced):
    out, *_ = reproduced
    stages = sorted(path.name for path in (out / "stage-1").iterdir())
    assert len(stages) == 3, "two seeds of what s2igan and no-rs share, and one of no-sen"
    shared = [json.loads((out / "rows" / f"{row}-1" / "config.json").read_text()) for row in ("s2igan", "no-rs")]
    assert shared[0]["sen_from"] == shared[1]["sen_from"]
    assert shared[0]["seed"] == shared[1]["seed"] == 1


def test_rows_share_a_warm_start_and_are_what_they_would_be_alone(birds, reproduced, tmp_path):
    out, *_ = reproduced
    assert len(list((out / "warm-start").iterdir())) == 3, "two seeds of what s2igan and no-rs share, and one of no-sen"
    shared = [json.loads((out / "rows" / f"{row}-0" / "config.json").read_text()) for row in ("s2igan", "no-rs")]
    assert shared[0]["warm_start_from"] == shared[1]["warm_start_from"]
    (row,) = named_rows("no-rs", 1, "tiny")
    stage_1 = Plan(birds.directory, out, (row,), OPTIONS).stage_1(row, 0)
    alone = train_run(row.recipe, data=birds.directory, out=tmp_path, stage="2", sen_from=stage_1, device="cpu", seed=0)
    found, known = (load_file(run / "model" / "weights.safetensors") for run in (out / "rows" / "no-rs-0", alone))
    for name in known:
        np.testing.assert_array_equal(found[name], known[name], err_msg=name)


def test_another_warm_start_is_refused(birds, reproduced, tmp_path):
    out, *_ = reproduced
    (row,) = named_rows("no-dense", 1, "tiny")
    plan = Plan(birds.directory, out, (row,), OPTIONS)
    (other,) = named_rows("s2igan", 1, "tiny")
    given = {"data": birds.directory, "stage": "2", "sen_from": plan.stage_1(row, 0), "device": "cpu"}
    for recipe, options, message in (
        (row.recipe, {}, "dense was"),
        (other.recipe, {"seed": 1}, "seed was 0, is now 1"),
        (replace(other.recipe, beyond=Beyond()), {}, "has no warm start"),
        (other.recipe, {"sen_from": None}, "taken together with its stage 1"),
    ):
        with pytest.raises(UserError, match=message):
            train_run(recipe, out=tmp_path / "run", warm_start_from=plan.warm_start(other, 0), **given | options)


def test_a_pair_has_a_verdict_only_from_several_seeds(reproduced):
    _, _, content, _ = reproduced
    pairs = {(pair["row"], pair["score"]): pair for pair in content["verdicts"]}
    assert {pair["against"] for pair in pairs.values()} == {"s2igan"}
    two, one = (pairs[row, "attributes/per_caption"] for row in ("no-rs", "no-sen"))
    assert (two["seeds"], two["items"]) == (2, 8)
    assert two["verdict"] in ("better", "worse", "no difference shown")
    assert (one["seeds"], one["verdict"]) == (1, "none: one seed")
    assert two["interval_95"][0] <= two["difference"] <= two["interval_95"][1]


def test_the_page_shows_tables_figures_and_costs(reproduced):
    _, page, _, _ = reproduced
    text = page.read_text()
    for part in (
        "Table 1",
        "Ablations",
        "What differs",
        "Figure 2",
        "Figure 3",
        "what it cost",
        "8.54 / 15.59",
        "EfficientNet-Lite2",
    ):
        assert part in text, part
    assert text.count("One word changed, the same noise.") == 2
    assert "Not finished" not in text
    assert "2 of 2" in text
    assert 'src="data:' in text
    assert "http-equiv" in text


def test_its_figures_are_computed_again_by_other_code(reproduced):
    """Means, deviations, differences and their intervals; and those of each row."""
    out, *_ = reproduced
    found = recompute.table_figures(out)
    assert {"mean", "std", "difference", "interval, low"} <= {figure.part for figure in found}
    assert [figure for figure in found if figure.width is None and not figure.agrees] == []


def test_images_and_what_scores_are_means_of_are_left_for_others(reproduced):
    out, *_ = reproduced
    folder = out / "rows" / "s2igan-0" / "evaluation"
    assert len(list((folder / "images" / "generated").iterdir())) >= 8
    assert "real/lite2" in load_file(folder / "features.safetensors")


def test_the_same_command_does_nothing_twice_and_adds_rows(birds, reproduced, tmp_path, monkeypatch):
    out = shutil.copytree(reproduced[0], tmp_path / "out")
    done, plain = [], reproduce.do

    def noted(plan, piece, device):
        done.append(piece.title)
        plain(plan, piece, device)

    monkeypatch.setattr(reproduce, "do", noted)
    made(birds, out)
    assert done == []
    _, content, _ = made(birds, out, rows=ROWS + ",no-dense")
    assert done == ["warm start of no-dense, seed 0", "no-dense, seed 0"], "its stage 1 is there"
    assert [row["name"] for row in content["rows"]] == ["s2igan", "no-dense", "no-rs", "no-sen"]


def test_what_was_interrupted_goes_on(birds, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def interrupted(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(evaluation, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(birds, tmp_path, rows="s2igan")
    trained = (tmp_path / "rows" / "s2igan-0" / "model" / "weights.safetensors").read_bytes()
    _, content, _ = made(birds, tmp_path, rows="s2igan")
    assert content["rows"][0]["seeds"] == [0]
    assert (tmp_path / "rows" / "s2igan-0" / "model" / "weights.safetensors").read_bytes() == trained


def test_a_budget_ends_between_pieces(birds, tmp_path):
    page, content, said = made(birds, tmp_path, rows="s2igan,no-rs", budget_hours=0.0)
    assert page.is_file()
    assert content["rows"][0]["seeds"] == []
    assert "Not finished: 0 of 2 runs are scored." in page.read_text()
    assert "The budget ended" in said[-1]
    assert "the same command goes on" in said[-1]


def piece(kind, number=0, needs=()):
    return Piece(kind, str(number), next(named_rows("s2igan", 1, "tiny")), number, Path(str(number)), frozenset(needs))


def test_the_clock_asks_how_long_its_like_took_also_in_an_earlier_session(monkeypatch, tmp_path):
    now = [0.0]
    monkeypatch.setattr(reproduce.time, "monotonic", lambda: now[0])
    clock = Clock(1.0, tmp_path / "pieces.jsonl")
    assert clock.allows("row")
    clock.took(piece("row"), 2000)
    later = Clock(1.0, tmp_path / "pieces.jsonl")
    now[0] = 1500.0
    assert clock.allows("row")
    assert later.allows("row")
    now[0] = 1700.0
    assert not clock.allows("row")
    assert not later.allows("row")
    assert later.allows("stage 1")
    assert Clock(None, tmp_path / "pieces.jsonl").allows("row")


def test_other_terms_are_refused(birds, reproduced):
    out, *_ = reproduced
    with pytest.raises(UserError, match="was begun with another steps"):
        made(birds, out, steps=7)
    with pytest.raises(UserError, match="scored by another protocol, and the test split is looked at once"):
        made(birds, out, options=replace(OPTIONS, max_captions=5))


def test_rows_are_named_by_table_by_name_and_with_seeds():
    lengths = {"steps": 9, "sen_steps": 5, "warm_start_steps": 3}
    rows = {row.name: row for row in named_rows("table1,ablations,no-rs:3,tiny:1", 2, "tiny", **lengths)}
    assert list(rows)[:4] == ["li2020", "stackgan-v2-text", "stackgan-v2-speech", "s2igan"]
    assert (rows["no-rs"].seeds, rows["no-sen"].seeds, rows["tiny"].seeds) == (3, 2, 1)
    assert rows["no-rs"].recipe.rdg.trainer.steps == 9
    assert rows["no-rs"].recipe.sen.trainer.steps == 5
    assert rows["no-rs"].recipe.beyond.warm_start.trainer.steps == 3
    assert rows["no-sen"].recipe.sen.trainer.steps == 0
    assert rows["tiny"].recipe.rdg.trainer.steps == 2, "what is no method keeps its own"
    for wrong, message in (("nothing", "no such row or table"), ("no-rs:x", "'x' is no number of seeds")):
        with pytest.raises(UserError, match=message):
            list(named_rows(wrong, 1, "tiny"))


def test_seeds_come_one_after_the_other(tmp_path):
    plan = Plan(tmp_path, tmp_path, tuple(named_rows("s2igan:2,no-rs:2", 1, "tiny")), OPTIONS)
    todo = pieces(plan)
    shared = "stage 1 of s2igan, seed ", "warm start of s2igan, seed "
    assert [piece.title for piece in todo] == ["what scores speech and attributes, seed 0"] + [
        f"{title}{seed}" for seed in (0, 1) for title in (*shared, "s2igan, seed ", "no-rs, seed ")
    ]
    made = {piece.title: piece.makes for piece in todo}
    judges, stage_1, warm_start = (made[title] for title in (todo[0].title, *(f"{title}1" for title in shared)))
    needs = {piece.title: piece.needs for piece in todo}
    assert needs[f"{shared[0]}1"] == frozenset()
    assert needs[f"{shared[1]}1"] == {stage_1}
    assert needs["no-rs, seed 1"] == {judges, stage_1, warm_start}


def test_rows_of_different_sizes_are_refused(birds, tmp_path):
    with pytest.raises(UserError, match="the rows want pictures of different sizes"):
        made(birds, tmp_path, rows="s2igan,birds")


def test_each_device_takes_the_next_piece_whose_needs_are_made():
    todo = [piece("row", number) for number in range(5)] + [piece("row", 5, [Path("4")])]
    done: dict[str, list[int]] = {"a": [], "b": []}
    side_by_side(todo, ("a", "b"), lambda piece, device: done[device].append(piece.seed) or True)
    assert sorted(done["a"] + done["b"]) == list(range(6))

    def fail(piece, device):
        raise UserError("no room")

    with pytest.raises(UserError, match="no room"):
        side_by_side(todo, ("a", "b"), fail)


@pytest.mark.parametrize("devices", [("a",), ("a", "b")])
def test_what_needs_something_waits_for_it_and_is_left_out_with_it(devices):
    todo = [piece("row", 0, [Path("2")]), piece("row", 1), piece("stage 1", 2), piece("row", 3, [Path("1")])]
    order = []

    def work(piece, device):
        order.append(piece.seed)
        return piece.seed != 1  # for which there was no time

    side_by_side(todo, devices, work)
    assert sorted(order) == [0, 1, 2], "3 needs 1"
    assert order.index(2) < order.index(0)


def test_a_piece_in_a_process_of_its_own_is_the_same(birds, reproduced, tmp_path):
    out, *_ = reproduced
    plan = Plan(birds.directory, tmp_path, tuple(named_rows("s2igan", 1, "tiny")), OPTIONS)
    stage_1 = next(piece for piece in pieces(plan) if piece.kind == "stage 1")
    elsewhere(do, plan, stage_1, "cpu")
    folders = (stage_1.makes, replace(plan, out=out).stage_1(stage_1.row, 0))
    found, known = (load_file(folder / "sen" / "weights.safetensors") for folder in folders)
    for name in known:
        np.testing.assert_allclose(found[name], known[name], atol=1e-5, err_msg=name)


def test_a_failure_beside_other_work_is_said_at_once(birds, tmp_path, monkeypatch):
    def fail(do, plan, piece, device):
        raise UserError(f"{piece.makes}: no room.")

    monkeypatch.setattr(reproduce, "elsewhere", fail)
    said = []
    with pytest.raises(UserError, match="no room"):
        reproduce.reproduce(
            str(birds.directory),
            tmp_path,
            rows="s2igan",
            base="tiny",
            options=OPTIONS,
            devices=("cpu", "cpu"),
            say=said.append,
        )
    assert any("failed" in line and "no room" in line and "finished first" in line for line in said)


def test_rows_wait_for_the_one_that_they_are_compared_with(reproduced):
    """A verdict against another row, for as long as s2igan is not scored, would be mistaken for the one to come."""
    out, *_ = reproduced
    runs = {seed: out / "rows" / f"no-rs-{seed}" for seed in (0, 1)}
    others = [Line(name, name, (), True, 2, runs) for name in ("no-rs", "no-dense")]
    columns = [("attributes/per_caption", COLUMNS[4])]
    (pair,) = verdicts(others, columns)
    assert (pair["row"], pair["against"], pair["verdict"]) == ("no-dense", "no-rs", "no difference shown")
    assert list(verdicts([*others, Line("s2igan", "s2igan", (), True, 2)], columns)) == []
    assert list(verdicts([], columns)) == []


def test_pairs_are_of_the_same_items_in_whatever_order(tmp_path):
    lines = []
    for name, numbers, values in (("a", [5, 2, 9], [0.5, 0.2, 0.9]), ("b", [9, 1, 2, 5], [1.9, 1.1, 1.2, 1.5])):
        folder = tmp_path / name / "evaluation"
        folder.mkdir(parents=True)
        items = {"numbers": np.array(numbers), "clusters": np.array(numbers) // 5, "values": np.array(values)}
        save_file({f"x/y/{part}": array for part, array in items.items()}, folder / "items.safetensors")
        lines.append(Line(name, name, (), True, 1, {0: tmp_path / name}))
    first, second, clusters = paired_items(*lines, "x/y")
    np.testing.assert_allclose(second - first, 1.0)
    assert clusters.tolist() == [0, 1, 1]
    assert paired_items(*lines, "no/such") is None
    assert paired_items(lines[0], replace(lines[1], runs={1: tmp_path / "b"}), "x/y") is None


@pytest.mark.parametrize(
    ("low", "high", "seeds", "better", "words"),
    [
        (0.1, 0.2, 3, "higher", "better"),
        (-0.2, -0.1, 3, "higher", "worse"),
        (0.1, 0.2, 3, "lower", "worse"),
        (-0.1, 0.2, 3, "higher", "no difference shown"),
        (0.1, 0.2, 1, "higher", "none: one seed"),
        (0.1, 0.2, 3, None, "higher"),
    ],
)
def test_verdicts(low, high, seeds, better, words):
    assert verdict(low, high, seeds, better) == words


def test_every_method_of_the_tables_has_its_published_figures():
    assert {row for table in reproduce.TABLES.values() for row in table} <= PUBLISHED.keys()
    assert {column.published for column in COLUMNS} == {"mAP", "FID", "IS", None}


def test_the_command(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(reproduce, "reproduce", lambda *words, **options: asked.append((words, options)) or tmp_path)
    cli.main(["reproduce", "birds", "--out", "o", "--rows", "s2igan,no-rs:3", "--seeds", "2", "--budget", "1.5"])
    ((words, options),) = asked
    assert (words[0], str(words[1])) == ("birds", "o")
    assert (options["rows"], options["seeds"], options["budget_hours"]) == ("s2igan,no-rs:3", 2, 1.5)
    assert options["options"] == EvaluationOptions(consistency=True, keep_images=True)
    assert f"Page: {tmp_path}" in capsys.readouterr().out
