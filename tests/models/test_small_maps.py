from functools import partial

import pytest
import torch
import torch.nn.functional as F

from agreement import assert_same_with_gradients, random
from s2igan.models import small_maps
from s2igan.models.blocks import enlarge_and_convolve, layout
from s2igan.models.small_maps import convolve
from s2igan.training.precision import autocast

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture
def products(monkeypatch):
    """Small weights count as large ones, and no convolution is called."""
    monkeypatch.setattr(small_maps, "LARGE_WEIGHT", 0)
    monkeypatch.setattr(F, "conv2d", None)


def inputs(memory_format, *shapes):
    tensors = [random(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    return [(x.contiguous(memory_format=memory_format) if x.dim() == 4 else x).requires_grad_() for x in tensors]


@pytest.mark.usefixtures("products")
class TestProducts:
    @pytest.mark.parametrize("memory_format", LAYOUTS)
    @pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2)])
    @pytest.mark.parametrize("side", [(2, 2), (5, 7), (4, 6)])
    def test_is_the_convolution(self, memory_format, kernel, stride, side):
        given = inputs(memory_format, (2, 3, *side), (5, 3, kernel, kernel))
        plain = partial(torch.conv2d, stride=stride, padding=1)
        assert_same_with_gradients(partial(convolve, stride=stride), plain, *given)

    @pytest.mark.parametrize("memory_format", LAYOUTS)
    def test_is_the_enlargement_and_the_convolution(self, memory_format):
        given = inputs(memory_format, (2, 3, 4, 3), (5, 3, 3, 3))
        assert_same_with_gradients(
            enlarge_and_convolve, lambda h, w: torch.conv2d(F.interpolate(h, scale_factor=2), w, padding=1), *given
        )

    @pytest.mark.parametrize("memory_format", LAYOUTS)
    def test_bf16(self, memory_format):
        """Within a few roundings to 8 bits; gradients are those of the float32 weights."""
        given = [x.detach().float().requires_grad_() for x in inputs(memory_format, (2, 32, 8, 8), (16, 32, 4, 4))]

        def under_autocast(*tensors):
            with autocast("bf16", torch.device("cpu")):
                y = convolve(*tensors, stride=2)
            assert y.dtype == torch.bfloat16
            return y.float()

        assert_same_with_gradients(
            under_autocast, partial(torch.conv2d, stride=2, padding=1), *given, atol=0.6, rtol=0.02
        )

    @pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2)])
    def test_channels_last_stays(self, kernel, stride):
        x, weight = inputs(torch.channels_last, (2, 3, 4, 4), (5, 3, kernel, kernel))
        y = convolve(x, weight, stride=stride)
        assert layout(y) == torch.channels_last
        (grad,) = torch.autograd.grad(y, weight, torch.ones_like(y))
        assert layout(grad) == torch.channels_last

    def test_only_maps_of_few_pixels(self):
        """The others are left to the library, which the fixture has taken away."""
        weight = random(2, 2, 3, 3)
        convolve(random(1, 2, 8, 8), weight)
        with pytest.raises(TypeError):
            convolve(random(1, 2, 8, 9), weight)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2)])
def test_only_large_weights(monkeypatch, kernel, stride):
    products = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda *args: products.append(args) or linear(*args))
    x, weight = random(1, 2, 4, 4), random(3, 2, kernel, kernel)
    convolve(x, weight, stride=stride)
    assert not products
    monkeypatch.setattr(small_maps, "LARGE_WEIGHT", 3 * 2 * kernel**2)
    convolve(x, weight, stride=stride)
    assert len(products) == 1
