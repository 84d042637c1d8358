"""Two processes against one that accumulates: the same gradients and losses; what one process notices, both know."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes as work
from safetensors.torch import load_file

from s2igan.checkpoint import load_latest
from s2igan.errors import UserError
from s2igan.training import distributed
from s2igan.training.train import train_run
from tiny_corpus import with_rdg

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


def without_statistics(values):
    return {key: value for key, value in values.items() if "running" not in key and "num_batches" not in key}


def test_two_processes_take_the_step_of_stage_1(both):
    """Each sees the pairs of both in the matching loss; batch norms see one half at a time."""
    expected = work.sen_step(WHOLE, halves=True)
    first, second = results(both, "sen")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    work.alike(first, expected)
    half = work.sen_step(slice(0, work.ROWS // 2))
    assert any(not torch.allclose(half[key], expected[key], atol=1e-3) for key in half)  # it can fail


def test_two_processes_take_the_step_of_one_that_accumulates(both):
    """Losses and the gradients of every network of stage 2; each process's running statistics are of its own half."""
    expected = without_statistics(work.rdg_step(WHOLE, accumulate=2))
    first, second = map(without_statistics, results(both, "rdg"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    work.alike(first, expected)
    half = without_statistics(work.rdg_step(slice(0, work.ROWS // 2)))
    assert any(not torch.allclose(half[key], expected[key], atol=1e-3) for key in half)  # it can fail


def test_two_processes_that_accumulate(both):
    """Two parts, of two rows of each process: four parts of one process."""
    first, second = results(both, "accumulated")
    # Batch norms of two rows divide by differences as small as chance makes them, which enlarges rounding.
    work.alike(*map(without_statistics, (first, work.rdg_step(WHOLE, accumulate=4))), tolerance=1e-3)
    whole = without_statistics(work.rdg_step(WHOLE, accumulate=2))
    assert any(not torch.allclose(first[key], whole[key], atol=1e-2) for key in whole)  # it can fail
    assert torch.equal(first["generator.initial.fc.weight"], second["generator.initial.fc.weight"])
    assert first["generator.initial.norm.num_batches_tracked"] == 2


def test_what_one_process_notices_both_know(both):
    told = [json.loads((both / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    for one in told:
        assert one["norm"] == "nan"  # only the second's loss was
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


def test_a_run_of_two_processes_is_that_of_one_that_accumulates(both, store, tmp_path):
    """Stage 2 on one stage 1: the same batches, whole records, one set of files."""
    recipe = with_rdg(work.RECIPE, accumulate=2)
    alone = train_run(
        recipe, data=store.directory, out=tmp_path / "alone", device="cpu", seed=3, sen_from=both / "first"
    )
    expected, actual = losses(alone), losses(both / "whole")
    assert expected.keys() == actual.keys()
    start = [key for key in expected if key[1] == 2 and "total" in key[2]]
    assert len(start) == 5
    for key in start:
        # Adam's first steps are signs, which rounding can turn.
        assert actual[key] == pytest.approx(expected[key], rel=2e-3), key
    _, saved = load_latest(both / "whole" / "checkpoints" / "rdg")
    assert (saved["step"], saved["processes"]) == (work.STEPS, 2)
    files = [sorted(path.relative_to(run).as_posix() for path in run.glob("*/*/*")) for run in (alone, both / "whole")]
    assert [f for f in files[0] if "tfevents" not in f] == [f for f in files[1] if "tfevents" not in f]


def test_one_process_goes_on_where_two_stopped(both, store):
    train_run(work.RECIPE, data=store.directory, out=both / "first", device="cpu", seed=3, resume=True)
    assert {key[0] for key in losses(both / "first")} == {"sen", "rdg"}
    assert "by 1 processes where there were 2" in (both / "first" / "log.txt").read_text()


def test_one_process_shares_with_nobody():
    x = torch.randn(3, 2)
    assert distributed.gather(x) is x
    assert distributed.share(7) == slice(0, 7)
    assert distributed.first(lambda: 3) == 3
    with pytest.raises(UserError, match="no, thanks"):
        distributed.first(work.refuse)


def test_more_processes_than_gpus(monkeypatch):
    assert distributed.start("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="1 GPUs are not enough for 2 processes"):
        distributed.start("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="--device cuda:1 is one GPU for 2 processes; choose --device cuda"):
        distributed.start("cuda:1")
