"""The same work on many items, in processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from s2igan.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

SAVING_SECONDS = 60
"""That a process has for saving what it does, when its parent has died."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Cores that this process may use, which in a container or a batch job are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each_result(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """Do `work` on every item in `jobs` processes, one per usable core unless given; each item with its result, as it
    is done.

    `work`, the items and the results must be picklable. One job works in this process.

    Raises:
        UserError: if a process was killed. What `work` raises is raised here; items not begun are dropped then.
    """
    jobs = min(jobs or usable_cores(), len(items))
    if jobs <= 1:
        for item in items:
            yield item, work(item)
        return
    # Spawned, not forked: the threads of torch and others do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "A working process was killed, often for want of memory; run the same command again with fewer --jobs, it "
            "goes on where it stopped."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def elsewhere(work: Callable[..., Result], *arguments: Any) -> Result:
    """What `work` gives, in a process of its own, which random states, precision and locks belong to. It ends when this
    one dies, and a training in it is saved before.

    `work`, the arguments and the result must be picklable; what it raises is raised here.

    Raises:
        UserError: if the process was killed.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            return pool.submit(_ends_with_parent, work, *arguments).result()
        except BrokenProcessPool as error:
            raise UserError(
                "A working process was killed, often for want of memory; run the same command again, it goes on where "
                "it stopped."
            ) from error


@contextmanager
def progress_bars(shown: bool = True, amount: type[ProgressColumn] | None = None) -> Iterator[Progress]:
    """Bars on stderr if that is a terminal, each with what is done, of how much, and the time that is left.

    `amount` takes the place of counts.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), (amount or MofNCompleteColumn)(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bars:
        yield bars


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar on stderr where that is a terminal; `total` where their number cannot be asked."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    yield from progress.track(items, description, total, console=console, disable=not console.is_terminal)


def _start_worker() -> None:
    """One thread; no traceback on Ctrl-C, which the parent handles; and no life after the parent's death."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # read by libraries that `work` imports from now on
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()


_parent_died = threading.Event()


def _ends_with_parent(work: Callable[..., Result], *arguments: Any) -> Result:
    """What `work` gives; where the parent has died meanwhile, nobody waits for it, nor for this process to go on."""
    try:
        return work(*arguments)
    finally:
        if _parent_died.is_set():
            os._exit(1)


def _end_with_parent() -> None:
    """Ends this process when its parent dies: by SIGTERM, at which a training saves where it is, and then surely."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        _parent_died.set()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SAVING_SECONDS)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
