"""Run records to the table that is analysed: results that were measured differently are not compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.analysis.analyse import analyse
from harness.analysis.results import Analysis
from harness.analysis.table import Column, RunTable
from harness.design.kinds import DesignCell, in_study_order
from harness.errors import HarnessError
from harness.metrics.cards import NOT_HOW, digest
from harness.metrics.definitions import METRICS, Metric, metrics_of
from harness.metrics.names import SEEN
from harness.runs.record import RunRecord, state_of


def analyse_records(
    records: Sequence[RunRecord], baseline: str, toggles: Sequence[str], margins: Mapping[str, float] | None = None
) -> Analysis:
    """Compare every cell of the planned runs with the baseline; `margins` as in `analyse`.

    Raises HarnessError when no run is of the baseline, or when runs were measured by different cards.
    """
    return analyse(table_of(records, toggles), baseline, margins)


def table_of(records: Sequence[RunRecord], toggles: Sequence[str]) -> RunTable:
    """Every planned run, whatever became of it. Raises HarnessError when runs were measured by different cards."""
    order = tuple(toggles)
    cells = {
        record.run.cell: DesignCell(record.run.cell, in_study_order(record.run.toggles, order)) for record in records
    }
    places = {name: place for place, name in enumerate(cells)}
    done = [record for record in records if state_of(record) == "done"]
    results = [record.result for record in done if record.result]
    metrics = metrics_of({name: result.cards.get(name, {}) for result in results for name in result.metrics})
    by_cell = [[record for record in done if record.run.cell == name] for name in cells]
    return RunTable(
        toggles=order,
        cells=tuple(cells.values()),
        cell=np.array([places[record.run.cell] for record in records], dtype=np.int64),
        seed=np.array([record.run.seed for record in records], dtype=np.int64),
        states=tuple(state_of(record) for record in records),
        columns=tuple(_column(records, by_cell, metric) for metric in metrics),
        trained=tuple((record.run.id, record.result.weights if record.result else "") for record in records),
    )


def _column(records: Sequence[RunRecord], by_cell: Sequence[Sequence[RunRecord]], metric: Metric) -> Column:
    values = np.full(len(records), np.nan)
    for row, record in enumerate(records):
        name = _name_in(record, metric.name)
        if record.result and name and state_of(record) == "done":
            values[row] = record.result.metrics[name]
    cards, seen = [], []
    for runs in by_cell:
        digests = {digest(_card(record, metric.name)) for record in runs if _name_in(record, metric.name)}
        cards.append(digests.pop() if len(digests) == 1 else "")
        held = [record.result.metrics for record in runs if record.result]
        seen.append(any(metric.name not in names and metric.name + SEEN in names for names in held))
    return Column(
        metric, values, tuple(cards), tuple(seen), shared_card([it for runs in by_cell for it in runs], metric)
    )


def _name_in(record: RunRecord, metric: str) -> str | None:
    """The name under which the run has this number, if it has it.

    A metric whose network guided the training of one cell only has the plain name in the others.
    """
    names = record.result.metrics if record.result else {}
    plain = metric.removesuffix(SEEN)
    if metric in names or metric in METRICS:
        return metric if metric in names else None
    return plain if plain in names else None


def _card(record: RunRecord, metric: str) -> dict[str, Any]:
    """How the run measured that number; empty if it has none."""
    name = _name_in(record, metric)
    return record.result.cards.get(name, {}) if record.result and name else {}


def shared_card(done: Iterable[RunRecord], metric: Metric) -> dict[str, Any]:
    """The card that all finished runs share; empty if there is none, or for a diagnostic that has several.

    Raises HarnessError when a metric that takes part in verdicts has several.
    """
    measured = [record for record in done if _name_in(record, metric.name)]
    if not measured:
        return {}
    first = _card(measured[0], metric.name)
    for record in measured:
        card = _card(record, metric.name)
        if digest(card) == digest(first):
            continue
        if metric.role == "diagnostic":
            return {}
        differing = sorted(key for key in {*first, *card} - NOT_HOW if first.get(key) != card.get(key))
        raise HarnessError(
            f"{metric.name} was measured differently and cannot be compared: {_told(measured[0], first, differing)}; "
            f"{_told(record, card, differing)}. "
            "Give all cells the same data and metrics settings, and run those of one kind again"
        )
    engines = dict.fromkeys(str(_card(record, metric.name).get("engine", "not known")) for record in measured)
    # A cell whose training did not see the network has the same number in another role.
    return {**first, "role": metric.role, "engine": ", ".join(engines)}


def _told(record: RunRecord, card: Mapping[str, Any], keys: Sequence[str]) -> str:
    values = ", ".join(f"{key} {card.get(key)!r}" for key in keys)
    return f"run {record.run.id} ({record.run.cell}, seed {record.run.seed}) has {values}"
