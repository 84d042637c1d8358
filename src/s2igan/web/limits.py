"""What one visitor may ask of the server, so that nobody takes it from the others."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 60.0
ADDRESSES = 4096
"""Of whom requests are counted; the longest silent is dropped."""


@dataclass(frozen=True)
class Limits:
    """Of requests."""

    seconds: int = 60
    """Length of one recording."""
    megabytes: int = 10
    """Size of one recording."""
    samples: int = 8
    """Images of one recording."""
    steps: int = 9
    """Images between two recordings."""
    per_minute: int = 120
    """Requests of one address."""
    waiting: int = 16
    """Requests at once, from their uploads on; one is drawn at a time."""
    upload_seconds: float = 30.0
    """In which a recording must have arrived."""

    @property
    def max_bytes(self) -> int:
        return self.megabytes * 1_000_000


class Rate:
    """Counts requests of each address within a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str) -> float:
        """Counts a request; 0 if it may pass, else for how long its sender should wait, and it is not counted."""
        now = self._clock()
        times = self._times.setdefault(address, deque())
        self._times.move_to_end(address)
        if len(self._times) > ADDRESSES:
            self._times.popitem(last=False)
        while times and now - times[0] >= WINDOW_SECONDS:
            times.popleft()
        if len(times) >= self._per_minute:
            return WINDOW_SECONDS - (now - times[0])
        times.append(now)
        return 0.0
