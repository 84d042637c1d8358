import pytest
import torch
from torch import nn

from s2igan.models.blocks import init_weights
from s2igan.models.discriminator import Discriminator, DiscriminatorConfig


def discriminator(resolution=16):
    model = Discriminator(DiscriminatorConfig(resolution, width=2, condition=3))
    init_weights(model, torch.Generator().manual_seed(0))
    return model.eval()


def inputs(resolution=16):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, resolution, resolution, generator=rng), torch.randn(4, 3, generator=rng)


@pytest.mark.parametrize(("resolution", "count"), [(64, 5_723_906), (128, 18_834_178), (256, 71_269_122)])
def test_size_of_the_paper(resolution, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in Discriminator(DiscriminatorConfig(resolution)).parameters()) == count


@pytest.mark.parametrize(
    ("resolution", "channels"),
    [
        (8, [8]),
        (16, [4, 8]),
        (32, [2, 4, 8]),
        (64, [1, 2, 4, 8]),
        (128, [1, 2, 4, 8, 16, 8]),
        (256, [1, 2, 4, 8, 16, 32, 16, 8]),
    ],
)
@torch.no_grad()
def test_trunk(resolution, channels):
    """Small images enter the 64 px ladder late; large ones climb higher and come back. The first block has no norm."""
    model = discriminator(resolution)
    assert [block.conv.out_channels // 2 for block in model.trunk] == channels
    assert [isinstance(block.norm, nn.BatchNorm2d) for block in model.trunk] == [False] + [True] * (len(channels) - 1)
    images, mu = inputs(resolution)
    assert model.features(images).shape == (4, 16, 4, 4)
    assert [logit.shape for logit in model(images, mu)] == [(4,), (4,)]


@torch.no_grad()
def test_heads():
    model, (images, mu) = discriminator(), inputs()
    cond, uncond = model(images, mu)
    other_cond, other_uncond = model(images, mu + 1)
    assert not torch.allclose(other_cond, cond, atol=1e-3)
    assert torch.equal(other_uncond, uncond)


def test_several_batches_in_one_pass_are_as_many_passes():
    """Also for the running statistics of batch norms, which see the batches in their order."""
    together, apart = discriminator().train(), discriminator().train()
    apart.load_state_dict(together.state_dict())
    images, mu = inputs()
    batches = [(images, mu), (images.flip(3) * 0.5, mu + 1), (-images, mu.flip(0))]
    for logits, batch in zip(together.each(*batches), batches, strict=True):
        torch.testing.assert_close(logits, apart(*batch))
    for name, value in together.trunk.state_dict().items():
        torch.testing.assert_close(apart.trunk.state_dict()[name], value, msg=name)


def test_a_gradient_reaches_every_parameter():
    model, (images, mu) = discriminator(64).train(), inputs(64)
    sum(logit.square().sum() for logit in model(images, mu)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
