"""The velocity network and its sampler, against closed forms."""

import math

import pytest
import torch

from s2igan.errors import UserError
from s2igan.models.flow import FlowNetwork, FlowNetworkConfig, attention, sample

CONFIG = FlowNetworkConfig(width=16, depth=2, heads=2)


def network(config=CONFIG, seed=0):
    """Also the layers that begin at zero have weights, so that everything has an effect."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = FlowNetwork(config, latent_channels=3, words=5).eval()
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return flow


def case(rows=4, frames=6):
    stream = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 3, 8, 8, generator=stream)
    words = torch.randn(rows, frames, 5, generator=stream)
    inside = torch.arange(frames) < torch.tensor([frames, 2, 1, 4])[:rows, None]
    return x, torch.linspace(0.1, 0.9, rows), words, inside


def test_attention_is_pytorch_s():
    stream = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 8, generator=stream) for n in (3, 5, 5))
    mask = torch.zeros(2, 1, 1, 5)
    mask[1, :, :, 2:] = -1e4
    q4, k4, v4 = (x.unflatten(2, (2, 4)).transpose(1, 2) for x in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q4, k4, v4, attn_mask=mask)
    torch.testing.assert_close(attention(q, k, v, 2, mask), expected.transpose(1, 2).flatten(2))


def test_a_fresh_network_gives_the_preconditioner_s_velocity():
    """Its own output is zero at first: v = x (2t - 1) / d^2, the best guess of a Gaussian that is told nothing."""
    flow = FlowNetwork(CONFIG, latent_channels=3, words=5)
    x, t, words, inside = case()
    rows = t[:, None, None, None]
    torch.testing.assert_close(flow(x, t, words, inside), x * (2 * rows - 1) / (rows**2 + (1 - rows) ** 2))


def test_what_is_outside_an_utterance_changes_nothing():
    flow, (x, t, words, inside) = network(), case()
    other = words.clone()
    other[~inside] = 1e3
    torch.testing.assert_close(flow(x, t, other, inside), flow(x, t, words, inside))
    moved = words.clone()
    moved[1, 1] += 1
    changed = (flow(x, t, moved, inside) - flow(x, t, words, inside)).abs().amax((1, 2, 3))
    assert changed[1] > 1e-4
    assert changed[[0, 2, 3]].max() < 1e-5


def test_time_and_place_matter():
    flow, (x, t, words, inside) = network(), case()
    assert (flow(x, t + 0.05, words, inside) - flow(x, t, words, inside)).abs().max() > 1e-3
    turned = flow(x.flip(3), t, words, inside).flip(3)
    assert (turned - flow(x, t, words, inside)).abs().max() > 1e-3


def test_the_patches_lie_where_they_came_from():
    """A token is a square of the latents: a change in one corner is seen there first, by an untrained MLP alone."""
    flow, (x, t, words, inside) = network(FlowNetworkConfig(width=16, depth=1, heads=2)), case()
    for block in flow.blocks:
        torch.nn.init.zeros_(block.self_out.weight)  # no token knows another
    moved = x.clone()
    moved[:, :, :2, 6:] += 1
    changed = (flow(moved, t, words, inside) - flow(x, t, words, inside)).abs().amax((0, 1)) > 1e-6
    corner = torch.zeros(8, 8, dtype=torch.bool)
    corner[:2, 6:] = True
    assert torch.equal(changed, corner)


class Straight(torch.nn.Module):
    """The velocity of straight paths to one point; without a description, to its opposite."""

    def __init__(self, point):
        super().__init__()
        self.point, self.times = point, []

    def forward(self, x, t, words, inside):
        self.times.append(float(t[0]))
        goal = torch.where(inside.any(dim=1)[:, None, None, None], self.point, -self.point)
        return (goal - x) / (1 - t[:, None, None, None])


@pytest.mark.parametrize("steps", [1, 4])
def test_the_sampler_ends_where_straight_paths_do(steps):
    x, _, words, inside = case()
    point = torch.full((3, 8, 8), 2.0)
    field = Straight(point)
    end = sample(field, x, words, inside, steps=steps, guidance=1.0, shift=3.0)
    torch.testing.assert_close(end, point.expand_as(end))
    u = [number / steps for number in range(steps)]
    assert field.times == pytest.approx([v / (v + 3 * (1 - v)) for v in u])


def test_guidance_goes_beyond_the_condition_and_away_from_none():
    """One step from x: v = untold + g (told - untold) = -p - x + g 2p, so the end is (2g - 1) p."""
    x, _, words, inside = case()
    point = torch.full((3, 8, 8), 2.0)
    end = sample(Straight(point), x, words, inside, steps=1, guidance=2.5, shift=1.0)
    torch.testing.assert_close(end, (4.0 * point).expand_as(end))


def test_a_row_does_not_depend_on_the_others():
    flow, (x, _, words, inside) = network(), case()
    given = {"steps": 3, "guidance": 2.0, "shift": 3.0}
    together = sample(flow, x, words, inside, **given)
    alone = torch.cat([sample(flow, x[[i]], words[[i]], inside[[i]], **given) for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("wrong", "words"), [({"width": 10, "heads": 4}, "width 10"), ({"patch": 3}, "patch 3")])
def test_sizes_that_do_not_divide(wrong, words):
    with pytest.raises(UserError, match=words):
        FlowNetworkConfig(**wrong)


def test_the_last_time_is_one():
    """The steps of Euler's method add up to the whole way."""
    constant = torch.nn.Module()
    constant.forward = lambda x, t, words, inside: torch.ones_like(x)
    x, _, words, inside = case()
    end = sample(constant, x, words, inside, steps=7, guidance=1.0, shift=2.0)
    torch.testing.assert_close(end, x + 1)
    assert math.isfinite(float(end.sum()))
