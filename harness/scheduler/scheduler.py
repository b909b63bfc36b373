"""Runs each run once, in a process of its own, on the slots of this machine.

Processes come from a fork server that has imported the heavy modules beforehand: a run starts in a fraction of a
second, and a crash, a leak or an out-of-memory kill costs that one run. Schedulers of one study, on this machine or on
others that see its folder, share its runs by claims. Only the scheduler that has a run's claim writes its final state.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from harness.errors import RecordError
from harness.exit_codes import FAILED_RUNS
from harness.runs.lease import HEARTBEAT_S
from harness.runs.record import Run, State, Status
from harness.scheduler.attempt import Attempt, write_header
from harness.scheduler.devices import Beside, Devices
from harness.scheduler.failures import POLICIES, Failure, memory_kills, of_error, pause_s
from harness.scheduler.forkserver import Execute, start_run, warm_up
from harness.scheduler.memory import GpuMemory
from harness.scheduler.mps import Mps
from harness.scheduler.ownership import Ownership
from harness.scheduler.processes import Stop, node
from harness.scheduler.slots import Slot

Tick = Callable[[Mapping[str, Status]], None]

TICK_S = 1.0
_log = logging.getLogger(__name__)


class Feed:
    """Runs that are decided on while others run, as a search of weights does; this one has none."""

    @property
    def open(self) -> bool:
        """Whether more runs may come."""
        return False

    def more(self) -> Sequence[Run]:
        """Runs to begin now that a slot is free; none for the moment is no end."""
        return ()

    def unwanted(self) -> Mapping[str, State]:
        """Runs that are to stop, after a checkpoint, by id, and the state in which they are left."""
        return {}

    def refused(self, name: str) -> None:
        """The run of this id could not even be started."""


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
    fail_fast: bool = False
    """Stop the others, after checkpoints, when a run has failed for good."""
    feed: Feed = field(default_factory=Feed)
    """Where further runs come from when a slot is free and none waits for it."""
    waits: bool = True
    """Whether it waits for runs that other schedulers have. If not, it looks at a run only when a slot is free for it,
    and comes to its end once every run that is left is in the hands of a scheduler that lives."""
    attempts_before: Mapping[str, int] = field(default_factory=dict)
    """Run id -> its attempts before it was asked for, such as by another process: one that failed in a later attempt is
    not started again. Of a run that is not in it, its attempts when this scheduler first looks."""
    grace_s: float = 60.0
    """Seconds between SIGTERM and SIGKILL."""
    memory: GpuMemory | None = None
    """Decides how many runs share a GPU; None: as many as it has slots."""
    mps: bool = False
    """Whether runs that share a GPU do so by MPS, where that can be had."""
    stop: Stop = field(default_factory=Stop, init=False)
    """Who asked for an end, if anybody did."""
    started: dict[str, Run] = field(default_factory=dict, init=False)
    """The runs that it has started, by id."""
    left_to_others: set[str] = field(default_factory=set, init=False)
    """Without waiting: runs that other schedulers, which live, had at its end."""

    def __post_init__(self) -> None:
        self._ownership = Ownership(self.root, self.grace_s, self.attempts_before)
        self._elsewhere: dict[str, Run] = {}
        self._ask_at = 0.0
        self._queue: dict[str, Run] = {}
        self._active: list[Attempt] = []
        self._failures: Counter[str] = Counter()
        self._untaken: Counter[str] = Counter()
        """How often in a row a run could not be taken: trouble of its folder, which is no failure of the run."""
        self._not_before: dict[str, float] = {}
        self._devices = Devices(self.slots, self.memory)
        self._warm = self._ending = False

    @property
    def exit_code(self) -> int:
        """Of the call: by the signal that ended it; 3 when it ended since every device was closed; else 0."""
        return self.stop.exit_code or (0 if self._devices.open else FAILED_RUNS)

    def run(self, runs: Sequence[Run], on_tick: Tick) -> dict[str, State]:
        """Execute every run that has no result yet, in this order, and return the state of each by id.

        A GPU on which two runs in a row have met a fault of it gets no more. When none is left, the run that met the
        last one has failed and all others stay pending.

        Runs that another scheduler has are waited for (but see `waits`), and continued when it dies. `on_tick(statuses
        by id)` is called about once a second and once at the end. Raises RecordError for a damaged folder, before
        anything runs; whatever `on_tick` raises ends the runs.
        """
        with self.stop:
            self._queue = {run.id: run for run in runs if not self.waits or self._ownership.enter(run)}
            with Mps(self._devices_for_mps(), self.grace_s) as mps:
                self._devices.share_by(mps)
                try:
                    while self._active or (self._goes_on and (self._queue or self._elsewhere or self.feed.open)):
                        self._ask_again()
                        self._fill(on_tick)
                        self._leave_to_others()
                        on_tick(self._look())
                        self._wait()
                        self._heed()
                finally:
                    while self._active:
                        self._end_runs()
                        self._wait()
                    self._ownership.drop_all()
        on_tick(self._look())
        return {name: status.state for name, status in self._ownership.statuses.items()}

    @property
    def _stopping(self) -> bool:
        return self._ending or self.stop.signal is not None

    @property
    def _goes_on(self) -> bool:
        return not self._stopping and bool(self._devices.open)

    def _fill(self, on_tick: Tick) -> None:
        """Start queued runs, and fresh ones while there are slots and none of those queued waits for one."""
        while self._start_queued(on_tick) and len(self._active) + len(self._queue) < len(self._devices.open):
            fresh = self.feed.more()
            if not fresh:
                return
            present = self._queue.keys() | {active.run.id for active in self._active}
            self._queue |= {run.id: run for run in fresh if run.id not in present and self._ownership.enter(run)}

    def _start_queued(self, on_tick: Tick) -> bool:
        """Start queued runs, in order, while there is a slot for them; those that have ended elsewhere leave.

        False where runs are not to start, or one has to wait for a slot.
        """
        for run in list(self._queue.values()):
            slot = self._devices.slot_for(run, self._beside()) if self._goes_on else None
            if slot is None:
                return False
            if time.monotonic() < self._not_before.get(run.id, 0.0):
                continue
            if self._take(run):
                self._warm_up(on_tick)
                if not self._stopping:
                    del self._queue[run.id]
                    self._start(run, slot)
            elif self._ownership.has_ended(run.id):
                del self._queue[run.id]
            elif not self.waits and run.id in self._ownership.elsewhere:
                self._elsewhere[run.id] = self._queue.pop(run.id)
        return self._goes_on

    def _ask_again(self) -> None:
        """Without waiting: ask for the runs that others have once more, in a while, as one of them may have died."""
        if self._elsewhere and not self._queue and time.monotonic() >= self._ask_at:
            self._queue, self._elsewhere = self._elsewhere, {}
            self._ask_at = time.monotonic() + (HEARTBEAT_S if self._active else HEARTBEAT_S / 4)

    def _leave_to_others(self) -> None:
        """Without waiting and without a run of its own: forget the runs whose schedulers have shown life since then."""
        if self._active or self._queue:
            self._ownership.forget_heartbeats()
            return
        self.left_to_others |= {name for name in self._elsewhere if self._ownership.is_in_living_hands(name)}
        self._elsewhere = {name: run for name, run in self._elsewhere.items() if name not in self.left_to_others}
        self._ask_at = min(self._ask_at, time.monotonic() + HEARTBEAT_S / 4)

    def _devices_for_mps(self) -> list[str]:
        """The GPUs that several runs will share."""
        shared = self._devices.shared if self.mps else []
        many = self.feed.open or len(self._queue) > len({slot.device for slot in self.slots})
        return shared if many else []

    def _beside(self) -> Beside:
        statuses = self._ownership.statuses
        return {active.slot: (active.run, statuses[active.run.id]) for active in self._active}

    def _take(self, run: Run) -> bool:
        try:
            if run.id not in self._ownership.statuses and not (
                self._ownership.is_open(run) and self._ownership.enter(run)
            ):
                return False
            is_ours = self._ownership.take(run.id)
        except (OSError, RecordError) as error:
            self._untaken[run.id] += 1
            self._not_before[run.id] = time.monotonic() + pause_s(self._untaken[run.id])
            _log.warning("%s seed %d cannot be started: %s", run.cell, run.seed, error)
            if self._untaken[run.id] > self.retries:
                del self._queue[run.id]
                self.feed.refused(run.id)
            return False
        del self._untaken[run.id]
        return is_ours

    def _warm_up(self, on_tick: Tick) -> None:
        """Start the fork server, once, while ticks go on: the first process waits for all of its imports."""
        if self._warm:
            return
        thread = warm_up(self.preload, self.slots[0].threads)
        while thread.is_alive() and not self.stop.signal:
            on_tick(self._look())
            thread.join(TICK_S / 4)
        self._warm = True

    def _start(self, run: Run, slot: Slot) -> None:
        folder, number = self._ownership.folder(run.id), self._ownership.statuses[run.id].attempt + 1
        now = {"pid": 0, "host": node(), "started": time.time(), "images_per_s": 0.0, "device": slot.device}
        now |= {"sharing": self._devices.in_words(slot.device), "memory_mib": 0.0, "measuring": False}
        self._ownership.write(run.id, state="running", attempt=number, **now)
        self.started[run.id] = run
        try:
            log_start = write_header(folder.path / "log.txt", number, slot)
            process = start_run(self.execute, folder.path, slot, self.grace_s, self._ownership.token(run.id))
        except (OSError, EOFError) as error:
            self._failed(run, of_error(error), f"the process could not be started: {error!r}")
            return
        self._active.append(Attempt(run, slot, folder, process, log_start, memory_kills()))

    def _look(self) -> dict[str, Status]:
        followed = self._ownership.elsewhere if self.waits else set()
        statuses = self._ownership.look(followed | {active.run.id for active in self._active})
        self._devices.learn(self._beside())
        return statuses

    def _wait(self) -> None:
        """Sleep until a run ends, a signal comes, a pause is over or a tick is due; settle runs that have ended."""
        now = time.monotonic()
        pauses = (self._not_before.get(name, 0.0) - now for name in self._queue)
        timeout = min([TICK_S, *(pause for pause in pauses if pause > 0)])
        ended = set(wait([*(active.process.sentinel for active in self._active), *self.stop.wakeup], timeout))
        self.stop.clear_wakeup()
        for active in [active for active in self._active if active.process.sentinel in ended]:
            self._active.remove(active)
            self._settle(active)

    def _heed(self) -> None:
        """Pass on what signals ask for, and end what is not this scheduler's or anybody's concern any more."""
        if self._stopping:
            self._end_runs()
        unwanted = self.feed.unwanted()
        self._queue = {name: run for name, run in self._queue.items() if name not in unwanted}
        for active in self._active:
            if active.run.id in unwanted:
                active.stop()
            if active.stopping_s > self.grace_s:
                active.kill()
        if self.stop.wants_checkpoints():
            for active in self._active:
                # A process that has not said its name may not know the signal yet.
                if self._ownership.statuses[active.run.id].pid == active.pid:
                    with contextlib.suppress(ProcessLookupError):  # it has ended since `_wait`
                        os.kill(active.pid, signal.SIGUSR1)
        for active in self._active:
            if active.run.id in self._ownership.lost:
                active.kill()

    def _end_runs(self) -> None:
        """SIGTERM to every run; SIGKILL on a second Ctrl-C or when the grace period is over."""
        fresh = [active for active in self._active if active.stop_requested_at is None]
        if fresh:
            what = "1 run writes" if len(fresh) == 1 else f"{len(fresh)} runs write"
            _log.warning("stopping: %s a checkpoint first; Ctrl-C again stops now", what)
        for active in self._active:
            active.stop()
            if self.stop.now or active.stopping_s > self.grace_s:
                active.kill()

    def _settle(self, active: Attempt) -> None:
        """Write how a run's process ended, unless another scheduler has the run by now."""
        run, end = active.run, self._devices.judge(active, active.end(), self._beside())
        if run.id in self._ownership.lost:
            self._ownership.drop(run.id)
            self._queue[run.id] = run
        elif end.failure:
            self._failed(run, end.failure, end.error)
        else:
            state = self.feed.unwanted().get(run.id, end.state) if end.state == "interrupted" else end.state
            self._ownership.write(run.id, state=state, pid=0, failure="", error=end.error)
            self._ownership.drop(run.id)

    def _failed(self, run: Run, failure: Failure, error: str) -> None:
        """Queue the run again, behind all others and after a pause, unless that cannot help or it was tried enough."""
        self._failures[run.id] += 1
        policy, failures = POLICIES[failure], self._failures[run.id]
        again = policy.again and failures <= self.retries and bool(self._devices.open)
        state: State = "failed" if not again else "interrupted" if self._stopping else "pending"
        self._ownership.write(run.id, state=state, pid=0, failure=failure, error=error)
        if state == "pending":
            self._queue[run.id] = run
            self._not_before[run.id] = time.monotonic() + pause_s(failures)
        else:
            self._ownership.drop(run.id)
            self._ending |= self.fail_fast and state == "failed"
