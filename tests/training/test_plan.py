"""What a dry run prints: everything resolved, parameters that docs/method.md knows, memory that adds up, time."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from s2igan import cli
from s2igan.errors import UserError
from s2igan.recipes import TrainingSet, resolve
from s2igan.training import plan as module
from s2igan.training.plan import DataFacts, Measurement, Part, SavedTensors, facts_of_recipe, parts, plan, tree
from s2igan.training.trainer import TrainerConfig
from tiny_corpus import shrunk


def counts(recipe, facts=None):
    listed = parts(recipe, facts or facts_of_recipe(recipe))
    return {stage: {part.name: (part.count, part.trained) for part in networks} for stage, networks in listed.items()}


def test_parameters_of_the_paper():
    """method.mds 3 and 4; a relation supervisor with three logits has 129 fewer than the reference's with four."""
    counted = counts(resolve("s2igan", "cub"))
    assert counted["sen"] == {
        "speech encoder": (7_025_344, True),
        "image head": (2_098_176, True),
        "image backbone": (21_785_568, False),
        "classifier": (1025 * 150, True),
    }
    assert counted["rdg"] == {
        "generator": (21_285_776, True),
        "discriminator 64": (5_723_906, True),
        "discriminator 128": (18_834_178, True),
        "discriminator 256": (71_269_122, True),
        "relation supervisor": (263_044 - 129, True),
        "speech encoder": (7_025_344, False),
        "image encoder": (21_785_568 + 2_098_176, False),
    }


def test_parameters_of_the_other_rows():
    assert counts(resolve("no-dense", "cub"))["rdg"]["generator"] == (21_239_696, True)
    assert "relation supervisor" not in counts(resolve("no-rs", "cub"))["rdg"]
    assert "classifier" not in counts(resolve("no-distinctive", "cub"))["sen"]
    assert "classifier" not in counts(resolve("flickr8k"))["sen"]
    assert counts(resolve("oxford102"))["sen"]["classifier"] == (1025 * 82, True)
    assert counts(resolve("end-to-end", "cub"))["rdg"]["speech encoder"] == (7_025_344, True)
    no_sen = counts(resolve("no-sen", "cub"))
    assert not any(trained for _, trained in no_sen["sen"].values())
    assert no_sen["rdg"]["speech encoder"][1]


class TestSavedTensors:
    def test_counts_each_storage_once_and_no_parameter(self):
        layer = nn.Linear(10, 10, bias=False)
        x = torch.randn(4, 10)
        ledger = SavedTensors([layer])
        with ledger.hooks():
            y = layer(x)  # keeps x and the weight
            z = y.sigmoid() + y.tanh()  # each keeps its own output
        assert ledger.peak_bytes == (40 + 40 + 40) * 4
        z.sum().backward()
        with ledger.hooks():
            layer(x)
        assert ledger.peak_bytes == 120 * 4  # the graph is gone, so that the peak stays

    def test_the_peak_is_over_what_is_alive_at_one_time(self):
        x = torch.randn(1000, requires_grad=True)
        ledger = SavedTensors([])
        with ledger.hooks():
            for _ in range(3):
                (x * 2).exp().sum().backward()
        assert ledger.peak_bytes == 4000

    def test_gradients_are_unchanged(self):
        layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2))
        x = torch.randn(2, 3, 8, 8)
        layer(x).square().sum().backward()
        expected = [p.grad.clone() for p in layer.parameters()]
        layer.zero_grad()
        with SavedTensors([layer]).hooks():
            layer(x).square().sum().backward()
        for parameter, gradient in zip(layer.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_memory_is_a_line_through_two_batches():
    measured = Measurement(seconds=3.0, busy=1.0, kept_bytes={2: 300, 4: 500})
    assert measured.batch == 4
    assert measured.kept_at(24) == 100 + 24 * 100


def test_time_and_memory_of_a_stage():
    networks = [Part("generator", 2**18, True, averaged=True), Part("encoder", 2**18, False)]
    measured = Measurement(seconds=2.0, busy=1.0, kept_bytes={2: 2**20, 4: 2**21})
    facts = DataFacts(images=100, classes=0, frames=10, source="")

    def lines(loop, facts=facts, measured=measured):
        return "\n".join(module._stage_report("rdg", 24, loop, networks, facts, measured))

    text = lines(TrainerConfig(epochs=10))
    assert re.findall(r"(\d[\d.]+ MiB)  (\w+)", text) == [
        ("3.0 MiB", "weights"),  # the generator, its average, and the encoder
        ("1.0 MiB", "gradients"),
        ("2.0 MiB", "optimiser"),
        ("12.0 MiB", "kept"),
        ("18.0 MiB", "in"),
    ]
    assert "12.0 s a step" in text
    assert "10 epochs = 40 steps: about 8.0 minutes" in text
    assert "too long" not in text
    assert "300 steps: about 60.0 minutes" in lines(TrainerConfig(steps=300))
    assert "--data" in lines(TrainerConfig(epochs=10), facts=replace(facts, images=None))
    assert "left 40% of a processor" in lines(TrainerConfig(steps=1), measured=replace(measured, busy=0.4))


def test_the_configuration_is_a_tree():
    values = {"a": {"b": None, "c": (1, 2.5)}, "d": True, "e": "x"}
    assert list(tree(values)) == ["a:", "  b: null", "  c: [1, 2.5]", "d: true", "e: x"]


@pytest.mark.parametrize("method", ["s2igan", "stackgan-v2-text", "stackgan-v2-text-reed", "no-sen"])
def test_a_plan_without_data(method):
    recipe = replace(shrunk(resolve(method, "cub")), training_set=TrainingSet(images=60, classes=5))
    text = plan(recipe, device="cpu")
    kind = {"stackgan-v2-text": "text", "stackgan-v2-text-reed": "precomputed"}.get(method, "sed")
    assert f"    kind: {kind}\n" in text
    assert "  generator:\n    embedding: 16\n" in text
    assert "60 training images in 5 classes" in text
    assert ("sen: takes no step" in text) == (method == "no-sen")
    assert re.search(r"rdg: batch 6\n  measured: [\d.]+ s at batch 4; kept .* at 2 and .* at 4\n", text)


def test_a_plan_with_data_goes_by_the_store(store, store_without_classes):
    recipe = shrunk(resolve("s2igan", "birds"))
    recipe = replace(recipe, rdg=replace(recipe.rdg, trainer=TrainerConfig(epochs=9)))
    text = plan(recipe, data=store.directory, device="cpu")
    assert f"Data: {store.directory}: 16 training images, 4 classes, utterances of " in text
    assert re.search(r"sen  classifier +68\n", text)  # (16 + 1) * 4
    assert "9 epochs = 18 steps" in text
    assert "classifier" not in "\n".join(
        module.report(recipe, module.facts_of_store(recipe, store_without_classes.directory), {}, torch.device("cpu"))
    )


def test_a_store_that_does_not_fit_is_refused(store):
    with pytest.raises(UserError, match="prepare it again with --size 256"):
        plan("cub", data=store.directory)


def test_no_weights_are_downloaded(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dry run needs no pretrained weights")

    monkeypatch.setattr("s2igan.models.image_encoder._load_lite0", refuse)
    monkeypatch.setattr("s2igan.models.image_encoder._download_inception", refuse)
    plan(shrunk(resolve("demo")), device="cpu")


def test_the_command(monkeypatch, capsys, tmp_path):
    asked = []

    def record(recipe, **options):
        asked.append((recipe, options))
        return "text"

    monkeypatch.setattr("s2igan.training.plan.plan", record)
    cli.main(["train", "s2igan", "--config", "cub", "--dry-run"])
    assert asked == [("s2igan", {"size": "cub", "data": None, "device": None})]
    assert capsys.readouterr().out == "text\n"
    with pytest.raises(SystemExit, match="1"):
        cli.main(["train", "s2igan", "--config", "cub"])
    assert "--data and --out" in capsys.readouterr().err
