"""The section on runs: every planned one, in whatever state. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import CellState
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Column,
    Details,
    Mark,
    Paragraph,
    Row,
    Section,
    Table,
    Text,
)
from harness.report.grids import Field, folded, numeric, table, text
from harness.report.material import Material, run_anchor
from harness.runs.record import STATES, RunRecord, State, state_of

_MOST_FATES = 50


def runs(material: Material) -> Section:
    counts = material.analysis.cells
    total = sum(sum(cell.states.values()) for cell in counts)
    unfinished = [record for record in material.records if state_of(record) != "done"]
    blocks: list[Block] = []
    if unfinished:
        order = [state for state in STATES if any(cell.states.get(state) for cell in counts)]
        blocks += [folded(_states(counts, order), "cells by the state of their runs"), *_fates(unfinished)]
    else:
        blocks.append(Paragraph(f"All {wording.runs(total)} of {len(counts)} cells are done."))
    every = runs_table(material)
    blocks.append(Details(f"All {wording.runs(len(every.rows))} with their numbers", (every,)))
    return Section("Runs", tuple(blocks), "runs")


def _states(cells: Sequence[CellState], order: Sequence[State]) -> Table:
    """How many of a cell's planned runs ended how: `1 of 3`."""
    fields: list[Field[CellState]] = [text("cell", lambda cell: cell.cell), *map(_rate, order)]
    return table(["states"], "States of runs by cell", fields, cells)


def _rate(state: State) -> Field[CellState]:
    return numeric(state, lambda cell: wording.rate(cell.states, state), lambda cell: cell.states.get(state, 0))


def _fates(unfinished: Sequence[RunRecord]) -> list[Block]:
    items = [(0, _fate(record)) for record in unfinished[:_MOST_FATES]]
    more = len(unfinished) - _MOST_FATES
    return [Bullets((*items, *([(0, f"{more} more, listed in the table below.")] if more > 0 else [])))]


def _fate(record: RunRecord) -> Text:
    status, state = record.status, state_of(record)
    where = f" at step {status.step} of {status.total_steps}" if status.step else ""
    return (f"{record.run.cell}, seed {record.run.seed} (", Code(record.run.id), "): ", Mark(state, state), where) + (
        (f": {status.reason}",) if status.reason else ()
    )


def runs_table(material: Material) -> Table:
    """A row a run, with its numbers."""
    metrics = [result.metric for result in material.analysis.metrics]
    fields: list[Field[RunRecord]] = [
        text("run", lambda record: Code(record.run.id)),
        text("cell", lambda record: record.run.cell),
        numeric("seed", lambda record: str(record.run.seed), lambda record: record.run.seed),
        text("state", lambda record: Mark(state_of(record), state_of(record))),
        *map(_number, metrics),
    ]
    rows = tuple(
        Row(tuple(tell(record) for _, tell in fields), run_anchor(place))
        for place, record in enumerate(material.records, 1)
    )
    return Table(tuple(column for column, _ in fields), rows, "Every run with its numbers", "runs")


def _number(metric: Metric) -> Field[RunRecord]:
    def tell(record: RunRecord) -> Cell:
        value = record.result.metrics.get(metric.name) if record.result else None
        return Cell(wording.MISSING if value is None else wording.number(metric, value), value)

    return Column(metric.title), tell
