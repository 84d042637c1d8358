"""Two processes against one: the same gradients, statistics and losses; what one process notices, both know."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes as work
from safetensors.torch import load_file
from torch import nn

from s2igan.checkpoint import load_latest
from s2igan.errors import UserError
from s2igan.training import batch_norm
from s2igan.training import distributed as processes
from s2igan.training.train import train_run

WHOLE = slice(0, work.ROWS)
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def both(store, tmp_path_factory):
    """The folder in which two processes, started by torchrun as a user would, left what they found."""
    out = tmp_path_factory.mktemp("both")
    paths = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "src")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(HERE / "two_processes.py"), str(store.directory), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def results(both, name):
    return [load_file(both / f"{name}-{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize("by", ["link", "gloo"])
@pytest.mark.parametrize("stage", ["sen", "rdg"])
def test_two_processes_take_the_step_of_one_with_the_whole_batch(both, stage, by):
    """Losses, the gradients of every network, running statistics."""
    expected = {"sen": work.sen_step, "rdg": work.rdg_step}[stage](WHOLE)
    first, second = results(both, f"{stage}-{by}")
    work.alike(first | second, expected)
    shared = first.keys() & second.keys()
    assert all(torch.equal(first[key], second[key]) for key in shared)
    divided = {key for key in expected if key.endswith(("weight", "bias"))}
    assert shared.isdisjoint(divided) if by == "link" else shared == expected.keys()
    half = {"sen": work.sen_step, "rdg": work.rdg_step}[stage](slice(0, work.ROWS // 2))
    assert any(not torch.allclose(half[key], expected[key], atol=1e-3) for key in half)  # it can fail


@pytest.mark.parametrize("by", ["link", "gloo"])
def test_batch_norm_of_all_processes(both, by):
    """Every process's rows of the output and of the input's gradient; the weights' gradients are sums over rows."""
    expected = work.batch_norms(WHOLE)
    parts = results(both, f"norm-{by}")
    for key, value in expected.items():
        if key.endswith(("y", "grad_x")):
            actual = torch.cat([part[key] for part in parts])
        elif "grad" in key:
            actual = parts[0][key] + parts[1][key]
        else:
            actual = parts[0][key]
            assert torch.equal(actual, parts[1][key])
        torch.testing.assert_close(actual, value, msg=lambda text, key=key: f"{key}: {text}")


def test_what_one_process_notices_both_know(both):
    told = [json.loads((both / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    for one in told:
        assert one["broken"] == "the gradient of the layer"  # only the second's loss was
        assert one["moved"] == "False"
        assert one["anywhere"] == "True"
        assert "batch of 5 cannot be shared by 2 processes" in one["share"]
    assert told[0]["first"] == "no, thanks — niemals."
    assert told[1]["first"] == "process 1 stopped because the first one did: no, thanks — niemals."
    assert [one["value"] for one in told] == ["7", "None"]


def test_a_process_that_ends_leaves_the_others_first(both):
    assert [(both / f"left-{rank}").read_text() for rank in (0, 1)] == ["True", "True"]


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {(line["stage"], line["step"], key): value for line in lines for key, value in line.items() if "/" in key}


def test_a_run_of_two_processes_is_the_run_of_one_and_resumes_as_such(both, store, tmp_path):
    """The same batches, whole records, one set of files; then one process goes on where two stopped."""
    alone = train_run(work.RECIPE, data=store.directory, out=tmp_path / "alone", device="cpu", seed=3)
    expected, actual = losses(alone), losses(both / "whole")
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        # Dropout-free, so that only rounding differs; Adam's first steps are signs, which rounding can turn.
        assert actual[key] == pytest.approx(value, rel=0.02, abs=0.02), key
    start = [key for key in expected if key[1] == 2 and "total" in key[2]]
    assert len(start) == 6
    for key in start:
        assert actual[key] == pytest.approx(expected[key], rel=2e-3), key
    _, saved = load_latest(both / "whole" / "checkpoints" / "rdg")
    assert (saved["step"], saved["processes"]) == (work.STEPS, 2)
    files = [sorted(path.relative_to(run).as_posix() for path in run.glob("*/*/*")) for run in (alone, both / "whole")]
    assert [f for f in files[0] if "tfevents" not in f] == [f for f in files[1] if "tfevents" not in f]

    train_run(work.RECIPE, data=store.directory, out=both / "first", device="cpu", seed=3, resume=True)
    resumed = losses(both / "first")
    assert resumed.keys() == expected.keys()
    for key in start:
        assert resumed[key] == pytest.approx(expected[key], rel=2e-3), key
    assert "by 1 processes where there were 2" in (both / "first" / "log.txt").read_text()


def test_accumulated_in_two_processes(both):
    """Two parts, of two rows of each process: as the same rows in two parts of one process."""
    first, second = results(both, "accumulated-link")
    assert all(torch.equal(first[key], second[key]) for key in first.keys() & second.keys())
    rows = torch.tensor([0, 1, 4, 5, 2, 3, 6, 7])
    work.alike(first | second, work.rdg_step(rows, accumulate=2), parts=2)
    assert first["generator.initial.norm.num_batches_tracked"] == 2


def test_one_process_shares_with_nobody():
    layer = nn.Sequential(nn.BatchNorm1d(2))
    batch_norm.synchronise(layer)
    assert type(layer[0]) is nn.BatchNorm1d
    x = torch.randn(3, 2)
    assert processes.gather(x) is x
    assert processes.share(7) == slice(0, 7)
    assert processes.first(lambda: 3) == 3
    with pytest.raises(UserError, match="no, thanks"):
        processes.first(work.refuse)


def test_devices_that_are_not_there(monkeypatch):
    assert processes.start("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"--device cuda: PyTorch finds no GPU here; choose --device cpu\."):
        processes.start("cuda")
    with pytest.raises(UserError, match=r"--device spoon: .*choose cpu or cuda\."):
        processes.start("spoon")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="1 GPUs are not enough for --device cuda:1"):
        processes.start("cuda:1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="1 GPUs are not enough for 2"):
        processes.start("cuda")
