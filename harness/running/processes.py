"""Signals, process groups and the lock of a grid: what the scheduler needs of the operating system. No torch here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from harness.errors import HarnessError
from harness.records import Status

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_PRESS_S = 0.5
"""Wrappers pass on a Ctrl-C that the terminal has delivered already: so soon, it is the same one."""
CLOCK_SLACK_S = 5.0
"""A process's start time moves with the clock's corrections."""


class Stop:
    """While entered, remembers the signals that ask for an end instead of dying of them.

    The first is a request to write checkpoints and stop; a Ctrl-C after it means now. Signals that the caller's shell
    ignores (`nohup`, a background job) stay ignored.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.now = False
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 0 if nobody asked."""
        return 128 + self.signal if self.signal else 0

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._heed)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _heed(self, number: int, _: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > ONE_PRESS_S:
            self.now = True


_HELD: set[Path] = set()


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the study's folder of runs, so that no run is ever trained by two schedulers at once.

    The lock goes with the process, however it ends; this process may take it again. Raises HarnessError while another
    process holds it.
    """
    if root in _HELD:
        yield
        return
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            message = f"{root}: process {holder} is running this study; wait for it, or stop it with: kill {holder}"
            raise HarnessError(message) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        _HELD.add(root)
        try:
            yield
        finally:
            _HELD.discard(root)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group of `pid`, or `pid` alone while it has not made its group yet; gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            os.kill(pid, number)


def sweep_group(pid: int) -> None:
    """Kill what is left of the group of a process that has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def living(status: Status) -> psutil.Process | None:
    """The process that a status names, unless it is gone and its number belongs to another by now."""
    try:
        process = psutil.Process(status.pid) if status.pid else None
        if process is None or abs(process.create_time() - status.started) > CLOCK_SLACK_S:
            return None
        return process if os.getsid(status.pid) == status.pid else None
    except (psutil.Error, ProcessLookupError):
        return None


def end_orphan(status: Status, grace_s: float) -> None:
    """Stop a run whose scheduler is gone: SIGTERM for a checkpoint, after `grace_s` seconds SIGKILL."""
    process = living(status)
    if process is None:
        return
    signal_group(process.pid, signal.SIGTERM)
    psutil.wait_procs([process], timeout=grace_s)
    sweep_group(process.pid)
    psutil.wait_procs([process], timeout=grace_s)
