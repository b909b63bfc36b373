"""Parallel coordinates: a row a weight, a line a trial, coloured by the objective. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.metrics.definitions import Floats, Metric
from harness.report import wording
from harness.report.figures import style
from harness.report.figures.style import BAD, INK, RULE, SOFT
from harness.report.search.figures import marks
from harness.report.search.figures.history import LEAST
from harness.tuning.findings import Findings, TrialRow

_ROW, _HEAD, _NAMES = 0.3, 0.3, 1.3
_COLOURS = "cividis"
_BEYOND = 0.015
"""Where values far off stand, in lengths of a row."""


def draw(found: Findings, metric: Metric, stem: Path) -> bool:
    """Each row is a logarithmic axis over a weight's range, the last one the objective. False below two trials."""
    rows = marks.drawable(found, metric)
    if len(rows) < LEAST:
        return False
    names = [
        *(style.fitted(each.label, _NAMES) for each in found.search.parameters),
        style.fitted(metric.title, _NAMES),
    ]
    left = 0.16 + max(map(style.width_of, names))
    text = f"Each row runs from its lowest to its highest value. Colour by rank: the darker, the better {metric.title}."
    near = marks.fence(metric, [row.measured[metric.name] for row in rows])
    if len(near) < len(rows):
        text += " An arrow: values beyond the row, up to the number behind it."
    entries = _handles(found, rows)
    head = marks.legend_height(entries)
    with style.drawing(stem) as figure:
        height = head + _HEAD + len(names) * _ROW
        figure.set_size_inches(style.WIDTH, height + style.note_height(0.05, style.plain(text)) + 0.08)
        marks.legend(figure, 0.06, entries)
        axis = style.placed(figure, (left + 0.42, head + 0.15, style.WIDTH - left - 1.0, len(names) * _ROW))
        _frame(axis, names)
        _lines(axis, found, metric, rows)
        _ends(figure, axis, found, metric, rows)
        style.note(figure, 0.05, height, style.plain(text))
    return True


def _handles(found: Findings, rows: Sequence[TrialRow]) -> list[Any]:
    """Of the two lines that stand out, where they are drawn."""
    own = {row.number for row in rows}
    best = found.best.number if found.best else None
    lines = [style.handle("as written (trial 0)", linestyle="--", color=INK, linewidth=1.4)] if 0 in own else []
    shown = best in own and best != 0
    return [*lines, *([style.handle(f"best (trial {best})", linestyle="-", color=BAD, linewidth=2)] if shown else [])]


def _frame(axis: Axes, names: Sequence[str]) -> None:
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(len(names) - 0.6, -0.4)
    axis.set_yticks([])
    axis.set_xticks([])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.grid(visible=False)
    for place, name in enumerate(names):
        axis.plot((0, 1), (place, place), color=RULE, linewidth=0.8, zorder=1)
        where: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False, "fontsize": style.SMALL}
        axis.annotate(name, (0, place), (-36, 0), ha="right", va="center", color=INK, **where)


def _ends(figure: Figure, axis: Axes, found: Findings, metric: Metric, rows: Sequence[TrialRow]) -> None:
    """Lowest and highest value of each row, at its ends."""
    told = [(f"{each.low:.3g}", f"{each.high:.3g}") for each in found.search.parameters]
    measured = [row.measured[metric.name] for row in rows]
    near = marks.fence(metric, measured)
    ends = [wording.number(metric, end) for end in (min(near), max(near))]
    below = f"\n← {wording.number(metric, min(measured))}" if min(measured) < min(near) else ""
    above = f"\n→ {wording.number(metric, max(measured))}" if max(measured) > max(near) else ""
    told.append((ends[0] + below, ends[1] + above))
    where: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False, "fontsize": style.SMALL}
    for place, (low, high) in enumerate(told):
        axis.annotate(low, (0, place), (-4, 0), ha="right", va="center", color=SOFT, **where)
        axis.annotate(high, (1, place), (4, 0), ha="left", va="center", color=SOFT, **where)


def _lines(axis: Axes, found: Findings, metric: Metric, rows: Sequence[TrialRow]) -> None:
    measured = [row.measured[metric.name] for row in rows]
    values = metric.scaled(measured)
    shares = places(metric, measured)
    badness = ranks(values if metric.better == "lower" else -values)
    best = found.best.number if found.best else None
    # The best on top, and of the others the better ones.
    for place in np.argsort(-badness, kind="stable").tolist():
        row, heights = rows[place], range(len(found.search.parameters) + 1)
        look: dict[str, Any] = {"color": colormaps[_COLOURS](0.9 * badness[place]), "linewidth": 0.9, "alpha": 0.8}
        if row.number == best:
            look = {"color": BAD, "linewidth": 2.0, "zorder": 5}
        elif row.number == 0:
            look = {"color": INK, "linewidth": 1.4, "linestyle": "--", "zorder": 4}
        axis.plot([*positions(found, row), shares[place]], heights, **look)
        if not 0 <= shares[place] <= 1:
            arrow = ">" if shares[place] > 1 else "<"
            axis.plot(shares[place], heights[-1], arrow, color=look["color"], markersize=4.5, clip_on=False, zorder=6)


def places(metric: Metric, measured: Sequence[float]) -> Floats:
    """0 for the lowest value, 1 for the highest; those far off, which would squeeze the rest, a little beyond."""
    values, near = metric.scaled(measured), metric.scaled(marks.fence(metric, measured))
    shares = (values - near.min()) / (np.ptp(near) or 1.0)
    found: Floats = np.clip(shares, -_BEYOND, 1 + _BEYOND)
    return found


def positions(found: Findings, row: TrialRow) -> list[float]:
    """Where each weight lies within its range, on a logarithmic scale: 0 its lowest, 1 its highest value."""
    return [
        math.log(row.values[each.name] / each.low) / math.log(each.high / each.low) for each in found.search.parameters
    ]


def ranks(values: Floats) -> Floats:
    """0 for the lowest value, 1 for the highest: a few bad trials leave the colours to the rest."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return order / max(len(values) - 1, 1)
