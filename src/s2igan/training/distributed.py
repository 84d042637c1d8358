"""Devices and processes: what lets one process be the same program as many (docs/engine.md).

`torchrun --nproc-per-node N -m s2igan train ...` starts N processes that hold the same networks. Every process draws
the batch of a step as one process would, from (seed, stage, step), and computes its `share` of the rows. What compares
the rows of a batch with each other looks at the rows of all processes: `gather`.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from s2igan.errors import UserError
from s2igan.training.link import MOST_PROCESSES, Link, possible

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: the first one alone evaluates and writes. Those that die are noticed at
once."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of `mallopt`, as <malloc.h> numbers them."""
_link: Link | None = None
"""How processes of one machine exchange numbers on a CPU; None leaves that to PyTorch."""


def start(device: str | None = None) -> torch.device:
    """Joins the other processes, if torchrun started any, and returns the device of this one.

    Args:
        device: "cpu", "cuda", or one GPU by its number such as "cuda:1"; unless given, a GPU if there is one.

    Raises:
        UserError: there is no such device, or fewer than processes.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    kind, _, number = (device or ("cuda" if torch.cuda.is_available() else "cpu")).partition(":")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: PyTorch finds no GPU here; choose --device cpu.")
    if kind == "cuda" and max(here - 1, int(number or 0)) >= torch.cuda.device_count():
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are not enough for {f'--device {device}' if number else here}; start "
            "torchrun with fewer --nproc-per-node, or choose another --device."
        )
    if processes == 1:
        try:
            fabric = Fabric(accelerator=kind, devices=[int(number)] if number and kind != "cpu" else 1)
        except ValueError as error:
            raise UserError(f"--device {device}: {error}; choose cpu or cuda.") from error
    else:
        if number:
            raise UserError(f"--device {device} is one GPU for {processes} processes; choose --device cuda.")
        fabric = Fabric(
            accelerator=kind, devices=here, num_nodes=processes // here, strategy=DDPStrategy(timeout=PATIENCE)
        )
    fabric.launch()
    if processes > 1:
        atexit.register(leave)
    if fabric.device.type == "cpu":
        keep_memory()
        if 1 < processes == here <= MOST_PROCESSES and possible():
            link_processes()
    return fabric.device


def leave() -> None:
    """Ends gloo's threads, which may else outlive what they use: Python ends, and one of them aborts the process.

    Nccl's are left alone: to end them all processes must come, and one that failed would wait for those that have not.
    """
    if dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


def linked() -> Link | None:
    """The link of the processes of this machine, where they have one."""
    return _link


def link_processes() -> None:
    """Connects the processes, all on this machine, by memory that they share."""
    global _link
    with tempfile.TemporaryDirectory(prefix="s2igan-") as own, _together():
        _link = Link(rank(), world_size(), Path(tell(own)), PATIENCE.total_seconds())
        dist.barrier()  # the first one's folder is gone after this


def keep_memory() -> None:
    """Has the C library keep large blocks that are freed, for the next step, which wants the same ones.

    It would give every block above 32 MB back to the system, which hands it out again page by page, each filled with
    zeros: a tenth to a fifth of the processor time of a float32 step of large images. Does nothing where the C library
    is not GNU's.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


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


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of ``x`` over the processes, in the place of ``x``, which must be contiguous."""
    if world_size() > 1:
        with _together():
            if _link is not None:
                _link.sum(x.view(-1))
            else:
                dist.all_reduce(x)
    return x


def sum_together(tensors: list[Tensor]) -> None:
    """Replaces tensors by their sums over the processes, in one message; each must have one layout in all of them."""
    if world_size() == 1:
        return
    dense = [x if _is_dense(x) else x.contiguous() for x in tensors]
    flat = [x.detach().as_strided((x.numel(),), (1,)) for x in dense]  # in the order of the memory, nothing is copied
    sums = sum_over_processes(torch.cat(flat))
    torch._foreach_copy_(flat, list(sums.split([len(x) for x in flat])))
    for x, total in zip(tensors, dense, strict=True):
        if total is not x:
            x.copy_(total)


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def meet(word: int = 0) -> int:
    """`Link.meet`, of linked processes."""
    assert _link is not None
    with _together():
        return _link.meet(word)


def means(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars, each averaged over the processes; with one process as they are."""
    if world_size() == 1:
        return values
    stacked = sum_over_processes(torch.stack([value.detach().float() for value in values.values()]))
    return dict(zip(values, stacked / world_size(), strict=True))


def anywhere(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process; all get the same answer."""
    return flag if world_size() == 1 else bool(sum_over_processes(torch.tensor(float(flag), device=device)))


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
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    data = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    length = torch.tensor(len(data), device=device)
    with _together():
        dist.broadcast(length, src=0)
        if rank():
            data = torch.empty(int(length), dtype=torch.uint8, device=device)
        if int(length):
            dist.broadcast(data, src=0)
    return bytes(data.tolist()).decode()


def same_everywhere(state: Any) -> None:
    """Overwrites every tensor of a nested state with the first process's: machines of two kinds round differently."""
    if world_size() == 1:
        return
    if isinstance(state, Tensor):
        with torch.no_grad(), _together():
            sent = state.detach().contiguous()
            device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
            moved = sent.to(device)
            dist.broadcast(moved, src=0)
            state.detach().copy_(moved)
    elif isinstance(state, dict):
        for value in state.values():
            same_everywhere(value)
    elif isinstance(state, list | tuple):
        for value in state:
            same_everywhere(value)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        with _together():
            if _link is not None:
                return torch.cat(_link.gather(x))
            parts = [torch.empty_like(x) for _ in range(world_size())]
            dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad[share(len(grad))] * world_size()


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in the order of the batch.

    Gradients flow back to the process that a row is from, as if the losses of all processes had been added up. All must
    make the same of what they gather: each one's gradient is then everybody's, and nothing is exchanged for it.
    """
    if world_size() == 1:
        return x
    return _Gather.apply((x.float() if x.is_floating_point() else x).contiguous())


def gather_together(*tensors: Tensor) -> tuple[Tensor, ...]:
    """`gather` of so many matrices (batch, columns) of one type, in one exchange."""
    if world_size() == 1 or not tensors:
        return tensors
    return gather(torch.cat(tensors, dim=1)).split([x.shape[1] for x in tensors], dim=1)
