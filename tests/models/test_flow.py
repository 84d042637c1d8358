"""The velocity network and its sampler, against closed forms."""

import math

import pytest
import torch

from s2igan.errors import UserError
from s2igan.models.flow import FlowNetwork, FlowNetworkConfig, attention, merged, sample, separated

CONFIG = FlowNetworkConfig(width=16, depth=2, heads=2, outer_width=8, outer_depth=1, outer_heads=2)


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


def test_the_network_reads_unit_variance_and_its_output_is_divided_by_d():
    """With an output F of ones everywhere: v = 1 / d + x (2t - 1) / d^2; and what is read is x / d, place by place."""
    flow, (x, t, words, inside) = network(), case()
    torch.nn.init.zeros_(flow.outward.weight)
    torch.nn.init.ones_(flow.outward.bias)
    read = []
    flow.inward.register_forward_hook(lambda layer, inputs, output: read.append(inputs[0]))
    rows = t[:, None, None, None]
    d = (rows**2 + (1 - rows) ** 2).sqrt()
    torch.testing.assert_close(flow(x, t, words, inside), 1 / d + x * (2 * rows - 1) / d**2)
    torch.testing.assert_close(read[0][:, 10], (x / d)[:, :, 1, 2])


def test_a_block_is_attention_cross_attention_and_mlp_each_behind_its_gate():
    """Every part of Peebles & Xie's block by itself, with PyTorch's attention; a gate of zero lets its part through."""
    block = network().blocks[0]
    stream = torch.Generator().manual_seed(2)
    x, words = (torch.randn(2, n, 16, generator=stream) for n in (5, 3))
    modulation = 0.3 * torch.randn(2, 9, 16, generator=stream)
    mask = torch.zeros(2, 1, 1, 3)
    mask[0, :, :, 2] = -1e4

    def attend(query, key, value, mask=None):
        q, k, v = (part.unflatten(2, (2, 8)).transpose(1, 2) for part in (query, key, value))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).flatten(2)

    expected = x
    parts = (
        lambda h: block.self_out(attend(*block.query_key_value(h).chunk(3, dim=2))),
        lambda h: block.cross_out(attend(block.query(h), *block.key_value(words).chunk(2, dim=2), mask)),
        lambda h: block.fall(torch.nn.functional.gelu(block.rise(h), approximate="tanh")),
    )
    for number, part in enumerate(parts):
        scale, shift, gate = (modulation + block.table)[:, 3 * number : 3 * number + 3, None].unbind(1)
        normed = (expected - expected.mean(2, keepdim=True)) / (
            expected.var(2, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        expected = expected + (1 + gate) * part((1 + scale) * normed + shift)
    torch.testing.assert_close(block(x, modulation, words, mask), expected, atol=1e-5, rtol=1e-4)


def test_times_that_are_close_are_told_apart():
    """The fastest of the frequencies turns by a radian within a thousandth."""
    flow, (x, _, words, inside) = network(), case()
    seen = []
    flow.time[0].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    flow(x, torch.tensor([0.0, 0.5, 0.501, 1.0]), words, inside)
    waves = seen[0].double()
    torch.testing.assert_close(waves[0, :32], torch.zeros(32, dtype=torch.double))
    assert float(waves[3, 0]) == pytest.approx(math.sin(1), abs=1e-6)
    assert float(waves[1, 31]) == pytest.approx(math.sin(500), abs=1e-3)
    assert float(waves[2, 63]) == pytest.approx(math.cos(501), abs=1e-3)


def test_every_parameter_has_an_effect():
    flow, (x, t, words, inside) = network(), case()
    flow(x, t, words, inside).square().sum().backward()
    assert [name for name, p in flow.named_parameters() if p.grad is None or not p.grad.any()] == []


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


def test_squares_are_merged_and_separated_where_they_lie():
    tokens = torch.arange(64.0)[None, :, None].expand(-1, -1, 3)
    wide = merged(tokens)
    assert wide.shape == (1, 16, 12)
    assert wide[0, 6].unique().tolist() == [20, 21, 28, 29]  # row 1, column 2 of the squares
    assert torch.equal(separated(wide), tokens)


@pytest.mark.parametrize("outer", [True, False])
def test_a_change_is_seen_where_it_is(outer):
    """No token knows another, so a place is changed by itself alone; through the middle, by its square."""
    flow, (x, t, words, inside) = network(), case()
    for block in (*flow.first, *flow.blocks, *flow.last):
        torch.nn.init.zeros_(block.self_out.weight)
    if outer:
        torch.nn.init.zeros_(flow.split.weight)
    moved = x.clone()
    moved[:, :, 1, 6] += 1
    changed = (flow(moved, t, words, inside) - flow(x, t, words, inside)).abs().amax((0, 1)) > 1e-6
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[(1, 6) if outer else (slice(0, 2), slice(6, 8))] = True
    assert torch.equal(changed, expected)


def test_the_middle_s_tokens_are_given():
    flow, (x, t, words, inside) = network(), case()
    seen = []
    flow.blocks[1].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    _, tokens = flow.with_tokens(x, t, words, inside, block=1)
    assert tokens.shape == (4, 16, 16)
    assert torch.equal(tokens, seen[0])


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


@torch.no_grad()
def test_guidance_of_one_is_the_conditional_velocity():
    flow, (x, _, words, inside) = network(), case()
    ends = [sample(flow, x, words, inside, steps=3, guidance=g, shift=3.0) for g in (1.0, 1.0 + 1e-6, 2.0)]
    torch.testing.assert_close(ends[0], ends[1], atol=1e-3, rtol=1e-3)
    assert (ends[2] - ends[0]).abs().max() > 0.01


@pytest.mark.parametrize("wrong", [{"width": 10, "heads": 4}, {"outer_width": 10, "outer_heads": 3}])
def test_sizes_that_do_not_divide(wrong):
    with pytest.raises(UserError, match="width 10"):
        FlowNetworkConfig(**wrong)


def test_the_last_time_is_one():
    """The steps of Euler's method add up to the whole way."""
    constant = torch.nn.Module()
    constant.forward = lambda x, t, words, inside: torch.ones_like(x)
    x, _, words, inside = case()
    end = sample(constant, x, words, inside, steps=7, guidance=1.0, shift=2.0)
    torch.testing.assert_close(end, x + 1)
    assert math.isfinite(float(end.sum()))
