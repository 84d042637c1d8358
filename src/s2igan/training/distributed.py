"""Devices and processes: what lets one process be the same program as many (docs/engine.md).

`torchrun --nproc-per-node N -m s2igan train ...` starts N processes that hold the same networks. Every process draws
the batch of a step as one process would, from (seed, stage, step), and computes its `share` of the rows. Gradients are
averaged by one all-reduce for each optimiser step. The matching loss of stage 1, which compares the rows of a batch,
sees the rows of all processes: `gather`.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from s2igan.checkpoint import flatten_state
from s2igan.devices import choose_device
from s2igan.errors import UserError

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: the first one alone evaluates and writes. A process that dies is noticed at
once."""


def start(device: str | None = None) -> torch.device:
    """Joins the other processes, if torchrun started any, and returns the device of this one.

    Args:
        device: "cpu", "cuda", or one GPU by its number such as "cuda:1"; unless given, a GPU if there is one.

    Raises:
        UserError: there is no such device, or there are fewer GPUs than processes.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    chosen = choose_device(device)
    number: int | None = chosen.index  # torch's stubs say that it is never None
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if chosen.type == "cuda" and here > torch.cuda.device_count():
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are not enough for {here} processes; start torchrun with fewer "
            "--nproc-per-node."
        )
    if processes == 1:
        fabric = Fabric(accelerator=chosen.type, devices=1 if number is None else [number])
    else:
        if number is not None:
            raise UserError(f"--device {device} is one GPU for {processes} processes; choose --device cuda.")
        strategy = DDPStrategy(timeout=PATIENCE)
        fabric = Fabric(accelerator=chosen.type, devices=here, num_nodes=processes // here, strategy=strategy)
    fabric.launch()
    if processes > 1:
        atexit.register(leave)
    return fabric.device


def leave() -> None:
    """Ends gloo's threads before Python ends: one that outlives what it uses aborts the process.

    Nccl's threads are left alone: ending them takes all processes, and one that failed would wait for the others.
    """
    if dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


def world_size() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process; the first, 0, is the one that writes."""
    return dist.get_rank() if world_size() > 1 else 0


def share(n: int) -> slice:
    """The rows of a batch of ``n`` that this process computes.

    Raises:
        UserError: the processes' shares would differ in size.
    """
    if n % world_size():
        raise UserError(
            f"A batch of {n} cannot be shared by {world_size()} processes equally; start torchrun with an "
            "--nproc-per-node that divides it."
        )
    rows = n // world_size()
    return slice(rank() * rows, (rank() + 1) * rows)


@contextmanager
def _together() -> Iterator[None]:
    """An exchange between the processes; that another one is gone becomes a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"process {rank()} stopped because another process of this training did ({str(error).splitlines()[0]}); "
            "see that one's message, then --resume."
        ) from error


def all_reduce(x: Tensor) -> Tensor:
    """The sum of ``x`` over the processes, in its place."""
    if world_size() > 1:
        with _together():
            dist.all_reduce(x)
    return x


@torch.no_grad()
def all_reduce_gradients(gradients: Iterable[Tensor]) -> None:
    """Sums gradients over the processes in place, by one exchange."""
    gradients = list(gradients)
    if world_size() == 1 or not gradients:
        return
    total = all_reduce(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))


def synchronise_batch_norms(network: nn.Module, device: torch.device) -> None:
    """Turns the batch norms inside a network into `torch.nn.SyncBatchNorm`, where several processes train on GPUs."""
    if world_size() > 1 and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)


def means(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars, each averaged over the processes; with one process as they are."""
    if world_size() == 1:
        return values
    stacked = all_reduce(torch.stack([value.detach().float() for value in values.values()]))
    return dict(zip(values, stacked / world_size(), strict=True))


def anywhere(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process; all get the same answer."""
    return flag if world_size() == 1 else bool(all_reduce(torch.tensor(float(flag), device=device)))


def first(action: Callable[[], T]) -> T | None:
    """What the first process makes of an action, which the others wait for and do not do; None in the others.

    Raises:
        UserError: the action raised one, in every process.
    """
    result, failure = None, ""
    if rank() == 0:
        try:
            result = action()
        except UserError as error:
            if world_size() == 1:
                raise
            failure = str(error)
            tell(failure)
            raise
    failure = tell(failure)
    if failure:
        raise UserError(f"process {rank()} stopped because the first one did: {failure}")
    return result


def tell(text: str) -> str:
    """The first process's text, in every process."""
    if world_size() == 1:
        return text
    data = torch.tensor(list(text.encode()), dtype=torch.uint8, device=_exchange_device())
    length = torch.tensor(len(data), device=data.device)
    with _together():
        dist.broadcast(length, src=0)
        if rank():
            data = torch.empty(int(length), dtype=torch.uint8, device=data.device)
        if int(length):
            dist.broadcast(data, src=0)
    return bytes(data.tolist()).decode()


def _exchange_device() -> torch.device:
    """Where tensors lie that processes exchange."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def same_everywhere(state: Any) -> None:
    """Overwrites every tensor of a nested state with the first process's: machines of two kinds round differently."""
    if world_size() == 1:
        return
    for tensor in flatten_state(state)[0].values():
        with torch.no_grad(), _together():
            sent = tensor.detach().contiguous().to(_exchange_device())
            dist.broadcast(sent, src=0)
            tensor.detach().copy_(sent)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        with _together():
            dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad[share(len(grad))] * world_size()


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in the order of the batch.

    Gradients flow back to the process that a row is from, as if the losses of all processes had been added up. All must
    compute the same from what they gather: each one's gradient is then everybody's, and nothing is exchanged for it.
    """
    if world_size() == 1:
        return x
    return _Gather.apply((x.float() if x.is_floating_point() else x).contiguous())
