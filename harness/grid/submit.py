"""Runs that train in workers which an engine starts: what is missing of a grid is submitted, and followed to its end.

Whoever asks again joins the workers that are there. The folders of the runs say what has become of them; the engine is
asked only for its workers.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Protocol

from harness.code.engine import today
from harness.errors import HarnessError
from harness.executors import by_hand
from harness.executors.executor import Executor, NoAnswer, WorkerState
from harness.executors.job import AskedStudy, Job, JobFolder, JobRuns, make_job
from harness.executors.live import LiveJob, in_words, live_jobs, make_executor
from harness.executors.places import unusable
from harness.executors.room import misfits
from harness.exit_codes import FAILED_RUNS
from harness.grid.prepare import make_ready
from harness.runs.record import Run, Status
from harness.runs.snapshot import Snapshot
from harness.scheduler.live import LiveView
from harness.scheduler.ownership import ended_since
from harness.scheduler.processes import Stop, signals_raise
from harness.scheduler.scheduler import Tick
from harness.scheduler.slots import Slot, find_slots
from harness.study.plan import Plan
from harness.study.schema import Study
from harness.terminal.console import failure, note, shown, terminal
from harness.text import quantity

LOOK_S = 1.0
SHARE = 0.05
"""Of the time that reading states may take; of very many runs they are read more rarely."""
TAIL_LINES = 5
END_S = 100.0
"""In which workers that end with the call have written checkpoints."""


@dataclass(frozen=True)
class Submission:
    """How runs are handed to an engine."""

    plan: Plan
    executor: Executor
    detach: bool = False
    """Return once they are submitted."""
    fail_fast: bool = False
    """End all workers when a run has failed."""
    show: Callable[[LiveView], Tick] = lambda view: view.tick
    """What is done about once a second with the states of the runs, given where they are shown."""

    def train(self, runs: Sequence[Run], missing: Sequence[Run], mirror: AbstractContextManager[object]) -> int:
        """Have workers train those of `runs` that are `missing`; the exit code, 0 if all have ended, or if detached.

        Runs that workers of an earlier call have are left to them. Raises HarnessError before anything is submitted.
        """
        root = self.plan.study.root
        if self.detach and self.fail_fast:
            raise HarnessError("--detach: nobody is there to see a failure for --fail-fast; leave one of them out")
        jobs = list(live_jobs(root))
        statuses = Snapshot(root, missing).statuses
        covered = {run.id for job in jobs for run in _open_runs(job.folder.runs(), statuses)}
        left = [run for run in missing if run.id not in covered]
        for job in jobs:
            tell_of(job)
        if left:
            jobs.append(self._submit(left, statuses))
        study = self.plan.study
        again = study.command("run-grid", *(word for cell in study.only for word in ("--only", cell)))
        if self.detach:
            note(f"`{study.command('status')}` shows them, `{again}` waits for them")
            return 0
        return Watch(study, jobs, _FollowedRuns(root, runs, jobs), again, self.fail_fast).follow(mirror, self.show)

    def _submit(self, runs: Sequence[Run], statuses: Mapping[str, Status]) -> LiveJob:
        study, executor = self.plan.study, self.executor
        refuse_unready(executor, study)
        make_ready(self.plan, study.root, runs, find_slots(1, 1))
        asked = AskedStudy(str(study.path), study.profile, study.overrides, study.only)
        workers = min(study.resources.workers, len(runs)) if executor.name != "folder" else study.resources.workers
        attempts = {name: status.ended_attempts for name, status in statuses.items()}
        queued = JobRuns(self.plan.queue(runs), attempts)
        job = Job(asked, study.resources, workers, today())
        return start_workers(study, executor, job, queued, quantity(len(runs), "run"))


def make_workers_executor(study: Study, detach: bool) -> Executor | None:
    """The engine that starts the study's workers; None where runs train in this call.

    Raises HarnessError where this call cannot be left before its end.
    """
    resources = study.resources
    if resources.executor == "local":
        if detach:
            place = study.places.get("resources.executor", "the default")
            raise HarnessError(
                f"--detach: runs on this machine end with the call, and resources.executor is local "
                f"({place}); add --executor slurm, ray or folder"
            )
        return None
    executor = make_executor(resources, study.places)
    if detach and not executor.outlives_caller:
        raise HarnessError(f"--detach: workers of {executor.name} end with the call that started them; leave it out")
    return executor


def refuse_unready(executor: Executor, study: Study) -> None:
    """Raises HarnessError with all that an engine lacks, or for which a worker has no room or no place."""
    room = [*unusable(study.root, executor.name), *misfits(study.resources, study.places)]
    # What does not fit is told without asking the engine, which may not be reached from here.
    found = room if any(each.fix for each in room) else executor.check()
    if problems := [f"{each.subject}: {each.detail}; {each.fix}" for each in found if each.fix]:
        raise HarnessError("\n".join(problems))
    for each in room:
        note(f"{each.subject}: {each.detail}")


def tell_of(job: LiveJob) -> None:
    """Say that a job is there whose workers are joined."""
    states = job.states.values()
    note(f"{shown(job.folder.path)} has workers on {job.executor.name}: {in_words(states)}")
    if job.executor.name == "folder":
        by_hand.tell(job.folder)
    if job.job.engine != today():
        note("they train with the code as it was when they were submitted; `harness cancel` ends them")


def start_workers(study: Study, executor: Executor, job: Job, queued: JobRuns, what: str) -> LiveJob:
    """Make a job and have its workers started. `what`: what they do, in words."""
    folder = make_job(study.root, job, queued, study.code.source)
    try:
        with signals_raise():
            ids = executor.submit(folder, job.workers)
            folder.note_ids(ids)
    except BaseException as error:
        if isinstance(error, HarnessError) and not isinstance(error, NoAnswer):
            shutil.rmtree(folder.path)
            raise
        # Nobody knows whether workers were submitted. One that starts needs this folder to see that it is to end.
        with contextlib.suppress(OSError):
            folder.cancel()
        note(f"{shown(folder.path)} stays: workers may have been submitted all the same, and end as soon as they start")
        raise
    note(f"{what} for {quantity(job.workers, 'worker')} on {executor.name}: {shown(folder.path)}")
    return LiveJob(folder, folder.read(), executor, {name: WorkerState("waiting") for name in ids})


class Followed(Protocol):
    """What workers do, as the folders of the runs tell of it."""

    @property
    def runs(self) -> Sequence[Run]:
        """Those that are known by now."""

    @property
    def statuses(self) -> Mapping[str, Status]:
        """Of these runs, as they were last read."""

    def read(self) -> None:
        """Read what may have changed."""

    @property
    def is_open(self) -> bool:
        """Whether workers have anything left to do."""

    @property
    def has_failed(self) -> bool:
        """Whether a run has failed for good since the jobs were made."""

    @property
    def left(self) -> str:
        """What is not done, in words."""


class _FollowedRuns:
    """Runs, until each has ended; of runs without a folder little is read."""

    def __init__(self, root: Path, runs: Sequence[Run], jobs: Sequence[LiveJob]) -> None:
        self.root, self.runs = root, runs
        self.statuses = dict(Snapshot(root, runs).statuses)
        self.attempts: dict[str, int] = {}
        for job in jobs:
            self.attempts.update(job.folder.runs().attempts)
        self.open = {run.id: run for run in runs if run.id in self.attempts}

    def read(self) -> None:
        self.statuses.update(Snapshot(self.root, self.open.values()).statuses)
        ended = {name for name in self.open if ended_since(self.statuses[name], self.attempts[name])}
        self.open = {name: run for name, run in self.open.items() if name not in ended}

    @property
    def is_open(self) -> bool:
        return bool(self.open)

    @property
    def has_failed(self) -> bool:
        ended = self.attempts.keys() & self.statuses.keys() - self.open.keys()
        return any(self.statuses[name].state == "failed" for name in ended)

    @property
    def left(self) -> str:
        return f"{quantity(len(self.open), 'run')} without a result"


class Watch:
    """Follows jobs until what they do has ended, or all workers are gone, or the user stops looking."""

    def __init__(
        self, study: Study, jobs: Sequence[LiveJob], followed: Followed, again: str, fail_fast: bool = False
    ) -> None:
        """`again`: the line that follows them again. `fail_fast`: end all workers when a run has failed."""
        self.study, self.jobs, self.followed, self.again, self.fail_fast = study, jobs, followed, again, fail_fast
        self._words = ""
        # Of as many jobs an engine is asked as often as of one; where their workers are was asked just now.
        self._look_s = sum(job.executor.look_s for job in jobs)
        self._look_at = time.monotonic() + self._look_s
        self._unreached = False

    def follow(
        self, mirror: AbstractContextManager[object], show: Callable[[LiveView], Tick] = lambda view: view.tick
    ) -> int:
        """The exit code: 0 all has ended, 3 the workers are gone before that, 130 or 143 by a signal."""
        workers = tuple(Slot(number, "", 1) for number in range(sum(job.job.workers for job in self.jobs)))
        view = LiveView(self.followed.runs, self.study.root, workers, terminal(error=True, live=True))
        with Stop() as stop, mirror, view:
            tick = show(view)
            while True:
                began = time.monotonic()
                self.followed.read()
                tick(self.followed.statuses)
                if not self.followed.is_open:
                    return 0
                if stop.signal:
                    self._leave(stop)
                    return stop.exit_code
                if stop.wants_checkpoints():
                    self._ask(lambda job: job.executor.save(job.job.ids), JobFolder.save, "write checkpoints")
                if self.fail_fast and self.followed.has_failed:
                    self._cancel("a run has failed", stop)
                    return FAILED_RUNS
                if not self._has_workers():
                    self.followed.read()
                    break
                wait(stop.wakeup, max(LOOK_S, (time.monotonic() - began) / SHARE))
                stop.clear_wakeup()
        return self._without_workers()

    def _has_workers(self) -> bool:
        """Whether any worker is left, as the engines say now and then; changes of where they are, are told."""
        if time.monotonic() < self._look_at:
            return True
        self._look_at = time.monotonic() + self._look_s
        try:
            states = _states(self.jobs)
        except HarnessError as error:
            if not self._unreached:
                note(f"{error}; the runs are followed all the same")
            self._unreached = True
            return True
        self._unreached = False
        words = "\n".join(["workers: " + in_words(states), *sorted({state.fix for state in states if state.fix})])
        if words != self._words:
            note(words)
            self._words = words
        return any(state.phase != "gone" for state in states)

    def _leave(self, stop: Stop) -> None:
        left = [job for job in self.jobs if not job.folder.is_cancelled]
        ends = [job for job in left if not job.executor.outlives_caller]
        if not left:
            note(f"all workers were told to end, after checkpoints; `{self.again}` goes on")
        if len(ends) < len(left):
            end = self.study.command("cancel")
            note(f"the workers go on; `{self.again}` follows them again, `{end}` ends them")
        if ends:  # said before it is waited for, as checkpoints may take long
            note("stopping: the workers end with this call, after checkpoints; Ctrl-C again leaves them to that")
        for job in ends:
            job.executor.cancel(job.job.ids)
        self._see_off(ends, stop)

    def _cancel(self, why: str, stop: Stop) -> None:
        note(f"{why}: all workers are ended, after checkpoints")
        for job in self.jobs:
            job.folder.cancel()
        self._ask(lambda job: job.executor.cancel(job.job.ids), JobFolder.cancel, "end after checkpoints")
        self._see_off([job for job in self.jobs if not job.executor.outlives_caller], stop)

    def _see_off(self, jobs: Sequence[LiveJob], stop: Stop) -> None:
        """Wait until the workers of these jobs, which were told to end, are gone, or until Ctrl-C comes again."""
        end = time.monotonic() + END_S
        while not stop.now and time.monotonic() < end and any(state.phase != "gone" for state in _states(jobs)):
            wait(stop.wakeup, LOOK_S)
            stop.clear_wakeup()

    def _ask(self, ask: Callable[[LiveJob], None], leave_word: Callable[[JobFolder], None], what: str) -> None:
        """Ask the workers of each job, whatever becomes of the others. `leave_word`: where no engine answers."""
        for job in self.jobs:
            try:
                ask(job)
            except HarnessError as error:
                leave_word(job.folder)
                place = shown(job.folder.path)
                note(f"{place}: {error}; those of its workers that run {what}, as its folder asks for it now")

    def _without_workers(self) -> int:
        """Something is left, and nobody who does it."""
        failure(f"all workers are gone, and {self.followed.left}; `{self.again}` goes on with them")
        for job in self.jobs:
            for log in sorted(job.folder.path.glob("worker-*.log")):
                lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
                failure("\n  ".join([f"{shown(log)}:", *[line for line in lines if line.strip()][-TAIL_LINES:]]))
        return FAILED_RUNS


def _states(jobs: Sequence[LiveJob]) -> list[WorkerState]:
    """Of all workers of these jobs, as their engines have them now. Raises HarnessError."""
    return [state for job in jobs for state in job.executor.look(job.job.ids).values()]


def _open_runs(queued: JobRuns, statuses: Mapping[str, Status]) -> Iterator[Run]:
    """Those among `statuses` that the job's workers will still do."""
    for run in queued.runs:
        if run.id in statuses and not ended_since(statuses[run.id], queued.attempts[run.id]):
            yield run
