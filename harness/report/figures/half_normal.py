"""Half-normal plot of an unreplicated factorial: contrasts that are noise lie on a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy import special

from harness.analysis.results import Lenth, MetricResult
from harness.metrics.definitions import Floats
from harness.report import wording
from harness.report.figures import style
from harness.report.figures.marks import describe
from harness.report.figures.style import SOFT
from harness.report.verdicts import NEUTRAL

LABELS = 6
"""Contrasts that are named at most: those beyond the margin of error, else the three largest."""
_ELSE = 3  # of contrasts within the margin, the largest are named
_HEIGHT = 2.7


def draw(result: MetricResult, stem: Path) -> bool:
    """False where there is no such test."""
    lenth = result.lenth
    if lenth is None or not lenth.values:
        return False
    scale = f"ln {result.metric.title}" if result.metric.scale == "log" else style.titled(result.metric)
    text = (
        "Contrasts by size against the sizes expected of as many draws from a normal distribution: noise lies along "
        "the dashed line, whose slope is Lenth's pseudo standard error. ▲ raises, ▽ lowers the metric. ME, SME: "
        "margins of error at 95\N{NO-BREAK SPACE}%, of one contrast and of all at once."
    )
    if result.metric.scale == "log":
        text += " On this scale 0.10 is about 10\N{NO-BREAK SPACE}%."
    with style.drawing(stem, 0.3 + _HEIGHT + 0.42, text) as figure:
        style.heading(figure, 0.06, style.titled(result.metric))
        axis = style.placed(figure, (0.55, 0.3, style.WIDTH - 0.65, _HEIGHT))
        axis.set_xlabel("half-normal quantile")
        axis.set_ylabel(f"|contrast| of {style.plain(scale)}")
        _points(axis, lenth)
    return True


def quantiles(count: int) -> Floats:
    """[count] of the half-normal distribution at (i - 0.5) / count, rising."""
    share = (np.arange(count) + 0.5) / count
    return np.asarray(special.ndtri(0.5 + share / 2))


def _points(axis: Axes, lenth: Lenth) -> None:
    sizes = np.abs(lenth.values)
    order = np.argsort(sizes, kind="stable")
    where, heights = quantiles(len(order)), sizes[order]
    right, high = float(where[-1]), max(float(heights[-1]), min(lenth.simultaneous, 2 * float(heights[-1])))
    axis.set_xlim(0, right * 1.12)
    axis.set_ylim(0, high * 1.12 or 1.0)
    axis.plot([0, right * 1.12], [0, right * 1.12 * lenth.pse], "--", color=SOFT, linewidth=0.8)
    for name, level in (("ME", lenth.margin), ("SME", lenth.simultaneous)):
        if level <= high:
            axis.axhline(level, color=NEUTRAL, linewidth=0.9, linestyle="-" if name == "ME" else "-.")
            axis.annotate(name, (0, level), (3, 2), textcoords="offset points", color=NEUTRAL)
    points = list(zip(order.tolist(), where.tolist(), heights.tolist(), strict=True))
    for place, at, height in points:
        up = lenth.values[place] > 0
        colour = NEUTRAL if height > lenth.margin else style.BASELINE
        face = colour if up else "white"
        shape = "^" if up else "v"
        [dot] = axis.plot(at, height, shape, color=colour, markersize=5, markerfacecolor=face, zorder=3)
        name = lenth.names[place]
        describe(dot, f"{name}: {wording.plain_number(lenth.values[place], 4)}", about=tuple(name.split(":")))
    beyond = np.count_nonzero(sizes > lenth.margin)
    _names(axis, lenth, points[::-1][: min(LABELS, beyond or _ELSE)])


def _names(axis: Axes, lenth: Lenth, points: Sequence[tuple[int, float, float]]) -> None:
    """To the left of their points, the largest first, each no higher than a line below the last."""
    above = axis.get_ylim()[1]
    line = style.LINE * above / _HEIGHT
    inch = axis.get_xlim()[1] / (style.WIDTH - 0.65)
    names = [lenth.names[place] for place, _, _ in points]
    fitted = [style.fitted(name, max(0.5, at / inch - 0.3)) for name, (_, at, _) in zip(names, points, strict=True)]
    for name, (place, at, height) in zip(style.distinct(names, fitted), points, strict=True):
        above = min(height, above - line)
        written = axis.annotate(
            name, (at, height), (at - 0.1 * inch, above), ha="right", va="center",
            arrowprops={"arrowstyle": "-", "color": style.RULE, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}, zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
        for part in filter(None, (written, written.arrow_patch)):
            describe(part, about=tuple(lenth.names[place].split(":")))
