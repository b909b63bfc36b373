"""What an engine that starts workers elsewhere can be asked for.

A worker is a process `harness work JOB`: it takes runs of the job until none is left. So an engine knows nothing of
runs, and losing a worker loses no run. What an engine says of a worker is never a verdict on a run: the run's folder
decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.errors import HarnessError
from harness.executors.job import JobFolder
from harness.finding import Finding

Phase = Literal["waiting", "running", "gone"]


@dataclass(frozen=True)
class WorkerState:
    """Where a worker stands, as its engine has it."""

    phase: Phase
    node: str = ""
    """The machine that it runs on."""
    reason: str = ""
    """Why it waits, or how it ended, in the engine's words."""
    fix: str = ""
    """What to do about a worker that waits for what will never come; empty where waiting is all there is to do."""


GONE = WorkerState("gone")


class NoAnswer(HarnessError):
    """An engine did not say, or not in time: what it was asked for may have been done all the same."""


class Executor(Protocol):
    """An engine. Every method but `check` raises HarnessError when the engine cannot be reached or refuses."""

    name: str
    """As `resources.executor` names it."""
    look_s: float
    """Seconds between two calls of `look` that the engine can bear."""
    outlives_caller: bool
    """Whether its workers go on when the process that submitted them ends, which else waits for their checkpoints."""

    def check(self) -> list[Finding]:
        """What it has and lacks, for `doctor` and before anything is submitted."""

    def submit(self, job: JobFolder, workers: int) -> tuple[str, ...]:
        """Have this many workers started, numbered from 0; their ids in that order, as the engine has them.

        Raises NoAnswer where they may have been, any other HarnessError where none was.
        """

    def look(self, ids: Sequence[str]) -> Mapping[str, WorkerState]:
        """Where these workers stand; one that is not in the answer is gone."""

    def cancel(self, ids: Sequence[str]) -> None:
        """End these workers after a checkpoint (SIGTERM); those that wait never start."""

    def save(self, ids: Sequence[str]) -> None:
        """Have these workers write checkpoints and go on (SIGUSR1)."""
