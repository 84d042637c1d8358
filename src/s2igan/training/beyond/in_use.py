"""How the averaged generator is used: batch-norm statistics of its own. Not in the paper."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.models.generator import Generator, noise

CALIBRATION_BATCHES = 30
"""Batches over which batch-norm statistics are averaged."""


@dataclass(frozen=True)
class InUse:
    """The exported generator; the defaults are the paper's."""

    calibrate_batch_norm: bool = False
    """Estimate the averaged generator's batch-norm statistics anew; the reference takes those of the live one."""


@torch.no_grad()
def calibrate_batch_norm(
    generator: Generator, embeddings: Float[Tensor, "n embedding"], batch_size: int, *, seed: int
) -> None:
    """Sets the running statistics of a generator to plain averages over batches of training descriptions.

    Args:
        embeddings: training descriptions, drawn from at random.
        batch_size: descriptions in a batch.
        seed: of the draws.
    """
    rng = torch.Generator().manual_seed(seed)
    device = next(generator.parameters()).device
    norms = [part for part in generator.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    generator.train()
    for _ in range(CALIBRATION_BATCHES):
        rows = torch.randint(len(embeddings), (batch_size,), generator=rng)
        z, eps = noise(generator.config, len(rows), rng)
        generator(embeddings[rows].to(device), z.to(device), eps.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.eval()
