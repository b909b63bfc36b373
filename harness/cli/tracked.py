"""The commands `ui` and `sync`: MLflow's pages, and what it has missed."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from harness.cli.options import Request, standard_options

_ONE = {"summary": "summary update"}
"""What is counted, where its name is not the plural of one."""


@standard_options
def ui(
    request: Request,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser too.")] = False,
) -> None:
    """Serve MLflow's pages and print where the study's runs are. With -v also what the server says.

    \b
    harness ui ablations.yaml
    harness ui ablations.yaml --open
    """
    from harness.cli.ui import serve_mlflow

    raise typer.Exit(serve_mlflow(request.load(), port, open_browser))


@standard_options
def sync(request: Request) -> None:
    """Send to MLflow what it has missed. Nothing is there twice.

    \b
    harness sync ablations.yaml
    """
    from harness.masking import masked
    from harness.runs.snapshot import Snapshot
    from harness.study.plan import make_plan
    from harness.terminal import console
    from harness.terminal.progress import counted
    from harness.text import quantity
    from harness.tracking.address import tracking_uri
    from harness.tracking.mirror import sync as send
    from harness.tracking.mirror import unsent
    from harness.tuning.search import searches

    study = request.load()
    planned = make_plan(study).runs
    grids = [(study, planned)]
    grids += [(search, Snapshot(search.root, ()).other_runs) for search in searches(study)]
    total = sum(len(runs) for _, runs in grids)
    console.note(f"{quantity(total, 'run')} to compare with MLflow at {masked(tracking_uri(study))}")
    with counted("comparing runs with MLflow", total) as advance:
        sent = sum((send(grid, grid.root, runs, advance) for grid, runs in grids), Counter[str]())
    if earlier := len(unsent(study, study.root, planned)):
        console.note(f"{quantity(earlier, 'run')} with earlier settings are not sent: MLflow gets the runs of the plan")
    console.result(
        ", ".join(quantity(sent[what], _ONE.get(what, what.removesuffix("s"))) for what in sorted(sent))
        or "nothing was missing"
    )
