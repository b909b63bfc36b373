"""What trials measured: the history of a search, and several objectives against each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, combinations
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from harness.metrics.definitions import Metric
from harness.report.figures import style
from harness.report.figures.style import BASELINE, SMALL, SOFT
from harness.report.search.figures import marks
from harness.report.search.figures.marks import LEAST
from harness.report.verdicts import GOOD
from harness.tuning.findings import Findings, TrialRow

_LEFT, _FOOT = 0.5, 0.46
_HEAD, _HISTORY = 0.28, 1.8
_FRONT, _GAP = 2.2, 0.12
_BELOW = 6.0
"""Points below the axis where trials without a value are marked."""
_RING: dict[str, Any] = {
    "marker": "o", "markersize": 9, "color": GOOD, "markerfacecolor": "none", "markeredgewidth": 1.3,
}  # fmt: skip


def draw_history(findings: Findings, stem: Path) -> bool:
    """One panel for each objective, trials from left to right. False below two trials that were measured."""
    metrics = [metric for metric in findings.search.objectives if len(marks.drawable(findings, metric)) >= LEAST]
    if not metrics:
        return False
    lost = {row.outcome for row in findings.trials} & {"pruned", "diverged"}
    text = f"Dotted: what the weights as written measured. Tuning seeds and captions. {marks.BEYOND}"
    text += " Below: trials that measured nothing." if lost else ""
    kinds = {marks.kind(findings, row) for metric in metrics for row in marks.drawable(findings, metric)}
    line = style.handle("best so far", linestyle="-", color=GOOD, linewidth=1.4)
    entries = [*marks.handles(kinds | lost), line]
    head, panel = style.legend_height(entries), _HEAD + _HISTORY + _FOOT
    top = head + len(metrics) * panel + 0.1
    with style.drawing(stem, top, text) as figure:
        style.legend(figure, 0.06, entries)
        for place, metric in enumerate(metrics):
            down = head + 0.06 + place * panel
            style.heading(figure, down + 0.08, f"{style.titled(metric)}, {metric.better} is better")
            box = (_LEFT, down + _HEAD, style.WIDTH - _LEFT - 0.1, _HISTORY)
            _history(figure, style.placed(figure, box), findings, metric)
        style.written(figure, (_LEFT + style.WIDTH) / 2, top - 0.2, "trial", color=SOFT, ha="center")
    return True


def _history(figure: Figure, axis: Axes, findings: Findings, metric: Metric) -> None:
    rows = marks.drawable(findings, metric)
    near = marks.near(metric, rows)
    lost = [row for row in findings.trials if row.outcome in ("pruned", "diverged")]
    style.value_axis(axis, "y", metric, near)
    axis.set_xlim(-0.7, max(row.number for row in findings.trials) + 0.7)
    axis.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
    axis.tick_params(axis="x", pad=_BELOW + 4 if lost else 2)
    for row in rows:
        value = row.measured[metric.name]
        marks.put(axis, (row.number, value), ([row.number], near), marks.kind(findings, row))
        if row.number == 0:
            axis.axhline(value, color=BASELINE, linewidth=1, linestyle=":", zorder=1)
    numbers, values = best_so_far(metric, rows)
    if numbers:
        last = findings.trials[-1].number
        axis.step([*numbers, last], [*values, values[-1]], where="post", color=GOOD, linewidth=1.4)
    # Below the axis, so that these stand apart from every value.
    below = offset_copy(axis.get_xaxis_transform(), figure, y=-_BELOW, units="points")
    for row in lost:
        axis.plot(row.number, 0, transform=below, clip_on=False, zorder=4, **marks.MARKS[row.outcome])


def best_so_far(metric: Metric, rows: Sequence[TrialRow]) -> tuple[list[int], list[float]]:
    """Numbers of the trials and the best value among those that may be the best, up to each."""
    candidates = [row for row in rows if row.is_candidate]
    values = (row.measured[metric.name] for row in candidates)
    best = accumulate(values, min if metric.better == "lower" else max)
    return [row.number for row in candidates], list(best)


def draw_front(findings: Findings, stem: Path) -> bool:
    """One panel for each pair of objectives. False for a single one, or below two trials that were measured."""
    objectives = findings.search.objectives
    panels = [(pair, marks.drawable(findings, *pair)) for pair in combinations(objectives, 2)]
    panels = [(pair, rows) for pair, rows in panels if len(rows) >= LEAST]
    if not panels:
        return False
    text = "Ringed: no other trial is better in all objectives"
    text += "; the line is what they reach together." if len(objectives) == 2 else "."
    if any(len(marks.near(metric, rows)) < len(rows) for pair, rows in panels for metric in pair):
        text += f" {marks.BEYOND}"
    kinds = {marks.kind(findings, row) for _, rows in panels for row in rows}
    entries = [*marks.handles(kinds), style.handle("Pareto front", **_RING)]
    head, panel = style.legend_height(entries) + 0.12, _FRONT + _FOOT + _GAP
    with style.drawing(stem, head + len(panels) * panel, text) as figure:
        style.legend(figure, 0.06, entries)
        for place, (pair, rows) in enumerate(panels):
            box = (_LEFT + 0.05, head + place * panel, style.WIDTH - _LEFT - 0.17, _FRONT)
            _front(style.placed(figure, box), findings, pair, rows)
    return True


def _front(axis: Axes, findings: Findings, pair: tuple[Metric, Metric], rows: Sequence[TrialRow]) -> None:
    def point(row: TrialRow) -> tuple[float, float]:
        return row.measured[pair[0].name], row.measured[pair[1].name]

    near = marks.near(pair[0], rows), marks.near(pair[1], rows)
    for which, metric, values in zip("xy", pair, near, strict=True):
        style.value_axis(axis, which, metric, values)
        label = f"{style.titled(metric)}, {metric.better} is better"
        getattr(axis, f"set_{which}label")(style.fitted(label, 3.5 if which == "x" else _FRONT), color=SOFT)
    stands = {row.number: marks.put(axis, point(row), near, marks.kind(findings, row)) for row in rows}
    front = [row for row in findings.front if row.number in stands]
    for row in front:
        axis.plot(*stands[row.number], **_RING, zorder=4, linestyle="none", clip_on=False)
        axis.annotate(
            str(row.number), stands[row.number], (6, 5), textcoords="offset points", fontsize=SMALL, color=SOFT,
            zorder=7, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.3}, annotation_clip=False,
        )  # fmt: skip
    if len(findings.search.objectives) == 2 and front:
        x, y = zip(*map(point, front), strict=True)
        axis.plot(x, y, color=GOOD, linewidth=0.9, zorder=2, drawstyle="steps-post")
