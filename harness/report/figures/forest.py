"""Forest plot: what every idea does, with its 95 % interval and its single seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.results import Analysis, Estimate, MetricResult
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.figures import style
from harness.report.figures.marks import describe
from harness.report.figures.style import RULE, NamedRows
from harness.report.matrix import subjects
from harness.report.verdicts import BAD, FORMS, GOOD

MOST_CELLS = 8
"""Combinations of toggles shown below the effects; with more of them only the one with all toggles is."""
_ROW, _HEAD, _FOOT, _GAP = 0.2, 0.4, 0.3, 0.14
_NAMES = 1.6
"""Inches of the widest line of a name."""
_SEEDS = 0.3
"""Rows below a mark where its single seeds stand."""


@dataclass(frozen=True)
class PlotRow:
    """One line of the plot."""

    label: str
    estimate: Estimate
    ruled: bool = False
    """The first below the rule: differences of whole cells from the baseline."""


def draw(analysis: Analysis, stem: Path) -> bool:
    """One panel for each headline metric: ideas, then combinations. False where there is nothing to compare."""
    panels = [(result, rows(analysis, result)) for result in analysis.headlines]
    panels = [(result, own) for result, own in panels if own]
    if not panels:
        return False
    named = [NamedRows.of([row.label for row in own], _NAMES, _ROW) for _, own in panels]
    heights = [_HEAD + each.count * _ROW + _FOOT + _GAP for each in named]
    with style.drawing(stem, sum(heights), _meaning(analysis, panels)) as figure:
        top = 0.0
        for (result, own), each, height in zip(panels, named, heights, strict=True):
            _panel(figure, top, result, own, each)
            top += height
    return True


def rows(analysis: Analysis, result: MetricResult) -> list[PlotRow]:
    """Effects in the order of the matrix, then the cells that combine toggles, as differences from the baseline."""
    order = {subject.name: place for place, subject in enumerate(subjects(analysis))}
    effects = [PlotRow(effect.toggle, effect.estimate) for effect in result.effects]
    effects.sort(key=lambda row: order[row.label])
    single = {(effect.toggle,) for effect in result.effects}
    cells = [cell for cell in result.cells if cell.cell != analysis.baseline and cell.toggles not in single]
    if len(cells) > MOST_CELLS and effects:
        cells = [cell for cell in cells if set(cell.toggles) == set(analysis.full)]
    combined = [(cell.cell, cell.estimate) for cell in cells if cell.estimate]
    return effects + [PlotRow(*each, bool(effects) and place == 0) for place, each in enumerate(combined)]


def limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Ends of the axis. A very wide interval leaves it rather than making all others look the same."""
    seeds = [value for one in estimates for value in (*one.by_seed, one.value) if value is not None]
    widest = 2.5 * max(map(abs, seeds), default=0.0)
    ends = [end for one in estimates for end in (one.low, one.high) if end is not None]
    shown = [0.0, *seeds, *(min(max(end, -widest), widest) for end in ends)]
    edge = 0.06 * (max(shown) - min(shown)) or 1.0
    return min(shown) - edge, max(shown) + edge


def seeds_and_verdict(estimate: Estimate) -> str:
    """`3/3 better`: in how many seeds it points to the better side, and the verdict."""
    counted = f"{estimate.improved}/{estimate.n} " if estimate.n else "no pair, " if estimate.paired else "unpaired, "
    return f"{counted}{estimate.verdict}"


def _meaning(analysis: Analysis, panels: Sequence[tuple[MetricResult, list[PlotRow]]]) -> str:
    cells = f"difference of a cell from {style.in_a_note(analysis.baseline)}"
    marks = cells
    if any(result.effects for result, _ in panels):
        marks = f"effect of an idea, on − off{', by regression' if analysis.design.basis == 'regression' else ''}"
        if analysis.factors:
            references = ", ".join(style.in_a_note(factor.reference) for factor in analysis.factors)
            marks += f" (of a level: less the reference level, {references})"
        if any(row.ruled for _, own in panels for row in own):
            marks += f"; below the line {cells}"
    text = (
        f"Marks: {marks}. Bars: 95\N{NO-BREAK SPACE}% intervals; an arrow where one goes on. Ticks below: single seeds."
    )
    return text + (" Shaded: equivalent." if any(result.margin for result, _ in panels) else "")


def _panel(figure: Figure, top: float, result: MetricResult, own: Sequence[PlotRow], named: NamedRows) -> None:
    left = 0.16 + named.width
    right = 0.1 + max(style.width_of(seeds_and_verdict(row.estimate)) for row in own)
    width = style.WIDTH - left - right
    axis = style.placed(figure, (left, top + _HEAD, width, named.count * _ROW))
    describe(axis, metric=result.metric.name)
    named.name(axis, [row.label for row in own])
    axis.set_xlim(*limits([row.estimate for row in own]))
    style.difference_axis(axis, result.metric, "Change in %" if result.metric.scale == "log" else "Difference")
    if result.margin:
        axis.axvspan(-result.margin, result.margin, color="#dcebf5", zorder=0, linewidth=0)
    words = ("better", "worse") if result.metric.better == "lower" else ("worse", "better")
    for x, side, word in zip((0.0, 1.0), ("left", "right"), words, strict=True):
        text, colour = f"← {word}" if side == "left" else f"{word} →", GOOD if word == "better" else BAD
        axis.text(x, 1.0, text, color=colour, ha=side, va="bottom", transform=axis.transAxes)
    for centre, edge, row in zip(named.centres, named.edges, own, strict=True):
        _row(axis, result.metric, centre, row)
        if row.ruled:
            axis.axhline(edge, color=RULE, linewidth=0.8, xmin=(0.1 - left) / width, clip_on=False)
    for heading in style.heading(figure, top + 0.06, style.titled(result.metric), "seeds improved, verdict"):
        describe(heading, metric=result.metric.name)


def _row(axis: Axes, metric: Metric, centre: float, row: PlotRow) -> None:
    one, look = row.estimate, FORMS[row.estimate.verdict]
    if one.low is not None and one.high is not None:
        low, high = axis.get_xlim()
        inside = max(one.low, low), min(one.high, high)
        [bar] = axis.plot(inside, (centre, centre), color=look.colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
        describe(bar, cell=row.label)
        for end, whole, arrow in ((inside[0], one.low, "<"), (inside[1], one.high, ">")):
            marker = "|" if end == whole else arrow
            [cap] = axis.plot(end, centre, marker=marker, color=look.colour, markersize=4, clip_on=False)
            describe(cap, cell=row.label)
    for seed, value in zip(one.seeds, one.by_seed, strict=True):
        height = centre + _SEEDS
        [tick] = axis.plot(value, height, "|", color=look.colour, markersize=3.6, markeredgewidth=0.8)
        describe(tick, cell=row.label, seed=seed)
    if one.value is not None:
        [dot] = axis.plot(one.value, centre, **look.dot(), zorder=3)
        describe(dot, wording.whole(metric, row.label, one), cell=row.label)
    describe(style.at_right(axis, centre, seeds_and_verdict(one)), cell=row.label)
