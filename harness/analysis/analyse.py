"""A table of runs to the analysis of every metric. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.analysis.ground import Ground
from harness.analysis.one_metric import OneMetric
from harness.analysis.reading import design_of
from harness.analysis.results import Analysis, CellState, MetricResult
from harness.analysis.table import Table
from harness.errors import HarnessError
from harness.metrics.cards import kernel_first
from harness.metrics.definitions import base


def analyse(table: Table, baseline: str, margins: Mapping[str, float] | None = None) -> Analysis:
    """Compare every cell with the baseline, and estimate what the toggles do, on every metric of the table.

    `margins`: metric (or its kind: fd for fid and every fd_*) -> the difference that does not matter, in % for a metric
    of scale log, else in its unit.
    Raises HarnessError when no run is of the baseline, or a distance that is compared by ratios is not above 0.
    """
    names = [cell.name for cell in table.cells]
    if baseline not in names:
        known = f"the cells are {', '.join(names) or 'none'}; name one of them as the baseline"
        raise HarnessError(f"no run belongs to the baseline {baseline!r}: {known}")
    _refuse_without_logarithm(table)
    columns = [(column, _margin(margins or {}, column.metric.name)) for column in table.columns]
    ground = Ground(table, baseline)
    metrics = [OneMetric(ground, column, margin).result() for column, margin in columns]
    counts = zip(table.cells, ground.counts, strict=True)
    return Analysis(
        baseline=baseline,
        toggles=table.toggles,
        seeds=ground.seeds,
        cells=tuple(CellState(cell.name, cell.toggles, states) for cell, states in counts),
        design=design_of(ground.tells),
        metrics=_in_reading_order(metrics),
        notes=_coincidences(ground),
        suspicions=_suspicions(metrics),
    )


def _refuse_without_logarithm(table: Table) -> None:
    for column in (column for column in table.columns if column.metric.scale == "log"):
        for run in np.flatnonzero(column.values <= 0).tolist():
            where = f"{table.cells[int(table.cell[run])].name}, seed {int(table.seed[run])}"
            told = f"{column.metric.name} of {where} is {column.values[run]:g}: distances are compared by ratios"
            raise HarnessError(f"{told} and must be above 0; measure that run again, or leave it out")


def _coincidences(ground: Ground) -> tuple[str, ...]:
    """Cells with the same numbers in every metric, although nothing says that they were trained alike."""
    groups = [group for group in ground.table.same_numbers(ground.seeds) if len({ground.twins[p] for p in group}) > 1]
    return tuple(
        f"{ground.names(group)} have the same numbers in every metric and seed: by chance, as rounded numbers may, or "
        "because what differs between them has no effect. They are judged as any other cells."
        for group in groups
    )


def _margin(margins: Mapping[str, float], metric: str) -> float | None:
    return margins.get(metric, margins.get(base(metric)))


def _in_reading_order(results: Sequence[MetricResult]) -> tuple[MetricResult, ...]:
    """Headlines first; a kernel distance that leads stands before the distance that it is preferred to."""
    found = {result.metric.name: result for result in results}
    cards = {name: result.card for name, result in found.items()}
    leading = kernel_first([result.metric for result in results], cards)
    first = [replace(found[metric.name], metric=metric) for metric in leading]
    names = {metric.name for metric in leading}
    return (*first, *(result for result in results if result.metric.name not in names))


def _suspicions(results: Sequence[MetricResult]) -> tuple[str, ...]:
    found = {result.metric.name: {cell.cell: cell.estimate for cell in result.cells} for result in results}
    judged, seen = found.get("clip_score", {}), found.get("clip_score_seen", {})
    both = [(cell, guide, judged.get(cell)) for cell, guide in seen.items()]
    return tuple(
        cell
        for cell, guide, judge in both
        if guide and judge and guide.n and guide.improved == guide.n and not judge.improved
    )
