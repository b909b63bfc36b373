"""What the figures of a search share: how trials are marked, values far off, and the legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.metrics.definitions import Metric
from harness.report.figures import style
from harness.report.figures.style import SMALL
from harness.report.verdicts import BAD, FORMS, INK, NEUTRAL
from harness.tuning.findings import Findings, TrialRow

LEAST = 2
"""Trials that were measured, below which there is nothing to compare."""
BEYOND = "An arrow with a number: beyond the axis."
AS_WRITTEN = "as written (trial 0)"
MARKS: Mapping[str, dict[str, Any]] = {
    "done": {"marker": "o", "markersize": 4, "color": NEUTRAL, "markerfacecolor": NEUTRAL},
    "violates a constraint": {"marker": "o", "markersize": 4, "color": NEUTRAL, "markerfacecolor": "white"},
    "pruned": {"marker": "v", "markersize": 4.5, "color": "#e69f00", "markerfacecolor": "white"},
    "diverged": {**FORMS["diverged"].dot(5), "markeredgewidth": 0.5},
    AS_WRITTEN: {"marker": "*", "markersize": 9, "color": INK, "markeredgewidth": 0.5},
    "best": {"marker": "D", "markersize": 6, "color": BAD, "markeredgewidth": 0.5},
}
"""What a trial is, as the legend says it -> properties of its marker, for `Axes.plot`."""


def drawable(findings: Findings, *metrics: Metric) -> list[TrialRow]:
    """The trials whose values can be drawn: finite, and positive where the axis is logarithmic."""

    def has(row: TrialRow, metric: Metric) -> bool:
        value = row.measured.get(metric.name, math.nan)
        return math.isfinite(value) and (value > 0 or metric.scale == "raw")

    return [row for row in findings.trials if row.outcome == "done" and all(has(row, each) for each in metrics)]


def kind(findings: Findings, row: TrialRow) -> str:
    """The mark of a trial that is done; the best one's mark is used even for trial 0."""
    if findings.best is not None and row.number == findings.best.number:
        return "best"
    if row.number == 0:
        return AS_WRITTEN
    return "done" if row.is_candidate else "violates a constraint"


def without_outliers(metric: Metric, values: Sequence[float]) -> list[float]:
    """The values without those so far off that they would squeeze the rest: beyond three quartile distances."""
    scaled = metric.scaled(values)
    low, high = np.quantile(scaled, [0.25, 0.75])
    reach = 3.0 * (high - low)
    near = [value for value, place in zip(values, scaled, strict=True) if low - reach <= place <= high + reach]
    return near if high > low else list(values)


def near(metric: Metric, rows: Sequence[TrialRow]) -> list[float]:
    """The values of the trials that an axis reaches to; others stand at its edge."""
    return without_outliers(metric, [row.measured[metric.name] for row in rows])


def put(
    axis: Axes, point: tuple[float, float], within: tuple[Sequence[float], Sequence[float]], of: str
) -> tuple[float, float]:
    """A trial's mark; one beyond the values of an axis stands at its edge as an arrow with its value.

    `of`: a key of MARKS. Returns where the mark stands.
    """
    look = MARKS[of]
    sides = [(value > max(own)) - (value < min(own)) for value, own in zip(point, within, strict=True)]
    if not any(sides):
        axis.plot(*point, **look, zorder={"best": 6, AS_WRITTEN: 5}.get(of, 3))
        return point
    limits = (axis.get_xlim(), axis.get_ylim())
    x, y = (value if not side else ends[side > 0] for value, side, ends in zip(point, sides, limits, strict=True))
    across, up = sides
    arrow = ("^" if up > 0 else "v") if up else (">" if across > 0 else "<")
    axis.plot(x, y, marker=arrow, markersize=5, color=look["color"], clip_on=False, zorder=7)
    beyond = ", ".join(f"{value:.3g}" for value, side in zip(point, sides, strict=True) if side)
    shift = (-5 if across > 0 else 5, -3 if up > 0 else 3)
    axis.annotate(
        beyond, (x, y), shift, textcoords="offset points", fontsize=SMALL, color=look["color"], annotation_clip=False,
        ha="right" if across > 0 else "left", va="top" if up > 0 else "bottom",
    )  # fmt: skip
    return x, y


def handles(kinds: Set[str]) -> list[Line2D]:
    """Entries of a legend for these marks."""
    return [style.handle(word, **look) for word, look in MARKS.items() if word in kinds]
