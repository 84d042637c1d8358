"""The benchmark of what scores cost beside their features, on a few birds."""

from __future__ import annotations

import importlib
import json

from s2igan.evaluation import evaluate, independent_encoders
from s2igan.evaluation.attributes import ClassifierConfig
from small_birds import make_bird_store, make_run
from tiny_corpus import tiny_recipe


def test_it_tells_features_from_the_rest(tmp_path, monkeypatch, capsys):
    benchmark = importlib.import_module("evaluation")
    quick = ClassifierConfig(image_size=16, width=4, drawings=48, held_out=16, epochs=1, batch_size=16)
    plain = evaluate.load_or_train_classifier
    monkeypatch.setattr(evaluate, "load_or_train_classifier", lambda drawing, _: plain(drawing, quick))
    monkeypatch.setattr(independent_encoders, "settings", lambda _: tiny_recipe(2).sen)
    birds = make_bird_store(tmp_path / "birds")
    run = make_run(tmp_path / "run", birds)
    given = ["evaluation.py", str(run), str(birds.directory), "--captions", "4", "--split", "test"]
    monkeypatch.setattr("sys.argv", given)
    benchmark.main()
    found = json.loads(capsys.readouterr().out)
    for name in ("first", "again"):
        assert found[name]["features"] > 0
        assert found[name]["drawing"] > 0
        assert found[name]["ratio"] >= 1
    assert found["first"]["features"] > found["again"]["features"], "those of real pictures are kept"
    assert found["ratio"] == max(found[name]["ratio"] for name in ("first", "again"))
