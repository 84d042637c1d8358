"""float32 or bf16, and how fast this machine is in each (docs/engine.md)."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from s2igan.training.distributed import rank, tell

Precision = Literal["auto", "float32", "bf16"]

BF16_GAIN = 1.25
"""Precision "auto" takes bf16 where a convolution is at least this many times as fast in it."""


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
        slow, fast = (convolution_gflops(dtype, device) for dtype in (torch.float32, torch.bfloat16))
        chosen = "bf16" if fast > BF16_GAIN * slow else "float32"
    return "bf16" if tell(chosen) == "bf16" else "float32"


@functools.cache
def convolution_gflops(
    dtype: torch.dtype, device: torch.device, *, batch: int = 8, channels: int = 64, side: int = 64
) -> float:
    """GFLOP/s of a 3x3 convolution, channels last, forward and backward; a multiplication and an addition are two."""

    def full(*shape: int) -> Tensor:
        x = torch.full(shape, 0.5, device=device, dtype=dtype)
        return x.contiguous(memory_format=torch.channels_last).requires_grad_()

    x, weight = full(batch, channels, side, side), full(channels, channels, 3, 3)
    grad = torch.ones_like(x)

    def run() -> None:
        torch.autograd.grad(torch.nn.functional.conv2d(x, weight, padding=1), (x, weight), grad)

    return 3 * 2 * 9 * channels**2 * batch * side**2 / seconds(run, device) / 1e9


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """The shortest time that a call takes, of several after one that is not counted."""
    times = []
    for _ in range(6):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])
