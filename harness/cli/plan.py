"""The command `plan`: what would run and why, what it costs, what it can detect, and which design fits a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from harness import api
from harness.cli.options import AsJson, Request, standard_options


@standard_options
def plan(
    request: Request,
    seconds_per_kimg: Annotated[
        float | None, typer.Option(metavar="X", help="Seconds per thousand images; default: of finished runs.")
    ] = None,
    sd: Annotated[
        float | None, typer.Option(metavar="X", help="Spread between seeds, 0.05 is 5 %; default: of finished runs.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Compare designs at 12h, 90m, 2d or so, and propose one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what would run and why, and the cost. Also which effects the study can detect.

    \b
    harness plan ablations.yaml
    harness plan ablations.yaml --profile standard --set design.seeds=3
    harness plan ablations.yaml --set design.kind=full --json
    harness plan ablations.yaml --budget 12h
    harness plan ablations.yaml --budget 2d --seconds-per-kimg 40 --sd 0.05
    """
    from harness.cli import show_plan
    from harness.planning.budget import parse_time
    from harness.terminal import console

    seconds = parse_time("--budget", budget) if budget else None
    forecast = api.plan(request.load(), seconds_per_kimg=seconds_per_kimg, sd=sd)
    compared = api.compare_designs(forecast, seconds) if seconds else None
    if as_json:
        console.json_document(forecast.as_dict() | ({"budget": compared.as_dict()} if compared else {}))
    elif compared:
        show_plan.budget(forecast, compared)
    else:
        show_plan.plan(forecast)
