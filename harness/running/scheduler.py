"""Runs each run once, in a process of its own, on the slots of this machine. No torch here.

Processes come from a fork server that has imported the heavy modules beforehand: a run starts in a fraction of a
second, and a crash, a leak or an out-of-memory kill costs that one run. Only the scheduler writes final states.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from harness.records import Run, RunFolder, State, Status
from harness.running import worker
from harness.running.forkserver import Execute, start_run, warm_up
from harness.running.processes import Stop, end_orphan, exclusive, signal_group, sweep_group
from harness.running.slots import Slot

Tick = Callable[[Mapping[str, Status]], None]

TICK_S = 0.25
TAIL_LINES = 5
SETTLED: frozenset[State] = frozenset({"done", "diverged"})
"""Results: a run in one of these states is never started again. A failed one is, when it is asked for again."""
_log = logging.getLogger(__name__)


@dataclass
class _Active:
    """A run in its process."""

    run: Run
    slot: Slot
    process: ForkServerProcess
    log_start: int
    """Bytes of log.txt before this attempt's own lines."""
    asked: bool = False
    """It has been sent SIGTERM."""

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid


@dataclass
class Scheduler:
    """Executes runs on slots; `run` may be called once."""

    root: Path
    """Folder of the run folders."""
    slots: tuple[Slot, ...]
    execute: Execute
    """Trains one run, in its own process: returns when done, raises Diverged, or exits with 143 after a checkpoint."""
    retries: int
    """How often a failed run is started again in one call."""
    preload: tuple[str, ...] = ()
    """Modules that the fork server imports before the first run."""
    grace_s: float = 60.0
    """Seconds between SIGTERM and SIGKILL."""
    stop: Stop = field(default_factory=Stop, init=False)
    """Who asked for an end, if anybody did."""

    def __post_init__(self) -> None:
        self._queue: deque[Run] = deque()
        self._active: list[_Active] = []
        self._statuses: dict[str, Status] = {}
        self._failures: Counter[str] = Counter()
        self._alone: set[str] = set()
        self._deadline = float("inf")

    def run(self, runs: Sequence[Run], on_tick: Tick) -> dict[str, State]:
        """Execute every run that has no result yet, in this order, and return the state of each by id.

        `on_tick(statuses by id)` is called about four times a second and once at the end. Raises HarnessError when
        another process runs this study, RecordError for a damaged folder; whatever `on_tick` raises ends the runs.
        """
        with exclusive(self.root), self.stop:
            self._prepare(runs)
            try:
                self._warm_up(on_tick)
                while self._active or (self._queue and not self.stop.signal):
                    self._fill()
                    on_tick(self._look())
                    self._wait()
                    if self.stop.signal:
                        self._end_runs()
            finally:
                while self._active:
                    self._end_runs()
                    self._wait()
        on_tick(self._statuses)
        return {name: status.state for name, status in self._statuses.items()}

    def _prepare(self, runs: Sequence[Run]) -> None:
        """Make the folders, end what an earlier scheduler left running, and queue what has no result."""
        for run in runs:
            folder = self._folder(run)
            folder.create(run)
            status = folder.status()
            if status.state == "running":
                end_orphan(status, self.grace_s)
                status = folder.update(state="interrupted", pid=0)
            self._statuses[run.id] = status
        self._queue.extend(run for run in {run.id: run for run in runs}.values() if not self._settled(run))

    def _warm_up(self, on_tick: Tick) -> None:
        """Start the fork server while ticks go on: the first process waits for all of its imports."""
        if not self._queue:
            return
        thread = warm_up(self.preload, self.slots[0].threads)
        while thread.is_alive() and not self.stop.signal:
            on_tick(self._statuses)
            thread.join(TICK_S)

    def _fill(self) -> None:
        """Start queued runs, in order, while there is a slot for them."""
        while self._queue and not self.stop.signal:
            slot = self._slot_for(self._queue[0])
            if slot is None:
                return
            self._start(self._queue.popleft(), slot)

    def _slot_for(self, run: Run) -> Slot | None:
        """A free slot on the least busy device; a run that ran out of memory gets a device to itself."""
        used = {active.slot.index for active in self._active}
        busy = Counter(active.slot.device for active in self._active)
        reserved = {active.slot.device for active in self._active if active.run.id in self._alone}
        free = [slot for slot in self.slots if slot.index not in used and slot.device not in reserved]
        if run.id in self._alone:
            free = [slot for slot in free if not busy[slot.device]]
        return min(free, key=lambda slot: (busy[slot.device], slot.index), default=None)

    def _start(self, run: Run, slot: Slot) -> None:
        folder = self._folder(run)
        attempt = self._statuses[run.id].attempt + 1
        self._statuses[run.id] = folder.update(state="running", attempt=attempt, pid=0, started=time.time())
        log_start = _write_header(folder.path / "log.txt", attempt, slot)
        try:
            process = start_run(self.execute, folder.path, slot, self.grace_s)
        except (OSError, EOFError) as error:
            self._failed(run, f"the process could not be started: {error!r}")
            return
        self._active.append(_Active(run, slot, process, log_start))

    def _look(self) -> dict[str, Status]:
        for active in self._active:
            self._statuses[active.run.id] = self._folder(active.run).status()
        return self._statuses

    def _wait(self) -> None:
        """Sleep until a run ends or a tick is due; settle those that have ended."""
        ended = set(wait([active.process.sentinel for active in self._active], TICK_S))
        for active in [active for active in self._active if active.process.sentinel in ended]:
            self._active.remove(active)
            self._settle(active)

    def _end_runs(self) -> None:
        """SIGTERM to every run; SIGKILL on a second Ctrl-C or when the grace period is over."""
        fresh = [active for active in self._active if not active.asked]
        if fresh:
            self._deadline = time.monotonic() + self.grace_s
            _log.warning("stopping: %d run(s) write a checkpoint first; Ctrl-C again stops now", len(fresh))
        for active in fresh:
            active.asked = True
            signal_group(active.pid, signal.SIGTERM)
        if self.stop.now or time.monotonic() > self._deadline:
            for active in self._active:
                signal_group(active.pid, signal.SIGKILL)

    def _settle(self, active: _Active) -> None:
        """Write how a run's process ended, and remove whatever it left."""
        folder, code, pid = self._folder(active.run), active.process.exitcode, active.pid
        assert code is not None
        active.process.close()
        sweep_group(pid)
        for leftover in folder.path.rglob(f".*.{pid}*"):
            leftover.unlink()
        state = outcome(code, active.asked)
        if state == "failed":
            tail = _tail(folder.path / "log.txt", active.log_start)
            self._failed(active.run, "\n".join([_cause(code), *tail]), again=code != worker.UNUSABLE)
        else:
            tail = _tail(folder.path / "log.txt", active.log_start) if state == "diverged" else []
            self._statuses[active.run.id] = folder.update(state=state, pid=0, error="\n".join(tail))

    def _failed(self, run: Run, error: str, again: bool = True) -> None:
        """Queue the run again, behind all others, unless that cannot help or its retries are used up."""
        self._failures[run.id] += 1
        again = again and self._failures[run.id] <= self.retries and not self.stop.signal
        self._statuses[run.id] = self._folder(run).update(state="pending" if again else "failed", pid=0, error=error)
        if again:
            self._queue.append(run)
            if "out of memory" in error:
                self._alone.add(run.id)

    def _settled(self, run: Run) -> bool:
        return self._statuses[run.id].state in SETTLED

    def _folder(self, run: Run) -> RunFolder:
        return RunFolder(self.root / run.id)


def outcome(code: int, asked: bool) -> State:
    """The state that an exit code stands for; `asked`: the process had been told to stop."""
    if code == 0:
        return "done"
    if code == worker.DIVERGED:
        return "diverged"
    if code == worker.INTERRUPTED or (asked and code in (-signal.SIGTERM, -signal.SIGKILL)):
        return "interrupted"
    return "failed"


def _cause(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")


def _tail(log: Path, start: int) -> list[str]:
    """The last lines with text that were logged from byte `start` on."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 16_384))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-TAIL_LINES:]


def _write_header(log: Path, attempt: int, slot: Slot) -> int:
    """Begin an attempt in the log; returns the size of the log so far in bytes."""
    with log.open("a", encoding="utf-8") as file:
        file.write(f"--- attempt {attempt} on {slot.device}, slot {slot.index}, {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        file.flush()
        return file.tell()
