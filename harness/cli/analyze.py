"""The verb `analyze`: results from anywhere, compared as those of a study are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import verb
from harness.design.kinds import ORIGIN
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.analysis.from_csv import Reading
    from harness.analysis.table import Column, RunTable
    from harness.metrics.definitions import Metric

Columns = list[str] | None


@dataclass(frozen=True)
class Meaning:
    """What the columns mean, where their names do not tell."""

    seed: Annotated[str, typer.Option(metavar="COLUMN", help="Runs of equal seed are paired.")] = "seed"
    toggle: Annotated[
        Columns, typer.Option(metavar="COLUMN", help="A column of 0 and 1; default: all such. May be repeated.")
    ] = None
    lower: Annotated[Columns, typer.Option(metavar="COLUMN", help="A metric where lower is better. Repeatable.")] = None
    higher: Annotated[Columns, typer.Option(metavar="COLUMN", help="A metric where higher is better.")] = None

    def reading(self) -> Reading:
        from harness.analysis.from_csv import Reading

        both = set(self.lower or ()) & set(self.higher or ())
        if both:
            raise HarnessError(f"--lower and --higher both name {', '.join(sorted(both))}; keep one")
        return Reading(self.seed, tuple(self.toggle or ()), tuple(self.lower or ()), tuple(self.higher or ()))


@verb
def analyze(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.csv", help="A row a run.")],
    meaning: Meaning,
    baseline: Annotated[str, typer.Option(metavar="CELL", help="What all others are compared with.")] = "origin",
    margin: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=X", help="Differences up to X (% for distances) do not matter. Repeatable."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output, all else on standard error.")
    ] = False,
) -> None:
    """Compare runs that a CSV lists: effects of toggles, intervals, verdicts, interactions.

    The file has a column of 0 and 1 for every toggle, a column `seed`, and a column for every metric, as the runs.csv
    of a report. Metrics such as fid, kid, clip_score, loss and accuracy are known; name others with --lower, --higher.

    \b
    harness analyze results.csv
    harness analyze results.csv --higher my_score --baseline img_img_loss
    harness analyze reports/emoji-both/runs.csv --margin fd=5 --json
    """
    from harness.analysis.analyse import analyse
    from harness.analysis.export import as_json as document
    from harness.analysis.from_csv import read_csv
    from harness.terminal import console

    table, left_out = read_csv(results, meaning.reading())
    margins = _margins(margin or [], [column.metric for column in table.columns])
    table = _asked_for(table, margins)
    metrics = [column.metric for column in table.columns]
    found = analyse(table, _baseline(table, baseline), margins)
    console.note(f"toggles: {', '.join(table.toggles)}; metrics: {', '.join(metric.name for metric in metrics)}")
    for reason in dict.fromkeys(left_out.values()):
        names = [name for name, why in left_out.items() if why == reason]
        console.note(f"left out: {', '.join(names)} ({reason})")
    further = [metric.name for metric in metrics if not metric.headline]
    if as_json:
        console.json_document(document(found))
    else:
        if further:
            console.note(
                f"compared, and shown by --json only: {', '.join(further)}; --lower and --higher show them here too"
            )
        from harness.report.terminal import print_comparison
        from harness.terminal.console import terminal

        print_comparison(found, terminal())


def _baseline(table: RunTable, asked: str) -> str:
    """The cell of that name, or of the toggles that it joins; `origin` is the cell with all off, whatever its name."""
    wanted = set() if asked == ORIGIN else set(asked.split("+"))
    named = [cell.name for cell in table.cells if cell.name == asked]
    return next(iter(named + [cell.name for cell in table.cells if set(cell.toggles) == wanted]), asked)


def _asked_for(table: RunTable, margins: Mapping[str, float]) -> RunTable:
    """The table in which each metric that was given a margin is one to show."""
    from harness.metrics.definitions import base

    def asked(column: Column) -> Column:
        named = {column.metric.name, base(column.metric.name)} & set(margins)
        further = named and column.metric.role == "further"
        return replace(column, metric=replace(column.metric, role="headline")) if further else column

    return replace(table, columns=tuple(map(asked, table.columns)))


def _margins(said: list[str], metrics: Sequence[Metric]) -> dict[str, float]:
    from harness.metrics.definitions import base

    found = {}
    for text in said:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise HarnessError(f"--margin {text}: must be METRIC=X with a number X, such as fid=5") from None
        names = [metric.name for metric in metrics]
        if name not in names and name not in map(base, names):
            raise HarnessError(f"--margin {text}: no metric {name!r}; allowed: {', '.join(names)}")
        metric = next(metric for metric in metrics if name in (metric.name, base(metric.name)))
        if not 0 < found[name] < (100 if metric.scale == "log" else math.inf):
            below = " and below 100, as it is in %" if metric.scale == "log" else ""
            raise HarnessError(f"--margin {text}: must be above 0{below}")
    return found
