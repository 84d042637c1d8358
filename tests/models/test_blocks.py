import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from agreement import assert_same_with_gradients, random
from s2igan.models.blocks import (
    ConcatConv3x3,
    ResidualBlock,
    UpBlock,
    enlarge_and_convolve,
    gate,
    init_weights,
    layout,
    seeded,
)


class TestConcatConv:
    @pytest.mark.parametrize("side", [(2, 2), (2, 5), (3, 3), (4, 4), (5, 7)])
    def test_is_the_convolution_of_the_concatenation(self, side):
        block = ConcatConv3x3(3, 4, 5).double()

        def plain(c, h, weight):
            tiled = c[:, :, None, None].expand(-1, -1, *h.shape[-2:])
            return F.conv2d(torch.cat((tiled, h), dim=1), weight, padding=1)

        def ours(c, h, weight):
            return torch.func.functional_call(block, {"weight": weight}, (c, h))

        inputs = random(2, 3), random(2, 4, *side, seed=1), random(5, 7, 3, 3, seed=2)
        assert_same_with_gradients(ours, plain, *(x.requires_grad_() for x in inputs))

    def test_the_condition_comes_first(self):
        block = ConcatConv3x3(3, 3, 2).double()
        c, h = random(2, 3), random(2, 3, 4, 4, seed=1)
        with torch.no_grad():
            block.weight[:, 3:] = 0
            assert not torch.allclose(block(c, h), block(2 * c, h))
            torch.testing.assert_close(block(c, h), block(c, 2 * h))

    def test_one_weight_in_the_state(self):
        assert {key: tuple(value.shape) for key, value in ConcatConv3x3(3, 4, 5).state_dict().items()} == {
            "weight": (5, 7, 3, 3)
        }


class TestGate:
    def test_is_glu(self):
        inputs = random(2, 6, 4, 5).requires_grad_()
        assert_same_with_gradients(gate, lambda x: F.glu(x, dim=1), inputs)

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_layout_stays_in_both_directions(self, layout):
        x = random(2, 6, 4, 5).contiguous(memory_format=layout).requires_grad_()
        y = gate(x)
        (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
        assert y.is_contiguous(memory_format=layout)
        assert grad.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [(1, 1), (2, 3), (5, 4)])
def test_enlargement_and_convolution_in_one(side, memory_format):
    """Also the layout of the weight, for the result and the weight's gradient."""
    h, weight = random(2, 3, *side).requires_grad_(), random(5, 3, 3, 3, seed=1)
    weight = weight.contiguous(memory_format=memory_format).requires_grad_()
    assert_same_with_gradients(
        enlarge_and_convolve, lambda h, w: F.conv2d(F.interpolate(h, scale_factor=2), w, padding=1), h, weight
    )
    y = enlarge_and_convolve(h, weight)
    assert layout(y) == memory_format
    assert layout(torch.autograd.grad(y.sum(), weight)[0]) == memory_format


def test_up_block_gates_the_first_half_by_the_second():
    block = UpBlock(2, 3).eval()
    h = random(1, 2, 4, 4).float()
    with torch.no_grad():
        block.norm.bias[3:] = -30  # closes every gate
        assert block(h).abs().max() < 1e-8
        block.norm.bias[3:] = 30  # opens them
        both = block.norm(enlarge_and_convolve(h, block.conv.weight))
        torch.testing.assert_close(block(h), both[:, :3])


def test_residual_block_adds_its_input():
    block = ResidualBlock(3).eval()
    h = random(2, 3, 4, 4).float()
    with torch.no_grad():
        assert not torch.allclose(block(h), h)
        block.norm2.weight.zero_()
        torch.testing.assert_close(block(h), h)  # and nothing comes after the sum


class TestInitialWeights:
    def network(self):
        return nn.Sequential(
            nn.Conv2d(4, 8, 3),
            nn.BatchNorm2d(400),
            ConcatConv3x3(3, 4, 5),
            nn.Linear(9, 6),
        )

    def test_orthogonal_rows(self):
        network = self.network()
        init_weights(network, torch.Generator().manual_seed(0))
        for weight in (network[0].weight, network[2].weight, network[3].weight):
            rows = weight.detach().flatten(1)
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)

    def test_biases_and_batch_norm(self):
        network = self.network()
        init_weights(network, torch.Generator().manual_seed(0))
        conv, norm, _, linear = network
        assert (linear.bias == 0).all()
        assert (norm.bias == 0).all()
        assert abs(norm.weight.mean().item() - 1) < 0.005
        assert 0.017 < norm.weight.std().item() < 0.023
        assert 0 < conv.bias.abs().max() <= 1 / math.sqrt(4 * 9)

    def test_everything_follows_from_the_seed(self):
        networks = [self.network() for _ in range(3)]
        before = torch.get_rng_state()
        for network, seed in zip(networks, (1, 1, 2), strict=True):
            init_weights(network, torch.Generator().manual_seed(seed))
        assert torch.equal(torch.get_rng_state(), before)
        first, same, other = (list(network.parameters()) for network in networks)
        assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
        assert not torch.equal(first[0], other[0])


class TestSeeded:
    def test_modules_follow_from_the_seed_and_the_global_state_stays(self):
        before = torch.get_rng_state()
        made = []
        for seed in (1, 1, 2):
            with seeded(seed):
                made.append(nn.Linear(3, 3).weight)
        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[0], made[2])
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(("device", "chosen"), [("cpu", None), ("cuda:1", 1), ("cuda", 0)])
    def test_only_the_generator_of_the_named_gpu_is_seeded_and_put_back(self, monkeypatch, device, chosen):
        """Two generators stand in for those of two GPUs."""
        gpus = tuple(torch.Generator().manual_seed(seed) for seed in (3, 4))
        before = [gpu.get_state() for gpu in gpus]
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "default_generators", gpus)
        with seeded(5, torch.device(device)):
            seeds = [gpu.initial_seed() for gpu in gpus]
            for gpu in gpus:
                torch.rand(2, generator=gpu)
        assert seeds == [5 if number == chosen else own for number, own in enumerate((3, 4))]
        as_before = [torch.equal(gpu.get_state(), state) for gpu, state in zip(gpus, before, strict=True)]
        assert as_before == [number == chosen for number in range(2)]

    def test_gpus_are_left_alone_without_a_device(self, monkeypatch):
        """PyTorch's own `manual_seed` would seed every one of them for good."""
        calls = []
        monkeypatch.setattr(torch.cuda, "manual_seed_all", calls.append)
        with seeded(5):
            pass
        assert not calls


def test_maps_of_one_pixel_are_too_small_for_the_condition():
    with pytest.raises(RuntimeError):
        ConcatConv3x3(3, 4, 5)(torch.zeros(1, 3), torch.zeros(1, 4, 1, 6))
