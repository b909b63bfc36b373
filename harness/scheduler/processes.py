"""Signals, process groups and orphans: what the scheduler needs of the operating system."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from harness.exit_codes import REQUEUE, STOPPED
from harness.runs.lease import boot
from harness.runs.record import Status

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
ONE_PRESS_S = 0.5
"""Wrappers pass on a Ctrl-C that the terminal has delivered already: so soon, it is the same one."""
JOB = "HARNESS_JOB"
"""The variable that names the JSON file of a script's job; its processes hand it on to those that they start."""
CLOCK_SLACK_S = 5.0
"""A process's start time moves with the clock's corrections."""


class Stop:
    """While entered, remembers signals instead of dying of them.

    The first that asks for an end is a request to write checkpoints and stop; a Ctrl-C after it means now. SIGUSR2 is
    such a request from a queue whose time is nearly over. SIGUSR1 asks for checkpoints alone. Signals that the caller's
    shell ignores (`nohup`, a background job) stay ignored.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.now = False
        self._save = False
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup: tuple[socket.socket, socket.socket] | None = None
        self._told_before = -1

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 75 after SIGUSR2, 0 if nobody asked."""
        if self.signal == signal.SIGUSR2:
            return REQUEUE
        return STOPPED + self.signal if self.signal else 0

    @property
    def wakeup(self) -> list[socket.socket]:
        """Readable once a signal has come: for those who sleep until something happens."""
        return [self._wakeup[0]] if self._wakeup else []

    def wants_checkpoints(self) -> bool:
        """Whether SIGUSR1 came since this was last asked."""
        wanted, self._save = self._save, False
        return wanted

    def clear_wakeup(self) -> None:
        """Forget the signals that were heard of."""
        for end in self.wakeup:
            with contextlib.suppress(BlockingIOError):
                end.recv(1024)

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._wakeup = socket.socketpair()
            for end in self._wakeup:
                end.setblocking(False)
            # An event loop of the caller hears of signals by the descriptor that it has set.
            self._told_before = signal.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)
            for number in (*STOP_SIGNALS, signal.SIGUSR1):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self.heed)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._wakeup:
            signal.set_wakeup_fd(self._told_before)
            for end in self._wakeup:
                end.close()
            self._wakeup = None

    def heed(self, number: int, _: FrameType | None = None) -> None:
        """What a signal means; to be called where the same is asked for by other means."""
        if number == signal.SIGUSR1:
            self._save = True
        elif self.signal is None:
            self.signal, self._since = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > ONE_PRESS_S:
            self.now = True


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """While entered, a signal that would end this process raises SystemExit, for what has to be put in order first."""
    deadly: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        deadly = [number for number in STOP_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in deadly:
        signal.signal(number, lambda number, _: sys.exit(STOPPED + number))
    try:
        yield
    finally:
        for number in deadly:
            signal.signal(number, signal.SIG_DFL)


def nothing_to_save() -> None:
    """Until there is, SIGUSR1 does not end this process, and SIGUSR2 ends it with the code for: start it again."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, lambda *_: None)
    if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR2, lambda *_: sys.exit(REQUEUE))


def node() -> str:
    """This machine since it was started, or container: where process numbers mean what they say. Its name comes first.

    Machines may share a name, as copies of one image do.
    """
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()} {boot()}".rstrip()
    except OSError:
        return socket.gethostname()


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group of `pid`, or `pid` alone while it has not made its group yet; gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            os.kill(pid, number)


def sweep_group(pid: int) -> None:
    """Kill what is left of the group of a process that has ended, and of the groups in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    end_session(pid)


def end_session(pid: int) -> None:
    """Kill all members of a session but its leader `pid`, whose number is not given away while it has members."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if process.pid != pid and os.getsid(process.pid) == pid:
                process.kill()


def end_processes_of(job: Path) -> None:
    """Kill every process that was started for this job of a script, in whatever session it is by now."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(JOB) == str(job):
                process.kill()


def living(status: Status) -> psutil.Process | None:
    """The process that a status names, unless it is gone, another machine's, or its number is another's by now."""
    try:
        process = psutil.Process(status.pid) if status.pid and status.host == node() else None
        if process is None or abs(process.create_time() - status.started) > CLOCK_SLACK_S:
            return None
        return process if os.getsid(status.pid) == status.pid else None
    except (psutil.Error, ProcessLookupError):
        return None


def sweep_session(status: Status) -> None:
    """Kill what the process that a status names has left behind when it ended itself."""
    if not status.pid or status.host != node() or psutil.pid_exists(status.pid):
        return
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            # The number of a session is not given away while it has members.
            if os.getsid(process.pid) == status.pid and process.create_time() > status.started - CLOCK_SLACK_S:
                process.kill()
