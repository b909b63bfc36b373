"""The warm process that every run's process is forked from."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from harness.processes import way_it_ended, without_main
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
    """The process in which a function was called has ended before it returned; the message tells how."""


def run_apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns, called in a process of its own. Raises what it raises, EndedEarly if it was killed.

    It shows its progress on the same terminal, and ends with this process, also on Ctrl-C.
    """
    return run_beside(function, [arguments])[0]


def run_beside(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], seconds: float | None = None
) -> list[Any]:
    """What `function` returns for each of these arguments, called at the same time, each in a process of its own.

    As `run_apart`; when one fails the others are ended. Raises TimeoutError when one takes longer than `seconds`.
    """
    end = None if seconds is None else time.monotonic() + seconds
    level = logging.getLogger("harness").getEffectiveLevel()
    replies, processes = list[Connection](), list[ForkServerProcess]()
    try:
        for arguments in calls:
            reply, theirs = CONTEXT.Pipe(duplex=False)
            process = CONTEXT.Process(target=worker.answer, args=(theirs, level, function, arguments), daemon=True)
            try:
                with without_main():
                    process.start()
            except EOFError:
                raise EndedEarly(f"{function.__name__}: the process that starts others has ended") from None
            theirs.close()
            replies.append(reply)
            processes.append(process)
        return [_answer(function, *each, end) for each in zip(replies, processes, strict=True)]
    except BaseException:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        terminal(error=True, live=True).show_cursor()  # a bar that one was drawing has hidden it
        raise
    finally:
        for process in processes:
            process.join()


def _answer(function: Callable[..., Any], reply: Connection, process: ForkServerProcess, end: float | None) -> Any:
    if not reply.poll(None if end is None else max(0.0, end - time.monotonic())):
        raise TimeoutError(f"{function.__name__} took too long")
    try:
        error, result = reply.recv()
    except (EOFError, OSError):
        process.join()
        raise EndedEarly(f"{function.__name__}: the process {way_it_ended(process.exitcode or 0)}") from None
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
