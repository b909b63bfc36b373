"""What quality costs: seconds beside images, and what every cell had reached in the baseline's time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from harness.analysis.from_records import analyse_records, table_of
from harness.analysis.looks import Looks
from harness.analysis.results import Analysis
from harness.analysis.table import RunTable
from harness.design.factors import Factor
from harness.metrics.definitions import find_metric
from harness.runs.record import Result, RunRecord, state_of

SPEED, FLOPS = "s_per_kimg", "gflops_per_step"
SCRIPT_SECONDS = "script_seconds"
"""What a run by a script has in the place of SPEED: of its process, from start to end."""
_SAME_WORK = 0.005
"""Relative difference in arithmetic below which two cells are taken to do the same."""


@dataclass(frozen=True)
class CellCost:
    """Means over the finished runs of one cell."""

    cell: str
    runs: int
    means: Mapping[str, float]
    """Cost by name, such as s_per_kimg: seconds per 1,000 images, the median of a run after its first steps."""
    ratio: float | None
    """Seconds per image over the baseline's, of a script those of a whole run; seed by seed, or of all runs where no
    seed is shared."""


def costs(records: Sequence[RunRecord], baseline: str) -> tuple[CellCost, ...]:
    """By cell, in the order of the records. Seeds of the baseline alone, trained at another time, are left out."""
    others = {record.run.seed for record in records if record.run.cell != baseline}
    apart = others.isdisjoint(record.run.seed for record in records if record.run.cell == baseline)
    runs: dict[str, dict[int, Mapping[str, float]]] = {record.run.cell: {} for record in records}
    for record in records:
        if record.result and state_of(record) == "done" and (record.run.seed in others or apart):
            runs[record.run.cell][record.run.seed] = record.result.cost
    base = runs.get(baseline, {})
    made = []
    for cell, own in runs.items():
        names = dict.fromkeys(name for cost in own.values() for name in cost)
        means = {name: float(np.mean([cost[name] for cost in own.values() if name in cost])) for name in names}
        made.append(CellCost(cell, len(own), means, _ratio(own, base)))
    return tuple(made)


def timing_noise(cells: Sequence[CellCost]) -> float | None:
    """The largest relative difference in time of two cells that do the same arithmetic: noise of the machine."""
    alike = [
        (one.ratio, other.ratio)
        for one, other in combinations(cells, 2)
        if one.ratio and other.ratio and _same_work(one, other)
    ]
    return max((max(pair) / min(pair) - 1 for pair in alike), default=None)


def _ratio(own: Mapping[int, Mapping[str, float]], base: Mapping[int, Mapping[str, float]]) -> float | None:
    """Of geometric means, over shared seeds if there are any; between runs by a script or between others."""
    for measure in (SPEED, SCRIPT_SECONDS):
        ours, theirs = ({seed: it[measure] for seed, it in runs.items() if it.get(measure)} for runs in (own, base))
        if ours and theirs:
            break
    if pairs := [ours[seed] / theirs[seed] for seed in ours if seed in theirs]:
        return float(np.exp(np.mean(np.log(pairs))))
    if not ours or not theirs:
        return None
    return float(np.exp(np.mean(np.log([*ours.values()])) - np.mean(np.log([*theirs.values()]))))


def equal_time(
    records: Sequence[RunRecord],
    baseline: str,
    toggles: Sequence[str],
    margins: Mapping[str, float] | None = None,
    factors: Sequence[Factor] = (),
    looks: Looks | None = None,
) -> Analysis | None:
    """The comparison after as many seconds of training as the baseline took, in place of as many images.

    A cell that takes twice as long per image is read at half of the images, between its snapshots by a straight line
    (of logarithms for a distance). A cell that is faster than the baseline is read at its end, which favours the
    baseline. A script leaves no images of its beginning: a cell that had reached no snapshot by then has no value.
    Cells that trained alike and do the same work are read where the first of them is: their times differ by chance.
    None when runs have no speed or fewer than two snapshots.
    """
    ratios = _shared_ratios(costs(records, baseline), table_of(records, toggles, factors), baseline)
    early = [_early(record, ratios[record.run.cell]) for record in records]
    if not any(record.result and record.result.metrics for record in early):
        return None
    return analyse_records(early, baseline, toggles, margins, factors, looks)


def _shared_ratios(cells: Sequence[CellCost], table: RunTable, baseline: str) -> dict[str, float | None]:
    """By cell, one for all that trained alike and do the same work: the baseline's, or that of the first."""
    by_name = {cost.cell: cost for cost in cells}
    ratios = {cost.cell: cost.ratio for cost in cells}
    base = table.place(baseline)
    for cell, twin in zip(table.cells, table.twins, strict=True):
        first = by_name[baseline if twin == table.twins[base] else table.cells[twin].name]
        if _same_work(by_name[cell.name], first):
            ratios[cell.name] = first.ratio
    return ratios


def _same_work(one: CellCost, other: CellCost) -> bool:
    """Whether two cells do the same arithmetic, as far as it is known."""
    has = FLOPS in one.means and FLOPS in other.means
    return has and abs(one.means[FLOPS] / other.means[FLOPS] - 1) < _SAME_WORK


def _early(record: RunRecord, ratio: float | None) -> RunRecord:
    """The run with the metrics that it had when the baseline's time was used up; without a result if unknown."""
    result = record.result
    if not result or state_of(record) != "done":
        return record
    share = 1 / max(1.0, ratio) if ratio else 0.0
    values = {name: _at(record, name, share) for name in result.metrics}
    metrics = {name: value for name, value in values.items() if value is not None}
    cards = {name: result.cards[name] for name in metrics if name in result.cards}
    # Runs that came to the same weights are the same at this share of them, too, and not at another.
    weights = result.weights and f"{result.weights} at {share}"
    return replace(record, result=Result(metrics, cards, result.cost, weights=weights))


def _at(record: RunRecord, name: str, share: float) -> float | None:
    """The metric at that share of the run's images; None where its snapshots do not tell it."""
    key = f"metrics/{name}"
    curve = [(point.kimg, point.values[key]) for point in record.points if key in point.values]
    metric = find_metric(name)
    if len(curve) < 2 or not metric or not share:
        return None
    kimg, values = (np.array(column) for column in zip(*curve, strict=True))
    if share * kimg[-1] < kimg[0]:
        return None
    if metric.scale == "log" and not (values > 0).all():
        return None
    return float(metric.unscaled(np.interp(share * kimg[-1], kimg, metric.scaled(values))))
