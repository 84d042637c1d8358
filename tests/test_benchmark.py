"""The benchmark of a machine: numbers that fit each other, operations counted right, hours that follow from rates."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from s2igan import benchmark as module
from s2igan import cli
from s2igan.recipes import TrainingSet, resolve
from tiny_corpus import tiny_recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def measured():
    return module.benchmark([replace(tiny_recipe(7), training_set=TrainingSet(60, 5))], device="cpu", quick=True)


def test_everything_is_there_and_fits(measured):
    assert json.loads(json.dumps(measured)) == measured
    for kind in ("product", "convolution", "convolution_contiguous"):
        assert all(value > 0 for value in measured["peak_gflops"][kind].values())
    assert measured["auto_precision"] in ("float32", "bf16")
    assert measured["peak_memory_bytes"] > 100 * 2**20  # torch alone
    (tiny,) = measured["recipes"].values()
    for name, batch in module.QUICK_BATCHES.items():
        stage = tiny[name]
        assert stage["batch"] == batch
        assert stage["loader_images_per_second"] > 0
        assert stage["bytes_kept_for_backward_passes"] > 0
        for precision in ("float32", "bf16"):
            speed = stage[precision]
            rate = speed["images_per_second"]
            assert rate == pytest.approx(batch / speed["seconds_per_step"], rel=0.05)
            assert speed["gflops"] == pytest.approx(rate * stage["gflop_per_image"], rel=0.05)
            peak = measured["peak_gflops"]["convolution"][precision]
            assert speed["share_of_convolution_peak"] == pytest.approx(speed["gflops"] / peak, rel=0.05)
            assert speed["projected_hours"] == pytest.approx(7 * 6 / rate / 3600, abs=6e-4)


def test_hours_of_the_paper():
    """600 epochs of 368 steps of 24 images, 150 of 69 of 128."""
    cub = resolve("cub")
    assert module.projected_hours(cub, "rdg", 10.0) == {"projected_hours": round(600 * 368 * 24 / 10 / 3600, 3)}
    assert module.projected_hours(cub, "sen", 10.0) == {"projected_hours": round(150 * 69 * 128 / 10 / 3600, 3)}
    assert module.projected_hours(resolve("places"), "rdg", 10.0) == {}
    birds = resolve("birds")
    hours = round(birds.rdg.trainer.steps / 3600, 3)
    assert module.projected_hours(birds, "rdg", birds.rdg.batch_size) == {"projected_hours": hours}


def test_operations_of_a_step():
    """A stage that multiplies matrices of known sizes, forward and backward."""
    layer = nn.Linear(100, 1000, bias=False)

    class Stage:
        config = tiny_recipe().sen  # a batch of 6

        def step(self, index):
            layer(torch.ones(6, 100)).sum().backward()

    counted = module.count(Stage(), [layer])
    assert counted["gflop_per_image"] == pytest.approx(2 * (2 * 100 * 1000) / 1e9)  # forward, and the weight's gradient
    assert counted["bytes_kept_for_backward_passes"] == 6 * 100 * 4


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
    cli.main(["benchmark", "--quick", "--recipes", "birds", "demo"])
    assert asked == [(("birds", "demo"), {"device": None, "compile": False, "quick": True})]
    assert json.loads(capsys.readouterr().out) == {"a": 1}
