"""The warm process that every run's process is forked from."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from harness.processes import without_main
from harness.runs.lease import ClaimCheck
from harness.scheduler import worker
from harness.scheduler.slots import Slot, thread_limits
from harness.terminal.console import terminal

Execute = Callable[[Path, Slot, ClaimCheck], None]
"""Trains one run in its own process; before it writes anything of the run it asks the claim check."""
CONTEXT = get_context("forkserver")


def warm_up(preload: Sequence[str], threads: int) -> threading.Thread:
    """Start the fork server, if none is there yet; the returned thread ends when it has imported `preload`.

    Thread limits are for the libraries that it loads: they read them once. The server heeds no request to stop: whoever
    sends one to a whole process group means the scheduler, and the runs that it still has to end.
    """
    CONTEXT.set_forkserver_preload([*preload, worker.__name__])
    resource_tracker.ensure_running()  # unblocks SIGINT when it starts, so it has to be there before
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, worker.NOT_FOR_SERVERS)
    limits = thread_limits(threads)
    before = {name: os.environ[name] for name in limits.keys() & os.environ.keys()}
    os.environ.update(limits)
    try:
        forkserver.ensure_running()
    finally:
        for name in limits:
            del os.environ[name]
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    thread = threading.Thread(target=_first_process, daemon=True)
    thread.start()
    return thread


def start_run(execute: Execute, folder: Path, slot: Slot, grace_s: float, token: str) -> ForkServerProcess:
    """A process that executes one run under a claim. Raises OSError or EOFError if it cannot be started."""
    process = CONTEXT.Process(target=worker.main, args=(pickle.dumps(execute), folder, slot, grace_s, token))
    with without_main():
        process.start()
    return process


class EndedEarly(RuntimeError):
    """The process in which a function was called has ended before it returned; the message has its exit code."""


def run_apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns, called in a process of its own. Raises what it raises, EndedEarly if it was killed.

    It shows its progress on the same terminal, and ends with this process, also on Ctrl-C.
    """
    reply, theirs = CONTEXT.Pipe(duplex=False)
    level = logging.getLogger("harness").getEffectiveLevel()
    process = CONTEXT.Process(target=worker.answer, args=(theirs, level, function, arguments), daemon=True)
    with without_main():
        process.start()
    theirs.close()
    try:
        error, result = reply.recv()
    except BaseException as error:
        process.terminate()
        process.join()
        terminal(error=True, live=True).show_cursor()  # a bar that it was drawing has hidden it
        if not isinstance(error, EOFError):
            raise
        raise EndedEarly(f"{function.__name__}: the process ended with code {process.exitcode}") from None
    process.join()
    if error is not None:
        raise error
    return result


def _first_process() -> None:
    """A process that does nothing: it cannot start before the server has imported everything."""
    first = CONTEXT.Process(target=os.getpid)
    with without_main():
        first.start()
    first.join()
    first.close()
