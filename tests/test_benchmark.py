"""The benchmark of a machine: peaks of known operations, and the steps of a dry run in both precisions."""

import json
from dataclasses import replace

import pytest
import torch

from s2igan import benchmark as module
from s2igan import cli
from s2igan.training.recipe import TrainingSet
from tiny_corpus import tiny_recipe

CPU = torch.device("cpu")


def test_everything_is_there():
    measured = module.benchmark([replace(tiny_recipe(7), training_set=TrainingSet(60, 5))], device="cpu")
    assert json.loads(json.dumps(measured)) == measured
    for kind in ("product", "convolution"):
        assert all(value > 0 for value in measured["peak_gflops"][kind].values())
    assert measured["auto_precision"] in ("float32", "bf16")
    for precision in ("float32", "bf16"):
        stages = measured["recipes"]["tiny"][precision]
        assert stages.keys() == {"sen", "rdg"}
        assert {stage["precision"] for stage in stages.values()} == {precision}


def test_peaks_are_those_of_the_operations(monkeypatch):
    """A second's work of a known size."""
    from s2igan.training import precision

    monkeypatch.setattr(precision, "seconds", lambda run, device, repeats: (run(), 0.5)[1])
    precision.product_gflops.cache_clear()
    precision.convolution_gflops.cache_clear()
    assert precision.product_gflops(torch.float32, CPU, size=100) == pytest.approx(2 * 100**3 / 0.5 / 1e9)
    forward = 2 * 9 * 4 * 4 * 2 * 8 * 8
    options = {"batch": 2, "channels": 4, "side": 8}
    assert precision.convolution_gflops(torch.float32, CPU, **options) == pytest.approx(forward / 0.5 / 1e9)
    assert precision.convolution_gflops(torch.float32, CPU, backward=True, **options) == pytest.approx(
        3 * forward / 0.5 / 1e9
    )
    precision.product_gflops.cache_clear()
    precision.convolution_gflops.cache_clear()


def test_the_command(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(module, "benchmark", lambda recipes, **options: asked.append((recipes, options)) or {"a": 1})
    cli.main(["benchmark", "--recipes", "birds", "demo"])
    assert asked == [(("birds", "demo"), {"device": None})]
    assert json.loads(capsys.readouterr().out) == {"a": 1}
