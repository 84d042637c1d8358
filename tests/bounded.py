"""A bound of time and memory for what decodes files that may say anything."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""Of wall-clock time, on a machine that does other things as well; a case takes milliseconds."""
BYTES = 1_000_000_000
"""Above what the process had at the start."""
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(field: str) -> int:
    """VmRSS, what the process holds now, or VmHWM, the most that it held since `RESET` was written to; bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


@contextlib.contextmanager
def bounded(seconds: float = SECONDS, most: int = BYTES) -> Iterator[None]:
    """AssertionError where what is inside takes longer, or ever holds more memory above the start."""

    def too_long(*_: Any) -> None:
        raise AssertionError(f"it hangs: it has not ended after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    RESET.write_text("5")
    start = memory("VmRSS")
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    taken = memory("VmHWM") - start
    assert taken <= most, f"it took {taken / 1e6:,.0f} MB"
