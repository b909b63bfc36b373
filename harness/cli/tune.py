"""The verb `tune`: a search of a cell's loss weights."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from harness.cli.options import Request, Requested, verb


@dataclass(frozen=True)
class Extent:
    """How far a search goes."""

    trials: Annotated[int | None, typer.Option(min=1, help="How many in all; default: the study's tune.trials.")] = None
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Begin no trial after 12h, 90m or so.")] = None
    slots: Annotated[int | None, typer.Option(min=1, help="Runs at the same time; default: the study's.")] = None


@verb
def tune(
    request: Requested,
    extent: Extent,
    cell: Annotated[str | None, typer.Option(help="Whose weights; default: the study's tune.cell.")] = None,
    also: Annotated[
        list[str] | None, typer.Option(metavar="CELL", help="Search this cell too, with the same budget; repeatable.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best weights into the file, as a profile.")] = False,
) -> None:
    """Search the loss weights of a cell with Optuna. Asking again continues; asking twice at once shares the work.

    \b
    harness tune ablations.yaml
    harness tune ablations.yaml --cell full --also origin --trials 60
    harness tune ablations.yaml --timeout 8h --slots 2
    harness tune ablations.yaml --apply
    """
    from harness.grid.tune import Asked, tune_cells
    from harness.planning.budget import parse_time

    seconds = parse_time("--timeout", extent.timeout) if extent.timeout else float("inf")
    deadline = time.monotonic() + seconds
    more = (f"tune.trials={extent.trials}",) if extent.trials else ()
    base = replace(request, overrides=(*request.overrides, *more))
    cells = dict.fromkeys([cell or base.load().tune.cell, *(also or ())])
    studies = [_of_cell(base, name).load() for name in cells]
    raise typer.Exit(tune_cells(studies, Asked(extent.slots, deadline), apply=apply))


def _of_cell(request: Request, cell: str) -> Request:
    return replace(request, overrides=(*request.overrides, f"tune.cell={cell}"))
