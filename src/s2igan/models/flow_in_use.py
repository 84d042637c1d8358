"""Latent flow as it is asked to draw otherwise than it was exported: another guidance, or between two descriptions."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from s2igan.models.latent_flow import LatentFlow


def with_guidance(flow: LatentFlow, guidance: float) -> LatentFlow:
    """The same networks, sampled with another strength of classifier-free guidance."""
    changed = copy.copy(flow)
    changed.config = replace(flow.config, guidance=guidance)
    return changed


def between(flow: LatentFlow, weights: Float[Tensor, " batch"]) -> LatentFlow:
    """The same networks, drawing between two descriptions.

    It is called with the words of both, those of the first before those of the second along the frames; `weights` are
    those of the second.
    """
    changed = copy.copy(flow)
    changed._modules = {**flow._modules, "network": VelocityBetween(flow.network, weights)}
    return changed


class VelocityBetween(nn.Module):
    """A weighted sum of the velocities for two descriptions (as Liu et al. 2022 compose conditions)."""

    def __init__(self, network: nn.Module, weights: Float[Tensor, " batch"]) -> None:
        super().__init__()
        self.network, self.weights = network, weights

    def forward(
        self,
        x: Float[Tensor, "rows channels side side"],
        t: Float[Tensor, " rows"],
        words: Float[Tensor, "rows frames words"],
        inside: Bool[Tensor, "rows frames"],
    ) -> Float[Tensor, "rows channels side side"]:
        """`rows` are the batch once, or twice where guidance asks for the velocity without a description too."""
        first, last = (
            self.network(x, t, *part) for part in zip(words.chunk(2, dim=1), inside.chunk(2, dim=1), strict=True)
        )
        weights = self.weights.repeat(len(x) // len(self.weights))
        mixed: Tensor = torch.lerp(first, last, weights[:, None, None, None])
        return mixed
