"""The same work on many items, in processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from s2igan.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Cores that this process may use, which in a container or a batch job are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each_done(work: Callable[[Item], None], items: Sequence[Item], jobs: int | None = None) -> Iterator[Item]:
    """Do `work` on every item in `jobs` processes, one per usable core unless given; each item once it is done.

    `work` and the items must be picklable. One job works in this process.

    Raises:
        UserError: if a process was killed. What `work` raises is raised here; items not begun are dropped then.
    """
    for item, _ in each_result(work, items, jobs):
        yield item


def each_result(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """As `each_done`, with what `work` returned for each item."""
    jobs = min(jobs or usable_cores(), len(items))
    if jobs <= 1:
        for item in items:
            yield item, work(item)
        return
    with worker_pool(jobs) as pool:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()


@contextmanager
def worker_pool(jobs: int, member: str = "A working process") -> Iterator[ProcessPoolExecutor]:
    """`jobs` processes to submit work to; on leaving, what they have not begun is dropped and they end.

    Args:
        member: one of them, in the message about its death.

    Raises:
        UserError: if one of them was killed.
    """
    # Spawned, not forked: the threads of torch and others do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            f"{member} was killed, often for want of memory; run the same command again with fewer --jobs, it goes on "
            "where it stopped."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """One thread; no traceback on Ctrl-C, which the parent handles; and no life after the parent's death."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # read by libraries that `work` imports from now on
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
