"""What quality costs: seconds beside images, and what every cell had reached in the baseline's time. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.of_records import analyse_records
from harness.analysis.results import Analysis
from harness.metrics.definitions import Metric, find
from harness.records import Result, RunRecord, state_of

SPEED = "s_per_kimg"


@dataclass(frozen=True)
class CellCost:
    """Means over the finished runs of one cell."""

    cell: str
    runs: int
    means: Mapping[str, float]
    """Cost by name, such as s_per_kimg: seconds per 1,000 images, the median of a run after its first steps."""
    ratio: float | None
    """Seconds per image over the baseline's."""


def costs(records: Sequence[RunRecord], baseline: str) -> tuple[CellCost, ...]:
    """By cell, in the order of the records."""
    means = {cell: _means(records, cell) for cell in dict.fromkeys(record.run.cell for record in records)}
    base = means.get(baseline, (0, {}))[1].get(SPEED)
    return tuple(
        CellCost(cell, runs, found, found[SPEED] / base if base and SPEED in found else None)
        for cell, (runs, found) in means.items()
    )


def _means(records: Sequence[RunRecord], cell: str) -> tuple[int, dict[str, float]]:
    found = [r.result.cost for r in records if r.run.cell == cell and r.result and state_of(r) == "done"]
    names = dict.fromkeys(name for cost in found for name in cost)
    return len(found), {name: float(np.mean([cost[name] for cost in found if name in cost])) for name in names}


def equal_time(
    records: Sequence[RunRecord], baseline: str, toggles: Sequence[str], margins: Mapping[str, float] | None = None
) -> Analysis | None:
    """The comparison after as many seconds of training as the baseline took, in place of as many images.

    A cell that takes twice as long per image is read at half of the images, between its snapshots by a straight line
    (of logarithms for a distance). A cell that is faster than the baseline is read at its end, which favours the
    baseline. None when runs have no speed or fewer than two snapshots.
    """
    ratios = {cost.cell: cost.ratio for cost in costs(records, baseline)}
    early = [_early(record, ratios[record.run.cell]) for record in records]
    if not any(record.result and record.result.metrics for record in early):
        return None
    return analyse_records(early, baseline, toggles, margins)


def _early(record: RunRecord, ratio: float | None) -> RunRecord:
    """The run with the metrics that it had when the baseline's time was used up; without a result if unknown."""
    result = record.result
    if not result or state_of(record) != "done":
        return record
    share = 1 / max(1.0, ratio) if ratio else 0.0
    known = {name: _at(record, name, share) for name in result.metrics if find(name)}
    metrics = {name: value for name, value in known.items() if value is not None}
    return replace(record, result=Result(metrics, {name: result.cards[name] for name in metrics}, result.cost))


def _at(record: RunRecord, name: str, share: float) -> float | None:
    """The metric at that share of the run's images."""
    key = f"metrics/{name}"
    curve = [(point.kimg, point.values[key]) for point in record.points if key in point.values]
    metric = find(name)
    if len(curve) < 2 or not metric or not share:
        return None
    kimg, values = (np.array(column) for column in zip(*curve, strict=True))
    return _between(metric, kimg, values, share * kimg[-1])


def _between(metric: Metric, kimg: np.ndarray, values: np.ndarray, wanted: float) -> float | None:
    if metric.scale == "log":
        return float(np.exp(np.interp(wanted, kimg, np.log(values)))) if (values > 0).all() else None
    return float(np.interp(wanted, kimg, values))
