"""What the figures of a search share: how trials are marked, and the axis of an objective. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.metrics.definitions import Metric
from harness.report.figures import style
from harness.report.figures.style import BAD, INK, NEUTRAL, SMALL
from harness.tuning.findings import Findings, TrialRow

Look = dict[str, Any]
"""Properties of a marker, for `Axes.plot`."""
DONE: Look = {"marker": "o", "markersize": 4, "color": NEUTRAL, "markerfacecolor": NEUTRAL}
BROKEN = DONE | {"markerfacecolor": "white"}
PRUNED: Look = {"marker": "v", "markersize": 4.5, "color": "#e69f00", "markerfacecolor": "white"}
DIVERGED: Look = {"marker": "X", "markersize": 5, "color": "#cc79a7", "markeredgewidth": 0.5}
WRITTEN: Look = {"marker": "*", "markersize": 9, "color": INK, "markeredgewidth": 0.5}
BEST: Look = {"marker": "D", "markersize": 6, "color": BAD, "markeredgewidth": 0.5}
BEYOND = "An arrow with a number: beyond the axis."
_COLUMNS = 4
_FAR = 3.0
"""Distances between the quartiles beyond which a value is drawn at the edge."""
_WORDS = ("done", "breaks a constraint", "pruned", "diverged", "as written (trial 0)", "best")
_LOOKS = (DONE, BROKEN, PRUNED, DIVERGED, WRITTEN, BEST)


def drawable(found: Findings, metric: Metric) -> list[TrialRow]:
    """The trials whose value can be drawn: finite, and positive where the axis is logarithmic."""
    rows = [row for row in found.trials if row.outcome == "done" and metric.name in row.measured]
    return [row for row in rows if _good(metric, row.measured[metric.name])]


def _good(metric: Metric, value: float) -> bool:
    return math.isfinite(value) and (value > 0 or metric.scale == "raw")


def look(found: Findings, row: TrialRow) -> Look:
    """How a trial that is done is marked; the best one's mark wins."""
    if found.best is not None and row.number == found.best.number:
        return BEST | {"zorder": 6}
    if row.number == 0:
        return WRITTEN | {"zorder": 5}
    return (DONE if row.is_candidate else BROKEN) | {"zorder": 3}


def ruler(axis: Axes, which: str, metric: Metric, values: Sequence[float]) -> None:
    """An axis of the metric over these values."""
    low, high = min(values), max(values)
    if metric.scale == "log":
        style.log_axis(axis, which, values)
        return
    edge = 0.08 * (high - low) or abs(high) * 0.02 or 1.0
    getattr(axis, f"set_{which}lim")(low - edge, high + edge)
    steps = MaxNLocator(4 if which == "y" else 6, steps=[1, 2, 2.5, 5, 10])
    (axis.xaxis if which == "x" else axis.yaxis).set_major_locator(steps)


def fence(metric: Metric, values: Sequence[float]) -> list[float]:
    """The values without those so far off that they would squeeze the rest: beyond three quartile distances."""
    scaled = metric.scaled(values)
    low, high = np.quantile(scaled, [0.25, 0.75])
    reach = _FAR * (high - low)
    near = [value for value, place in zip(values, scaled, strict=True) if low - reach <= place <= high + reach]
    return near if high > low else list(values)


def put(axis: Axes, place: float, value: float, within: Sequence[float], look: Look) -> None:
    """A trial's mark; one beyond the axis upwards or downwards stands at its edge as an arrow with its value."""
    put_both(axis, (place, value), ([place], within), look)


def put_both(
    axis: Axes, point: tuple[float, float], within: tuple[Sequence[float], Sequence[float]], look: Look
) -> tuple[float, float]:
    """The same where either axis may end before the value; returns where the mark stands."""
    sides = [(value > max(own)) - (value < min(own)) for value, own in zip(point, within, strict=True)]
    if not any(sides):
        axis.plot(*point, **look)
        return point
    limits = (axis.get_xlim(), axis.get_ylim())
    x, y = (value if not side else ends[side > 0] for value, side, ends in zip(point, sides, limits, strict=True))
    across, up = sides
    arrow = ("^" if up > 0 else "v") if up else (">" if across > 0 else "<")
    axis.plot(x, y, marker=arrow, markersize=5, color=look["color"], clip_on=False, zorder=7)
    told = ", ".join(f"{value:.3g}" for value, side in zip(point, sides, strict=True) if side)
    shift = (-5 if across > 0 else 5, -3 if up > 0 else 3)
    axis.annotate(
        told, (x, y), shift, textcoords="offset points", fontsize=SMALL, color=look["color"], annotation_clip=False,
        ha="right" if across > 0 else "left", va="top" if up > 0 else "bottom",
    )  # fmt: skip
    return x, y


def handles(looks: Sequence[Look], more: Sequence[Line2D] = ()) -> list[Line2D]:
    """Entries of a legend: marks that are used, then others."""
    known = [style.handle(word, **each) for word, each in zip(_WORDS, _LOOKS, strict=True) if each in looks]
    return [*known, *more]


def legend_height(entries: Sequence[Line2D]) -> float:
    """Inches."""
    return math.ceil(len(entries) / _COLUMNS) * style.LINE * 1.45 + 0.04


def legend(figure: Figure, top: float, entries: Sequence[Line2D]) -> None:
    """What the marks mean, `top` inches below the upper edge."""
    width, height = figure.get_size_inches()
    figure.legend(
        handles=entries, ncols=min(_COLUMNS, len(entries)), loc="upper left", fontsize=SMALL, frameon=False,
        bbox_to_anchor=(0.05 / width, 1 - top / height), borderpad=0, borderaxespad=0, handletextpad=0.4,
        columnspacing=1.2, handlelength=1.2,
    )  # fmt: skip


def used(found: Findings, rows: Sequence[TrialRow]) -> list[Look]:
    """The looks that these trials have."""
    looks = [look(found, row) for row in rows]
    return [{key: value for key, value in each.items() if key != "zorder"} for each in looks]
