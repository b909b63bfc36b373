"""The first code of a run's own process, started from the fork server."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

import psutil

from harness.errors import Diverged, HarnessError
from harness.exit_codes import DIVERGED
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck
from harness.scheduler.failures import POLICIES, of_error
from harness.scheduler.processes import end_session, node
from harness.scheduler.slots import Slot
from harness.terminal.console import configure
from harness.terminal.streams import SafeStream

NOT_FOR_SERVERS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
"""Blocked in the fork server, and therefore at first in each process that comes from it."""
LOOK_S = 5.0
"""Seconds between two looks at whether the run is still this process's."""


def main(execute: bytes, folder: Path, slot: Slot, grace_s: float, token: str) -> NoReturn:
    """Run the pickled `execute(folder, slot, claim)` under the claim that `token` names.

    Exits with 0 done, 4 diverged, 143 interrupted, or a failure's code (see `failures`), its reason in log.txt.

    The process leads a session of its own, sees its slot's device only, does not outlive its scheduler by more than
    `grace_s` seconds, nor the claim.
    """
    os.setsid()
    _listen()
    _redirect(folder / "log.txt")
    os.environ.update(slot.environment)
    claim = ClaimCheck(folder, token)
    threading.Thread(target=_follow_scheduler, args=(grace_s, claim), daemon=True).start()
    code = _outcome(execute, folder, slot, claim)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):  # it may have ended just now
            child.kill()
    with contextlib.suppress(OSError):  # where there is no room for the log, the exit code still tells
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _outcome(execute: bytes, folder: Path, slot: Slot, claim: ClaimCheck) -> int:
    """The exit code of the run, what went wrong having been printed."""
    try:
        RunFolder(folder).update(host=node(), pid=os.getpid(), started=psutil.Process().create_time())
        # Unpickled only here, so that a module that cannot be imported shows in the run's log.
        pickle.loads(execute)(folder, slot, claim)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException as error:
        with contextlib.suppress(OSError):
            if isinstance(error, HarnessError):
                print(f"error: {error}", file=sys.stderr)
            else:
                traceback.print_exception(error)
        return DIVERGED if isinstance(error, Diverged) else POLICIES[of_error(error)].exit_code


def answer(reply: Connection, level: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Call `function` and send (what it raised or None, what it returned); like a run, it ends with its parent.

    What it logs from `level` on, and its progress, goes to standard error. Threads that it has left behind end with it.
    """
    os.setsid()
    _listen()
    threading.Thread(target=_follow_scheduler, args=(0.0, None), daemon=True).start()
    configure(quiet=level > logging.INFO, verbose=level <= logging.DEBUG)
    try:
        result = function(*arguments)
    except Exception as error:
        error.add_note(traceback.format_exc())
        try:
            pickle.loads(pickle.dumps(error))
            reply.send((error, None))
        except Exception:  # it has in it what no other process can be given, or read
            reply.send((RuntimeError(f"{type(error).__name__}: {error}"), None))
    else:
        reply.send((None, result))
    with contextlib.suppress(OSError, ValueError):  # the function may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def _listen() -> None:
    """To the signals that the fork server does not heed, but for those whose meaning its scheduler passes on."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there is something to save
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_SERVERS)


def _redirect(log: Path) -> None:
    """Standard output and errors into the log, of C code too; nothing to read from."""
    for target, source, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)):
        opened = os.open(source, flags, 0o644)
        os.dup2(opened, target)
        os.close(opened)
    os.dup2(1, 2)
    sys.stdout, sys.stderr = (
        SafeStream(os.fdopen(target, "wb", closefd=False), "utf-8", True, "the log") for target in (1, 2)
    )
    faulthandler.enable()


def _follow_scheduler(grace_s: float, claim: ClaimCheck | None) -> None:
    """Wait for the scheduler's death: then stop this run with a checkpoint, and after `grace_s` without.

    A run that another scheduler has taken over ends at once.
    """
    scheduler = multiprocessing.parent_process()
    assert scheduler is not None
    while not wait([scheduler.sentinel], LOOK_S):
        if claim and claim.is_lost():
            _end_now()
    os.killpg(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    _end_now()


def _end_now() -> None:
    end_session(os.getpid())
    os.killpg(os.getpid(), signal.SIGKILL)
