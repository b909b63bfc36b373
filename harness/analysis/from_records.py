"""Run records to the table that is analysed: results that were measured differently are not compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.analysis.analyse import analyse
from harness.analysis.looks import Looks
from harness.analysis.results import Analysis
from harness.analysis.table import Column, RunTable
from harness.design.factors import Factor
from harness.design.kinds import DesignCell, in_study_order
from harness.errors import HarnessError
from harness.metrics.cards import NOT_HOW, digest
from harness.metrics.definitions import METRICS, Metric, metrics_of
from harness.metrics.names import SEEN
from harness.runs.record import RunRecord, state_of


def analyse_records(
    records: Sequence[RunRecord],
    baseline: str,
    toggles: Sequence[str],
    margins: Mapping[str, float] | None = None,
    factors: Sequence[Factor] = (),
    looks: Looks | None = None,
) -> Analysis:
    """Compare every cell of the planned runs with the baseline; `margins` and `looks` as in `analyse`, `toggles` all
    ideas.

    Raises HarnessError when no run is of the baseline, or when runs were measured by different cards.
    """
    return analyse(table_of(records, toggles, factors), baseline, margins, looks)


def table_of(records: Sequence[RunRecord], toggles: Sequence[str], factors: Sequence[Factor] = ()) -> RunTable:
    """Every planned run, whatever became of it. Raises HarnessError when runs were measured by different cards."""
    order = tuple(toggles)
    cells = {
        record.run.cell: DesignCell(record.run.cell, in_study_order(record.run.toggles, order)) for record in records
    }
    places = {name: place for place, name in enumerate(cells)}
    results = [record.result for record in records if record.result and state_of(record) == "done"]
    metrics = metrics_of({name: result.cards.get(name, {}) for result in results for name in result.metrics})
    return RunTable(
        toggles=order,
        cells=tuple(cells.values()),
        cell=np.array([places[record.run.cell] for record in records], dtype=np.int64),
        seed=np.array([record.run.seed for record in records], dtype=np.int64),
        states=tuple(state_of(record) for record in records),
        columns=tuple(_column(records, places, metric) for metric in metrics),
        trained=tuple((record.run.id, record.result.weights if record.result else "") for record in records),
        factors=tuple(factors),
    )


def _column(records: Sequence[RunRecord], places: Mapping[str, int], metric: Metric) -> Column:
    values, digests, seen = np.full(len(records), np.nan), [set[str]() for _ in places], [False for _ in places]
    done = [(row, record) for row, record in enumerate(records) if state_of(record) == "done"]
    for row, record in done:
        place, names = places[record.run.cell], record.result.metrics if record.result else {}
        seen[place] |= metric.name not in names and metric.name + SEEN in names
        if number := _number(record, metric.name):
            values[row], card = number
            digests[place].add(digest(card))
    cards = tuple(each.pop() if len(each) == 1 else "" for each in digests)
    return Column(metric, values, cards, tuple(seen), shared_card((record for _, record in done), metric))


def _number(record: RunRecord, metric: str) -> tuple[float, Mapping[str, Any]] | None:
    """What the run measured as this metric, and the card that says how; None if it did not.

    A metric whose network guided the training of one cell only has the plain name in the others.
    """
    names = record.result.metrics if record.result else {}
    name = metric if metric in names or metric in METRICS else metric.removesuffix(SEEN)
    return (names[name], record.result.cards.get(name, {})) if record.result and name in names else None


def shared_card(done: Iterable[RunRecord], metric: Metric) -> dict[str, Any]:
    """The card that all finished runs share; empty if there is none, or for a diagnostic that has several.

    Raises HarnessError when a metric that takes part in verdicts has several.
    """
    measured = [(record, number[1]) for record in done if (number := _number(record, metric.name))]
    if not measured:
        return {}
    first = measured[0][1]
    for record, card in measured:
        if digest(card) == digest(first):
            continue
        if metric.role == "diagnostic":
            return {}
        differing = sorted(key for key in {*first, *card} - NOT_HOW if first.get(key) != card.get(key))
        has = (
            f"run {it.run.id} ({it.run.cell}, seed {it.run.seed}) has "
            + ", ".join(f"{key} {own.get(key)!r}" for key in differing)
            for it, own in (measured[0], (record, card))
        )
        raise HarnessError(
            f"{metric.name} was measured differently and cannot be compared: {'; '.join(has)}. "
            "Give all cells the same data and metrics settings, and run those of one kind again"
        )
    engines = dict.fromkeys(str(card.get("engine", "not known")) for _, card in measured)
    # A cell whose training did not see the network has the same number in another role.
    return {**first, "role": metric.role, "engine": ", ".join(engines)}
