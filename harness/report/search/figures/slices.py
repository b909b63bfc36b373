"""One objective against each weight, a panel a weight. No torch here."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from harness.metrics.definitions import Metric
from harness.report.figures import style
from harness.report.figures.style import BASELINE, SMALL
from harness.report.search.figures import marks
from harness.report.search.figures.history import LEAST
from harness.study.search_space import Parameter
from harness.tuning.findings import Findings

_COLUMNS, _PANEL, _NAME, _FOOT = 3, 1.0, 0.2, 0.26
_LEFT, _GAP, _HEAD = 0.46, 0.14, 0.3


def draw(found: Findings, metric: Metric, stem: Path) -> bool:
    """Weights on logarithmic axes over their ranges. False below two trials that were measured."""
    rows = marks.drawable(found, metric)
    if len(rows) < LEAST:
        return False
    weights = found.search.parameters
    columns = min(_COLUMNS, len(weights))
    width = (style.WIDTH - _LEFT - 0.1 - _GAP * (columns - 1)) / columns
    entries = marks.handles(marks.used(found, rows))
    head = _HEAD + marks.legend_height(entries)
    text = f"Dotted: as written. All weights change at once, so a panel shows no weight's own effect. {marks.BEYOND}"
    with style.drawing(stem) as figure:
        height = head + math.ceil(len(weights) / columns) * (_NAME + _PANEL + _FOOT) + 0.02
        figure.set_size_inches(style.WIDTH, height + style.note_height(0.05, text) + 0.05)
        title = f"{style.titled(metric)}, {metric.better} is better"
        style.written(figure, 0.1, 0.06, title, fontsize=style.MEDIUM, weight="bold")
        marks.legend(figure, _HEAD, entries)
        for place, weight in enumerate(weights):
            row, column = divmod(place, columns)
            top = head + row * (_NAME + _PANEL + _FOOT) + _NAME
            axis = style.placed(figure, (_LEFT + column * (width + _GAP), top, width, _PANEL))
            _panel(axis, found, metric, weight)
            axis.tick_params(axis="y", labelleft=column == 0, left=column == 0)
            axis.set_title(style.fitted(weight.label, width), loc="left", fontsize=SMALL)
        style.note(figure, 0.05, height, text)
    return True


def _panel(axis: Axes, found: Findings, metric: Metric, weight: Parameter) -> None:
    rows = marks.drawable(found, metric)
    within = marks.fence(metric, [row.measured[metric.name] for row in rows])
    marks.ruler(axis, "y", metric, within)
    style.log_axis(axis, "x", [weight.low, weight.high])
    axis.xaxis.set_major_locator(ticks(weight))
    axis.axvline(weight.written, color=BASELINE, linewidth=1, linestyle=":", zorder=1)
    for row in rows:
        marks.put(axis, row.values[weight.name], row.measured[metric.name], within, marks.look(found, row))


def ticks(weight: Parameter) -> FixedLocator:
    """The ends of the range and the written value, the one that all else is held against."""
    return FixedLocator(sorted({weight.low, weight.written, weight.high}))
