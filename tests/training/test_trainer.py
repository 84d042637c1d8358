"""The loop that both stages share, with a stage so small that its every number is known."""

import errno
import json
import math
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from s2igan import checkpoint
from s2igan.checkpoint import load_latest
from s2igan.errors import UserError
from s2igan.run_directory import RunDirectory
from s2igan.training.optimisation import Ema, set_learning_rate, weighted_sum
from s2igan.training.prefetch import streams
from s2igan.training.stages import schedule as learning_rate_schedule
from s2igan.training.trainer import Stage, Trainer, TrainerConfig


class Counter(Stage):
    """A stage whose weight is the sum of the numbers of its steps; `trouble` happens in the middle of a step."""

    name = "count"
    seed = 0
    device = torch.device("cpu")
    images_per_step = 2
    steps_per_epoch = 3

    def __init__(self, trouble=None):
        self.state = SimpleNamespace(total=torch.zeros(()))
        self.evaluated = []
        self.trouble = trouble or (lambda index: None)
        self.reader = self
        self.config = None

    @property
    def total(self):
        return self.state.total

    def read(self, step):
        return {"step": step}

    def items(self, step):
        return [f"{step}-a.wav", f"{step}-b.wav"]

    def update(self, step):
        def take(state, batch, config):
            assert batch == f"batch {step}"
            value = self.trouble(step)
            state.total = state.total + step
            loss = torch.tensor(float(step if value is None else value))
            return {"loss": loss, "other": state.total, "count/gradient_norm": torch.tensor(1e9)}

        return take

    def batch(self, read):
        return f"batch {read['step']}"

    def evaluate(self, step):
        self.evaluated.append(step)
        return {"score": float(step)}

    def state_dict(self):
        return {"total": self.state.total}

    def load_state_dict(self, state):
        self.state.total = state["total"]


@pytest.fixture
def run(tmp_path):
    with RunDirectory.create(tmp_path / "run", {}) as directory:
        yield directory


def go(stage, run, steps=6, *, resume=False, **options):
    config = TrainerConfig(steps=steps, **({"log_every": 2, "evaluate_every": 4} | options))
    stage.config = SimpleNamespace(trainer=config)
    Trainer(stage, run, Console(quiet=True)).run(resume=resume)
    return stage


def records(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_records_are_means_over_their_steps(run):
    stage = go(Counter(), run)
    losses = [
        (record["step"], record["epoch"], record["count/loss"]) for record in records(run) if "count/loss" in record
    ]
    assert losses == [(2, 0, 0.5), (4, 1, 2.5), (6, 2, 4.5)]
    assert stage.evaluated == [4, 6]
    assert [record["count/score"] for record in records(run) if "count/score" in record] == [4.0, 6.0]
    assert stage.total == sum(range(6))


def test_the_last_step_is_always_saved_and_resuming_a_finished_stage_does_nothing(run):
    go(Counter(), run)
    _, saved = load_latest(run.checkpoints("count"))
    assert saved["step"] == 6
    again = go(Counter(), run, resume=True)
    assert again.total == 15
    assert again.evaluated == []


def test_ctrl_c_finishes_the_step_saves_and_resumes(run):
    before = signal.getsignal(signal.SIGINT)  # a shell starts what runs in the background with another one

    def press(index):
        if index == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="saved at step 3; go on with --resume"):
        go(Counter(press), run)
    assert load_latest(run.checkpoints("count"))[1]["step"] == 3
    assert signal.getsignal(signal.SIGINT) is before
    stage = go(Counter(), run, resume=True)
    assert stage.total == 15
    steps = [record["step"] for record in records(run) if "count/loss" in record]
    assert steps == [2, 4, 6]


def test_the_request_to_terminate_is_heard_as_well(run):
    with pytest.raises(KeyboardInterrupt, match="saved at step 1"):
        go(Counter(lambda index: signal.raise_signal(signal.SIGTERM)), run)


def test_a_second_ctrl_c_stops_at_once(run):
    def press_twice(index):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(Counter(press_twice), run)
    assert load_latest(run.checkpoints("count")) is None


def test_a_crash_loses_the_steps_since_the_last_checkpoint_only(run):
    def crash(index):
        if index == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        go(Counter(crash), run, checkpoint_seconds=0.0, log_every=1)
    stage = go(Counter(), run, resume=True, log_every=1)
    assert stage.total == 15
    assert [record["step"] for record in records(run) if "count/loss" in record] == [1, 2, 3, 4, 5, 6]


def test_records_after_the_checkpoint_are_written_anew(run):
    """A run that died long after its last checkpoint must not hold two records of one step."""

    def crash(index):
        if index == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        go(Counter(crash), run, log_every=1)
    assert len(records(run)) == 6  # five steps and an evaluation, no checkpoint
    go(Counter(), run, resume=True, log_every=1)
    assert [record["step"] for record in records(run) if "count/loss" in record] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_stops_and_names_the_batch(run, value):
    def broken(index):
        return value if index == 3 else None

    with pytest.raises(UserError, match=r"count step 3 .*\(loss\) for the batch with 3-a\.wav, 3-b\.wav.*--resume"):
        go(Counter(broken), run, checkpoint_seconds=0.0)
    assert load_latest(run.checkpoints("count"))[1]["step"] == 3  # the step that broke is not in it


class Flaky:
    """Trouble at a step, the first so many times that it is taken; also counts the steps taken."""

    def __init__(self, at, times, value=math.nan):
        self.at, self.times, self.value, self.taken = at, times, value, []

    def __call__(self, index):
        self.taken.append(index)
        if index == self.at and self.taken.count(index) <= self.times:
            return self.value
        return None


@pytest.mark.parametrize("value", [math.nan, 1e7, -1e7])
def test_trouble_that_passes_costs_the_steps_since_the_last_checkpoint(run, value):
    """Nothing of the broken step, nor of those that are taken again, is in the weights or in the records."""
    with pytest.raises(KeyboardInterrupt, match="saved at step 3"):
        go(Counter(lambda index: signal.raise_signal(signal.SIGINT) if index == 2 else None), run, steps=8, log_every=1)
    trouble = Flaky(at=5, times=1, value=value)
    stage = go(Counter(trouble), run, steps=8, log_every=1, resume=True)
    assert trouble.taken == [3, 4, 5, 3, 4, 5, 6, 7]
    assert stage.total == sum(range(8))
    assert [record["step"] for record in records(run) if "count/loss" in record] == list(range(1, 9))
    log = (run.path / "log.txt").read_text()
    assert "step 5 gave a value" in log
    assert "its items: 5-a.wav, 5-b.wav" in log
    assert log.count("resumed at step 3 from step-00000003") == 2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, r"a value that is not finite \(loss\)"),
        (1e7, r"a value beyond 1e\+06 \(loss\)"),
    ],
)
def test_trouble_that_stays_stops_with_an_explanation(run, value, words):
    trouble = Flaky(at=3, times=2, value=value)
    with pytest.raises(UserError, match=f"count step 3 gave {words} for .* again, after going back to step-00000003;"):
        go(Counter(trouble), run, checkpoint_seconds=0.0)
    assert trouble.taken == [0, 1, 2, 3, 3]
    assert load_latest(run.checkpoints("count"))[1]["stage"]["total"] == 3
    assert go(Counter(), run, resume=True).total == 15  # mended, it goes on


def test_a_second_trouble_elsewhere_stops_as_well(run):
    """Or a training that diverges would go round for ever."""

    def broken(index):
        return math.nan if trouble.taken.count(index) == 0 and index in (2, 4) and trouble(index) is None else None

    trouble = Flaky(at=-1, times=0)
    with pytest.raises(UserError, match=r"step 4 .* again, after going back to step-00000002"):
        go(Counter(broken), run, checkpoint_seconds=0.0)


def test_trouble_before_any_checkpoint_stops(run):
    with pytest.raises(UserError, match="count step 1 gave a value that is not finite"):
        go(Counter(Flaky(at=1, times=1)), run)
    assert load_latest(run.checkpoints("count")) is None


@pytest.mark.parametrize("where", ["checkpoint", "metrics", "samples", "tensorboard"])
def test_a_full_disk_is_one_sentence_and_loses_nothing(run, monkeypatch, where):
    """Whatever is being written when the last byte is gone; with room again the run goes on."""
    stage = Counter()

    def fail(*args, **kwargs):
        if stage.total >= 6 and (where != "metrics" or args[0].name == "metrics.jsonl"):  # from the fourth step on
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **kwargs)

    owner, name = {
        "checkpoint": (checkpoint, "_save_tensors"),
        "metrics": (Path, "open"),
        "samples": (Counter, "evaluate"),
        "tensorboard": (SummaryWriter, "add_scalar"),
    }[where]
    original = getattr(owner, name)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(UserError, match=r"the disk is full; free some space and run again\.$"):
            go(stage, run, log_every=1, checkpoint_seconds=0.0)
    assert load_latest(run.checkpoints("count"))[1]["step"] == 3
    assert go(Counter(), run, resume=True, log_every=1).total == 15
    assert [record["step"] for record in records(run) if "count/loss" in record] == [1, 2, 3, 4, 5, 6]


def test_precision_is_measured_where_it_is_left_open_and_kept(run, monkeypatch):
    """In bf16 what the stage multiplies is bf16; a resumed run does as the one before, whatever is faster by then."""
    seen = []

    def multiply(index):
        seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)

    def speeds(bf16):
        return lambda dtype, device, **_: bf16 if dtype == torch.bfloat16 else 100.0

    monkeypatch.setattr("s2igan.training.precision.convolution_gflops", speeds(120.0))
    go(Counter(multiply), run, steps=1, precision="auto")
    assert load_latest(run.checkpoints("count"))[1]["precision"] == "float32"
    monkeypatch.setattr("s2igan.training.precision.convolution_gflops", speeds(200.0))
    go(Counter(multiply), run, steps=2, precision="auto", resume=True)
    shutil.rmtree(run.checkpoints("count"))
    go(Counter(multiply), run, steps=1, precision="auto")
    go(Counter(multiply), run, steps=2, precision="bf16")
    assert seen == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16, torch.bfloat16]


def test_only_the_newest_checkpoints_are_kept(run):
    go(Counter(), run, checkpoint_seconds=0.0, keep=2)
    assert sorted(path.name for path in run.checkpoints("count").iterdir()) == ["step-00000005", "step-00000006"]


def test_without_a_terminal_lines_tell_what_remains(run, monkeypatch):
    monkeypatch.setattr("s2igan.training.trainer.PLAIN_LOG_SECONDS", 0.0)
    console = Console(file=open("/dev/null", "w"), record=True, width=200)  # noqa: SIM115
    stage = Counter()
    stage.config = SimpleNamespace(trainer=TrainerConfig(steps=2))
    Trainer(stage, run, console).run(resume=False)
    console.file.close()
    first, second = console.export_text().splitlines()
    assert first.startswith("COUNT 1/2, ")
    assert second.startswith("COUNT 2/2, ")
    assert "0.0 min left" in second
    assert "loss 1.000" in second


def test_epochs_become_steps():
    assert TrainerConfig(epochs=3).in_steps(7) == TrainerConfig(steps=21)
    assert TrainerConfig(steps=5).in_steps(7) == TrainerConfig(steps=5)


def test_streams_differ_by_seed_stage_and_step_and_by_nothing_else():
    def draw(*key):
        numpy_rng, torch_rng = streams(*key)
        return numpy_rng.random(), float(torch.rand((), generator=torch_rng))

    keys = [(0, "sen", 0), (1, "sen", 0), (0, "rdg", 0), (0, "sen", 1)]
    assert [draw(*key) for key in keys] == [draw(*key) for key in keys]
    for position in (0, 1):
        assert len({draw(*key)[position] for key in keys}) == len(keys)


def test_moving_average():
    module = nn.Linear(2, 1)
    module.weight.data.fill_(1.0)
    average = Ema(module, decay=0.9)
    module.weight.data.fill_(2.0)
    average.update(module)
    torch.testing.assert_close(average.parameters["weight"], torch.full((1, 2), 1.1))
    assert (module.weight == 2.0).all()
    other = nn.Linear(2, 1)
    average.copy_to(other)
    torch.testing.assert_close(other.weight.detach(), torch.full((1, 2), 1.1))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("step", [1.0, 1.0, 0.1, 0.1, 0.01]),
        ("trapezoid", [1.0, 1.0, 1.0, 1.0, 0.0]),
        ("cosine", [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0.0]),
    ],
)
def test_schedules(schedule, expected):
    factors = [learning_rate_schedule(step, 4, schedule, decay_every=2) for step in range(5)]
    np.testing.assert_allclose(factors, expected, atol=1e-12)
    warm = [learning_rate_schedule(step, 4, schedule, decay_every=2, warmup=2) for step in range(3)]
    np.testing.assert_allclose(warm, np.array([0.5, 1.0, 1.0]) * expected[:3], atol=1e-12)


def test_learning_rate_reaches_every_group():
    layers = [nn.Linear(1, 1), nn.Linear(1, 1)]
    optimiser = torch.optim.SGD([{"params": layer.parameters()} for layer in layers], lr=1.0)
    set_learning_rate(optimiser, 0.25)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.25]


def test_weighted_sum():
    terms = {"a": torch.tensor(1.0), "b": torch.tensor(10.0)}
    assert weighted_sum(terms) == 11
    assert weighted_sum(terms, {"b": 0.5}) == 6
    with pytest.raises(KeyError, match="c"):
        weighted_sum(terms, {"c": 1.0})


@pytest.mark.parametrize("name", ["log_every", "evaluate_every", "keep"])
def test_intervals_are_at_least_one(name):
    with pytest.raises(UserError, match=f"{name} 0 must be 1 or more"):
        TrainerConfig(**{name: 0})
