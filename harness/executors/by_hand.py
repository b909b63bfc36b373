"""The executor without an engine: the user starts the workers, on any machine that sees the study's folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.executors.executor import GONE, WorkerState
from harness.executors.job import JobFolder
from harness.finding import Finding
from harness.terminal.console import note, result


class ByHand:
    """The id of its workers, however many there are, is the path of their job."""

    name = "folder"
    look_s = 5.0
    outlives_caller = True

    def check(self) -> list[Finding]:
        """Nothing can be missing."""
        return []

    def submit(self, job: JobFolder, workers: int) -> tuple[str, ...]:
        """Say what is to be started."""
        tell(job)
        return (str(job.path),)

    def look(self, ids: Sequence[str]) -> dict[str, WorkerState]:
        return {each: GONE if JobFolder(Path(each)).is_cancelled else WorkerState("waiting") for each in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """Workers look for this by themselves."""
        for each in ids:
            JobFolder(Path(each)).cancel()

    def save(self, ids: Sequence[str]) -> None:
        for each in ids:
            JobFolder(Path(each)).save()


def tell(job: JobFolder) -> None:
    """Print what starts a worker of a job, to be copied as it is."""
    note("start this on each machine, as often as you like:")
    result(f"harness work {shlex.quote(str(job.path))}")
    search = job.read().search
    if search and search.storage:
        note(f"each needs the variable OPTUNA_STORAGE as it is here, the address {search.storage} with its password")
