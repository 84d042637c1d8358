"""The posterior of z sees contours and their place, no colour or shade; its mixture is one."""

import torch

from s2igan.models.posterior import LUMA, SIDE, NoiseMixture, Posterior, contours


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


def test_colour_and_shade_are_invisible():
    """Another hue of equal lightness, more light, more contrast, or the negative of a picture: all the same."""
    given = images() * 0.3
    red, green, _ = LUMA
    hue = torch.tensor([green, -red, 0.0]).view(1, 3, 1, 1) * 0.5
    plain = posterior()(given).mu
    for same in (given + hue, given + 0.3, -given, 2 * given):
        torch.testing.assert_close(posterior()(same).mu, plain, atol=2e-3, rtol=0)
    assert (posterior()(given.flip(3)).mu - plain).abs().max() > 1e-2


def test_contours_of_an_edge():
    """Lightness a on the left and b on the right: beside the edge, five columns of which two or three are on the other
    side differ from their mean by a share of b - a that does not depend on a and b; elsewhere nothing does."""
    picture = torch.full((1, 3, SIDE, SIDE), -0.2)
    picture[..., SIDE // 2 :] = 0.6
    found = contours(picture)[0, 0]
    assert found.shape == (SIDE, SIDE)
    assert (found[:, : SIDE // 2 - 4].abs() < 1e-3).all()
    assert (found[:, SIDE // 2 + 4 :].abs() < 1e-3).all()
    assert (found[:, SIDE // 2 - 1 : SIDE // 2 + 1] > 1).all()
    torch.testing.assert_close(contours(-picture), contours(picture))


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


class TestNoiseMixture:
    def noise(self, n=40_000, z=3):
        return torch.randn(n, z, generator=torch.Generator().manual_seed(2))

    def test_new_it_leaves_standard_normal_noise_standard_normal(self):
        z = NoiseMixture(8, 3)(self.noise())
        assert z.dtype == torch.float32
        torch.testing.assert_close(z.mean(dim=0), torch.zeros(3), atol=0.03, rtol=0)
        torch.testing.assert_close(torch.cov(z.T), torch.eye(3), atol=0.04, rtol=0)

    def test_components_are_equally_likely_and_keep_their_means_and_deviations(self):
        mixture = NoiseMixture(4, 3)
        mixture.mu.copy_(torch.arange(4)[:, None] * 100 + torch.tensor([0.0, 1.0, 2.0]))
        deviations = torch.tensor([[0.5, 1.0, 2.0]]).expand(4, 3)
        mixture.logvar.copy_(2 * deviations.log())
        z = mixture(self.noise())
        component = (z[:, 1] / 100).round().long()
        for number in range(4):
            own = z[component == number]
            assert abs(len(own) / len(z) - 1 / 4) < 0.01
            torch.testing.assert_close(own.mean(dim=0), mixture.mu[number], atol=0.1, rtol=0)
            torch.testing.assert_close(own.std(dim=0), deviations[number], atol=0.05, rtol=0.03)
            assert torch.corrcoef(own.T)[0, 1].abs() < 0.05

    def test_equal_noise_gives_equal_z_whatever_is_beside_it(self):
        mixture = NoiseMixture(256, 3)
        mixture.mu.normal_(generator=torch.Generator().manual_seed(0))
        noise = self.noise(6)
        assert torch.equal(mixture(noise)[2:4], mixture(noise[2:4]))

    def test_extreme_noise_stays_finite(self):
        assert torch.isfinite(NoiseMixture(256, 1)(torch.tensor([[-40.0], [0.0], [40.0]]))).all()
