"""An optimiser's step: over parts of a batch, with broken gradients, in bf16."""

import pytest
import torch
import two_processes as work
from torch import nn
from two_processes import alike

from s2igan.errors import UserError
from s2igan.training import optimisation, precision

WHOLE = slice(0, work.ROWS)
BETAS = 0.9, 0.999


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
            return work.rdg.RDGBatch(**twice)

        with monkeypatch.context() as patch:
            patch.setattr(work, "rdg_batch", doubled)
            return work.rdg_step(WHOLE, **options)

    def test_gradients_are_means_over_parts(self, monkeypatch):
        expected, actual = self.step(monkeypatch), self.step(monkeypatch, accumulate=2)
        compared = {key: value for key, value in expected.items() if "running" not in key and "batches" not in key}
        alike({key: actual[key] for key in compared}, compared)

    def test_running_statistics_see_every_part_once(self, monkeypatch):
        """The generator makes its fakes twice, once for the discriminators; only one of the two counts."""
        actual = self.step(monkeypatch, accumulate=2)
        assert actual["generator.initial.norm.num_batches_tracked"] == 2
        once = self.step(monkeypatch)
        mean = once["generator.initial.norm.running_mean"] / 0.1  # of the batch: the running mean began at 0
        torch.testing.assert_close(actual["generator.initial.norm.running_mean"], (1 - 0.9**2) * mean)

    def test_parts_must_be_equal(self):
        with pytest.raises(UserError, match="accumulate 3 does not divide the batch size 8"):
            work.rdg_step(WHOLE, accumulate=3)
        with pytest.raises(UserError, match="4 images a process do not divide into 8 parts"):
            work.rdg_step(slice(0, 4), accumulate=8)


def test_a_gradient_that_is_not_finite_is_told():
    """Also where the loss itself is finite: the square root's slope at 0."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data.zero_()
    optimiser = optimisation.adam(layer.parameters(), 1e-3, BETAS)
    optimisation.backward(layer(torch.ones(1, 2)).sqrt().sum())
    assert not torch.isfinite(optimisation.optimiser_step({"layer": optimiser})["layer/gradient_norm"])


def test_norms_of_gradients():
    layer = nn.Linear(2, 1)
    optimiser = optimisation.adam(layer.parameters(), 1e-3, BETAS)
    optimisation.backward(layer(torch.tensor([[3.0, 4.0]])).sum())  # the gradient is (3, 4) and 1
    norms = optimisation.optimiser_step({"layer": optimiser})
    torch.testing.assert_close(norms, {"layer/gradient_norm": torch.tensor(26.0).sqrt()})
    assert all(p.grad is None for p in layer.parameters())


def test_networks_train_again_after_they_were_frozen_also_where_a_step_failed():
    layer = nn.Linear(2, 1)

    def fail():
        with optimisation.frozen([layer]):
            assert not any(p.requires_grad for p in layer.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize("saved_layout", [torch.channels_last, torch.contiguous_format])
def test_a_resumed_optimiser_steps_as_one_that_was_not(saved_layout):
    """Whatever the layout of the averages in the checkpoint, which PyTorch's fused Adam would not mind."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(3, 2, 4, 6, 6, generator=rng)

    def train(conv, optimiser, batches):
        for batch in batches:
            optimisation.backward(conv(batch.to(memory_format=torch.channels_last)).square().mean())
            optimisation.optimiser_step({"conv": optimiser})

    def fresh():
        conv = nn.Conv2d(4, 5, 3).to(memory_format=torch.channels_last)
        with torch.no_grad():
            for p in conv.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).view(p.shape))
        return conv, optimisation.adam(conv.parameters(), 1e-2, BETAS)

    whole, optimiser = fresh()
    train(whole, optimiser, images)
    begun, optimiser = fresh()
    train(begun, optimiser, images[:1])
    state = optimiser.state_dict()
    for averages in state["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            if averages[name].dim() == 4:
                averages[name] = averages[name].contiguous(memory_format=saved_layout)
    resumed, optimiser = fresh()
    resumed.load_state_dict(begun.state_dict())
    optimiser.load_state_dict(state)
    train(resumed, optimiser, images[1:])
    assert torch.equal(resumed.weight, whole.weight)


def test_bf16_copies_do_not_outlive_the_weights():
    """A second pass sees the updated weights, though PyTorch keeps the copies that it made for the first."""
    layer, x = nn.Linear(8, 8, bias=False), torch.randn(4, 8)
    optimiser = optimisation.adam(layer.parameters(), 1.0, BETAS)
    with precision.autocast("bf16", torch.device("cpu")):
        before = layer(x)
        assert before.dtype == torch.bfloat16
        optimisation.backward(before.float().square().sum())
        optimisation.optimiser_step({"layer": optimiser})
        after = layer(x)
    torch.testing.assert_close(after.float(), x @ layer.weight.detach().T, atol=0.3, rtol=0.05)
    assert not torch.allclose(after.float(), before.float(), atol=1.0)
