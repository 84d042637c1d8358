"""The mixture that z comes from in models of version 0.1.0, such as `models/birds`. Not in the paper."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

QUANTILE_FLOOR = 1e-6
"""Keeps a quantile from being 0 or 1, whose normal numbers are infinite."""


class NoiseMixture(nn.Module):
    """Turns standard normal noise into z of a mixture of normal distributions, all equally likely.

    The first number of a row chooses the component, by the quantile that it is; what is left of it within the
    component's share of the quantiles is again a normal number. So equal noise gives equal z.

    Args:
        components: normal distributions.
        z: dimensions of the noise.
    """

    mu: Float[Tensor, "components z"]
    logvar: Float[Tensor, "components z"]

    def __init__(self, components: int, z: int) -> None:
        super().__init__()
        self.register_buffer("mu", torch.zeros(components, z))
        self.register_buffer("logvar", torch.zeros(components, z))

    def forward(self, noise: Float[Tensor, "batch z"]) -> Float[Tensor, "batch z"]:
        """Standard normal ``noise`` -> z."""
        n = len(self.mu)
        place = torch.special.ndtr(noise[:, 0].double()) * n
        component = place.floor().clamp(0, n - 1)
        rest = torch.special.ndtri((place - component).clamp(QUANTILE_FLOOR, 1 - QUANTILE_FLOOR))
        own = torch.cat((rest[:, None].to(noise.dtype), noise[:, 1:]), dim=1)
        chosen = component.long()
        return self.mu[chosen] + torch.exp(self.logvar[chosen] / 2) * own
