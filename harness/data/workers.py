"""Processes that do pieces of work and never outlive the one that asked for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from harness.errors import HarnessError


def finished(work: Callable[[int], int], pieces: Sequence[int], processes: int) -> Iterator[int]:
    """What `work` gave for each piece, in the order in which they are done. Whatever is raised stops the others."""
    others = set(multiprocessing.active_children())
    # Not from the fork server, which must start with all that a training needs, if there is to be one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_follow_parent) as pool:
        try:
            # New processes keep what is blocked at their start: Ctrl-C is for this one to answer.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                waiting = [pool.submit(work, piece) for piece in pieces]
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            told = "a process that prepares images was killed, for want of memory perhaps"
            raise HarnessError(f"{told}; what is done is kept: ask again to continue") from error
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _follow_parent() -> None:
    threading.Thread(target=_leave, daemon=True).start()


def _leave() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
