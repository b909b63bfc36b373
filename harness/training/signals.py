"""What signals ask of a run's process: SIGTERM to stop with a checkpoint, SIGUSR1 to write one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(BaseException):
    """SIGTERM came. No Exception, so that no library takes it for a failure of its own."""


class Signals:
    """Remembers which signals came, from its construction to the end of the process."""

    def __init__(self) -> None:
        self._stop = self._save = self._breakable = False
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_save)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the scheduler's to handle

    def check(self) -> None:
        """Raise Stopped if SIGTERM came."""
        if self._stop:
            raise Stopped

    def wants_checkpoint(self) -> bool:
        """Whether SIGUSR1 came since the last call."""
        if not self._save:
            return False
        self._save = False  # only here: a signal that comes meanwhile must not be lost
        return True

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """Inside, SIGTERM raises Stopped at once: for long work that leaves nothing half done when it is cut short."""
        self._breakable = True
        try:
            self.check()
            yield
        finally:
            self._breakable = False

    def _on_stop(self, *_: Any) -> None:
        self._stop = True
        if self._breakable:
            raise Stopped

    def _on_save(self, *_: Any) -> None:
        self._save = True
