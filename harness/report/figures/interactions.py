"""Interaction plot: whether what one toggle does depends on the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.results import Analysis, MetricResult
from harness.report import wording
from harness.report.figures import style
from harness.report.figures.marks import describe
from harness.report.figures.pairs import PairMeans, TwoEnds, pair_means, two_ends
from harness.report.figures.style import SOFT, NamedRows
from harness.report.verdicts import INK, NEUTRAL

MOST = 6
"""Pairs shown of each metric: those with the largest interactions."""
_COLUMNS = 3
_HEAD, _PANEL, _ABOVE, _FOOT = 0.3, 1.0, 0.34, 0.42
_LEFT, _GAP = 0.48, 0.12
_WIDE = (style.WIDTH - _LEFT - 0.05 - _GAP * (_COLUMNS - 1)) / _COLUMNS
_ROW = 0.24
_NAME_LINE = style.SMALL * 1.25 / 72
"""Inches from line to line above a panel."""
_OFF = "#767676"


def draw(analysis: Analysis, stem: Path) -> bool:
    """Pairs of toggles where the design has them, else each toggle alone and with all others on; else False."""
    if pairs := [
        (result, means) for result in analysis.headlines if (means := pair_means(result, MOST, analysis.factors))
    ]:
        _draw_pairs(pairs, stem, bool(analysis.factors))
        return True
    if ends := [(result, both) for result in analysis.headlines if (both := two_ends(result, analysis.full))]:
        _draw_ends(analysis.baseline, ends, stem)
    return bool(ends)


def size(result: MetricResult, one: PairMeans | TwoEnds) -> str:
    """`−4.2 % [−8.0, −0.3]`."""
    estimate = one.interaction.estimate
    value = wording.signed(result.metric, estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} {wording.brackets(result.metric, estimate.low, estimate.high)}"


def _draw_pairs(blocks: Sequence[tuple[MetricResult, list[PairMeans]]], stem: Path, has_levels: bool) -> None:
    grouped = any(len(one.interaction.aliases) > 1 for _, own in blocks for one in own)
    text = (
        "Each panel: mean of the metric with the idea named below off and on; dashed, hollow: with the idea named "
        "above off; solid, filled: with it on. Parallel lines: no interaction. Bars: ±1\N{NO-BREAK SPACE}sd over "
        f"seeds, without what they share. Numbers: interaction and 95\N{NO-BREAK SPACE}% interval; at most "
        f"{MOST} are shown, the largest."
        + (
            " A level is off where its factor has the reference level, whose value stands at the left."
            if has_levels
            else ""
        )
        + (" (+n): the sum with n more pairs that the design cannot tell apart." if grouped else "")
    )
    # Names that are too wide for a panel have several lines; all panels have room for the highest of them.
    names = [[_named(one, place).count("\n") for _, own in blocks for one in own] for place in (0, 1)]
    above, below = _ABOVE + max(names[0]) * _NAME_LINE, _FOOT + max(names[1]) * style.LINE
    row = above + _PANEL + below
    heights = [_HEAD + math.ceil(len(own) / _COLUMNS) * row for _, own in blocks]
    with style.drawing(stem, sum(heights) + 0.05, text) as figure:
        top = 0.0
        for (result, own), height in zip(blocks, heights, strict=True):
            for heading in style.heading(figure, top + 0.06, style.titled(result.metric)):
                describe(heading, metric=result.metric.name)
            _panels(figure, top + _HEAD + above, row, result, own)
            top += height


def _panels(figure: Figure, top: float, row: float, result: MetricResult, own: Sequence[PairMeans]) -> None:
    """`top`, `row`: inches to the upper end of the first panel, and from row to row."""
    ends = [one.means + sign * one.spreads for one in own for sign in (-1, 1)]
    reach = result.metric.unscaled(np.concatenate(ends)).tolist()
    for place, one in enumerate(own):
        axis = style.panel(figure, place, _COLUMNS, (_LEFT, _WIDE, _WIDE + _GAP), (top, _PANEL, row))
        style.value_axis(axis, "y", result.metric, reach)
        describe(axis, metric=result.metric.name, about=one.pair)
        _lines(axis, result, one)
        axis.set_xlabel(_named(one, 1), color=INK)
        axis.set_title(f"{_named(one, 0)}\n{size(result, one)}", loc="left", linespacing=1.25)


def _named(one: PairMeans, place: int) -> str:
    """A toggle of a pair in the width of a panel; the first with how many more pairs the number is of."""
    others = len(one.interaction.aliases) - 1
    more = f" (+{others})" if others and place == 0 else ""
    return style.in_lines(one.pair[place], _WIDE - style.width_of(more), 4) + more


def _lines(axis: Axes, result: MetricResult, one: PairMeans) -> None:
    middle, low, high = (result.metric.unscaled(one.means + sign * one.spreads).reshape(2, 2) for sign in (0, -1, 1))
    for on, colour, line, shift in ((0, _OFF, "--", -0.03), (1, NEUTRAL, "-", 0.03)):
        where = np.array([0.0, 1.0]) + shift
        face = colour if on else "white"
        [drawn] = axis.plot(
            where, middle[on], line, color=colour, marker="o", markersize=4.5, markerfacecolor=face, zorder=3
        )
        off, with_it = (wording.number(result.metric, float(mean)) for mean in middle[on])
        other = f"{one.pair[0]} {'on' if on else 'off'}"
        describe(drawn, f"{one.pair[1]} with {other}: {off} off, {with_it} on; interaction {size(result, one)}")
        axis.vlines(where, low[on], high[on], color=colour, linewidth=0.9, zorder=2)
    axis.set_xlim(-0.3, 1.3)
    axis.set_xticks([0, 1], [style.fitted(state, _WIDE / 2) for state in one.states])
    axis.grid(axis="x", visible=False)


def _draw_ends(baseline: str, blocks: Sequence[tuple[MetricResult, list[TwoEnds]]], stem: Path) -> None:
    text = (
        f"Hollow: the effect of an idea alone, on {style.in_a_note(baseline)}; filled: with all others on (all ideas − "
        "all but this one). Ticks: single seeds, alone above and with the others below. At the right: the interaction "
        "index, half of what the effect gains with the others on over alone, and its 95\N{NO-BREAK SPACE}% interval."
    )
    named = [NamedRows.of([one.toggle for one in own], 1.4, _ROW) for _, own in blocks]
    heights = [0.4 + each.count * _ROW + 0.44 for each in named]
    with style.drawing(stem, sum(heights), text) as figure:
        top = 0.0
        for (result, own), each, height in zip(blocks, named, heights, strict=True):
            _ends(figure, top, result, own, each)
            top += height


def _ends(figure: Figure, top: float, result: MetricResult, own: Sequence[TwoEnds], named: NamedRows) -> None:
    sizes = [size(result, one) for one in own]
    left, right = 0.16 + named.width, 0.16 + max(map(style.width_of, sizes))
    axis = style.placed(figure, (left, top + 0.3, style.WIDTH - left - right, named.count * _ROW))
    describe(axis, metric=result.metric.name)
    named.name(axis, [one.toggle for one in own])
    for centre, one, text in zip(named.centres, own, sizes, strict=True):
        means = [float(result.metric.change(values.mean())) for values in (one.alone, one.with_others)]
        [joint] = axis.plot(means, (centre, centre), color=NEUTRAL, linewidth=1.4, alpha=0.55, zorder=2)
        describe(joint, cell=one.toggle)
        looks = ((one.alone, "white", -0.29), (one.with_others, NEUTRAL, 0.29))
        for mean, (values, face, shift) in zip(means, looks, strict=True):
            [dot] = axis.plot(mean, centre, "o", color=NEUTRAL, markersize=5, markerfacecolor=face, zorder=3)
            where = "alone" if face == "white" else "with all others on"
            change = partial(wording.signed, result.metric)
            seeds = ", ".join(change(float(each)) for each in result.metric.change(values))
            says = f"{one.toggle} {where}: {change(mean)}; by seed {seeds}; interaction index {text}"
            describe(dot, says, cell=one.toggle)
            level = np.full(len(values), centre + shift)
            [ticks] = axis.plot(
                result.metric.change(values), level, "|", color=SOFT, markersize=3.2, markeredgewidth=0.7
            )
            describe(ticks, cell=one.toggle)
        describe(style.at_right(axis, centre, text), cell=one.toggle)
    for heading in style.heading(figure, top + 0.06, style.titled(result.metric), "interaction index"):
        describe(heading, metric=result.metric.name)
    style.difference_axis(axis, result.metric, "Effect in %" if result.metric.scale == "log" else "Effect")
