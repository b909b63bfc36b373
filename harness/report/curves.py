"""Learning curves of single seeds for the page: which runs, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.results import Analysis, MetricResult
from harness.report.document.model import Curves
from harness.report.figures import curves as drawn
from harness.report.matrix import subjects
from harness.report.wording import along
from harness.runs.record import RunRecord, state_of
from harness.text import one_line, quantity

MOST_POINTS = 20_000
"""Of all curves of a page together."""


def curves(analysis: Analysis, records: Sequence[RunRecord]) -> Curves | None:
    """As many runs as MOST_POINTS hold, those of the first seeds first. None where no run was measured on the way."""
    ordered = sorted(records, key=lambda record: (record.run.seed, record.run.cell != analysis.baseline))
    room, left_out = MOST_POINTS, 0
    metrics: list[dict[str, Any]] = []
    for result in analysis.headlines:
        runs: list[dict[str, Any]] = []
        for record in ordered:
            line = drawn.curve(record, result.metric)
            if len(line[0]) > room and runs:
                left_out += 1
            elif len(line[0]):
                room -= len(line[0])
                runs.append(_run(record, line))
        if runs:
            metrics.append(_metric(result) | {"runs": runs})
    if not metrics:
        return None
    names = list(dict.fromkeys(run["cell"] for metric in metrics for run in metric["runs"]))
    best = [subject.name for subject in subjects(analysis) if subject.name in names]
    others = [name for name in names if name != analysis.baseline]
    packed = {
        "along": along(records),
        "first": [one_line(analysis.baseline), *map(one_line, [*best, *others][:1])],
        "metrics": metrics,
    }
    return Curves(packed, f"{quantity(left_out, 'curve')} have no room here." if left_out else "")


def _metric(result: MetricResult) -> dict[str, Any]:
    metric = result.metric
    return {"name": metric.name, "title": metric.title, "better": metric.better, "logarithmic": metric.scale == "log"}


def _run(record: RunRecord, line: drawn.Curve) -> dict[str, Any]:
    points = [[float(f"{number:.5g}") for number in pair] for pair in zip(*map(list, line), strict=True)]
    return {"cell": one_line(record.run.cell), "seed": record.run.seed, "state": state_of(record), "points": points}
