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
from s2igan.losses import matching_loss
from s2igan.training import engine
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


def alike(actual, expected, tolerance=2e-5):
    assert actual.keys() == expected.keys()
    for key in expected:
        scale = max(1.0, float(expected[key].abs().max()))
        if key == "relation.norm.running_mean":  # carries the arbitrary signs of Adam's step on the bias in front of it
            scale *= 2
        torch.testing.assert_close(
            actual[key], expected[key], rtol=0, atol=tolerance * scale, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("stage", ["sen", "rdg"])
def test_two_processes_take_the_step_of_one_with_the_whole_batch(both, stage):
    """Losses, the gradients of every network, running statistics."""
    expected = {"sen": work.sen_step, "rdg": work.rdg_step}[stage](WHOLE)
    first, second = results(both, stage)
    alike(first, expected)
    assert all(torch.equal(first[key], second[key]) for key in first)
    half = {"sen": work.sen_step, "rdg": work.rdg_step}[stage](slice(0, work.ROWS // 2))
    assert any(not torch.allclose(half[key], expected[key], atol=1e-3) for key in half)  # it can fail


def test_batch_norm_of_all_processes(both):
    """Every process's rows of the output and of the input's gradient; the weights' gradients are sums over rows."""
    expected = work.batch_norms(WHOLE)
    parts = results(both, "norm")
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
    """Four parts of two rows each, the same networks everywhere afterwards."""
    first, second = results(both, "accumulated")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert first["generator.initial.norm.num_batches_tracked"] == 2


class TestAccumulation:
    """Rows that occur twice have the batch statistics of once, so that two parts must equal the whole."""

    @staticmethod
    def step(monkeypatch, **options):
        original = work.rdg_batch

        def doubled(rows):
            batch = original(slice(0, 4))
            twice = {
                name: {key: torch.cat([value, value]) for key, value in getattr(batch, name).items()}
                for name in ("real", "mismatched", "relation_features")
            }
            twice |= {name: torch.cat([getattr(batch, name)] * 2) for name in ("embedding", "z", "eps")}
            return work.rdg.RDGBatch(**twice, class_ids=None)

        with monkeypatch.context() as patch:
            patch.setattr(work, "rdg_batch", doubled)
            return work.rdg_step(WHOLE, contrast=0.0, semantic=0.0, **options)

    def test_gradients_are_means_over_parts(self, monkeypatch):
        expected, actual = self.step(monkeypatch), self.step(monkeypatch, accumulate=2)
        compared = {key: value for key, value in expected.items() if "running" not in key and "batches" not in key}
        alike(
            {key: actual[key] for key in compared if "batch_recall" not in key},
            {key: value for key, value in compared.items() if "batch_recall" not in key},
        )

    def test_running_statistics_see_every_part_once(self, monkeypatch):
        """The generator makes its fakes twice, once for its judges; only one of the two counts."""
        actual = self.step(monkeypatch, accumulate=2)
        assert actual["generator.initial.norm.num_batches_tracked"] == 2
        once = self.step(monkeypatch)
        mean = once["generator.initial.norm.running_mean"] / 0.1  # of the batch: the running mean began at 0
        torch.testing.assert_close(actual["generator.initial.norm.running_mean"], (1 - 0.9**2) * mean)

    def test_parts_must_be_equal(self):
        with pytest.raises(UserError, match="8 images a process do not divide into 3 parts"):
            work.rdg_step(WHOLE, accumulate=3)


def test_statistics_held():
    network = nn.Sequential(nn.BatchNorm1d(2))
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    with engine.statistics_held(network):
        held = network(x)
    assert network[0].running_mean.tolist() == [0, 0]
    assert network[0].num_batches_tracked == 0
    torch.testing.assert_close(held, network(x))
    torch.testing.assert_close(network[0].running_mean, torch.tensor([0.2, 0.4]))


def test_one_process_shares_with_nobody():
    layer = nn.Sequential(nn.BatchNorm1d(2))
    engine.synchronise(layer)
    assert type(layer[0]) is nn.BatchNorm1d
    x = torch.randn(3, 2)
    assert engine.gather(x) is x
    assert engine.share(7) == slice(0, 7)
    assert engine.first(lambda: 3) == 3
    with pytest.raises(UserError, match="no, thanks"):
        engine.first(work.refuse)


def test_devices_that_are_not_there(monkeypatch):
    assert engine.start("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"--device cuda: PyTorch finds no GPU here; choose --device cpu\."):
        engine.start("cuda")
    with pytest.raises(UserError, match=r"--device spoon: .*choose cpu or cuda\."):
        engine.start("spoon")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="1 GPUs are not enough for --device cuda:1"):
        engine.start("cuda:1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="1 GPUs are not enough for 2"):
        engine.start("cuda")


def test_a_gradient_that_is_not_finite_moves_nothing():
    """Also where the loss itself is finite: the square root's slope at 0."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data.zero_()
    optimiser = torch.optim.Adam(layer.parameters())
    with pytest.raises(engine.NotFiniteError, match="the gradient of the layer"):
        engine.update(optimiser, layer(torch.ones(1, 2)).sqrt().sum(), "the layer")
    assert (layer.weight == 0).all()
    assert not optimiser.state


def test_bf16_copies_do_not_outlive_the_weights():
    """A second pass sees the updated weights, though PyTorch keeps the copies that it made for the first."""
    layer, x = nn.Linear(8, 8, bias=False), torch.randn(4, 8)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    with engine.autocast("bf16", torch.device("cpu")):
        before = layer(x)
        assert before.dtype == torch.bfloat16
        engine.update(optimiser, before.float().square().sum(), "the layer")
        after = layer(x)
    torch.testing.assert_close(after.float(), x @ layer.weight.detach().T, atol=0.3, rtol=0.05)
    assert not torch.allclose(after.float(), before.float(), atol=1.0)


def test_losses_are_float32_where_networks_are_not():
    """Also their matrix product: rounded to 8 bits, a cosine would be off by a few thousandths."""
    v, a = torch.randn(2, 6, 64, generator=torch.Generator().manual_seed(0))
    expected = matching_loss(v, a)
    with engine.autocast("bf16", torch.device("cpu")):
        actual = matching_loss(v, a)
    for key, value in expected.items():
        assert torch.equal(actual[key], value)


def test_compile_needs_a_compiler(monkeypatch):
    """Every network once; without a compiler it is refused."""
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    layers = [nn.Linear(1, 1), nn.Linear(1, 1)]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    engine.compile_networks(layers)
    assert compiled == layers
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler and there is none"):
        engine.compile_networks(layers)
