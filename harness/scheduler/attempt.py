"""One attempt at a run: its process, its log, and how it ended."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from harness.errors import RecordError
from harness.exit_codes import DIVERGED, INTERRUPTED
from harness.runs.folders import RunFolder
from harness.runs.record import Run, State
from harness.scheduler.failures import Failure, memory_kills, of_exit, of_text
from harness.scheduler.processes import signal_group, sweep_group
from harness.scheduler.slots import Slot

TAIL_LINES = 5


@dataclass(frozen=True)
class End:
    """How an attempt ended."""

    state: State
    failure: Failure | None = None
    error: str = ""


@dataclass
class Attempt:
    """A run in its process."""

    run: Run
    slot: Slot
    folder: RunFolder
    process: ForkServerProcess
    log_start: int
    """Bytes of log.txt before this attempt's own lines."""
    memory_kills: int
    _asked_at: float | None = None
    """When it was sent SIGTERM, of `time.monotonic`."""

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def asked(self) -> bool:
        """Whether it has been sent SIGTERM."""
        return self._asked_at is not None

    @property
    def asked_s(self) -> float:
        """Seconds since then; 0 if it has not been."""
        return 0.0 if self._asked_at is None else time.monotonic() - self._asked_at

    def stop(self) -> None:
        """Ask for a checkpoint and an end, once."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            signal_group(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        signal_group(self.pid, signal.SIGKILL)

    def end(self) -> End:
        """Remove whatever the ended process left, and say how it ended."""
        code, pid = self.process.exitcode, self.pid
        assert code is not None
        self.process.close()
        sweep_group(pid)
        for leftover in self.folder.path.rglob(f".*.{pid}-*.tmp"):
            leftover.unlink(missing_ok=True)
        state = outcome(code, self.asked)
        if state == "done":
            return _checked(self.folder)
        if state not in ("failed", "diverged"):
            return End(state)
        lines = _lines(self.folder.path / "log.txt", self.log_start)
        tail = lines[-TAIL_LINES:]
        if state == "diverged":
            return End(state, error="\n".join(tail))
        failure = of_exit(code, memory_kills() > self.memory_kills)
        if failure == "code" and code < 0:  # C++ ends a process by a signal, and has said why
            failure = of_text("\n".join(_last_words(lines)))
        return End(state, failure, "\n".join([_cause(code), *tail]))


def _checked(folder: RunFolder) -> End:
    """Done, if there is a result."""
    try:
        found = folder.result()
    except RecordError as error:
        return End("failed", "data", str(error))
    return End("done") if found else End("failed", "code", "the process ended well, but left no result")


def outcome(code: int, asked: bool) -> State:
    """The state that an exit code stands for; `asked`: the process had been asked to stop."""
    if code == 0:
        return "done"
    if code == DIVERGED:
        return "diverged"
    if asked and code in (INTERRUPTED, -signal.SIGTERM, -signal.SIGKILL):
        return "interrupted"
    return "failed"


def write_header(log: Path, attempt: int, slot: Slot) -> int:
    """Begin an attempt in the log; returns the size of the log so far in bytes."""
    with log.open("a", encoding="utf-8") as file:
        file.write(f"--- attempt {attempt} on {slot.device}, slot {slot.index}, {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        file.flush()
        return file.tell()


def _cause(code: int) -> str:
    """An exit code in words."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _lines(log: Path, start: int) -> list[str]:
    """The lines with text that were logged from byte `start` on, if there are many the last."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 16_384))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()]


def _last_words(lines: list[str]) -> list[str]:
    """What C++ prints of an exception that nobody caught, and the frames below it; else nothing."""
    places = [place for place, line in enumerate(lines) if line.startswith("terminate called")]
    return lines[places[-1] :] if places else []
