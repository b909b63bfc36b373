"""The first code of a run's own process, started from the fork server. No torch here."""

from __future__ import annotations

import faulthandler
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
from harness.records import RunFolder
from harness.running.slots import Slot

UNUSABLE = 2
DIVERGED = 4
INTERRUPTED = 128 + signal.SIGTERM


def main(execute: bytes, folder: Path, slot: Slot, grace_s: float) -> NoReturn:
    """Run the pickled `execute(folder, slot)`.

    Exits with 0 done, 2 unusable input, 4 diverged, 143 interrupted, 1 with a traceback in log.txt.

    The process leads a session of its own, sees its slot's device only, and does not outlive its scheduler by more than
    `grace_s` seconds.
    """
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _redirect(folder / "log.txt")
    os.environ.update(slot.environment)
    RunFolder(folder).update(pid=os.getpid(), started=psutil.Process().create_time())
    threading.Thread(target=_follow_scheduler, args=(grace_s,), daemon=True).start()
    try:
        # Unpickled only here, so that a module that cannot be imported shows in the run's log.
        pickle.loads(execute)(folder, slot)
        sys.exit(0)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(UNUSABLE)
    except Diverged:
        traceback.print_exc()
        sys.exit(DIVERGED)
    finally:
        for child in psutil.Process().children(recursive=True):
            child.kill()


def answer(reply: Connection, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Call `function` and send what it raised, or None; like a run, this process does not outlive its parent."""
    os.setsid()
    threading.Thread(target=_follow_scheduler, args=(0.0,), daemon=True).start()
    try:
        function(*arguments)
    except Exception as error:
        error.add_note(traceback.format_exc())
        reply.send(error)
    else:
        reply.send(None)


def _redirect(log: Path) -> None:
    """Standard output and errors into the log, of C code too; nothing to read from."""
    for target, source, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)):
        opened = os.open(source, flags, 0o644)
        os.dup2(opened, target)
        os.close(opened)
    os.dup2(1, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    faulthandler.enable()


def _follow_scheduler(grace_s: float) -> None:
    """Wait for the scheduler's death: then stop this run with a checkpoint, and after `grace_s` without."""
    scheduler = multiprocessing.parent_process()
    assert scheduler is not None
    wait([scheduler.sentinel])
    os.killpg(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os.killpg(os.getpid(), signal.SIGKILL)
