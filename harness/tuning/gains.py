"""Whether tuning explains what a cell gains over another: both as written, and both with the weights found for each.

No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.analysis.from_records import analyse_records
from harness.analysis.results import Analysis
from harness.runs.record import RunRecord, state_of
from harness.runs.snapshot import Snapshot
from harness.tuning.findings import TUNED, WRITTEN, Findings, Gain


def gains(found: Findings, others: Sequence[Findings]) -> tuple[Gain, ...]:
    """Of one search over each of the others, by their runs under fresh seeds; those that are there."""
    return tuple(gain for other in others if (gain := _gain(found, other)))


def _gain(found: Findings, other: Findings) -> Gain | None:
    written, tuned = (_compared(found, other, kind) for kind in (WRITTEN, TUNED))
    if written is None or tuned is None:
        return None
    return Gain(found.search.cell.name, other.search.cell.name, (found.done, other.done), written, tuned)


def _compared(found: Findings, other: Findings, kind: str) -> Analysis | None:
    cell, baseline = found.search.cell.name, other.search.cell.name
    mine, theirs = list(_records(found, kind, (cell,))), list(_records(other, kind, ()))
    if not all(any(state_of(record) == "done" for record in each) for each in (mine, theirs)):
        return None
    return analyse_records([*theirs, *mine], baseline, (cell,), found.search.study.margins)


def _records(found: Findings, kind: str, toggles: tuple[str, ...]) -> Iterator[RunRecord]:
    """The cell's runs under fresh seeds. Where nothing was better, the weights found are those as written."""
    search, best = found.search, found.best
    is_written = kind == WRITTEN or best is None or best.number == 0
    values = search.written if is_written or best is None else best.values
    for record in Snapshot(search.study.root, search.fresh_runs(values, kind)).records:
        yield replace(record, run=replace(record.run, cell=search.cell.name, toggles=toggles))
