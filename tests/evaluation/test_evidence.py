"""What an evaluation leaves behind is enough to compute every figure of its record again."""

import json

import numpy as np
import pytest
import recompute

from s2igan.evaluation import distance_scores, evaluate
from s2igan.evaluation.attributes import ClassifierConfig
from s2igan.evaluation.options import EvaluationOptions
from small_birds import make_run
from tiny_corpus import tiny_recipe

QUICK = ClassifierConfig(image_size=16, width=4, drawings=64, held_out=20, epochs=1, batch_size=32)


@pytest.fixture(scope="module")
def folder(small_run, bird_store, tmp_path_factory):
    """Of an evaluation with every score, for which the least numbers of images are lowered."""
    out = tmp_path_factory.mktemp("evidence")
    options = EvaluationOptions(max_captions=12, consistency=True, keep_images=True, protocol="sample")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("LEAST", 5), ("LEAST_FOR_IS", 8), ("IS_SPLITS", 2)):
            patch.setattr(distance_scores, name, value)
        patch.setattr(evaluate, "LEAST_TO_COPY", 5)
        sen = tiny_recipe(2).sen
        evaluate.evaluate(
            small_run, bird_store.directory, options, out=out, classifier=QUICK, encoders=sen, device="cpu"
        )
    return out


def test_every_figure_is_computed_again_by_other_code(folder):
    found, left_out = recompute.figures(folder)
    assert left_out == []
    groups = {"sen", "attributes", "figure3", "consistency", "independent", "drawings", "distances", "memorisation"}
    assert {figure.key.partition("/")[0] for figure in found} == groups | {"diversity", "fakes"}
    assert {"ceiling", "chance", "std", "real against real", "interval, low"} <= {figure.part for figure in found}
    assert [figure for figure in found if figure.width is None and not figure.agrees] == []


def test_a_figure_that_was_changed_is_found(folder, tmp_path, capsys, monkeypatch):
    for name in ("features.safetensors", "described.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    record = json.loads((folder / "metrics.json").read_text())
    (score,) = [score for score in record["scores"] if score["key"] == "consistency/r_precision"]
    score["value"] += 0.01
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    monkeypatch.setattr("sys.argv", ["recompute.py", str(tmp_path)])
    assert recompute.main() == 1
    assert "differs: consistency/r_precision, value" in capsys.readouterr().out


def test_all_images_that_figures_are_of_are_left(folder):
    features = recompute.load_file(folder / "features.safetensors")
    kept = {kind.name: len(list(kind.rglob("*.png"))) for kind in (folder / "images").iterdir()}
    assert kept["generated"] == len(features["generated/numbers"])
    assert kept["real"] == len(features["real/numbers"])
    assert kept["diversity"] == np.prod(features["diversity/lite2"].shape[:2])
    seen = [values for name, values in features.items() if name.startswith("figure3/")]
    assert kept["figure3"] == sum(map(len, seen))


def test_every_score_says_by_what_it_was_measured(folder):
    """docs/metrics.md, "What a score's record must hold"."""
    record = json.loads((folder / "metrics.json").read_text())
    for score in record["scores"]:
        wanted = {"split", "extractor", "sha256", "seed", "voice" if score["group"] == "figure3" else "voices"}
        assert wanted <= score["protocol"].keys(), score["key"]
        assert any(isinstance(value, int) for name, value in score["protocol"].items() if name != "seed"), score["key"]
    kernel = [score for score in record["scores"] if "/kd_" in score["key"] and not score["key"].endswith("_ratio")]
    assert len(kernel) == 3
    assert all(isinstance(score["protocol"]["real_against_real"], float) for score in kernel)


def check(folder):
    found, left_out = recompute.figures(folder)
    assert left_out == []
    assert [figure for figure in found if figure.width is None and not figure.agrees] == []
    return {figure.key.partition("/")[0] for figure in found}


def test_a_set_without_classes_and_attributes_is_computed_again(tmp_path, store_without_classes):
    run = make_run(tmp_path / "run", store_without_classes)
    options = EvaluationOptions(max_captions=8, keep_images=True)
    evaluate.evaluate(run, store_without_classes.directory, options, out=tmp_path, device="cpu")
    assert check(tmp_path) == {"sen", "independent", "distances", "diversity", "fakes"}


def test_reconstructions_are_computed_again(tmp_path, flow_run, larger_birds, monkeypatch):
    monkeypatch.setattr(distance_scores, "LEAST", 4)
    options = EvaluationOptions(max_captions=6, keep_images=True)
    evaluate.evaluate(flow_run, larger_birds.directory, options, out=tmp_path, classifier=QUICK, device="cpu")
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert "reconstructions/kd_lite2" in {score["key"] for score in record["scores"]}
    assert "reconstructions" in check(tmp_path)


def test_stage_1_alone_is_computed_again(tmp_path, bird_store):
    run = make_run(tmp_path / "run", bird_store, trained="sen")
    evaluate.evaluate(run, bird_store.directory, EvaluationOptions(keep_images=True), out=tmp_path, device="cpu")
    assert check(tmp_path) == {"sen"}


def test_what_left_nothing_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["recompute.py", str(tmp_path)])
    assert recompute.main() == 0
    assert "has no described.json; run s2igan evaluate --keep-images" in capsys.readouterr().out
