import pytest
import torch
import torch.nn.functional as F
from torch import nn

from s2igan.errors import UserError
from s2igan.models.blocks import init_weights
from s2igan.models.generator import ConditioningAugmentation, Generator, GeneratorConfig, ToRGB

SMALL = {"embedding": 6, "condition": 3, "z": 4, "width": 8, "resolutions": (8, 16, 32)}


def generator(**options):
    model = Generator(GeneratorConfig(**(SMALL | options)))
    init_weights(model, torch.Generator().manual_seed(0))
    return model.eval()


def inputs(batch=3):
    rng = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, n, generator=rng) for n in (6, 4, 3))


@pytest.mark.parametrize(("dense", "count"), [("previous", 21_285_776), ("none", 21_239_696)])
def test_size_of_the_paper(dense, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in Generator(GeneratorConfig(dense=dense)).parameters()) == count


@pytest.mark.parametrize("resolutions", [(8,), (16, 32), (8, 16, 32), (64, 128, 256)])
@torch.no_grad()
def test_one_image_per_scale(resolutions):
    output = generator(resolutions=resolutions)(*inputs(2))
    assert [tuple(image.shape) for image in output.images] == [(2, 3, side, side) for side in resolutions]
    for image in output.images:
        assert -1 <= image.min() < image.max() <= 1


def test_initial_channels():
    """The 4x4 map has 16 widths at 64 px, as the paper's."""
    with torch.device("meta"):
        for side, multiple in ((8, 2), (16, 4), (64, 16)):
            assert Generator(GeneratorConfig(width=64, resolutions=(side,))).initial.channels == 64 * multiple


class TestConditioning:
    def test_halves(self):
        augmentation, (embedding, _, eps) = ConditioningAugmentation(6, 3), inputs()
        a, b = augmentation.fc(embedding).chunk(2, dim=1)
        gated = a * torch.sigmoid(b)
        c, mu, logvar = augmentation(embedding, eps)
        torch.testing.assert_close(mu, gated[:, :3])
        torch.testing.assert_close(logvar, gated[:, 3:])
        torch.testing.assert_close(c, mu + torch.exp(0.5 * logvar) * eps)

    def test_without_noise_c_is_the_mean(self):
        c, mu, _ = ConditioningAugmentation(6, 3)(inputs()[0])
        assert torch.equal(c, mu)

    @torch.no_grad()
    def test_images_depend_on_speech_noise_and_eps(self):
        model, given = generator(), inputs()
        images = model(*given).images[-1]
        for position in range(3):
            changed = [x + (i == position) for i, x in enumerate(given)]
            assert not torch.allclose(model(*changed).images[-1], images, atol=1e-4)


@torch.no_grad()
def test_rows_do_not_see_each_other_in_use():
    model, given = generator(), inputs()
    together = model(*given)
    alone = model(*(x[1:2] for x in given))
    for batch_images, image in zip(together.images, alone.images, strict=True):
        torch.testing.assert_close(batch_images[1:2], image, atol=1e-5, rtol=0)


class TestDense:
    """method.md section 8, row 4."""

    def test_what_joins_each_stage(self):
        h0, h1 = torch.randn(1, 8, 8, 8), torch.randn(1, 4, 16, 16)
        enlarged = F.interpolate(h0, scale_factor=2, mode="nearest")
        expected = {"none": ((), ()), "previous": ((h0,), (h1,)), "full": ((h0,), (h1, enlarged))}
        for dense, (first, second) in expected.items():
            model = generator(dense=dense)
            for earlier, skips in (([h0], first), ([h0, h1], second)):
                actual = model.skips(earlier)
                assert len(actual) == len(skips)
                assert all(torch.equal(a, b) for a, b in zip(actual, skips, strict=True))

    def test_channels_of_the_up_blocks(self):
        """Stage 1 has 8 channels, stage 2 has 4; each concatenation adds those of what joins."""
        for dense, channels in {"none": [8, 4], "previous": [16, 8], "full": [16, 16]}.items():
            assert [stage.up.conv.in_channels for stage in generator(dense=dense).refinements] == channels

    @torch.no_grad()
    def test_only_full_lets_h0_pass_stage_1_by(self):
        """Stage 1 is blocked; h_0 then reaches h_2 where Eq. 7 says so."""
        for dense, reaches in {"none": False, "previous": False, "full": True}.items():
            model, (embedding, z, _) = generator(dense=dense), inputs()
            model.refinements[0].register_forward_hook(lambda *args: torch.zeros_like(args[-1]))
            c = model.conditioning(embedding).c
            differs = not torch.allclose(model.hidden(c, z)[2], model.hidden(c, -z)[2], atol=1e-6)
            assert differs == reaches, dense

    def test_the_join_is_before_the_up_block(self):
        model, h = generator(), torch.randn(2, 8, 8, 8)
        stage, c = model.refinements[0], torch.randn(2, 3)
        seen = []
        stage.up.register_forward_hook(lambda *args: seen.append(args[1][0]))
        stage(c, h, (h,))
        assert torch.equal(seen[0][:, 8:], h)

    def test_two_scales_are_the_same_either_way(self):
        full, previous = (generator(dense=dense, resolutions=(8, 16)) for dense in ("full", "previous"))
        assert {k: v.shape for k, v in full.state_dict().items()} == {
            k: v.shape for k, v in previous.state_dict().items()
        }


@pytest.mark.parametrize("dense", ["previous", "none", "full"])
def test_a_gradient_reaches_every_parameter(dense):
    model = generator(dense=dense).train()
    output = model(*inputs())
    sum((image * torch.randn_like(image)).sum() for image in output.images).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolutions": (64, 96)}, "start at 8 or a doubling"),
        ({"resolutions": (4, 8)}, "start at 8 or a doubling"),
        ({"resolutions": (24, 48)}, "start at 8 or a doubling"),
        ({"width": 6}, "multiple of 4"),
    ],
)
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(UserError, match=message):
        GeneratorConfig(**(SMALL | options))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_map_lies_as_the_weights(layout):
    """And every gradient: a change of layout on the way would be paid for at every step."""
    model = generator().train().to(memory_format=layout)
    innermost = {torch.contiguous_format: 3, torch.channels_last: 1}[layout]
    others, seen = [], []

    def look(name, x):
        seen.append(name)
        if x.stride(innermost) != 1:
            others.append(name)

    for name, part in model.named_modules():
        if isinstance(part, nn.BatchNorm2d | ToRGB):
            part.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0]))
        if isinstance(part, nn.BatchNorm2d):
            part.register_full_backward_pre_hook(lambda _, given, name=name: look(f"gradient at {name}", given[0]))
    images = model(*inputs()).images
    sum(image.square().sum() for image in images).backward()
    assert len(seen) == 2 * 13 + 3
    assert others == []
