"""An optimiser's step, the same in every process: a backward pass, and the mean gradient over parts and processes.

Gradients are exchanged here, after the backward passes, and not by a wrapper around the networks: a step of stage 2
uses parts of a network several times, with and without gradients for its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from s2igan.training.adam import Adam
from s2igan.training.distributed import meet, sum_together, world_size
from s2igan.training.precision import full_precision


class NotFiniteError(Exception):
    """A loss whose gradient is not finite; no weight was changed by it."""


@dataclass(frozen=True)
class MicroBatch:
    """Which part of the batch of one optimiser step a pass is about, where gradients are accumulated over several."""

    index: int = 0
    count: int = 1

    @property
    def last(self) -> bool:
        """Whether none comes after it."""
        return self.index + 1 == self.count


WHOLE = MicroBatch()


def backward(optimiser: Adam, loss: Tensor, part: MicroBatch = WHOLE) -> None:
    """Backward pass of a process's share of one part of the batch; after the last part come `take_steps`."""
    if part.index == 0:
        optimiser.zero_grad(set_to_none=True)
    terms = part.count * world_size()  # whose gradients are added up
    with full_precision(loss):  # every operation goes back in the precision that it came in
        (loss / terms if terms > 1 else loss).backward()
    torch.clear_autocast_cache()  # of bf16 copies, which are made once for all passes before one backward pass


def take_steps(optimisers: Mapping[str, Adam]) -> None:
    """One step of each optimiser, named by what it trains; the processes exchange the gradients of all together.

    Raises:
        NotFiniteError: the gradient of one is not finite; all weights are as they were.
    """
    gradients = [
        [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        for optimiser in optimisers.values()
    ]
    divided = [optimiser.divided for optimiser in optimisers.values() if optimiser.divided is not None]
    if not divided:
        sum_together([gradient for own in gradients for gradient in own])
    broken = next((number for number, own in enumerate(gradients, 1) if not _finite(own)), 0)
    del gradients
    if divided:
        for share in divided:
            share.hand_out()
        broken = meet(broken)
    if broken:
        for optimiser in optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        raise NotFiniteError(f"the gradient of {list(optimisers)[broken - 1]}")
    for share in divided:
        share.add_up()
    for optimiser in optimisers.values():
        optimiser.step()
    if divided:
        meet()


def update(optimiser: Adam, loss: Tensor, name: str, part: MicroBatch = WHOLE) -> None:
    """Backward pass and, after the last part of the batch, one step of the optimiser of what has that name.

    Raises:
        NotFiniteError: as `take_steps`.
    """
    backward(optimiser, loss, part)
    if part.last:
        take_steps({name: optimiser})


def _finite(gradients: list[Tensor]) -> bool:
    return bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all()) if gradients else True
