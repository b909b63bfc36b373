"""The command `analyze`: results from anywhere, compared as those of a study are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import comparing
from harness.cli.options import AsJson, standard_options
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.analysis.csv_columns import CsvColumns
    from harness.analysis.looks import Looks
    from harness.analysis.results import Analysis

Columns = list[str] | None


@dataclass(frozen=True)
class ColumnOptions:
    """What the columns mean, where their names do not tell."""

    seed: Annotated[str, typer.Option(metavar="COLUMN", help="Runs of equal seed are paired.")] = "seed"
    toggle: Annotated[
        Columns, typer.Option(metavar="COLUMN", help="A column of 0 and 1; default: all such; may be repeated.")
    ] = None
    levels: Annotated[
        Columns,
        typer.Option(metavar="COLUMN[=REF]", help="A column of levels: tau=0.5 names the reference; may be repeated."),
    ] = None
    lower: Annotated[
        Columns, typer.Option(metavar="COLUMN", help="A metric where lower is better; may be repeated.")
    ] = None
    higher: Annotated[
        Columns, typer.Option(metavar="COLUMN", help="A metric where higher is better; may be repeated.")
    ] = None


@dataclass(frozen=True)
class OutputOptions:
    """What is written besides the answer."""

    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Draw the table of ideas and metrics, for a README or a slide."),
    ] = None
    as_json: AsJson = False


@standard_options
def analyze(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.csv", help="One row per run.")],
    columns: ColumnOptions,
    output: OutputOptions,
    baseline: Annotated[str, typer.Option(metavar="CELL", help="What all others are compared with.")] = "origin",
    margin: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=X", help="Differences up to X (% for distances) do not matter; may be repeated."),
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(metavar="FIRST..MOST", help="Seeds were added, by number, until the results decided."),
    ] = None,
) -> None:
    """Compare runs that a CSV lists. Effects of toggles, intervals, verdicts, interactions.

    The file has a column of 0 and 1 for every toggle, a column `seed`, and a column for every metric, as the runs.csv
    of a report. Metrics such as fid, kid, clip_score, loss and accuracy are known; name others with --lower, --higher.

    \b
    harness analyze results.csv
    harness analyze results.csv --higher my_score --baseline img_img_loss
    harness analyze results.csv --levels tau=0.5
    harness analyze results.csv --looks 3..8
    harness analyze reports/emoji-warm/runs.csv --margin fd=5 --json
    """
    from harness.analysis.export import as_json as document
    from harness.report.terminal import print_comparison
    from harness.terminal import console

    if output.picture:
        _can_be_written(output.picture)
    analysis = comparing.analyse(results, baseline, _margins(margin or ()), _meanings(columns), _looks(looks))
    if output.picture:
        _draw(analysis, output.picture)
    if output.as_json:
        console.json_document(document(analysis))
        return
    further = [result.metric.name for result in analysis.metrics if not result.metric.headline]
    if further:
        console.note(
            f"compared, and shown by --json only: {', '.join(further)}; --lower and --higher show them here too"
        )
    print_comparison(analysis, console.terminal())


def _meanings(columns: ColumnOptions) -> CsvColumns:
    from harness.analysis.csv_columns import CsvColumns

    given = (columns.toggle, columns.lower, columns.higher, columns.levels)
    toggles, lower, higher, levels = (tuple(names or ()) for names in given)
    return CsvColumns(columns.seed, toggles, lower, higher, levels)


def _can_be_written(picture: Path) -> None:
    if picture.suffix != ".svg":
        raise HarnessError(f"--picture {picture}: must end in .svg; a .pdf and a .png are written beside it")
    if not picture.parent.is_dir():
        raise HarnessError(f"--picture {picture}: there is no folder {picture.parent}; make it first")


def _draw(analysis: Analysis, picture: Path) -> None:
    from harness.report.figures import glance
    from harness.terminal import console

    try:
        is_drawn = glance.draw(analysis, None, picture.with_suffix(""))
    except OSError as error:
        where = f"--picture {picture}: cannot be written ({error.strerror})"
        raise HarnessError(f"{where}; name a file in a folder that can be written to") from error
    if not is_drawn:
        raise HarnessError(f"--picture {picture}: takes two ideas or cells with results, and there are fewer")
    console.note(f"picture: {picture}, with a .pdf and a .png beside it")


def _looks(text: str | None) -> Looks | None:
    """`3..8` as the rule whose first look is after 3 seeds, and whose last after 8."""
    from harness.analysis.looks import Looks

    if text is None:
        return None
    if not (ends := re.fullmatch(r"([0-9]{1,4})\.\.([0-9]{1,4})", text)):
        raise HarnessError(f"--looks {text}: must be FIRST..MOST, two numbers of seeds such as 3..8")
    try:
        return Looks(int(ends[1]), int(ends[2]))
    except HarnessError as error:
        raise HarnessError(f"--looks {text}: {error}") from None


def _margins(texts: Sequence[str]) -> dict[str, float]:
    margins: dict[str, float] = {}
    for text in texts:
        name, margin = _margin(text)
        if name in margins:
            raise HarnessError(f"--margin {text}: {name!r} has the margin {margins[name]:g} already; keep one")
        margins[name] = margin
    return margins


def _margin(text: str) -> tuple[str, float]:
    """`fid=5` as ("fid", 5.0)."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise HarnessError(f"--margin {text}: must be METRIC=X with a number X, such as fid=5") from None
