"""Devices, precision and processes: what lets one process be the same program as many (docs/engine.md).

`torchrun --nproc-per-node N -m s2igan train ...` starts N processes that hold the same networks. Every process draws
the batch of a step as one process would, from (seed, stage, step), and computes its `share` of the rows; `update`
averages gradients over the processes before the optimiser steps, so that the networks stay the same everywhere. What
compares the rows of a batch with each other looks at the rows of all processes: `gather`, and batch norm
(`synchronise`).

Gradients are averaged here, in one message for each network after its backward pass, and not by a wrapper around the
networks: a step of stage 2 uses parts of a network several times, with and without gradients for its weights.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from s2igan.errors import UserError

Precision = Literal["auto", "float32", "bf16"]
T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: the first one alone evaluates and writes. Those that die are noticed at
once."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of `mallopt`, as <malloc.h> numbers them."""
BF16_GAIN = 1.25
"""Precision "auto" takes bf16 where it makes a convolution so many times faster."""


# ------------------------------------------------------------------------------------------------------------ processes


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
    if fabric.device.type == "cpu":
        keep_memory()
    return fabric.device


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
            dist.all_reduce(x)
    return x


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
        parts = [torch.empty_like(x) for _ in range(world_size())]
        with _together():
            dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return sum_over_processes(grad.contiguous().clone())[share(len(grad))]


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in the order of the batch. Gradients flow back to the process that a row is from."""
    if world_size() == 1:
        return x
    return _Gather.apply((x.float() if x.is_floating_point() else x).contiguous())


# -------------------------------------------------------------------------------------------------------------- updates


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


def average(gradients: list[Tensor]) -> None:
    """Replaces gradients by their means over the processes, sent as one message."""
    if world_size() == 1:
        return
    flat = sum_over_processes(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    flat /= world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, parts, strict=True):
        gradient.copy_(mean.view(gradient.shape))


# ----------------------------------------------------------------------------------------------------------- batch norm


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of the batch of all processes, on any device (PyTorch's own is for GPUs).

    Every process must hold as many values. Names in the state dict are those of `torch.nn.BatchNorm2d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, ...) -> the same."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        y, mean, var = _BatchNormOfAll.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
                weight = self.momentum
                if weight is None:  # a plain average over the batches
                    assert self.num_batches_tracked is not None
                    weight = 1 / float(self.num_batches_tracked)
                n = input.numel() / input.shape[1] * world_size()
                self.running_mean.lerp_(mean, weight)
                self.running_var.lerp_(var * (n / (n - 1)), weight)
        return y


class _BatchNormOfAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims = [d for d in range(x.dim()) if d != 1]
        var, mean = torch.var_mean(x.float(), dims, correction=0)
        # Means of squares of means: of groups of one size, the total variance is the mean within plus that between.
        parts = gather(torch.stack([mean, var])[None])
        mean = parts[:, 0].mean(dim=0)
        var = parts[:, 1].mean(dim=0) + (parts[:, 0] - mean).square().mean(dim=0)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.mark_non_differentiable(mean, var)
        return torch.nn.functional.batch_norm(x, mean, var, weight, bias, training=False, eps=eps), mean, var

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(x.dim())]
        grad32 = grad.float()
        along_bias = grad32.sum(dims)
        along_weight = ((x.float() - mean.view(shape)) * grad32).sum(dims) * inverse
        grad_x = None
        if ctx.needs_input_grad[0]:
            n = x.numel() / x.shape[1] * world_size()
            total = sum_over_processes(torch.stack([along_bias, along_weight]))
            scale = inverse if weight is None else inverse * weight
            slope = -scale * inverse * total[1] / n
            offset = -scale * total[0] / n - mean * slope
            grad_x = torch.addcmul(offset.view(shape), x.float(), slope.view(shape))
            grad_x = grad_x.addcmul_(grad32, scale.view(shape)).to(x.dtype)
        learnt = weight is not None
        return grad_x, along_weight if learnt else None, along_bias if learnt else None, None


def synchronise(network: nn.Module) -> None:
    """With several processes, makes every batch norm inside a network a `SynchronisedBatchNorm` of the same tensors."""
    if world_size() == 1:
        return
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, _BatchNorm) and not isinstance(norm, SynchronisedBatchNorm):
                new = SynchronisedBatchNorm(norm.num_features, norm.eps, norm.momentum, affine=False)
                new._parameters, new._buffers = norm._parameters, norm._buffers
                new.affine, new.track_running_stats = norm.affine, norm.track_running_stats
                setattr(parent, name, new.train(norm.training))


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


# ------------------------------------------------------------------------------------------------------------ precision


def autocast(precision: Literal["float32", "bf16"], device: torch.device) -> AbstractContextManager[Any]:
    """Inside, convolutions and matrix products run in the precision; losses are always float32 (`losses._precise`)."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Inside, nothing is cast."""
    return torch.autocast(x.device.type, enabled=False) if torch.is_autocast_enabled(x.device.type) else nullcontext()


def choose_precision(choice: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """What "auto" means on this machine: bf16 where a convolution, measured, is `BF16_GAIN` times as fast in it."""
    if choice != "auto":
        return choice
    chosen = "float32"
    if rank() == 0:
        speed = {dtype: convolution_gflops(dtype, device, backward=True) for dtype in (torch.float32, torch.bfloat16)}
        chosen = "bf16" if speed[torch.bfloat16] > BF16_GAIN * speed[torch.float32] else "float32"
    return "bf16" if tell(chosen) == "bf16" else "float32"


@functools.cache
def convolution_gflops(
    dtype: torch.dtype,
    device: torch.device,
    *,
    batch: int = 8,
    channels: int = 64,
    side: int = 64,
    backward: bool = False,
    channels_last: bool = True,
    repeats: int = 5,
) -> float:
    """GFLOP/s of a 3x3 convolution, the best of several, a multiplication and an addition being two."""
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def full(*shape: int) -> Tensor:
        return torch.full(shape, 0.5, device=device, dtype=dtype).contiguous(memory_format=layout)

    x = full(batch, channels, side, side).requires_grad_(backward)
    weight = full(channels, channels, 3, 3).requires_grad_(backward)
    grad = torch.ones_like(x)

    def run() -> None:
        y = torch.nn.functional.conv2d(x, weight, padding=1)
        if backward:
            torch.autograd.grad(y, (x, weight), grad)

    flops = 2 * 9 * channels**2 * batch * side**2 * (3 if backward else 1)
    return flops / seconds(run, device, repeats) / 1e9


@functools.cache
def product_gflops(dtype: torch.dtype, device: torch.device, *, size: int = 2048, repeats: int = 5) -> float:
    """GFLOP/s of a product of two square matrices, the best of several."""
    a = torch.full((size, size), 0.5, device=device, dtype=dtype)
    return 2 * size**3 / seconds(lambda: a @ a, device, repeats) / 1e9


def seconds(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """The shortest time that a call takes, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def compile_networks(networks: Iterable[nn.Module]) -> None:
    """Has `torch.compile` translate the forward and backward passes of networks when they are first called.

    Raises:
        UserError: there is no C++ compiler, which it needs on a CPU.
    """
    import shutil

    if not torch.cuda.is_available() and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise UserError("compile needs a C++ compiler and there is none; install g++, or leave compile off.")
    for network in networks:
        network.compile()
