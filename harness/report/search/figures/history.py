"""How a search went: what each trial measured, and the best so far. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from harness.metrics.definitions import Metric
from harness.report.figures import style
from harness.report.figures.style import BASELINE, GOOD, SOFT
from harness.report.search.figures import marks
from harness.tuning.findings import Findings, TrialRow

LEAST = 2
"""Trials that were measured, below which nothing went anywhere."""
_LEFT, _HEAD, _PANEL, _FOOT = 0.5, 0.28, 1.8, 0.46
_RUG = 6.0
"""Points below the axis where trials without a value are marked."""


def draw(found: Findings, stem: Path) -> bool:
    """A panel an objective, trials from left to right. False below two trials that were measured."""
    metrics = [metric for metric in found.search.objectives if len(marks.drawable(found, metric)) >= LEAST]
    if not metrics:
        return False
    panel = _HEAD + _PANEL + _FOOT
    text = _meaning(found)
    rows = [row for metric in metrics for row in marks.drawable(found, metric)]
    line = style.handle("best so far", linestyle="-", color=GOOD, linewidth=1.4)
    entries = marks.handles([*marks.used(found, rows), *_without_value(found)], [line])
    head = marks.legend_height(entries)
    with style.drawing(stem) as figure:
        top = head + len(metrics) * panel + 0.1
        figure.set_size_inches(style.WIDTH, top + style.note_height(0.05, text) + 0.05)
        marks.legend(figure, 0.06, entries)
        for place, metric in enumerate(metrics):
            down = head + 0.06 + place * panel
            title = f"{style.titled(metric)}, {metric.better} is better"
            style.written(figure, 0.1, down + 0.08, title, fontsize=style.MEDIUM, weight="bold")
            box = (_LEFT, down + _HEAD, style.WIDTH - _LEFT - 0.1, _PANEL)
            _panel(figure, style.placed(figure, box), found, metric)
        style.written(figure, (_LEFT + style.WIDTH) / 2, top - 0.2, "trial", color=SOFT, ha="center")
        style.note(figure, 0.05, top, text)
    return True


def _meaning(found: Findings) -> str:
    lost = " Below: trials that were given up." if _without_value(found) else ""
    return f"Dotted: what the weights as written measured. Tuning seeds and captions. {marks.BEYOND}{lost}"


def _without_value(found: Findings) -> list[marks.Look]:
    outcomes = {row.outcome for row in found.trials}
    pairs = (("pruned", marks.PRUNED), ("diverged", marks.DIVERGED))
    return [look for outcome, look in pairs if outcome in outcomes]


def _panel(figure: Figure, axis: Axes, found: Findings, metric: Metric) -> None:
    rows = marks.drawable(found, metric)
    within = marks.fence(metric, [row.measured[metric.name] for row in rows])
    marks.ruler(axis, "y", metric, within)
    axis.set_xlim(-0.7, max(row.number for row in found.trials) + 0.7)
    axis.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
    axis.tick_params(axis="x", pad=_RUG + 4 if _without_value(found) else 2)
    for row in rows:
        marks.put(axis, row.number, row.measured[metric.name], within, marks.look(found, row))
        if row.number == 0:
            axis.axhline(row.measured[metric.name], color=BASELINE, linewidth=1, linestyle=":", zorder=1)
    numbers, values = so_far(metric, rows)
    if numbers:
        axis.step([*numbers, found.trials[-1].number], [*values, values[-1]], where="post", color=GOOD, linewidth=1.4)
    for row in found.trials:
        if row.outcome in ("pruned", "diverged"):
            look = marks.PRUNED if row.outcome == "pruned" else marks.DIVERGED
            # Below the axis, so that these stand apart from every value.
            below = axis.get_xaxis_transform() + ScaledTranslation(0, -_RUG / 72, figure.dpi_scale_trans)
            axis.plot(row.number, 0, transform=below, clip_on=False, zorder=4, **look)


def so_far(metric: Metric, rows: Sequence[TrialRow]) -> tuple[list[int], list[float]]:
    """Numbers of the trials and the best value among those that may be the best, up to each."""
    choose = min if metric.better == "lower" else max
    numbers: list[int] = []
    values: list[float] = []
    for row in rows:
        if row.is_candidate:
            value = row.measured[metric.name]
            numbers.append(row.number)
            values.append(choose(values[-1], value) if values else value)
    return numbers, values
