"""The time that a run takes: in all, a logging interval, and since something was last done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Wall time of an attempt, of a logging interval without the pauses in it, and since something was last done."""

    def __init__(self, earlier: float) -> None:
        self._start = self._lap = time.perf_counter()
        self._earlier = earlier
        self._last: dict[str, float] = {}

    def total(self) -> float:
        """Seconds of all attempts so far."""
        return self._earlier + time.perf_counter() - self._start

    def lap(self) -> float:
        """Seconds since the last lap, pauses left out; begins the next lap."""
        elapsed = self.since_lap()
        self._lap += elapsed
        return elapsed

    def since_lap(self) -> float:
        """Seconds since the last lap, pauses left out; the lap goes on."""
        return time.perf_counter() - self._lap

    def due(self, what: str, seconds: float) -> bool:
        """Whether `what` was last due, or the clock started, at least so long ago."""
        now = time.perf_counter()
        if now - self._last.get(what, self._start) < seconds:
            return False
        self._last[what] = now
        return True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside belongs to no lap."""
        entered = time.perf_counter()
        try:
            yield
        finally:
            self._lap += time.perf_counter() - entered
