"""Batches by step: random streams that follow from (seed, stage, step), and worker processes that read ahead."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from s2igan.parallel import usable_cores
from s2igan.training.distributed import rank

GPU_WORKERS = 4
"""Processes that read ahead for one GPU."""


@runtime_checkable
class Reader(Protocol):
    """Reads what a step takes from the store. It can be pickled: worker processes call it."""

    def read(self, step: int) -> dict[str, Any]:
        """This process's share of the batch: tensors on the CPU, by name."""

    def items(self, step: int) -> list[str]:
        """The recordings of the step's batch, of all processes, by path."""


def streams(seed: int, stage: str, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The random streams of one step, for numpy and for torch (on the CPU, whatever the device)."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(stage.encode()), step])
    numpy_seed, torch_seed = sequence.generate_state(2, np.uint64)
    return np.random.default_rng(numpy_seed), torch.Generator().manual_seed(int(torch_seed >> np.uint64(1)))


def step_seed(seed: int, step: int) -> int:
    """The seed of what a step draws from PyTorch's own stream, another in every process."""
    process = f" {rank()}" if rank() else ""
    return zlib.crc32(f"{seed} {step}{process}".encode())


class _Steps(Dataset[dict[str, Any]]):
    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __getitem__(self, step: int) -> dict[str, Any]:
        return self.reader.read(step)


def read_steps(
    reader: Reader, steps: range, device: torch.device, workers: int | None = None
) -> Iterator[dict[str, Any]]:
    """What a reader reads for one step after the other.

    Args:
        workers: processes that prefetch; 0 reads each step when it is asked for. Unless given, `GPU_WORKERS` with a
            GPU, as far as there are cores, and none without: on a CPU they would take the cores from the step.
    """
    if workers is None:
        workers = min(GPU_WORKERS, usable_cores() - 1) if device.type == "cuda" else 0
    loader = DataLoader(
        _Steps(reader),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        # Spawned, not forked: the threads of torch and others do not survive a fork.
        multiprocessing_context="spawn" if workers else None,
        pin_memory=device.type == "cuda",
    )
    return iter(loader)
