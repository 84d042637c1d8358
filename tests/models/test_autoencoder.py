"""Sizes, normalised latents, and what the upsampler adds."""

import pytest
import torch

from s2igan.errors import UserError
from s2igan.models.autoencoder import Autoencoder, AutoencoderConfig, PatchDiscriminator, reduced


def make(size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        widths = {"widths": (8, 8, 8, 16), "upsampler_width": 8, "upsampler_blocks": 1}
        return Autoencoder(AutoencoderConfig(size, latent_channels=4, **widths)).eval()


@pytest.mark.parametrize("size", [64, 128, 256])
@torch.no_grad()
def test_every_size_has_the_same_latents(size):
    network = make(size)
    images = torch.rand(2, 3, size, size) * 2 - 1
    latents = network.encode(images)
    assert latents.shape == (2, *network.config.latent_shape) == (2, 4, 8, 8)
    assert network.decode(latents).shape == images.shape
    assert network.decode_base(latents)[1].shape == (2, 3, 64, 64)


@torch.no_grad()
def test_the_upsampler_begins_by_enlarging():
    network = make(128)
    assert network.upsampler is not None
    torch.nn.init.zeros_(network.upsampler.layers[-2].bias)
    latents = torch.randn(1, 4, 8, 8)
    small = network.decode_base(latents)[1]
    enlarged = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(network.decode(latents), enlarged)


def test_every_parameter_has_an_effect():
    network = make(128)
    for block in network.modules():
        if isinstance(block, torch.nn.Conv2d) and not block.weight.any():  # those that begin at zero
            torch.nn.init.normal_(block.weight, std=0.1)
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    network.decode(network.encode(images)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_upsampler_sees_the_small_picture():
    network = make(128)
    assert network.upsampler is not None
    torch.nn.init.normal_(network.upsampler.layers[-2].weight, std=0.1)
    features, image = torch.randn(1, 8, 64, 64), torch.rand(1, 3, 64, 64)
    added = [
        network.upsampler(features, x) - torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
        for x in (image, 1 - image)
    ]
    assert (added[0] - added[1]).abs().max() > 1e-3


@torch.no_grad()
def test_normalised_latents_have_mean_0_and_deviation_1_and_decode_to_the_same_picture():
    network = make(64)
    images = torch.rand(64, 3, 64, 64) * 2 - 1
    before = network.encode(images)
    pictures = network.decode(before)
    network.normalise(before)
    after = network.encode(images)
    torch.testing.assert_close(after.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.decode(after), pictures, atol=1e-4, rtol=1e-4)
    network.normalise(after)  # once more changes nothing
    torch.testing.assert_close(network.encode(images), after, atol=1e-4, rtol=1e-4)


def test_pictures_are_reduced_without_a_shift():
    ramp = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256)
    torch.testing.assert_close(
        reduced(ramp)[0, 0, 0], torch.linspace(-1, 1, 256).view(64, 4).mean(1), atol=0.02, rtol=0
    )
    small = torch.rand(1, 3, 64, 64)
    assert reduced(small) is small


def test_a_patch_sees_only_what_is_near():
    critic = PatchDiscriminator(width=4).eval()
    images = torch.zeros(1, 3, 64, 64)
    moved = images.clone()
    moved[:, :, 60:, 60:] = 1
    change = (critic(moved) - critic(images)).abs()[0, 0]
    assert change[-1, -1] > 0
    assert not change[:8, :8].any()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"size": 100}, "choose a multiple of 64"),
        ({"size": 32}, "size 32 must be 64 or more"),
        ({"widths": (8, 8, 8)}, "must be four multiples"),
        ({"widths": (8, 8, 8, 12)}, "must be four multiples"),
    ],
)
def test_sizes_that_are_not_made(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        AutoencoderConfig(**wrong)
