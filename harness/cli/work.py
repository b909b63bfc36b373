"""The commands `work`, `cancel` and `checkpoint`: runs that train in workers elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Request, standard_options

if TYPE_CHECKING:
    from harness.executors.job import JobFolder
    from harness.executors.live import LiveJob
    from harness.study.schema import Study


@standard_options
def work(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="The job's folder, such as runs/emoji/.jobs/3.")],
    worker: Annotated[
        int | None, typer.Option(min=0, help="Its number in the job; default: of the array, or the next.")
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to use; default: what it was granted.")] = None,
    token: Annotated[str, typer.Option(hidden=True, help="Of the job that it was started for.")] = "",
) -> None:
    """Take runs or trials of a job until none is left. Engines start this; start more where the folder is seen.

    SIGTERM ends it after checkpoints, SIGUSR1 asks for checkpoints, and SIGUSR2 ends it with code 75: start it again.

    \b
    harness work runs/emoji/.jobs/3
    """
    from harness.grid import work as grid

    raise typer.Exit(grid.work(job, grid.Place(worker, token, cores)))


@standard_options
def cancel(request: Request) -> None:
    """End all workers of a study and its searches after checkpoints. `run-grid` and `tune` go on from there.

    \b
    harness cancel ablations.yaml
    """
    from harness.executors.job import JobFolder

    def end(job: LiveJob) -> None:
        job.folder.cancel()
        job.executor.cancel(job.job.ids)

    # Workers look for this by themselves, also where their engine cannot be reached from here.
    _each_job(request, end, "end after checkpoints", JobFolder.cancel)


@standard_options
def checkpoint(request: Request) -> None:
    """Have all workers of a study write checkpoints and go on. Those of its searches too.

    \b
    harness checkpoint ablations.yaml
    """
    from harness.executors.job import JobFolder

    _each_job(request, lambda job: job.executor.save(job.job.ids), "write checkpoints", JobFolder.save)


def _each_job(
    request: Request, ask: Callable[[LiveJob], None], what: str, leave_word: Callable[[JobFolder], None]
) -> None:
    """Ask the workers of every job of the study and its searches, whatever becomes of the others, and say what they do.

    `leave_word`: in the folder of a job whose engine cannot be asked, or not for workers without a name.
    """
    from harness.errors import HarnessError
    from harness.executors.job import job_folders
    from harness.executors.live import is_unnamed, live_job
    from harness.exit_codes import REFUSED
    from harness.terminal.console import failure, result, shown
    from harness.tuning.search import searches

    study = request.load()
    has_workers, code = False, 0
    for folder in (folder for each in (study, *searches(study)) for folder in job_folders(each.root)):
        try:
            job = live_job(folder)
            if job is None and is_unnamed(folder):
                raise HarnessError("the call that submitted its workers was killed before it could note them")
            if job is None:
                continue
            has_workers = True
            ask(job)
            own = Path(job.job.study.path).name
            whose = f" (submitted from {own})" if own != study.path.name else ""
            result(f"{shown(folder.path)}{whose}: its workers on {job.executor.name} {what}")
        except HarnessError as error:
            has_workers, code = True, REFUSED
            leave_word(folder)
            failure(
                f"{shown(folder.path)}: {error}; those of its workers that run {what}, as its folder asks for it now"
            )
    if not has_workers:
        result(f"{study.name} has no workers{_elsewhere(study)}")
    raise typer.Exit(code)


def _elsewhere(study: Study) -> str:
    """Which other profiles of the study have jobs that may have workers, as a remark."""
    from harness.executors.job import job_folders
    from harness.study.load import profiles_of

    roots = (study.root.with_name(f"{study.name}-{name}") for name in profiles_of(study.path))
    others = [root for root in (study.root.with_name(study.name), *roots) if root != study.root]
    names = [root.name for root in others if not all(folder.is_over for folder in job_folders(root))]
    return f" here, but those of {', '.join(names)} may have some: see --profile" if names else ""
