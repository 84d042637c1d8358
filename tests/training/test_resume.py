"""An interrupted run equals one that was not, bit for bit: weights, optimisers, moving average, records, model."""

import json
import math
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from s2igan.checkpoint import load_latest
from s2igan.errors import UserError
from s2igan.recipes import resolve
from s2igan.run_directory import RunDirectory
from s2igan.training import data as training_data
from s2igan.training import stages
from s2igan.training.augment import SpeechAugment
from s2igan.training.beyond.warm_start_stage import WarmStartStage
from s2igan.training.train import train_run
from tiny_corpus import shrunk, tiny_recipe, with_rdg

STEPS = 6
STOP_AFTER = 3
STAGES = {"sen": stages.SENStage, "rdg": stages.RDGStage}
WARM = {"sen": stages.SENStage, "warm_start": WarmStartStage, "rdg": stages.RDGStage}
"""Those of a recipe with a warm start."""


def by_length(recipe):
    return replace(recipe, sen=replace(recipe.sen, length_window=2))


RECIPES = {
    # schedules that know the last step, and options that the paper does not have
    "birds-rdg": lambda: shrunk(resolve("birds-rdg"), STEPS),
    # a speech encoder whose state is saved as well; stopped within a window of batches by length
    "end-to-end": lambda: by_length(with_rdg(tiny_recipe(STEPS), speech="finetuned")),
    # gradients that are accumulated over parts
    "accumulated": lambda: with_rdg(tiny_recipe(STEPS), accumulate=2),
}


def train(recipe, store, out, **options):
    return train_run(recipe, data=store.directory, out=out, device="cpu", seed=3, **options)


def interrupt(monkeypatch, stage):
    """Presses Ctrl-C within the step after which the stage shall stop."""
    original = WARM[stage].update

    def update(self, step):
        if step == STOP_AFTER - 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, step)

    monkeypatch.setattr(WARM[stage], "update", update)


def differences(a, b, name=""):
    """Where two states differ, by name."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), name
        return [line for key in a for line in differences(a[key], b[key], f"{name}/{key}")]
    if isinstance(a, list | tuple):
        assert len(a) == len(b), name
        return [line for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in differences(x, y, f"{name}/{i}")]
    equal = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if equal else [name]


def records(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("name", RECIPES)
def test_resumed_equals_uninterrupted(name, store, tmp_path, monkeypatch):
    recipe = RECIPES[name]()
    whole = train(recipe, store, tmp_path / "whole")
    interrupted = tmp_path / "interrupted"
    trained = list(WARM if recipe.beyond.warm_start.trains else STAGES)
    for stage in trained:
        with monkeypatch.context() as patch:
            interrupt(patch, stage)
            with pytest.raises(KeyboardInterrupt, match=f"saved at step {STOP_AFTER}"):
                train(recipe, store, interrupted, resume=stage != "sen")
    train(recipe, store, interrupted, resume=True)

    for stage in trained:
        expected, actual = (load_latest(run / "checkpoints" / stage)[1] for run in (whole, interrupted))
        assert expected["step"] == actual["step"] == STEPS
        assert differences(expected["stage"], actual["stage"], stage) == []
    networks = load_latest(interrupted / "checkpoints" / "rdg")[1]["stage"]
    parts = {"generator", "discriminator_8", "discriminator_32", "relation"}
    assert parts | {f"{part}_optimiser" for part in parts} | {"ema"} <= networks.keys()
    assert ("speech" in networks) == (name == "end-to-end")
    assert ("warm_start" in trained) == (name == "birds-rdg")
    for folder in ("sen", "model"):
        expected, actual = (load_file(run / folder / "weights.safetensors") for run in (whole, interrupted))
        assert differences(expected, actual) == []
    # The record across the interruption is a mean over the steps since resuming; the others are the same.
    expected, actual = records(whole), records(interrupted)
    assert [(r["stage"], r["step"]) for r in expected] == [(r["stage"], r["step"]) for r in actual]
    assert [r for r in expected if r["step"] != 4] == [r for r in actual if r["step"] != 4]


def test_another_seed_is_another_run(store, tmp_path):
    first = train(tiny_recipe(1), store, tmp_path / "first")
    other = train_run(tiny_recipe(1), data=store.directory, out=tmp_path / "other", device="cpu", seed=4)
    a, b = (load_file(run / "model" / "weights.safetensors") for run in (first, other))
    assert len(differences(a, b)) > len(a) / 2


def test_another_configuration_is_not_resumed(store, tmp_path):
    train(tiny_recipe(1), store, tmp_path / "run")
    with pytest.raises(UserError, match=r"recipe\.rdg\.kl was 2\.0, is now 1\.0"):
        train(with_rdg(tiny_recipe(1), kl=1.0), store, tmp_path / "run", resume=True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_loss_that_is_not_finite_names_the_recordings_of_its_batch(stage, store, tmp_path, monkeypatch):
    """One recording whose log-mel is broken; only the step that meets it may be blamed."""
    read = []
    original = training_data.encoder_input
    calls = {"sen": 2, "rdg": 5}[stage]  # the second batch of the stage; stage 1 takes three before stage 2 begins

    def poisoned(store, utterances, reads, *window):
        mel, lengths = original(store, utterances, reads, *window)
        read.append([str(store.audio_path(int(utterance))) for utterance in utterances])
        if len(read) == calls:
            mel[0, 0, 0] = math.nan
        return mel, lengths

    monkeypatch.setattr(training_data, "encoder_input", poisoned)
    recipe = with_rdg(tiny_recipe(3), speech="finetuned", image_views=0)
    recipe = replace(recipe, sen=replace(recipe.sen, augment=SpeechAugment()))
    with pytest.raises(UserError, match=f"{stage} step 1 gave a value that is not finite") as error:
        train(recipe, store, tmp_path / "run")
    for recording in read[calls - 1][:4]:
        assert recording in str(error.value)
    assert "and 2 more" in str(error.value)


def test_a_missing_shard_and_a_second_process_are_said_and_lose_nothing(store, tmp_path, monkeypatch):
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(store.directory, data)
    recipe = tiny_recipe(STEPS)

    def again():
        return train_run(recipe, data=data, out=out, device="cpu", seed=3, resume=True)

    with monkeypatch.context() as patch:
        interrupt(patch, "rdg")
        with pytest.raises(KeyboardInterrupt):
            train_run(recipe, data=data, out=out, device="cpu", seed=3)
    before = {path: path.read_bytes() for path in out.glob("checkpoints/*/*/*")}
    shard = next(path for path in data.glob("store/*") if path.name.startswith("mels"))
    hidden = shard.rename(tmp_path / shard.name)
    with pytest.raises(UserError, match=rf"{shard}: this part of the prepared store is missing; run 's2igan prepare'"):
        again()
    hidden.rename(shard)
    with RunDirectory.resume(out), pytest.raises(UserError, match="is training here; wait until it ends"):
        again()
    assert {path: path.read_bytes() for path in out.glob("checkpoints/*/*/*")} == before
    again()
    assert load_latest(out / "checkpoints" / "rdg")[1]["step"] == STEPS


@pytest.fixture(scope="module")
def with_checkpoints(store, tmp_path_factory):
    """A recipe that keeps a checkpoint of every step, and a run of its stage 1."""
    recipe = tiny_recipe(4)
    loop = replace(recipe.sen.trainer, checkpoint_seconds=0.0)
    recipe = replace(recipe, sen=replace(recipe.sen, trainer=loop))
    return recipe, train(recipe, store, tmp_path_factory.mktemp("whole") / "run", stage="1")


@pytest.mark.parametrize("damage", ["torn", "altered", "missing", "half a record", "other tensors"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(damage, with_checkpoints, store, tmp_path, capsys):
    """And the weights are those of a run in which nothing was damaged."""
    recipe, trained = with_checkpoints
    run = shutil.copytree(trained, tmp_path / "run")
    whole = load_file(trained / "sen" / "weights.safetensors")
    (run / "sen" / "weights.safetensors").unlink()
    older, newest = sorted((run / "checkpoints" / "sen").iterdir())
    tensors, record = newest / "state.safetensors", newest / "state.json"
    data = tensors.read_bytes()
    match damage:
        case "torn":
            tensors.write_bytes(data[: len(data) // 2])
        case "altered":
            tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "missing":
            tensors.unlink()
        case "half a record":
            record.write_bytes(record.read_bytes()[:-100])
        case "other tensors":
            tensors.write_bytes((older / "state.safetensors").read_bytes())
    train(recipe, store, run, stage="1", resume=True)
    bad = record if damage == "half a record" else tensors
    told = capsys.readouterr().err
    assert f"Passed over a damaged checkpoint: {bad}: is " in told
    assert f"resumed at step 3 from {older.name}" in (run / "log.txt").read_text()
    assert differences(whole, load_file(run / "sen" / "weights.safetensors")) == []
