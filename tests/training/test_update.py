"""An optimiser's step: over parts of a batch, with broken gradients, in bf16."""

import pytest
import torch
import two_processes as work
from torch import nn
from two_processes import alike

from s2igan.errors import UserError
from s2igan.training import precision, update
from s2igan.training.adam import Adam

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
            return work.rdg_state.RDGBatch(**twice, class_ids=None)

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


def test_a_gradient_that_is_not_finite_moves_nothing():
    """Also where the loss itself is finite: the square root's slope at 0."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data.zero_()
    optimiser = Adam(layer.parameters(), 1e-3, BETAS)
    with pytest.raises(update.NotFiniteError, match="the gradient of the layer"):
        update.update(optimiser, layer(torch.ones(1, 2)).sqrt().sum(), "the layer")
    assert (layer.weight == 0).all()
    assert not optimiser.state


def test_bf16_copies_do_not_outlive_the_weights():
    """A second pass sees the updated weights, though PyTorch keeps the copies that it made for the first."""
    layer, x = nn.Linear(8, 8, bias=False), torch.randn(4, 8)
    optimiser = Adam(layer.parameters(), 1.0, BETAS)
    with precision.autocast("bf16", torch.device("cpu")):
        before = layer(x)
        assert before.dtype == torch.bfloat16
        update.update(optimiser, before.float().square().sum(), "the layer")
        after = layer(x)
    torch.testing.assert_close(after.float(), x @ layer.weight.detach().T, atol=0.3, rtol=0.05)
    assert not torch.allclose(after.float(), before.float(), atol=1.0)
