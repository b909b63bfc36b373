"""Run records to the table that is analysed. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.analysis import shared_cards
from harness.analysis.analyse import analyse
from harness.analysis.results import Analysis
from harness.analysis.table import Cell, Column, Table
from harness.design.kinds import ordered
from harness.metrics.definitions import Metric, rows
from harness.runs.record import RunRecord, state_of


def analyse_records(
    records: Sequence[RunRecord], baseline: str, toggles: Sequence[str], margins: Mapping[str, float] | None = None
) -> Analysis:
    """Compare every cell of the planned runs with the baseline.

    Raises HarnessError when no run is of the baseline, or when runs were measured by different cards.
    """
    return analyse(table_of(records, toggles), baseline, margins)


def table_of(records: Sequence[RunRecord], toggles: Sequence[str]) -> Table:
    """Every planned run, whatever became of it. Raises HarnessError when runs were measured by different cards."""
    order = tuple(toggles)
    cells = {record.run.cell: Cell(record.run.cell, ordered(record.run.toggles, order)) for record in records}
    places = {name: place for place, name in enumerate(cells)}
    done = [record for record in records if state_of(record) == "done"]
    results = [record.result for record in done if record.result]
    found = rows({name: result.cards.get(name, {}) for result in results for name in result.metrics})
    by_cell = [[record for record in done if record.run.cell == name] for name in cells]
    return Table(
        toggles=order,
        cells=tuple(cells.values()),
        cell=np.array([places[record.run.cell] for record in records], dtype=np.int64),
        seed=np.array([record.run.seed for record in records], dtype=np.int64),
        states=tuple(state_of(record) for record in records),
        columns=tuple(_column(records, by_cell, metric) for metric in found),
        trained=tuple((record.run.id, record.result.weights if record.result else "") for record in records),
    )


def _column(records: Sequence[RunRecord], by_cell: Sequence[Sequence[RunRecord]], metric: Metric) -> Column:
    done = [record for runs in by_cell for record in runs]
    return Column(
        metric=metric,
        values=np.array([_value(record, metric.name) for record in records], dtype=np.float64),
        cards=tuple(shared_cards.of_cell(runs, metric.name) for runs in by_cell),
        seen=tuple(shared_cards.seen(runs, metric.name) for runs in by_cell),
        card=shared_cards.shared(done, metric) or {},
    )


def _value(record: RunRecord, metric: str) -> float:
    name = shared_cards.source(record, metric) if state_of(record) == "done" else None
    return record.result.metrics[name] if record.result and name else float("nan")
