"""The verb `plan`: what would run and why, what it costs, what it can detect, and which design fits a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Requested, verb

if TYPE_CHECKING:
    from harness.planning.forecast import Given


@dataclass(frozen=True)
class Known:
    """What the user knows better than the finished runs."""

    seconds_per_kimg: Annotated[
        float | None, typer.Option(metavar="X", help="Seconds per thousand images; default: of finished runs.")
    ] = None
    sd: Annotated[
        float | None, typer.Option(metavar="X", help="Spread between seeds, 0.05 is 5 %; default: of finished runs.")
    ] = None

    def given(self) -> Given:
        """Raises HarnessError for a number that is not positive."""
        from harness.errors import HarnessError
        from harness.planning.forecast import Given

        for option, value in (("--seconds-per-kimg", self.seconds_per_kimg), ("--sd", self.sd)):
            if value is not None and not 0 < value < float("inf"):
                raise HarnessError(f"{option} {value:g}: must be greater than 0")
        return Given(self.seconds_per_kimg, self.sd)


@verb
def plan(
    request: Requested,
    known: Known,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Compare designs at 12h, 90m, 2d or so, and propose one.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output, all else on standard error.")
    ] = False,
) -> None:
    """Show what would run and why, what it costs and what it can detect.

    \b
    harness plan ablations.yaml
    harness plan ablations.yaml --profile standard --set design.seeds=3
    harness plan ablations.yaml --set design.kind=full --json
    harness plan ablations.yaml --budget 12h
    harness plan ablations.yaml --budget 2d --seconds-per-kimg 40 --sd 0.05
    """
    from harness.cli import show_plan
    from harness.planning.budget import compare, parse_time
    from harness.planning.forecast import forecast
    from harness.study.plan import make_plan
    from harness.terminal import console

    given = known.given()
    seconds = parse_time("--budget", budget) if budget else None
    found = forecast(make_plan(request.load()), given)
    if seconds is None:
        console.json_document(found.as_dict()) if as_json else show_plan.plan(found)
        return
    compared = compare(found, seconds)
    console.json_document({**found.as_dict(), "budget": compared.as_dict()}) if as_json else show_plan.budget(
        found, compared
    )
