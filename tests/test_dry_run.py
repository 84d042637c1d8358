"""A dry run: everything resolved, parameters that docs/method.md knows, time in proportion."""

import json
from dataclasses import replace

import pytest
import torch

from s2igan import cli, dry_run
from s2igan.dry_run import DataFacts, measure, parts
from s2igan.errors import UserError
from s2igan.recipes import resolve
from s2igan.training.recipe import TrainingSet
from s2igan.training.trainer import TrainerConfig
from tiny_corpus import shrunk, tiny_recipe

CPU = torch.device("cpu")


def counts(recipe):
    counted = parts(recipe, DataFacts.of(recipe).classes)
    return {stage: {name: tuple(part.values()) for name, part in of.items()} for stage, of in counted.items()}


def test_parameters_of_the_paper():
    """method.md 3 and 4; a relation supervisor with three logits has 129 fewer than the reference's with four."""
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


@pytest.mark.parametrize("method", ["s2igan", "stackgan-v2-text", "stackgan-v2-text-reed", "no-sen"])
def test_a_dry_run_without_data(method):
    recipe = replace(shrunk(resolve(method, "cub")), training_set=TrainingSet(images=60, classes=5))
    found = dry_run.dry_run(recipe, device="cpu")
    assert json.loads(json.dumps(found)).keys() == found.keys()
    assert min(found["convolution_gflops"].values()) > 0
    kind = {"stackgan-v2-text": "text", "stackgan-v2-text-reed": "precomputed"}.get(method, "sed")
    assert found["recipe"]["sen"]["speech"]["kind"] == kind
    assert found["recipe"]["rdg"]["generator"]["embedding"] == 16
    assert found["data"] == {"images": 60, "classes": 5, "frames": 500, "store": None}
    assert ("sen" in found["measured"]) == (method != "no-sen")
    measured = found["measured"]["rdg"]
    assert measured["measured_batch_size"] == measured["batch_size"] == 6
    assert measured["images_per_second"] == pytest.approx(6 / measured["seconds_per_step"], rel=0.05)
    assert measured["peak_memory_gib_at_measured_batch_size"] > 0.1  # torch alone


def test_a_dry_run_with_data_goes_by_the_store(store, store_without_classes):
    recipe = shrunk(resolve("s2igan", "birds-rdg"))
    recipe = replace(recipe, rdg=replace(recipe.rdg, trainer=TrainerConfig(epochs=9)))
    found = dry_run.dry_run(recipe, data=store.directory, device="cpu")
    assert (found["data"]["images"], found["data"]["classes"]) == (16, 4)
    assert found["data"]["store"] == str(store.directory)
    assert found["parts"]["sen"]["classifier"] == {"parameters": 68, "trained": True}  # (16 + 1) * 4
    assert found["measured"]["rdg"]["steps"] == 18
    assert DataFacts.of(recipe, store_without_classes.directory).classes == 0


def test_a_warm_start_is_a_stage_with_networks_of_its_own():
    found = dry_run.dry_run(shrunk(resolve("birds-rdg")), device="cpu")
    assert list(found["measured"]) == ["sen", "warm_start", "rdg"]
    assert found["measured"]["warm_start"]["steps"] == 1
    warm, rdg = (found["parts"][name] for name in ("warm_start", "rdg"))
    assert warm["generator"] == rdg["generator"]
    assert warm["contour encoder"]["trained"]
    assert "warm_start" not in parts(resolve("cub"), 150)


def test_steps_that_take_long_are_measured_at_a_smaller_batch(monkeypatch):
    recipe = tiny_recipe(steps=1000)
    for patience, batch in ((1e-9, dry_run.SMALL_BATCH), (1e9, 6)):
        monkeypatch.setattr(dry_run, "PATIENCE_SECONDS", patience)
        for measured in measure(recipe, DataFacts(), CPU).values():
            assert (measured["measured_batch_size"], measured["batch_size"]) == (batch, 6)
            assert measured["hours"] == pytest.approx(1000 * measured["seconds_per_step"] / 3600, abs=1e-3)


def test_hours_of_epochs_need_a_number_of_images():
    recipe = tiny_recipe()
    recipe = replace(recipe, rdg=replace(recipe.rdg, trainer=TrainerConfig(epochs=3)))
    assert "hours" not in measure(recipe, DataFacts(), CPU)["rdg"]
    assert measure(recipe, DataFacts(images=60), CPU)["rdg"]["steps"] == 30


def test_a_store_that_does_not_fit_is_refused(store):
    with pytest.raises(UserError, match="prepare it again with --size 256"):
        dry_run.dry_run(resolve("cub"), data=store.directory)


def test_no_weights_are_downloaded(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dry run needs no pretrained weights")

    monkeypatch.setattr("s2igan.models.image_encoder.load_in_order", refuse)
    monkeypatch.setattr("s2igan.models.image_encoder._download_inception", refuse)
    dry_run.dry_run(shrunk(resolve("birds-rdg")), device="cpu")


def test_the_command(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(dry_run, "dry_run", lambda recipe, **options: asked.append((recipe, options)) or {"a": 1})
    cli.main(["train", "s2igan", "--base", "cub", "--dry-run"])
    assert asked == [(resolve("s2igan", "cub"), {"data": None, "autoencoder": None, "device": None})]
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    with pytest.raises(SystemExit, match="1"):
        cli.main(["train", "s2igan", "--base", "cub"])
    assert "--data and --out" in capsys.readouterr().err


def test_latent_flow_is_measured_stage_by_stage():
    recipe = shrunk(resolve("demo"), steps=1000)
    found = dry_run.dry_run(recipe, device="cpu")
    assert list(found["parts"]) == ["sen", "autoencoder", "matchmap", "flow"]
    assert list(found["measured"]) == ["sen", "autoencoder", "matchmap", "flow"]
    assert found["parts"]["flow"]["velocity network"]["trained"]
    assert not found["parts"]["flow"]["word encoder"]["trained"]
    assert all(stage["steps"] == 1000 for stage in found["measured"].values())
