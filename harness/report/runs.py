"""The section on runs: every planned one, in whatever state."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import CellState
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.document import Block, Bullets, Code, Details, Mark, Paragraph, Section, Table, Text
from harness.report.inputs import ReportInputs, run_anchor
from harness.report.tables import Field, folded, measured, numeric, plain_column, table, text
from harness.runs.record import STATES, RunRecord, State, state_of

MOST_UNFINISHED = 50
"""Runs without a result that are listed one by one."""


def runs(inputs: ReportInputs) -> Section:
    cells = inputs.analysis.cells
    total = sum(sum(cell.states.values()) for cell in cells)
    unfinished = [record for record in inputs.records if state_of(record) != "done"]
    blocks: list[Block] = []
    if unfinished:
        blocks += [folded(_states(cells), "cells by the state of their runs"), _listed(unfinished)]
    else:
        blocks.append(Paragraph(f"All {wording.counted(total, 'run')} of {len(cells)} cells are done."))
    every = runs_table(inputs)
    blocks.append(Details(f"All {wording.counted(len(every.rows), 'run')} with their numbers", (every,)))
    return Section("Runs", tuple(blocks), "runs")


def _states(cells: Sequence[CellState]) -> Table:
    """How many of a cell's planned runs are in which state: `1 of 3`."""

    def column(state: State) -> Field[CellState]:
        return numeric(state, lambda cell: wording.rate(cell.states, state), lambda cell: cell.states.get(state, 0))

    present = [state for state in STATES if any(cell.states.get(state) for cell in cells)]
    fields: list[Field[CellState]] = [text("cell", lambda cell: cell.cell), *map(column, present)]
    return table(["states"], "States of runs by cell", fields, cells)


def _listed(unfinished: Sequence[RunRecord]) -> Bullets:
    items: list[Text] = []
    for record in unfinished[:MOST_UNFINISHED]:
        run, status, state = record.run, record.status, state_of(record)
        where = f" at step {status.step} of {status.total_steps}" if status.step else ""
        why = (f": {status.reason}",) if status.reason else ()
        items.append((f"{run.cell}, seed {run.seed} (", Code(run.id), "): ", Mark(state, state), where, *why))
    if len(unfinished) > MOST_UNFINISHED:
        items.append(f"{len(unfinished) - MOST_UNFINISHED} more, listed in the table below.")
    return Bullets(tuple((0, item) for item in items))


def runs_table(inputs: ReportInputs) -> Table:
    """One row for each run, with its numbers."""

    def column(metric: Metric) -> Field[RunRecord]:
        return measured(metric, lambda record: record.result.metrics.get(metric.name) if record.result else None)

    fields: list[Field[RunRecord]] = [
        text("run", lambda record: Code(record.run.id)),
        text("cell", lambda record: record.run.cell),
        plain_column("seed", lambda record: record.run.seed, 0),
        text("state", lambda record: Mark(state_of(record), state_of(record))),
        *(column(result.metric) for result in inputs.analysis.metrics),
    ]
    return table(["runs"], "Every run with its numbers", fields, inputs.records, run_anchor)
