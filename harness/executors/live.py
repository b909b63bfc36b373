"""The engines by name, and the jobs of a study whose workers are not gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.executors.by_hand import ByHand
from harness.executors.executor import Executor, WorkerState
from harness.executors.job import Job, JobFolder, job_folders
from harness.executors.ray import Ray
from harness.executors.slurm import Slurm
from harness.study.resources import Resources
from harness.terminal.console import note, shown
from harness.text import shortened


def make_executor(resources: Resources, places: Mapping[str, str]) -> Executor:
    """The engine that these resources name.

    `places`: dotted setting -> where it is written, for messages (see `Study.places`). Raises HarnessError.
    """
    match resources.executor:
        case "folder":
            return ByHand()
        case "ray":
            return Ray(resources.ray, places)
        case "slurm":
            return Slurm(resources, places)
    raise HarnessError(f"resources.executor {resources.executor}: has no workers")


@dataclass(frozen=True)
class LiveJob:
    """A job that has workers, or will have."""

    folder: JobFolder
    job: Job
    executor: Executor
    states: Mapping[str, WorkerState]
    """By id of the engine, of the workers that are not gone."""


def live_jobs(root: Path) -> Iterator[LiveJob]:
    """The jobs of a study's folder of runs that have workers, by number. Raises HarnessError."""
    for folder in job_folders(root):
        if (job := live_job(folder)) is not None:
            yield job


def is_unnamed(folder: JobFolder) -> bool:
    """Whether nobody knows the names of a job's workers: the call that submitted them was killed before it noted them.

    They, if there are any, heed what is asked for in the folder. Raises HarnessError.
    """
    return not folder.is_over and not folder.read().ids


def live_job(folder: JobFolder) -> LiveJob | None:
    """A job with its workers; None where they are all gone, or those of another folder. Raises HarnessError."""
    job = folder.read()
    if folder.of_another:
        note(f"{shown(folder.path)}: {folder.of_another}")
    if folder.is_over or not job.ids:
        return None
    executor = make_executor(job.resources, {})
    states = {name: state for name, state in executor.look(job.ids).items() if state.phase != "gone"}
    return LiveJob(folder, job, executor, states) if states else None


def job_rows(root: Path) -> list[dict[str, Any]]:
    """One JSON object for each job that is not over, by number.

    {"number", "folder", "of": the name of the folder of runs, "executor": ? where job.json is damaged,
     "problem": why its engine could not be asked, or was not as the job is of another folder, or "",
     "state": where its workers stand, in words, "workers": [{"id", "phase", "node", "reason", "fix"}],
     "logs": [path of what a worker has printed]}
    """
    rows = []
    for folder in job_folders(root):
        problem, states, executor = folder.of_another, {}, "?"
        if folder.is_over and not problem:
            continue
        try:
            executor = folder.read().resources.executor
            job = None if problem else live_job(folder)
            states = dict(job.states) if job else {}
        except HarnessError as error:
            problem = str(error)
        if states or problem:
            rows.append(
                {
                    "number": folder.number,
                    "folder": str(folder.path),
                    "of": root.name,
                    "executor": executor,
                    "problem": problem,
                    "state": in_words(states.values()),
                    "workers": [{"id": name, **asdict(state)} for name, state in states.items()],
                    "logs": [str(path) for path in sorted(folder.path.glob("worker-*.log"))],
                }
            )
    return rows


def workers_by_process(root: Path) -> dict[str, dict[str, Any]]:
    """HOST:PID, as a run's lease names who holds it -> {"job", "number", "id", "log"}, of the jobs that are not over.

    "id" is the engine's, empty for a worker that was started by hand; "log" is empty where it has none.
    """
    found = {}
    for folder in job_folders(root):
        if folder.is_over:
            continue
        try:
            job, workers = folder.read(), folder.workers()
        except HarnessError as error:
            note(f"{error}; who works for job {folder.number} is not shown")
            continue
        for worker in workers:
            log = folder.log(worker.number)
            named = job.ids[worker.number : worker.number + 1] if job.resources.executor != "folder" else ()
            told = {"job": folder.number, "number": worker.number, "id": "".join(named)}
            place = str(log) if log.exists() else ""
            found[f"{worker.host.partition(' ')[0]}:{worker.pid}"] = {**told, "log": place}
    return found


def in_words(states: Iterable[WorkerState]) -> str:
    """`2 running (n1 and n2), 3 waiting (Priority)`."""
    found = list(states)
    parts = []
    for phase in ("running", "waiting", "gone"):
        members = [state for state in found if state.phase == phase]
        details = sorted({state.node if phase == "running" else state.reason for state in members} - {""})
        if members:
            parts.append(f"{len(members)} {phase}" + (f" ({shortened(details)})" if details else ""))
    return ", ".join(parts) or "none"
