"""An optimiser's step, the same in every process: a backward pass, and the mean gradient over parts and processes.

Gradients are averaged here, after each network's backward pass, and not by a wrapper around the networks: a step of
stage 2 uses parts of a network several times, with and without gradients for its weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2igan.training.precision import full_precision
from s2igan.training.processes import average


class NotFiniteError(Exception):
    """A loss whose gradient is not finite; no weight was changed by it."""


@dataclass(frozen=True)
class MicroBatch:
    """Which part of the batch of one optimiser step a pass is about, where gradients are accumulated over several."""

    index: int = 0
    count: int = 1


WHOLE = MicroBatch()


def update(optimiser: torch.optim.Optimizer, loss: Tensor, name: str, part: MicroBatch = WHOLE) -> None:
    """Backward pass and, after the last part of the batch, one step of the optimiser on the mean gradient over parts
    and processes.

    Raises:
        NotFiniteError: the gradient is not finite; the weights are as they were.
    """
    if part.index == 0:
        optimiser.zero_grad(set_to_none=True)
    with full_precision(loss):  # every operation goes back in the precision that it came in
        (loss / part.count if part.count > 1 else loss).backward()
    torch.clear_autocast_cache()  # of bf16 copies, which are made once for all passes before one backward pass
    if part.index + 1 < part.count:
        return
    gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    average(gradients)
    norms = torch.stack(torch._foreach_norm(gradients))
    if not torch.isfinite(norms).all():
        optimiser.zero_grad(set_to_none=True)
        raise NotFiniteError(f"the gradient of {name}")
    optimiser.step()
