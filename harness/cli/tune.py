"""The command `tune`: a search of a cell's loss weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from harness import api
from harness.cli import complete
from harness.cli.options import RequestElsewhere, say_how_to_go_on, standard_options, with_option


@dataclass(frozen=True)
class Limits:
    """How far a search goes."""

    trials: Annotated[int | None, typer.Option(min=1, help="How many in all; default: the study's tune.trials.")] = None
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Begin no trial after 12h, 90m or so.")] = None
    slots: Annotated[int | None, typer.Option(min=1, help="Runs at the same time; default: the study's.")] = None


@standard_options
def tune(
    request: RequestElsewhere,
    limits: Limits,
    cell: Annotated[
        str | None,
        typer.Option(help="Whose weights; default: the study's tune.cell.", autocompletion=complete.cells),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CELL",
            help="Search this cell too, with the same budget; may be repeated.",
            autocompletion=complete.cells,
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best weights into the file, as a profile.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return once workers are submitted.")] = False,
) -> None:
    """Search the loss weights of a cell with Optuna. The same command continues; in two terminals it shares the work.

    \b
    harness tune ablations.yaml
    harness tune ablations.yaml --cell full --also origin --trials 60
    harness tune ablations.yaml --timeout 8h --slots 2
    harness tune ablations.yaml --apply
    harness tune ablations.yaml --executor slurm --workers 8 --detach
    """
    from harness.planning.budget import parse_time
    from harness.report.search.write import print_search
    from harness.terminal import console

    seconds = float("inf") if limits.timeout is None else parse_time("--timeout", limits.timeout)
    if limits.trials:
        request = replace(request, overrides=with_option(request.overrides, "--trials", f"tune.trials={limits.trials}"))
    study = request.load()
    cells = [study.tune.cell if cell is None else cell, *(also or ())]
    result = api.tune(study, cells, slots=limits.slots, seconds=seconds, apply=apply, detach=detach)
    for findings in result.searches:
        print_search(findings, console.terminal())
    for text in result.applied:
        console.note(text)
    say_how_to_go_on(result.exit_code)
    raise typer.Exit(result.exit_code)
