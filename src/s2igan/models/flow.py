"""Rectified flow in the autoencoder's latents (Liu et al. 2023), conditioned on words of speech. Not in the paper.

x_t = (1 - t) noise + t latents; the network gives the velocity v = latents - noise. It is a transformer over the
places of the latents (Peebles & Xie 2023) with cross-attention to the word embeddings of `models/matchmap.py`, in the
shape of an hourglass (Crowson et al. 2024): narrow blocks at all 8 x 8 places, wide ones at 4 x 4 between them, which
cost a quarter of what they would at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.models.autoencoder import LATENT_SIDE
from s2igan.settings import at_least

FREQUENCIES, LARGEST_FREQUENCY = 32, 1000.0
"""Of the embedding of t."""
SMALL = 0.02
"""Deviation of the initial position embeddings."""
MODULATIONS = 9
"""Scale, shift and gate of self-attention, cross-attention and MLP."""


@dataclass(frozen=True)
class FlowNetworkConfig:
    """Sizes of the velocity network."""

    width: int = 256
    """Of the 4 x 4 tokens in the middle."""
    depth: int = 6
    """Transformer blocks in the middle."""
    heads: int = 4
    outer_width: int = 128
    """Of the 8 x 8 tokens."""
    outer_depth: int = 2
    """Transformer blocks before the middle, and as many after it."""
    outer_heads: int = 4
    mlp_ratio: int = 3

    def __post_init__(self) -> None:
        at_least(self, 1, "width", "depth", "heads", "outer_width", "outer_heads", "mlp_ratio")
        at_least(self, 0, "outer_depth")
        for width, heads in ((self.width, self.heads), (self.outer_width, self.outer_heads)):
            if width % heads:
                raise UserError(f"width {width} does not divide among {heads} heads; choose a multiple.")


def attention(
    query: Float[Tensor, "batch tokens width"],
    key: Float[Tensor, "batch others width"],
    value: Float[Tensor, "batch others width"],
    heads: int,
    mask: Float[Tensor, "batch 1 1 others"] | None = None,
) -> Float[Tensor, "batch tokens width"]:
    """Scaled dot-product attention; `mask` is added to the logits.

    Written as plain products: for 16 queries on a CPU torch's fused one is five times slower.
    """
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    weights = (logits if mask is None else logits + mask).softmax(dim=-1)
    return (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)


class FlowBlock(nn.Module):
    """Self-attention, cross-attention to the words, MLP; modulated by t through one network that all blocks share and a
    table of the block's own (Chen et al. 2024, adaLN-single).

    Args:
        depth: blocks of the whole network, by which initial weights are scaled down.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, depth: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value, self.self_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key_value, self.cross_out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.rise, self.fall = nn.Linear(width, mlp_ratio * width), nn.Linear(mlp_ratio * width, width)
        self.table = nn.Parameter(torch.zeros(MODULATIONS, width))
        for layer in (self.self_out, self.cross_out, self.fall):
            nn.init.normal_(layer.weight, std=SMALL / math.sqrt(2 * depth))
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        modulation: Float[Tensor, "batch 9 width"],
        words: Float[Tensor, "batch words width"],
        mask: Float[Tensor, "batch 1 1 words"],
    ) -> Float[Tensor, "batch tokens width"]:
        parts = (modulation + self.table).to(x.dtype).unsqueeze(2).unbind(1)
        (scale1, shift1, gate1), (scale2, shift2, gate2), (scale3, shift3, gate3) = parts[:3], parts[3:6], parts[6:]

        def normed(scale: Tensor, shift: Tensor) -> Tensor:
            return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)

        query, key, value = self.query_key_value(normed(scale1, shift1)).chunk(3, dim=-1)
        seen = attention(query, key, value, self.heads)
        x = torch.addcmul(x, 1 + gate1, self.self_out(seen))
        key, value = self.key_value(words).chunk(2, dim=-1)
        heard = attention(self.query(normed(scale2, shift2)), key, value, self.heads, mask)
        x = torch.addcmul(x, 1 + gate2, self.cross_out(heard))
        wide = F.gelu(self.rise(normed(scale3, shift3)), approximate="tanh")
        return torch.addcmul(x, 1 + gate3, self.fall(wide))


class FlowNetwork(nn.Module):
    """The velocity of latents at a time, given the words of a description.

    Input and output are scaled as EDM does (Karras et al. 2022), for rectified flow: with d^2 = t^2 + (1 - t)^2 the
    network reads x / d and its output F gives v = F / d + x (2t - 1) / d^2, so that F has about unit variance at all t.
    """

    def __init__(self, config: FlowNetworkConfig, latent_channels: int, words: int) -> None:
        super().__init__()
        self.config = config
        outer, width = config.outer_width, config.width
        self.inward, self.outward = nn.Linear(latent_channels, outer), nn.Linear(outer, latent_channels)
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.last_modulation = nn.Linear(width, 2 * outer)
        self.outside, self.inside = (
            Level(outer, LATENT_SIDE, width, words),
            Level(width, LATENT_SIDE // 2, width, words),
        )
        self.merge, self.split = nn.Linear(4 * outer, width), nn.Linear(width, 4 * outer)
        depth = config.depth + 2 * config.outer_depth

        def blocks(count: int, width: int, heads: int) -> nn.ModuleList:
            return nn.ModuleList(FlowBlock(width, heads, config.mlp_ratio, depth) for _ in range(count))

        self.first, self.last = (blocks(config.outer_depth, outer, config.outer_heads) for _ in range(2))
        self.blocks = blocks(config.depth, width, config.heads)
        for layer in (self.last_modulation, self.outward):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "batch channels side side"],
        t: Float[Tensor, " batch"],
        words: Float[Tensor, "batch frames words"],
        inside: Bool[Tensor, "batch frames"],
    ) -> Float[Tensor, "batch channels side side"]:
        """Velocity at `x`; where no frame of a row is `inside`, that without a condition."""
        return self.with_tokens(x, t, words, inside, block=0)[0]

    def with_tokens(
        self,
        x: Float[Tensor, "batch channels side side"],
        t: Float[Tensor, " batch"],
        words: Float[Tensor, "batch frames words"],
        inside: Bool[Tensor, "batch frames"],
        *,
        block: int,
    ) -> tuple[Float[Tensor, "batch channels side side"], Float[Tensor, "batch tokens width"]]:
        """The velocity, and the tokens that a block of the middle gives, counted from 0; they are squares of 2 x 2
        places, row by row."""
        frequencies = torch.exp(torch.linspace(0, math.log(LARGEST_FREQUENCY), FREQUENCIES, device=t.device))
        angles = t[:, None] * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        wide, narrow = self.inside.given(time, words, inside), self.outside.given(time, words, inside)
        rows = t[:, None, None, None]
        d = (rows**2 + (1 - rows) ** 2).sqrt()
        h = self.inward((x / d).flatten(2).transpose(1, 2)) + self.outside.position
        for layer in self.first:
            h = layer(h, *narrow)
        inner = tokens = self.merge(merged(h)) + self.inside.position
        for number, layer in enumerate(self.blocks):
            tokens = layer(tokens, *wide)
            if number == block:
                inner = tokens
        h = h + separated(self.split(tokens))
        for layer in self.last:
            h = layer(h, *narrow)
        scale, shift = self.last_modulation(time).to(h.dtype)[:, None].chunk(2, dim=-1)
        h = self.outward(F.layer_norm(h, h.shape[-1:]) * (1 + scale) + shift)
        return h.transpose(1, 2).unflatten(2, x.shape[2:]).float() / d + x * (2 * rows - 1) / d**2, inner


class Level(nn.Module):
    """What the blocks of one width share: positions, modulation by time, words.

    Args:
        side: tokens along a side.
        time: dimensions of the embedding of the time.
        words: dimensions of a word embedding.
    """

    def __init__(self, width: int, side: int, time: int, words: int) -> None:
        super().__init__()
        self.position = nn.Parameter(SMALL * torch.randn(1, side**2, width))
        self.modulation = nn.Linear(time, MODULATIONS * width)
        self.word = nn.Linear(words, width)
        self.silence = nn.Parameter(SMALL * torch.randn(1, 1, width))
        """A token that is always there: what a description that tells nothing is."""
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def given(
        self, time: Float[Tensor, "batch time"], words: Float[Tensor, "batch frames words"], inside: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `FlowBlock` takes beside its tokens: modulation, words, one of silence first, and the mask of those
        outside."""
        read = self.word(words)
        read = F.layer_norm(read, read.shape[-1:])
        read = torch.cat([self.silence.expand(read.shape[0], -1, -1).to(read.dtype), read], dim=1)
        outside = F.pad(~inside, (1, 0), value=False)[:, None, None]
        mask = torch.zeros(outside.shape, dtype=read.dtype, device=read.device).masked_fill(outside, -1e4)
        return self.modulation(time).unflatten(1, (MODULATIONS, -1)), read, mask


def merged(tokens: Float[Tensor, "batch places width"]) -> Float[Tensor, "batch fewer wider"]:
    """Squares of 2 x 2 tokens as one of four times the width, row by row."""
    side = math.isqrt(tokens.shape[1])
    return F.pixel_unshuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), 2).flatten(2).transpose(1, 2)


def separated(tokens: Float[Tensor, "batch fewer wider"]) -> Float[Tensor, "batch places width"]:
    """The way back from `merged`."""
    side = math.isqrt(tokens.shape[1])
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), 2).flatten(2).transpose(1, 2)


@torch.no_grad()
def sample(
    network: nn.Module,
    noise: Float[Tensor, "batch channels side side"],
    words: Float[Tensor, "batch frames words"],
    inside: Bool[Tensor, "batch frames"],
    *,
    steps: int,
    guidance: float,
    shift: float,
) -> Float[Tensor, "batch channels side side"]:
    """Latents from noise by Euler's method, with classifier-free guidance (Ho & Salimans 2022).

    Args:
        steps: evaluations of the velocity.
        guidance: 1 follows the conditional velocity, more goes beyond it, away from the unconditional one.
        shift: times are t = u / (u + shift (1 - u)) of evenly spaced u: over 1, more of them lie near the noise, where
            the description decides.
    """
    u = torch.linspace(0, 1, steps + 1)
    times = (u / (u + shift * (1 - u))).tolist()
    nothing = torch.zeros_like(inside)
    x = noise
    for t, after in pairwise(times):
        now = torch.full((len(x),), t, device=x.device)
        if guidance == 1:
            v = network(x, now, words, inside)
        else:
            both = network(
                torch.cat([x, x]), torch.cat([now, now]), torch.cat([words, words]), torch.cat([inside, nothing])
            )
            told, untold = both.chunk(2)
            v = untold + guidance * (told - untold)
        x = x + (after - t) * v
    return x
