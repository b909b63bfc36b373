"""Forest plot: what every toggle does, with its 95 % interval and its single seeds. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.analysis.results import Analysis, Estimate, MetricResult
from harness.report.figures import numbers, style
from harness.report.figures.style import INK, LOOKS, RULE, SMALL, SOFT

MOST_CELLS = 8
"""Combinations of toggles shown below the effects; with more of them only the one with all toggles is."""
_ROW, _HEAD, _FOOT, _GAP = 0.2, 0.4, 0.3, 0.14
_NAMES = 1.6


@dataclass(frozen=True)
class Row:
    """One line of the plot."""

    label: str
    estimate: Estimate
    ruled: bool = False
    """The first below the rule: differences of whole cells from the baseline."""


def draw(analysis: Analysis, stem: Path) -> bool:
    """A panel a headline metric, a row a toggle, then combinations. False where there is nothing to compare."""
    panels = [(result, rows(analysis, result)) for result in analysis.headlines]
    panels = [(result, found) for result, found in panels if found]
    if not panels:
        return False
    text = _meaning(analysis, panels)
    heights = [_HEAD + len(found) * _ROW + _FOOT + _GAP for _, found in panels]
    with style.drawing(stem) as figure:
        figure.set_size_inches(style.WIDTH, sum(heights) + style.note_height(0.05, text) + 0.05)
        top = 0.0
        for (result, found), height in zip(panels, heights, strict=True):
            _panel(figure, top, result, found)
            top += height
        style.note(figure, 0.05, top, text)
    return True


def rows(analysis: Analysis, result: MetricResult) -> list[Row]:
    """Effects in the study's order, then the cells that combine toggles, as differences from the baseline."""
    effects = [Row(effect.toggle, effect.estimate) for effect in result.effects]
    told = {(effect.toggle,) for effect in result.effects}
    cells = [cell for cell in result.cells if cell.cell != analysis.baseline and cell.toggles not in told]
    if len(cells) > MOST_CELLS and effects:
        cells = [cell for cell in cells if set(cell.toggles) == set(analysis.toggles)]
    whole = [Row(cell.cell, cell.estimate) for cell in cells if cell.estimate]
    return effects + [Row(row.label, row.estimate, bool(effects) and row is whole[0]) for row in whole]


def limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Ends of the axis. A hopelessly wide interval leaves it rather than flattening all others."""
    seeds = [value for one in estimates for value in (*one.by_seed, one.value) if value is not None]
    widest = 2.5 * max(map(abs, seeds), default=0.0)
    ends = [end for one in estimates for end in (one.low, one.high) if end is not None]
    shown = [0.0, *seeds, *(min(max(end, -widest), widest) for end in ends)]
    edge = 0.06 * (max(shown) - min(shown)) or 1.0
    return min(shown) - edge, max(shown) + edge


def said(estimate: Estimate) -> str:
    """`3/3 better`: in how many seeds it points to the better side, and the verdict."""
    word = LOOKS[estimate.verdict].word
    counted = f"{estimate.improved}/{estimate.n} " if estimate.n else "no pair, " if estimate.paired else "unpaired, "
    return f"{counted}{word}"


def _meaning(analysis: Analysis, panels: Sequence[tuple[MetricResult, list[Row]]]) -> str:
    baseline = style.fitted(analysis.baseline, 1.5)
    own = f"an idea's effect, on − off{', by regression' if analysis.design.basis == 'regression' else ''}"
    below = f"; below the line a cell's difference from {baseline}"
    ruled = any(row.ruled for _, found in panels for row in found)
    effects = any(result.effects for result, _ in panels)
    marks = own + (below if ruled else "") if effects else f"a cell's difference from {baseline}"
    text = (
        f"Marks: {marks}. Bars: 95\N{NO-BREAK SPACE}% intervals; an arrow where one goes on. Ticks below: single seeds."
    )
    return text + (" Shaded: equivalent." if any(result.margin for result, _ in panels) else "")


def _panel(figure: Figure, top: float, result: MetricResult, found: Sequence[Row]) -> None:
    names = [style.fitted(row.label, _NAMES) for row in found]
    left = 0.16 + max(map(style.width_of, names))
    right = 0.1 + max(style.width_of(said(row.estimate)) for row in found)
    box = (left, top + _HEAD, style.WIDTH - left - right, len(found) * _ROW)
    axis = style.placed(figure, box)
    _ruler(axis, result, [row.estimate for row in found])
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_yticks(range(len(found)), names)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.grid(axis="y", visible=False)
    for place, row in enumerate(found):
        _row(axis, place, row)
        if row.ruled:
            axis.axhline(place - 0.5, color=RULE, linewidth=0.8, xmin=(0.1 - left) / box[2], clip_on=False)
    style.written(figure, 0.1, top + 0.06, style.titled(result.metric), fontsize=style.MEDIUM, weight="bold")
    style.written(figure, style.WIDTH - 0.05, top + 0.07, "seeds improved, verdict", color=SOFT, ha="right")
    change = "Change in %" if result.metric.scale == "log" else "Difference"
    axis.set_xlabel(f"{change}, {result.metric.better} is better", color=SOFT)


def _ruler(axis: Axes, result: MetricResult, estimates: Sequence[Estimate]) -> None:
    axis.set_xlim(*limits(estimates))
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(numbers.tick(result.metric, axis.get_xlim())))
    axis.axvline(0, color=style.BASELINE, linewidth=0.9, zorder=1)
    if result.margin:
        axis.axvspan(-result.margin, result.margin, color="#dcebf5", zorder=0, linewidth=0)
    lower = result.metric.better == "lower"
    for text, place, colour in (("better", "left" if lower else "right", style.GOOD), ("worse", "", style.BAD)):
        side = place or ("right" if lower else "left")
        arrow = f"← {text}" if side == "left" else f"{text} →"
        where: dict[str, Any] = {"ha": side, "va": "bottom", "xycoords": "axes fraction", "annotation_clip": False}
        axis.annotate(arrow, (0.0 if side == "left" else 1.0, 1.0), color=colour, fontsize=SMALL, **where)


def _row(axis: Axes, place: int, row: Row) -> None:
    one, look = row.estimate, LOOKS[row.estimate.verdict]
    if one.low is not None and one.high is not None:
        _bar(axis, place, (one.low, one.high), look.colour)
    if one.by_seed:
        axis.plot(one.by_seed, [place + 0.3] * one.n, "|", color=look.colour, markersize=3.6, markeredgewidth=0.8)
    if one.value is not None:
        axis.plot(one.value, place, **look.dot(), zorder=3)
    axis.annotate(
        said(one), (1.0, place), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="center", fontsize=SMALL, annotation_clip=False,
    )  # fmt: skip


def _bar(axis: Axes, place: int, ends: tuple[float, float], colour: str) -> None:
    low, high = axis.get_xlim()
    inside = max(ends[0], low), min(ends[1], high)
    axis.plot(inside, (place, place), color=colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
    for end, whole, arrow in ((inside[0], ends[0], "<"), (inside[1], ends[1], ">")):
        axis.plot(end, place, marker="|" if end == whole else arrow, color=colour, markersize=4, clip_on=False)
