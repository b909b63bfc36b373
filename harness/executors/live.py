"""The engines by name, and the jobs of a study whose workers are not gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.executors.by_hand import ByHand
from harness.executors.executor import Executor, WorkerState
from harness.executors.job import Job, JobFolder, job_folders
from harness.study.resources import Resources


def make_executor(resources: Resources, places: Mapping[str, str]) -> Executor:
    """The engine that these resources name.

    `places`: dotted setting -> where it is written, for messages (see `Study.places`). Raises HarnessError.
    """
    match resources.executor:
        case "folder":
            return ByHand()
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
        job = folder.read()
        if folder.is_cancelled or not job.ids:
            continue
        executor = make_executor(job.resources, {})
        states = {name: state for name, state in executor.look(job.ids).items() if state.phase != "gone"}
        if states:
            yield LiveJob(folder, job, executor, states)
