"""Interaction plot: whether what one toggle does depends on the others. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.analysis.results import Analysis, MetricResult
from harness.report import wording
from harness.report.figures import numbers, style
from harness.report.figures.pairs import Beside, Foursome, besides, foursomes
from harness.report.figures.style import INK, NEUTRAL, SMALL, SOFT

MOST = 6
"""Pairs shown of each metric: those with the largest interactions."""
_COLUMNS = 3
_HEAD, _PANEL, _NAMES, _FOOT = 0.3, 1.0, 0.34, 0.42
_ROW = 0.24
_OFF = "#767676"


def draw(analysis: Analysis, stem: Path) -> bool:
    """Pairs of toggles where the design tells them, else each toggle alone and with all others on; else False."""
    pairs = [(result, foursomes(result, MOST)) for result in analysis.headlines]
    if any(found for _, found in pairs):
        _draw_pairs([(result, found) for result, found in pairs if found], stem)
        return True
    toggles = [(result, found) for result in analysis.headlines if (found := besides(result))]
    if toggles:
        _draw_besides(analysis.baseline, toggles, stem)
    return bool(toggles)


def told(result: MetricResult, one: Foursome | Beside) -> str:
    """`−4.2 % [−8.0, −0.3]`."""
    found = one.found.estimate
    value = "–" if found.value is None else wording.signed(result.metric, found.value)
    ends = "" if found.low is None or found.high is None else wording.ends(result.metric, found.low, found.high)
    return f"{value} {ends}".strip()


def _draw_pairs(blocks: Sequence[tuple[MetricResult, list[Foursome]]], stem: Path) -> None:
    rows = [math.ceil(len(found) / _COLUMNS) for _, found in blocks]
    grouped = any(len(one.found.aliases) > 1 for _, found in blocks for one in found)
    text = (
        "Each panel: mean of the metric with the idea named below off and on; dashed, hollow: with the idea named "
        "above off; solid, filled: with it on. Parallel lines: no interaction. Bars: ±1\N{NO-BREAK SPACE}sd over "
        f"seeds, what they share taken off. Numbers: interaction and 95\N{NO-BREAK SPACE}% interval; the {MOST} "
        "largest are shown."
        + (" (+n): the sum with n more pairs that the design cannot tell apart." if grouped else "")
    )
    heights = [_HEAD + count * (_NAMES + _PANEL + _FOOT) for count in rows]
    with style.drawing(stem) as figure:
        figure.set_size_inches(style.WIDTH, sum(heights) + style.note_height(0.05, text) + 0.1)
        top = 0.0
        for (result, found), height in zip(blocks, heights, strict=True):
            style.written(figure, 0.1, top + 0.06, style.titled(result.metric), fontsize=style.MEDIUM, weight="bold")
            _block(figure, top + _HEAD, result, found)
            top += height
        style.note(figure, 0.05, top + 0.05, text)


def _block(figure: Figure, top: float, result: MetricResult, found: Sequence[Foursome]) -> None:
    left, gap = 0.48, 0.12
    width = (style.WIDTH - left - 0.05 - gap * (_COLUMNS - 1)) / _COLUMNS
    ends = [(one.means + sign * one.spreads) for one in found for sign in (-1, 1)]
    reach = result.metric.unscaled(np.concatenate(ends)).tolist()
    for place, one in enumerate(found):
        row, column = divmod(place, _COLUMNS)
        high = top + row * (_NAMES + _PANEL + _FOOT) + _NAMES
        axis = style.placed(figure, (left + column * (width + gap), high, width, _PANEL))
        _value_axis(axis, result, reach)
        axis.tick_params(axis="y", labelleft=column == 0, left=column == 0)
        _foursome(axis, result, one)
        axis.set_xlabel(style.fitted(one.pair[1], width), color=INK)
        more = f" (+{len(one.found.aliases) - 1})" if len(one.found.aliases) > 1 else ""
        name = style.fitted(one.pair[0], width - style.width_of(more)) + more
        axis.set_title(f"{name}\n{told(result, one)}", loc="left", linespacing=1.25, fontsize=SMALL)


def _value_axis(axis: Axes, result: MetricResult, reach: Sequence[float]) -> None:
    if result.metric.scale == "log":
        style.log_axis(axis, "y", reach)
    else:
        edge = 0.08 * (max(reach) - min(reach)) or 1.0
        axis.set_ylim(min(reach) - edge, max(reach) + edge)
        axis.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))


def _foursome(axis: Axes, result: MetricResult, one: Foursome) -> None:
    middle, low, high = (result.metric.unscaled(one.means + sign * one.spreads).reshape(2, 2) for sign in (0, -1, 1))
    for on, colour, line, shift in ((0, _OFF, "--", -0.03), (1, NEUTRAL, "-", 0.03)):
        where = np.array([0.0, 1.0]) + shift
        face = colour if on else "white"
        axis.plot(where, middle[on], line, color=colour, marker="o", markersize=4.5, markerfacecolor=face, zorder=3)
        axis.vlines(where, low[on], high[on], color=colour, linewidth=0.9, zorder=2)
    axis.set_xlim(-0.3, 1.3)
    axis.set_xticks([0, 1], ["off", "on"])
    axis.grid(axis="x", visible=False)


def _draw_besides(baseline: str, blocks: Sequence[tuple[MetricResult, list[Beside]]], stem: Path) -> None:
    origin = style.fitted(baseline, 1.5)
    text = (
        f"Hollow: the idea's effect alone, on {origin}; filled: with all others on (all ideas − all but this one). "
        "Ticks: single seeds, alone above and with the others below. At the right: the interaction index, half of what "
        "the effect gains with the others on over alone, and its 95\N{NO-BREAK SPACE}% interval."
    )
    heights = [0.4 + len(found) * _ROW + 0.44 for _, found in blocks]
    with style.drawing(stem) as figure:
        figure.set_size_inches(style.WIDTH, sum(heights) + style.note_height(0.05, text) + 0.05)
        top = 0.0
        for (result, found), height in zip(blocks, heights, strict=True):
            _besides(figure, top, result, found)
            top += height
        style.note(figure, 0.05, top, text)


def _besides(figure: Figure, top: float, result: MetricResult, found: Sequence[Beside]) -> None:
    names = [style.fitted(one.toggle, 1.4) for one in found]
    notes = [told(result, one) for one in found]
    left, right = (0.16 + max(map(style.width_of, each)) for each in (names, notes))
    axis = style.placed(figure, (left, top + 0.3, style.WIDTH - left - right, len(found) * _ROW))
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_yticks(range(len(found)), names)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.grid(axis="y", visible=False)
    axis.axvline(0, color=style.BASELINE, linewidth=0.9, zorder=1)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    for place, (one, text) in enumerate(zip(found, notes, strict=True)):
        _joined(axis, place, result, one)
        where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        axis.annotate(text, (1.0, place), (4, 0), fontsize=SMALL, annotation_clip=False, **where)
    style.written(figure, 0.1, top + 0.06, style.titled(result.metric), fontsize=style.MEDIUM, weight="bold")
    style.written(figure, style.WIDTH - 0.05, top + 0.07, "interaction index", color=SOFT, ha="right")
    axis.xaxis.set_major_formatter(FuncFormatter(numbers.tick(result.metric, axis.get_xlim())))
    change = "Effect in %" if result.metric.scale == "log" else "Effect"
    axis.set_xlabel(f"{change}, {result.metric.better} is better", color=SOFT)


def _joined(axis: Axes, place: int, result: MetricResult, one: Beside) -> None:
    ends = [float(result.metric.change(values.mean())) for values in (one.alone, one.beside)]
    axis.plot(ends, (place, place), color=NEUTRAL, linewidth=1.4, alpha=0.55, zorder=2)
    for values, end, face, shift in ((one.alone, ends[0], "white", -0.29), (one.beside, ends[1], NEUTRAL, 0.29)):
        axis.plot(end, place, "o", color=NEUTRAL, markersize=5, markerfacecolor=face, zorder=3)
        seeds = result.metric.change(values)
        axis.plot(seeds, np.full(len(seeds), place + shift), "|", color=SOFT, markersize=3.2, markeredgewidth=0.7)
