"""An optimiser step that is the same in every process: backward passes, an all-reduce, Adam.

Gradients are averaged here and not by a wrapper around the networks (DistributedDataParallel): a step of stage 2 uses
parts of a network several times, with and without gradients for its weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from s2igan.training.distributed import all_reduce_gradients, world_size
from s2igan.training.precision import full_precision

GRADIENT_NORM = "gradient_norm"
"""Last part of the names under which `optimiser_step` returns norms."""


def adam(
    parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float], weight_decay: float = 0.0
) -> torch.optim.Adam:
    """Adam (Kingma & Ba 2015).

    Not the fused one: on a CPU that pairs weights, gradients and averages by their place in memory, and those of a
    checkpoint may lie otherwise than channels-last weights.
    """
    return torch.optim.Adam(list(parameters), learning_rate, betas, weight_decay=weight_decay, foreach=True)


def adamw(
    module: nn.Module, learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); only matrices and kernels decay."""
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, learning_rate, betas, foreach=True)


def backward(loss: Tensor, parts: int = 1) -> None:
    """Adds the gradients of one of ``parts`` equal parts of this process's batch; then comes `optimiser_step`."""
    terms = parts * world_size()  # their gradients are added up
    with full_precision(loss):  # every operation goes back in the precision that it came in
        (loss / terms if terms > 1 else loss).backward()
    torch.clear_autocast_cache()  # else passes after the step would use bf16 copies of the weights before it


def optimiser_step(
    optimisers: Mapping[str, torch.optim.Optimizer], *, largest_norm: float | None = None
) -> dict[str, Tensor]:
    """One step of each optimiser on the gradients of all processes.

    Args:
        largest_norm: gradients of an optimiser with a larger norm are scaled down to it.

    Returns:
        `<name>/gradient_norm` of each. A norm that is not finite tells that the step is broken and the weights with it:
        the trainer then goes back to its last checkpoint. Checking earlier would stop a GPU at every step.
    """
    gradients = {
        name: [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        for name, optimiser in optimisers.items()
    }
    all_reduce_gradients(gradient for own in gradients.values() for gradient in own)
    norms = {
        f"{name}/{GRADIENT_NORM}": torch.stack(torch._foreach_norm(own)).norm()
        for name, own in gradients.items()
        if own
    }
    if largest_norm is not None:
        for name, own in gradients.items():
            if own:
                torch._foreach_mul_(own, (largest_norm / norms[f"{name}/{GRADIENT_NORM}"]).clamp(max=1.0))
    for optimiser in optimisers.values():
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return norms


@contextmanager
def frozen(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, gradients pass through the networks and not to their weights; afterwards the weights train again, also
    where a step failed.

    With gradients of the discriminators' weights, which nobody reads, the step of stage 2 takes 6 % longer in the sizes
    of `birds`, 5 % at full size (`benchmarks/tricks.py birds-rdg`, `cub-rdg`).
    """
    networks = list(networks)
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)


@contextmanager
def statistics_held(network: nn.Module) -> Iterator[None]:
    """Inside, batch norms in training use the batch's statistics and leave their running ones as they are."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, seen) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, seen


class Ema:
    """Exponential moving average of a module's parameters (docs/method.md, section 4):
    average = decay * average + (1 - decay) * parameter.

    Buffers are no part of it, as in the reference. The live weights are never overwritten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes one step towards the module's present parameters."""
        live = [parameter.detach() for _, parameter in module.named_parameters()]
        torch._foreach_lerp_(list(self.parameters.values()), live, 1.0 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name."""
        return self.parameters

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state_dict` gave."""
        for name, average in self.parameters.items():
            average.copy_(state[name])

    def copy_to(self, module: nn.Module) -> None:
        """Writes the average into another module of the same shape."""
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(self.parameters[name])


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of every parameter group."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Tensor:
    """Adds terms up, each times its weight; a term that `weights` does not name has weight 1.

    Raises:
        KeyError: a weight names no term.
    """
    weights = weights or {}
    if unknown := weights.keys() - terms.keys():
        raise KeyError(f"weights without a term: {', '.join(sorted(unknown))}")
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
