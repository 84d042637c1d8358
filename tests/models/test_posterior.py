"""The posterior of z sees lightness and place, no colour."""

import torch

from s2igan.models.posterior import LUMA, Posterior


def posterior(z=5):
    torch.manual_seed(0)
    return Posterior(z, width=2)


def images(n=3, side=64):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_shapes_at_any_size():
    for side in (16, 32, 64, 128):
        mu, logvar = posterior()(images(side=side))
        assert mu.shape == logvar.shape == (3, 5)
        assert not torch.equal(mu, logvar)


def test_hue_is_invisible():
    """Colour added along a direction of equal lightness changes nothing; the same amount of grey does."""
    given = images() * 0.5
    red, green, blue = LUMA
    direction = torch.tensor([green, -red, 0.0]) * 0.5
    assert abs(direction @ torch.tensor(LUMA)) < 1e-7
    assert abs(red + green + blue - 1) < 1e-6
    plain = posterior()(given).mu
    torch.testing.assert_close(posterior()(given + direction.view(1, 3, 1, 1)).mu, plain, atol=1e-5, rtol=0)
    assert (posterior()(given + 0.3).mu - plain).abs().max() > 1e-3


def test_place_is_visible():
    given = torch.full((1, 3, 64, 64), -1.0)
    left, right = given.clone(), given.clone()
    left[..., 8:24], right[..., 40:56] = 1.0, 1.0
    assert (posterior()(left).mu - posterior()(right).mu).abs().max() > 1e-3


def test_every_parameter_learns():
    network = posterior()
    mu, logvar = network(images())
    (mu.square().sum() + logvar.square().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
