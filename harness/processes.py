"""Processes that are started without the program of the user, and what they do with freed memory and objects."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from types import ModuleType

from harness.errors import HarnessError

_LOCK = threading.Lock()
"""One thread at a time, as the name of the main module is changed meanwhile."""


def signal_name(number: int) -> str:
    """`SIGKILL`; `signal 45` of one that has no name, as most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def way_it_ended(code: int) -> str:
    """`was killed by SIGKILL`, `ended with exit code 1`: a process with that exit code, minus the signal if by one."""
    return f"was killed by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"


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


def keep_freed_memory() -> None:
    """From here on this process keeps what it frees, up to blocks of 32 MiB, for what it asks for next.

    Each training step asks for the same blocks again. glibc would give them back to the system, which clears every page
    anew: a fiftieth of a small step. Other C libraries have no such setting.
    """
    top, mapped = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(top, 2**31 - 1)
        libc.mallopt(mapped, 32 * 2**20)


@contextmanager
def no_collection() -> Iterator[None]:
    """Without Python's search for circles of objects."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def run_in_processes(function: Callable[[int], int], pieces: Sequence[int], processes: int, task: str) -> Iterator[int]:
    """What `function` gave for each piece, as they are finished, by processes that never outlive this one. Whatever is
    raised stops the others. `task`: what a process does, for a message."""
    others = set(multiprocessing.active_children())
    # Not from the fork server, which must start with all that a training needs, if there is to be one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_end_with_parent) as pool:
        try:
            # New processes keep what is blocked at their start: Ctrl-C is for this one to answer.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                with without_main():
                    waiting = [pool.submit(function, piece) for piece in pieces]
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            reason = f"a process that {task} was killed, perhaps for lack of memory"
            raise HarnessError(f"{reason}; what is done is kept: run the command again to continue") from error
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _end_with_parent() -> None:
    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        wait([parent.sentinel])
        os._exit(1)  # a thread can end its process in no other way

    threading.Thread(target=watch, daemon=True).start()
