"""One attempt at a run: its process, its log, and how it ended."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from harness.errors import RecordError
from harness.exit_codes import DIVERGED, WHEN_ASKED
from harness.processes import signal_name
from harness.runs.folders import RunFolder
from harness.runs.record import Run, State
from harness.scheduler.failures import SCRIPT_ERROR, Failure, memory_kills, of_exit, of_text
from harness.scheduler.processes import end_processes_of, signal_group, sweep_group
from harness.scheduler.slots import Slot

TAIL_LINES = 5
SCRIPT_JOB = Path("script", "job.json")
"""In the folder of a run by a script."""


@dataclass(frozen=True)
class End:
    """How an attempt ended."""

    state: State
    failure: Failure | None = None
    error: str = ""
    log: str = ""
    """More of what it has logged, the end included."""


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
    stop_requested_at: float | None = None
    """When it was sent SIGTERM, of `time.monotonic`."""
    began: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def stopping_s(self) -> float:
        """Seconds since it was sent SIGTERM; 0 if it was not."""
        return 0.0 if self.stop_requested_at is None else time.monotonic() - self.stop_requested_at

    def stop(self) -> None:
        """Ask for a checkpoint and an end, once."""
        if self.stop_requested_at is None:
            self.stop_requested_at = time.monotonic()
            signal_group(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        signal_group(self.pid, signal.SIGKILL)

    def end(self) -> End:
        """Remove whatever the ended process left, and say how it ended."""
        code, pid = self.process.exitcode, self.pid
        assert code is not None
        self.process.close()
        sweep_group(pid)
        if self.run.settings.command.run:  # whose processes may have made sessions of their own
            end_processes_of(self.folder.path.absolute() / SCRIPT_JOB)
        for leftover in self.folder.path.rglob(f".*.{pid}-*.tmp"):
            leftover.unlink(missing_ok=True)
        state = outcome(code, self.stop_requested_at is not None)
        if state == "done":
            try:
                has_result = self.folder.result() is not None
            except RecordError as error:
                return End("failed", "data", str(error))
            return End(state) if has_result else End("failed", "code", "the process ended well, but left no result")
        if state == "interrupted":
            return End(state)
        lines = self._logged_lines()
        tail = lines[-TAIL_LINES:]
        if state == "diverged":
            return End(state, error="\n".join(tail))
        failure = of_exit(code, memory_kills() > self.memory_kills)
        if failure == "code" and code < 0:  # C++ says why before it ends a process by a signal, and then its frames
            thrown = [place for place, line in enumerate(lines) if line.startswith("terminate called")]
            failure = of_text("\n".join(lines[thrown[-1] :] if thrown else []))
        if not (tail and tail[-1].startswith(SCRIPT_ERROR)):  # the run's process then ends as the script has
            tail.insert(0, f"exit code {code}" if code >= 0 else f"killed by {signal_name(-code)}")
        return End(state, failure, "\n".join(tail), "\n".join(lines))

    def _logged_lines(self) -> list[str]:
        """The lines with text that this attempt logged, if there are many the last."""
        log = self.folder.path / "log.txt"
        try:
            with log.open("rb") as file:
                file.seek(max(self.log_start, log.stat().st_size - 16_384))
                lines = file.read().decode("utf-8", errors="replace").splitlines()
        except OSError as error:
            if not self.folder.path.exists():
                return [f"{self.folder.path}: is gone: while the run was under way it was deleted, or the study moved"]
            lines = [f"{log}: cannot be read ({error.strerror}); what the run has printed is lost"]
        return [line.rstrip() for line in lines if line.strip()]


def outcome(code: int, stop_requested: bool) -> State:
    """The state that an exit code stands for; `stop_requested`: the process had been asked to stop."""
    if code == 0:
        return "done"
    if code == DIVERGED:
        return "diverged"
    if stop_requested and code in WHEN_ASKED:
        return "interrupted"
    return "failed"


def write_header(log: Path, attempt: int, slot: Slot) -> int:
    """Begin an attempt in the log; returns the size of the log so far in bytes."""
    with log.open("a", encoding="utf-8") as file:
        shared = f" in {slot.ranks} processes" if slot.ranks > 1 else ""
        served = " by MPS" if slot.mps else ""
        place = f"{slot.device}{shared}{served}, slot {slot.index}"
        file.write(f"--- attempt {attempt} on {place}, {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        file.flush()
        return file.tell()
