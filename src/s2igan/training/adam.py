"""Adam (Kingma & Ba 2015), whose work the processes of one machine divide among themselves.

Where such processes are linked (`processes.start`), they keep the weights that they train, and Adam's averages, once,
in memory that all see. After a backward pass each one adds up what all found for its share of the parameters, takes
Adam's step for these, and leaves the rest to the others. Elsewhere this is PyTorch's Adam.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from s2igan.training.distributed import linked
from s2igan.training.link import Link

ALIGNED = 16
"""Every tensor in shared memory begins at a multiple of so many numbers: a line of the processor's cache."""


class Adam(torch.optim.Adam):
    """Adam on parameters of one floating-point type.

    Under a link all processes build it at the same point, with the same parameters; its state dict is complete in each
    of them and is that of `torch.optim.Adam`.

    Args:
        parameters: what is trained; under a link their tensors move into shared memory.
        lr: learning rate.
        betas: decays of the two averages.
        weight_decay: added to the gradient, times the parameter.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        super().__init__(list(parameters), lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        link = linked()
        self.divided = _Divided(link, self) if link is not None else None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step on all parameters that have a gradient.

        PyTorch's own takes each number's gradient from the same place in memory, whatever the tensors' layouts, and
        copies those that are not contiguous: it is given every tensor as the vector that its memory is.
        """
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                    self.state[p] = {"step": torch.zeros((), device=p.device), **zeros}
            states = [self.state[p] for p in parameters]
            adam(
                _flat(parameters),
                _flat(_like(p, p.grad) for p in parameters),
                _flat(state["exp_avg"] for state in states),
                _flat(state["exp_avg_sq"] for state in states),
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave, of any number of processes."""
        super().load_state_dict(state_dict)
        for p, averages in self.state.items():
            averages |= {name: _like(p, averages[name]) for name in ("exp_avg", "exp_avg_sq")}
        if self.divided is not None:
            self.divided.share_averages()


class _Divided:
    """An optimiser's tensors in memory that the processes of a link share.

    Between two meetings of the processes (`Link.meet`) a tensor is written by one of them, or by all with the same
    bits: that is what keeps the others from reading half of it.
    """

    def __init__(self, link: Link, optimiser: Adam) -> None:
        self.rank, self.optimiser = link.rank, optimiser
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]
        owners = divide([p.numel() for p in self._parameters], link.loads)
        self._own = [p for p, owner in zip(self._parameters, owners, strict=True) if owner == link.rank]
        self._others = [p for p, owner in zip(self._parameters, owners, strict=True) if owner != link.rank]

        starts, size = [], 0
        for p in self._parameters:
            starts.append(size)
            size += -(-p.numel() // ALIGNED) * ALIGNED
        rows = 3 + link.processes  # weights, two averages, everybody's gradients
        element = self._parameters[0].element_size()
        memory = link.allocate(rows * size * element + 4 * len(self._parameters))
        shared = memory[: rows * size * element].view(self._parameters[0].dtype).view(rows, size)

        def like_parameters(row: Tensor) -> dict[nn.Parameter, Tensor]:
            return {
                p: row[start : start + p.numel()].as_strided(p.shape, _strides(p))
                for p, start in zip(self._parameters, starts, strict=True)
            }

        weights, first, second = map(like_parameters, shared[:3])
        self._gradients = list(map(like_parameters, shared[3:]))
        steps = memory[rows * size * element :].view(torch.float32)
        self._averages = {
            p: {"step": step, "exp_avg": first[p], "exp_avg_sq": second[p]}
            for p, step in zip(self._parameters, steps, strict=True)
        }
        with torch.no_grad():
            for p in self._parameters:
                if link.rank == 0:
                    weights[p].copy_(p)
                p.data = weights[p]
        link.meet()
        self.share_averages()

    @torch.no_grad()
    def share_averages(self) -> None:
        """Moves the averages that the optimiser has now into the shared memory."""
        for p, shared in self._averages.items():
            given = self.optimiser.state.get(p) or dict.fromkeys(shared, 0.0)
            for name, tensor in shared.items():
                tensor.copy_(torch.as_tensor(given[name]))
            self.optimiser.state[p] = dict(shared)

    @torch.no_grad()
    def hand_out(self) -> None:
        """Gives the others, at their next meeting, what this process found for their shares."""
        for p in self._others:
            if p.grad is not None:
                self._gradients[self.rank][p].copy_(p.grad)
                p.grad = None

    @torch.no_grad()
    def add_up(self) -> None:
        """Adds up what all found for this process's share, in the order of the processes, so that the bits do not
        depend on whose share it is; after the meeting."""
        own = [p for p in self._own if p.grad is not None]
        if not own:
            return
        total, *others = (
            [p.grad if rank == self.rank else found[p] for p in own] for rank, found in enumerate(self._gradients)
        )
        for found in others:
            torch._foreach_add_(total, found)
        for p, gradient in zip(own, total, strict=True):
            p.grad = gradient


def divide(sizes: list[int], loads: list[int]) -> list[int]:
    """Which process takes which of so many sizes: the largest first, each to the one whose load is least, which grows
    by it."""
    owners = [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += sizes[i]
    return owners


def _strides(x: Tensor) -> tuple[int, ...]:
    """Those of a tensor that fills its memory, in its order of dimensions if it does."""
    return torch.empty_like(x).stride()


def _like(parameter: Tensor, x: Tensor) -> Tensor:
    """A tensor of the parameter's shape in its layout."""
    return x if x.stride() == parameter.stride() else torch.empty_like(parameter).copy_(x)


def _flat(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Tensors that fill their memory as vectors, in the order of the memory."""
    return [x.as_strided((x.numel(),), (1,)) for x in tensors]
