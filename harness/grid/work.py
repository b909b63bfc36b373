"""A worker of a job: takes runs until none is left that it could take, and then ends.

It trains with the job's copy of the code, mirrors nothing (the nodes of a cluster may have no network), and of all
workers the one that ends last writes the report.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.code.engine import today
from harness.errors import HarnessError
from harness.executors.code_copy import PACKAGE
from harness.executors.job import JOBS, Job, JobFolder, JobRuns, Worker
from harness.executors.places import unusable
from harness.exit_codes import FAILED_RUNS
from harness.grid.outcome import compare
from harness.grid.placement import in_words, make_scheduler
from harness.grid.worker_ticks import Follower
from harness.runs.device_kind import refuse_other_kind
from harness.runs.record import FINAL, SETTLED, Run, State
from harness.runs.snapshot import Snapshot
from harness.scheduler.live import LiveView
from harness.scheduler.processes import node, nothing_to_save
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot, find_slots
from harness.study.plan import make_plan
from harness.terminal.console import note, shown, terminal
from harness.text import quantity

GRANTED_GPUS = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")
"""Variables of which Slurm sets one in a job that was granted GPUs."""
NUMBERS = ("JOB_COMPLETION_INDEX", "PBS_ARRAY_INDEX", "PBS_ARRAYID")
"""Variables by which Kubernetes and PBS number the members of a job."""


@dataclass(frozen=True)
class Place:
    """What a worker is told when it is started."""

    number: int | None = None
    """0, 1, ... among the job's workers; None: as one of `NUMBERS` has it, else the next that is free."""
    token: str = ""
    """Of the job that it was started for; empty: whichever job is there."""
    cores: int | None = None
    """That it may use; None: what this process may use, or what Slurm has granted it if that is less."""


def work(path: Path, place: Place) -> int:
    """Take runs of the job in the folder `path`; the exit code.

    0: nothing is left to take; 3: of its own runs some failed, diverged or could not be started; 75: its time was
    nearly over (SIGUSR2), so it should be started again; 130 or 143: it was stopped. All but the first two after
    checkpoints. Raises HarnessError.
    """
    nothing_to_save()
    folder = JobFolder(path.absolute())
    job = folder.read()
    _refuse_other(folder, job, place.token)
    over = "the search of this job has ended" if job.search and folder.has_ended else ""
    if over := "this job was cancelled" if folder.is_cancelled else over:
        note(f"{shown(folder.path)}: {over}, so there is nothing to do")
        return 0
    _go_over_to(folder)
    if today() != job.engine:
        raise HarnessError(f"{folder.code}: was changed since the job was made; ask for its runs again")
    worker = _enrol(folder, job, place.number)
    slots = _slots(job, place.cores)
    note(f"worker {worker.number} of {folder.title}: {in_words(job.resources, slots)}")
    if job.search:
        from harness.grid.search_work import work_on_search  # only here: it loads Optuna and what draws figures

        return work_on_search(folder, job.search, slots, worker.number)
    runs = folder.runs()
    states, scheduler = _train(folder, runs, slots, worker.number)
    every = len(states) == len(runs.runs) and all(state in FINAL for state in states.values())
    if every and not (scheduler.exit_code or scheduler.left_to_others):
        folder.end()
        _report(folder, runs)
    lost = [run for name, run in scheduler.started.items() if states[name] in ("failed", "diverged")]
    started = quantity(len(scheduler.started), "run")
    note(f"worker {worker.number} ends: it started {started}; {len(lost)} failed or diverged")
    unstarted = [name for name, state in states.items() if state == "pending" and name not in scheduler.left_to_others]
    if unstarted and not scheduler.exit_code:
        note(f"{quantity(len(unstarted), 'run')} could not be started; see the lines above")
    return scheduler.exit_code or (FAILED_RUNS if lost or unstarted else 0)


def _refuse_other(folder: JobFolder, job: Job, token: str) -> None:
    """Raises HarnessError for a job that a worker with this token was not started for, and one without its runs."""
    if folder.path.parent.name != JOBS:
        made = f", which was made as {job.folder}" if job.folder else ""
        fix = f"start the worker on the job in the folder {JOBS} of the study's runs"
        raise HarnessError(f"{folder.path}: is a copy of a job{made}, without the study's runs beside it; {fix}")
    if token not in ("", job.token):
        raise HarnessError(f"{folder.path}: is another job than this worker was started for; ask for the runs again")


def _go_over_to(folder: JobFolder) -> None:
    """Become a process that runs the job's copy of the code, unless this one does."""
    if PACKAGE.resolve().is_relative_to(folder.code.resolve()):
        return
    if problems := [f"{each.subject}: {each.detail}; {each.fix}" for each in unusable(folder.root, "folder")]:
        raise HarnessError("\n".join(problems))
    # Not taken apart: whatever is in the path, this process must not start itself again and again.
    if os.environ.get("PYTHONPATH", "").startswith(str(folder.code)):
        raise HarnessError(f"{folder.code}: holds the code of this job, but {PACKAGE} was imported; is the copy there?")
    environment = {**os.environ, **folder.environment}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "harness", *sys.argv[1:]], environment)


def _enrol(folder: JobFolder, job: Job, number: int | None) -> Worker:
    """Note where this worker runs. One that is started again by its engine has the number that it had."""
    if number is None:
        number = next((int(value) for name in NUMBERS if (value := os.environ.get(name, "")).isdecimal()), None)
    if number is not None:
        worker = Worker(number, node(), os.getpid())
        folder.put(worker)
        return worker
    first = 0 if job.resources.executor == "folder" else job.workers  # the engine's own have the numbers below
    return folder.enrol(Worker(first, node(), os.getpid()))


def _slots(job: Job, cores: int | None) -> tuple[Slot, ...]:
    """Where this worker's runs go: on what was granted to it, and on nothing else of the machine."""
    in_slurm = "SLURM_JOB_ID" in os.environ
    if in_slurm and "CUDA_VISIBLE_DEVICES" not in os.environ and not any(map(os.environ.get, GRANTED_GPUS)):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if cores is None and in_slurm and os.environ.get("SLURM_CPUS_PER_TASK", "").isdecimal():
        cores = int(os.environ["SLURM_CPUS_PER_TASK"])
    resources = job.resources
    return find_slots(resources.slots, resources.runs_per_gpu, resources.gpus_per_run, cores)


def _train(
    folder: JobFolder, runs: JobRuns, slots: tuple[Slot, ...], number: int
) -> tuple[dict[str, State], Scheduler]:
    """The states of all runs that it looked at, and the scheduler that tells more."""
    statuses = Snapshot(folder.root, runs.runs).statuses
    left = [run for run in runs.runs if statuses[run.id].state not in SETTLED]
    refuse_other_kind(folder.root, left, slots[0].torch_device)

    job = folder.read()
    before = runs.attempts
    scheduler = make_scheduler(job.resources, folder.root, slots, runs.runs, waits=False, attempts_before=before)
    start = number % job.workers * len(runs.runs) // job.workers
    mine: list[Run] = []
    with LiveView(mine, folder.root, slots, terminal(error=True, live=True)) as view:
        follower = Follower(folder, scheduler, view, mine)
        states = scheduler.run([*runs.runs[start:], *runs.runs[:start]], follower.tick)
    return states, scheduler


def _report(folder: JobFolder, runs: JobRuns) -> None:
    """The comparison, as it was asked for, unless the study's data or code are others than those of the job by now."""
    study, only = folder.study(), folder.read().study.only
    plan = make_plan(study)
    asked = plan.narrowed(only)
    if {run.id for run in runs.runs} - {run.id for run in plan.runs}:
        note("the study's data or code were changed meanwhile: `harness report` compares what there is now")
        return
    compare(asked, plan.snapshot())
