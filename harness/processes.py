"""Processes that are started without the program of the user."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_LOCK = threading.Lock()
"""One thread at a time, as the name of the main module is changed meanwhile."""


@contextmanager
def without_main() -> Iterator[None]:
    """Processes that are started inside do not import the main module of this one.

    multiprocessing would run the user's program again in each process, and one that calls `harness.run_grid` without
    asking whether it is `__main__` would wait for itself. Our processes import all that they need from this package.
    """
    with _LOCK:
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
