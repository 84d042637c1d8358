"""Reads the next step's batch from the store while a step is taken."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from s2igan.parallel import usable_cores

Read = TypeVar("Read")


def spare_core(device: torch.device) -> bool:
    """Whether a core is left beside the threads that compute: always where a GPU does."""
    if device.type != "cpu":
        return True
    return usable_cores() > torch.get_num_threads() * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


class Ahead(Generic[Read]):
    """Calls a function of the step number one step ahead, in a thread of its own that computes on one core.

    What is read must not depend on anything that a step changes. Where no core is spare, a thread would take turns with
    those that compute and stop them all: then everything is read when it is asked for. Use as a context, which ends the
    thread.

    Args:
        read: what to call.
        steps: nothing is read for this step or later ones.
        device: where the steps are computed.
    """

    def __init__(self, read: Callable[[int], Read], steps: int, device: torch.device) -> None:
        self._read, self._steps = read, steps
        self._next: tuple[int, Future[Read]] | None = None
        self._thread: ThreadPoolExecutor | None = None
        if spare_core(device):
            self._thread = ThreadPoolExecutor(1, "s2igan-ahead")
            threads = torch.get_num_threads()
            self._thread.submit(_compute_on_one_core).result()
            torch.set_num_threads(threads)  # the number is each thread's own, but new threads take the latest

    def __call__(self, index: int) -> Read:
        """What `read` gives for a step, be it the one that was read ahead or another.

        Raises:
            Exception: what `read` raised for this step.
        """
        if self._thread is None:
            return self._read(index)
        if self._next is None or self._next[0] != index:
            self._next = index, self._thread.submit(self._read, index)
        read = self._next[1].result()
        self._next = None
        if index + 1 < self._steps:
            self._next = index + 1, self._thread.submit(self._read, index + 1)
        return read

    def __enter__(self) -> Ahead[Read]:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)


def _compute_on_one_core() -> None:
    """For the thread that calls it."""
    torch.get_num_threads()  # else PyTorch sets the thread up later, with the number of the others
    torch.set_num_threads(1)
