"""The commands `work`, `cancel` and `checkpoint`: runs that train in workers elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Request, standard_options

if TYPE_CHECKING:
    from harness.executors.live import LiveJob


@standard_options
def work(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="The job's folder, such as runs/emoji/.jobs/3.")],
    worker: Annotated[int | None, typer.Option(min=0, help="Its number in the job; default: the next.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to use; default: what it was granted.")] = None,
    token: Annotated[str, typer.Option(hidden=True, help="Of the job that it was started for.")] = "",
) -> None:
    """Take runs of a job until none is left. Engines start this; start more on any machine that sees the folder.

    SIGTERM ends it after checkpoints, SIGUSR1 asks for checkpoints, and SIGUSR2 ends it with code 75: start it again.

    \b
    harness work runs/emoji/.jobs/3
    """
    from harness.grid import work as grid

    raise typer.Exit(grid.work(job, grid.Place(worker, token, cores)))


@standard_options
def cancel(request: Request) -> None:
    """End all workers of a study after checkpoints. `run-grid` goes on from there.

    \b
    harness cancel ablations.yaml
    """

    def end(job: LiveJob) -> None:
        job.folder.cancel()
        job.executor.cancel(job.job.ids)

    _each_job(request, end, "end after checkpoints")


@standard_options
def checkpoint(request: Request) -> None:
    """Have all workers of a study write checkpoints and go on.

    \b
    harness checkpoint ablations.yaml
    """
    _each_job(request, lambda job: job.executor.save(job.job.ids), "write checkpoints")


def _each_job(request: Request, ask: Callable[[LiveJob], None], what: str) -> None:
    """Ask the workers of all jobs of the study, and say what they do."""
    from harness.executors.live import live_jobs
    from harness.terminal.console import result, shown

    study = request.load()
    jobs = list(live_jobs(study.root))
    for job in jobs:
        ask(job)
        result(f"{shown(job.folder.path)}: its workers on {job.executor.name} {what}")
    if not jobs:
        result(f"{study.name} has no workers")
