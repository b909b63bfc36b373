"""What the first seeds of a grid say while the others train: how large differences are, and no verdict."""

from __future__ import annotations

from harness.analysis.results import Analysis, CellResult, MetricResult
from harness.report import wording
from harness.terminal.table import TextTable
from harness.text import one_line, quantity

MOST_CELLS = 20
"""Rows; of more cells those that differ most in the first headline metric."""


def shown_so_far(analysis: Analysis, most: int) -> list[str | TextTable]:
    """A sentence and a table: each cell, its mean on each headline metric and the change from the baseline.

    `analysis`: of whole seeds only; `most`: the seeds that were asked for.
    """
    results, seeds = analysis.headlines, analysis.seeds
    if not results:
        return []
    if len(seeds) == 1:
        head = f"seed {seeds[0]} is whole, the first of {most}. One seed: no interval, no verdict"
    else:
        head = f"{len(seeds)} of {most} seeds are whole. Mean changes so far, and in how many seeds better: no verdict"
    columns = [column for result in results for column in (result.metric.name, "change")]
    table = TextTable("cell", *columns, numbers=columns)
    cells = list(results[0].cells)
    if len(cells) > MOST_CELLS:
        cells.sort(key=lambda cell: (cell.cell != analysis.baseline, -_size(cell)))
    for cell in cells[:MOST_CELLS]:
        entries = [entry for result in results for entry in _entries(result, result.cell(cell.cell), len(seeds))]
        table.add_row(one_line(cell.cell), *entries)
    hidden = len(cells) - MOST_CELLS
    more = [f"not shown here: {quantity(hidden, 'cell')} with smaller changes"] if hidden > 0 else []
    return [f"{head}; change: from {analysis.baseline}", table, *more]


def _size(cell: CellResult) -> float:
    return abs(cell.estimate.value or 0.0) if cell.estimate else 0.0


def _entries(result: MetricResult, cell: CellResult, seeds: int) -> tuple[str, str]:
    """The mean and the change of one cell; in how many seeds it is better, where there are several."""
    if cell.mean is None:
        return wording.states(cell.states), wording.MISSING
    value, estimate = wording.number(result.metric, cell.mean), cell.estimate
    if estimate is None:
        return value, ""
    improved = f" {estimate.improved}/{estimate.n}" if seeds > 1 and estimate.n else ""
    return value, wording.signed(result.metric, estimate.value) + improved
