"""Sizes, normalised latents, windows, and the patch discriminator."""

import pytest
import torch

from s2igan.errors import UserError
from s2igan.models.autoencoder import Autoencoder, AutoencoderConfig, PatchDiscriminator, PlaceNorm


def make(size):
    """Also the layers that begin at zero have weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Autoencoder(AutoencoderConfig(size, channels=2, widths=(8, 8, 8, 16))).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
                torch.nn.init.normal_(module.weight, std=0.1)
    return network


@pytest.mark.parametrize(("size", "channels"), [(64, 2), (128, 8), (256, 8)])
@torch.no_grad()
def test_every_size_has_8_by_8_places(size, channels):
    network = make(size)
    images = torch.rand(2, 3, size, size) * 2 - 1
    latents = network.encode(images)
    assert latents.shape == (2, *network.config.latent_shape) == (2, channels, 8, 8)
    assert network.decode(latents).shape == images.shape


def test_every_parameter_has_an_effect():
    network = make(128)
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    network.decode(network.encode(images)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_a_part_is_drawn_as_the_whole_is():
    """Away from its edges: what trains on windows is used on whole pictures."""
    network = make(256)
    images = torch.rand(1, 3, 512, 512) * 2 - 1
    whole, part = network.encode(images), network.encode(images[:, :, :, :256])
    torch.testing.assert_close(part[..., :5], whole[..., :5], atol=1e-5, rtol=1e-4)
    assert (part[..., 7] - whole[..., 7]).abs().max() > 1e-4
    drawn, half = network.decode(whole), network.decode(whole[..., :8])
    torch.testing.assert_close(half[..., :128], drawn[..., :128], atol=1e-5, rtol=1e-4)


def test_the_norm_is_over_the_channels_of_a_place():
    norm = PlaceNorm(3)
    torch.nn.init.constant_(norm.weight, 2.0)
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm(x), 2 * x / (x**2).mean(1, keepdim=True).sqrt(), atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_normalised_latents_have_mean_0_and_deviation_1_and_decode_to_the_same_picture():
    network = make(128)
    images = torch.rand(32, 3, 128, 128) * 2 - 1
    before = network.encode(images)
    pictures = network.decode(before)
    network.normalise(before)
    after = network.encode(images)
    torch.testing.assert_close(after.mean((0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.std((0, 2, 3)), torch.ones(8), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.decode(after), pictures, atol=1e-4, rtol=1e-4)
    network.normalise(after)  # once more changes nothing
    torch.testing.assert_close(network.encode(images), after, atol=1e-4, rtol=1e-4)


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
        ({"widths": (8, 8, 8)}, "must be four"),
    ],
)
def test_sizes_that_are_not_made(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        AutoencoderConfig(**wrong)
