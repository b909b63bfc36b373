"""Distance against CLIP score: one mark for each cell, whose area is the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.analysis.results import Analysis, MetricResult, Verdict
from harness.report import wording
from harness.report.figures import labels, style
from harness.report.figures.marks import describe
from harness.report.figures.pairs import adjusted
from harness.report.figures.style import BASELINE
from harness.report.verdicts import FORMS, GOOD, INK, Look

LABELS = 20
"""Cells that are named at most: the baseline and those whose distance differs most from its."""
SCORE = "clip_score"
_HEIGHT, _LEFT, _HEAD, _FOOT = 3.3, 0.5, 0.3, 0.42
_NAME = 1.6
"""Inches of the widest line of a name."""
_AREA = 70.0
"""Points squared, of the cell with the highest cost."""


@dataclass(frozen=True)
class CellMark:
    """One cell: distance and score, and s per kimg."""

    cell: str
    x: float
    y: float
    x_ends: tuple[float, float]
    """One standard deviation over seeds to either side, after what all cells share within a seed is taken off."""
    y_ends: tuple[float, float]
    cost: float | None
    size: float
    """How far its distance is from the baseline's."""
    verdict: Verdict | None
    """On the distance; None: the baseline."""

    @property
    def bars(self) -> tuple[labels.Line, labels.Line]:
        (left, right), (low, high) = self.x_ends, self.y_ends
        return ((left, self.y), (right, self.y)), ((self.x, low), (self.x, high))


def draw(analysis: Analysis, costs: Mapping[str, float], stem: Path) -> bool:
    """The first headline distance against the CLIP score. False without both of them in some cell."""
    distance = next((result for result in analysis.headlines if result.metric.scale == "log"), None)
    score = next((result for result in analysis.metrics if result.metric.name == SCORE), None)
    marks = cells(distance, score, costs) if distance and score else []
    if not distance or not score or not marks:
        return False
    bars = "; bars: ±1\N{NO-BREAK SPACE}sd over them, without what all cells share within a seed"
    text = (
        f"Means over seeds{bars if len(marks) <= LABELS else ''}. "
        f"The star is {style.in_a_note(analysis.baseline)}, dotted lines lead through it. Colour and shape: the "
        f"verdict on {style.in_a_note(style.titled(distance.metric))}."
    )
    if len(marks) > LABELS:
        text += f" Named: the {LABELS} cells that differ most, where there is room."
    names = style.short_names(distance.cells, analysis.toggles, _NAME, lines=3)
    text += style.key(names, distance.cells, analysis.toggles)
    verdicts, areas = _meanings(marks, costs)
    below = _HEAD + _HEIGHT + _FOOT
    above_areas = below + style.legend_height(verdicts)
    with style.drawing(stem, above_areas + (style.legend_height(areas) if areas else 0.0) + 0.02, text) as figure:
        axis = style.placed(figure, (_LEFT, _HEAD, style.WIDTH - _LEFT - 0.1, _HEIGHT))
        style.log_axis(axis, "x", [x for mark in marks for x in mark.x_ends])
        style.value_axis(axis, "y", score.metric, [y for mark in marks for y in mark.y_ends])
        axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_xlabel(f"{style.titled(distance.metric)}, {distance.metric.better} is better")
        axis.set_ylabel(f"{style.titled(score.metric)}, {score.metric.better} is better")
        for mark in marks:
            _mark(axis, mark, _says(mark, distance, score), area(mark, costs), with_bars=len(marks) <= LABELS)
        _labels(axis, marks, costs, names)
        style.written(figure, _LEFT, _HEAD - 0.17, "↖ better on both", color=GOOD)
        style.legend(figure, below, verdicts)
        if areas:
            style.legend(figure, above_areas, areas)
    return True


def cells(distance: MetricResult, score: MetricResult, costs: Mapping[str, float]) -> list[CellMark]:
    """The cells that have both numbers, the baseline last so that it lies on top."""
    x_spread, y_spread = spreads(distance), spreads(score)
    marks = []
    for cell in distance.cells:
        x, y, estimate = cell.mean, score.cell(cell.cell).mean, cell.estimate
        if x is not None and y is not None and x > 0:
            factor, spread = math.exp(x_spread[cell.cell]), y_spread[cell.cell]
            ends = (x / factor, x * factor), (y - spread, y + spread)
            size = abs(estimate.value or 0.0) if estimate else math.inf
            verdict = estimate.verdict if estimate else None
            marks.append(CellMark(cell.cell, x, y, *ends, costs.get(cell.cell), size, verdict))
    return sorted(marks, key=lambda mark: mark.verdict is None)


def spreads(result: MetricResult) -> dict[str, float]:
    """Cell -> standard deviation over seeds on the scale of the analysis, what all share taken off; 0 for one seed."""
    cells = zip(result.cells, adjusted(result).T, strict=True)
    return {cell.cell: float(np.nanstd(own, ddof=1)) if len(cell.seeds) > 1 else 0.0 for cell, own in cells}


def area(mark: CellMark, costs: Mapping[str, float]) -> float:
    """Points squared, in proportion to the cost; the least that can be seen where it is unknown."""
    own = _area(mark.cost, costs) if mark.cost else 12.0
    return own if mark.verdict else max(own, 60.0)


def _area(cost: float, costs: Mapping[str, float]) -> float:
    return _AREA * cost / max(costs.values())


def _says(mark: CellMark, *results: MetricResult) -> str:
    values = [f"{each.metric.title} {wording.mean_sd(each.metric, each.cell(mark.cell))}" for each in results]
    values += [f"{mark.cost:.3g} s per kimg"] if mark.cost else []
    return f"{mark.cell}: {', '.join(values)}; {mark.verdict or 'baseline'}"


def _mark(axis: Axes, mark: CellMark, says: str, size: float, with_bars: bool) -> None:
    look = FORMS[mark.verdict] if mark.verdict else Look(INK, "*")
    face = "white" if look.hollow else look.colour
    dot = axis.scatter(
        mark.x, mark.y, size, marker=look.marker, facecolor=face, edgecolor=look.colour, linewidth=1.1,
        alpha=0.9, zorder=4 if mark.verdict is None else 3,
    )  # fmt: skip
    describe(dot, says, cell=mark.cell)
    for ends in mark.bars if with_bars else ():
        [bar] = axis.plot(*zip(*ends, strict=True), color=look.colour, linewidth=0.7, alpha=0.5, zorder=2)
        describe(bar, cell=mark.cell)
    if mark.verdict is None:
        axis.axvline(mark.x, color=BASELINE, linewidth=0.7, linestyle=":", zorder=1)
        axis.axhline(mark.y, color=BASELINE, linewidth=0.7, linestyle=":", zorder=1)


def _labels(axis: Axes, marks: Sequence[CellMark], costs: Mapping[str, float], names: Mapping[str, str]) -> None:
    """Those of the cells that differ most first, so that these stand nearest to their marks."""
    dots = labels.in_points(axis, [(mark.x, mark.y) for mark in marks])
    radii = [math.sqrt(area(mark, costs) / math.pi) for mark in marks]
    discs = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(dots, radii, strict=True)]
    by_size = sorted(zip(marks, radii, strict=True), key=lambda each: -each[0].size)
    named = [
        labels.Label(names[mark.cell], mark.cell, (mark.x, mark.y), radius, "normal" if mark.verdict else "bold")
        for mark, radius in by_size[:LABELS]
    ]
    labels.write(axis, named, discs, _lines(axis, marks))


def _lines(axis: Axes, marks: Sequence[CellMark]) -> list[labels.Rectangle]:
    """What a name is better not drawn over: the bars, and the dotted lines through the baseline."""
    ends = [bar for mark in marks for bar in mark.bars if len(marks) <= LABELS]
    across, up = axis.get_xlim(), axis.get_ylim()
    for mark in marks:
        if mark.verdict is None:
            ends += [((across[0], mark.y), (across[1], mark.y)), ((mark.x, up[0]), (mark.x, up[1]))]
    flat = labels.in_points(axis, [point for pair in ends for point in pair])
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [(x - 0.5, y - 0.5, to_x + 0.5, to_y + 0.5) for (x, y), (to_x, to_y) in pairs]


def _meanings(marks: Sequence[CellMark], costs: Mapping[str, float]) -> tuple[list[Line2D], list[Line2D]]:
    """Entries of the legends: verdicts, and costs."""
    verdicts = [style.handle("baseline", marker="*", color=INK, markersize=8)]
    present = {mark.verdict for mark in marks}
    verdicts += [style.handle(verdict, **look.dot()) for verdict, look in FORMS.items() if verdict in present]
    if not costs:
        return verdicts, []
    areas = [style.handle("area: cost, s per kimg")]
    for cost in np.unique(np.quantile([*costs.values()], [0, 0.5, 1])).tolist():
        size = math.sqrt(_area(cost, costs))
        areas.append(style.handle(f"{cost:.3g}", marker="o", color=BASELINE, markersize=size))
    return verdicts, areas
