from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from agreement import assert_same_with_gradients, random
from s2igan.models import small_maps
from s2igan.models.small_maps import convolve, enlarge_and_convolve, is_channels_last, project
from s2igan.training.precision import autocast

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture
def products(monkeypatch):
    """Small weights count as large ones, and no convolution is called."""
    monkeypatch.setattr(small_maps, "LARGE_WEIGHT", 0)
    for name in ("conv2d", "conv_transpose2d"):
        monkeypatch.setattr(F, name, None)


def plainly_enlarged(h, weight):
    return torch.conv2d(F.interpolate(h, scale_factor=2, mode="nearest"), weight, padding=1)


def inputs(layout, *shapes):
    tensors = [random(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    return [(x.contiguous(memory_format=layout) if x.dim() == 4 else x).requires_grad_() for x in tensors]


@pytest.mark.usefixtures("products")
class TestProducts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2)])
    @pytest.mark.parametrize("side", [(2, 2), (5, 7), (4, 6)])
    def test_is_the_convolution(self, layout, kernel, stride, side):
        given = inputs(layout, (2, 3, *side), (5, 3, kernel, kernel), (5,))
        plain = partial(torch.conv2d, stride=stride, padding=1)
        assert_same_with_gradients(partial(convolve, stride=stride), plain, *given)
        assert_same_with_gradients(partial(convolve, stride=stride), plain, *given[:2])  # without bias

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("side", [(1, 1), (1, 3), (4, 4), (5, 3)])
    def test_is_the_enlargement_and_the_convolution(self, layout, side):
        assert_same_with_gradients(enlarge_and_convolve, plainly_enlarged, *inputs(layout, (2, 3, *side), (5, 3, 3, 3)))

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize(
        ("ours", "plain"),
        [
            (partial(convolve, stride=2), partial(torch.conv2d, stride=2, padding=1)),
            (enlarge_and_convolve, plainly_enlarged),
        ],
    )
    def test_bf16(self, layout, ours, plain):
        """Within a few roundings to 8 bits; gradients are those of the float32 weights."""
        given = [x.detach().float().requires_grad_() for x in inputs(layout, (2, 32, 8, 8), (16, 32, 4, 4))]
        if ours is enlarge_and_convolve:
            given[1] = given[1].detach()[:, :, :3, :3].contiguous(memory_format=layout).requires_grad_()

        def under_autocast(*tensors):
            with autocast("bf16", torch.device("cpu")):
                y = ours(*tensors)
            assert y.dtype == torch.bfloat16
            return y.float()

        assert_same_with_gradients(under_autocast, plain, *given, atol=0.6, rtol=0.02)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_layout_is_the_weight_s(self, layout):
        """In both directions, but for the gradient of what is enlarged."""
        for ours, kernel in ((convolve, 3), (partial(convolve, stride=2), 4), (enlarge_and_convolve, 3)):
            x, weight = inputs(layout, (2, 3, 4, 4), (5, 3, kernel, kernel))
            y = ours(x, weight)
            assert is_channels_last(y) == is_channels_last(weight)
            if ours is not enlarge_and_convolve:
                (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
                assert is_channels_last(grad) == is_channels_last(weight)

    def test_only_maps_of_few_pixels(self):
        """The others are left to the library, which the fixture has taken away."""
        weight = random(2, 2, 3, 3)
        convolve(random(1, 2, 8, 8), weight)
        enlarge_and_convolve(random(1, 2, 8, 8), weight)
        for ours in (convolve, enlarge_and_convolve):
            with pytest.raises(TypeError):
                ours(random(1, 2, 8, 9), weight)


@pytest.mark.parametrize(
    ("ours", "kernel"), [(convolve, 3), (enlarge_and_convolve, 3), (partial(convolve, stride=2), 4)]
)
def test_only_large_weights(monkeypatch, ours, kernel):
    products = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda *args: products.append(args) or linear(*args))
    x, weight = random(1, 2, 4, 4), random(3, 2, kernel, kernel)
    ours(x, weight)
    assert not products
    monkeypatch.setattr(small_maps, "LARGE_WEIGHT", 3 * 2 * (16 if ours is enlarge_and_convolve else kernel**2))
    ours(x, weight)
    assert len(products) == 1


@pytest.mark.parametrize("side", [(1, 1), (2, 3), (5, 4)])
def test_large_maps_are_enlarged_and_convolved_in_one(side):
    given = inputs(torch.contiguous_format, (2, 3, *side), (5, 3, 3, 3))
    assert_same_with_gradients(enlarge_and_convolve, plainly_enlarged, *given)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_of_the_kernel_s_size_is_projected(layout):
    """The gradient lies in memory as the weight does."""
    conv = nn.Conv2d(3, 5, 4).double().to(memory_format=layout)
    (x,) = inputs(layout, (2, 3, 4, 4))

    def ours(x, weight, bias):
        conv.weight, conv.bias = weight, bias
        return project(x, conv)

    del conv.weight, conv.bias  # plain attributes from here on
    weight, bias = inputs(layout, (5, 3, 4, 4), (5,))
    assert_same_with_gradients(ours, lambda *given: torch.conv2d(*given).flatten(1), x, weight, bias)
    (grad,) = torch.autograd.grad(ours(x, weight, bias).sum(), weight)
    assert is_channels_last(grad) == is_channels_last(weight)
