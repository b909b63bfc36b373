"""Learning curves: one metric over training, one panel for each cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.analysis.results import Analysis, CellResult, MetricResult
from harness.metrics.definitions import Floats, Metric
from harness.report import wording
from harness.report.figures import style
from harness.report.figures.marks import describe
from harness.report.figures.style import BASELINE, SOFT
from harness.report.verdicts import FORMS, INK
from harness.runs.record import RunRecord, state_of
from harness.text import quantity

MOST_LINES = 30
"""With more seeds than this the thin lines of a panel would cover each other."""
MOST = 24
"""Panels; of more cells those with the largest differences are shown."""
_COLUMNS, _PANEL, _NAMES, _FOOT = 3, 0.95, 0.3, 0.22
_LEFT, _GAP, _HEAD = 0.46, 0.1, 0.26

Curve = tuple[Floats, Floats]
"""Thousands of images and values, of the snapshots that were measured."""


def draw(analysis: Analysis, records: Sequence[RunRecord], result: MetricResult, stem: Path) -> bool:
    """Thin lines are seeds, thick ones their mean, the baseline is grey. False where no run was measured on the way."""
    by_cell = curves(records, result.metric)
    cells = shown(analysis, result, by_cell)
    if not cells:
        return False
    columns = columns_for(len(cells))
    width = (style.WIDTH - _LEFT - 0.08 - _GAP * (columns - 1)) / columns
    names = style.short_names(cells, analysis.toggles, width, lines=4)
    above = _NAMES + style.LINE * max(name.count("\n") for name in names.values())
    text = _note(analysis.baseline, by_cell, cells) + style.key(names, cells, analysis.toggles)
    row = above + _PANEL + _FOOT
    height = _HEAD + math.ceil(len(cells) / columns) * row + 0.16
    trained, last = _reach([run for runs in by_cell.values() for run in runs])
    with style.drawing(stem, height + 0.05, text) as figure:
        style.heading(figure, 0.06, f"{style.titled(result.metric)}, {result.metric.better} is better")
        for place, cell in enumerate(cells):
            axis = style.panel(figure, place, columns, (_LEFT, width, width + _GAP), (_HEAD + above, _PANEL, row))
            style.value_axis(axis, "y", result.metric, trained)
            axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            axis.set_xlim(0.0, (last or 1.0) * 1.04)
            axis.tick_params(axis="x", labelbottom=place + columns >= len(cells), bottom=place + columns >= len(cells))
            _panel(axis, result.metric, by_cell, analysis.baseline, cell, names[cell.cell])
        middle = (_LEFT + style.WIDTH) / 2
        style.written(figure, middle, height - 0.16, wording.along(records), color=SOFT, ha="center")
    return True


def _reach(runs: Sequence[tuple[RunRecord, Curve]]) -> tuple[list[float], float]:
    """The values that the axis shows, and where the longest run ends."""
    # What is far away would flatten what is to be compared: the untrained snapshot, and runs that went astray.
    done = [line for record, line in runs if state_of(record) == "done"] or [line for _, line in runs]
    kimg, values = np.concatenate([np.array(line) for line in done], axis=1)
    trained = values[kimg > 0] if (kimg > 0).any() else values
    return trained.tolist(), max(float(line[0].max()) for _, line in runs)


def _note(baseline: str, by_cell: Runs, cells: Sequence[CellResult]) -> str:
    compared = sum(1 for cell in by_cell if cell != baseline)
    capped = f" The {len(cells)} of {compared} cells with the largest differences." if compared > MOST else ""
    most = max(len(by_cell.get(cell, ())) for cell in (baseline, *(each.cell for each in cells)))
    left_out = f" (not drawn of cells with more than {MOST_LINES})" if most > MOST_LINES else ""
    return (
        f"Thick: mean over finished seeds; shaded: ±1\N{NO-BREAK SPACE}sd over them; thin: single seeds{left_out}; "
        f"grey: {style.in_a_note(baseline)}; ×: diverged. Above each panel: difference at the end, and verdict. The "
        f"start is cut off, and so are values far off of runs that did not finish.{capped}"
    )


def columns_for(panels: int) -> int:
    """Three, or four or two where one panel would be left alone in the last row."""
    if panels <= _COLUMNS:
        return panels
    return next((count for count in (_COLUMNS, _COLUMNS + 1, 2) if panels % count != 1), _COLUMNS)


def curve(record: RunRecord, metric: Metric) -> Curve:
    """Of one run; numbers that cannot be drawn (not finite, or not positive on a log axis) are left out."""
    name = f"metrics/{metric.name}"
    pairs = [(point.kimg, point.values[name]) for point in record.points if name in point.values]
    good = [(kimg, value) for kimg, value in pairs if math.isfinite(value) and (value > 0 or metric.scale == "raw")]
    kimg, values = np.array(good, dtype=np.float64).reshape(-1, 2).T
    return kimg, values


Runs = Mapping[str, Sequence[tuple[RunRecord, Curve]]]
"""Cell -> its runs that were measured at least once."""


def curves(records: Sequence[RunRecord], metric: Metric) -> Runs:
    """In the order of the records; seeds of one cell alone, a control, are left out."""
    cells = {record.run.cell for record in records}
    by_seed = Counter(record.run.seed for record in records)
    by_cell: dict[str, list[tuple[RunRecord, Curve]]] = {}
    for record in records:
        line = curve(record, metric)
        if len(line[0]) and (by_seed[record.run.seed] > 1 or len(cells) == 1):
            by_cell.setdefault(record.run.cell, []).append((record, line))
    return by_cell


def shown(analysis: Analysis, result: MetricResult, by_cell: Runs) -> list[CellResult]:
    """The cells that get a panel, in order: all, or those that diverged or differ most; the baseline if alone."""
    cells = [cell for cell in result.cells if cell.cell in by_cell]
    others = [cell for cell in cells if cell.cell != analysis.baseline]

    def size(cell: CellResult) -> float:
        if cell.states.get("diverged"):
            return math.inf
        return abs(cell.estimate.value) if cell.estimate and cell.estimate.value is not None else 0.0

    largest = sorted(others, key=size, reverse=True)[:MOST]
    return [cell for cell in others if cell in largest] or cells


def band(metric: Metric, lines: Sequence[Curve]) -> tuple[Floats, Floats, Floats]:
    """(thousands of images, mean, standard deviation) at the snapshots that all lines share, on the analysis' scale."""
    by_line = [dict(zip(kimg.tolist(), values.tolist(), strict=True)) for kimg, values in lines]
    shared = sorted(set.intersection(*map(set, by_line))) if by_line else []
    scaled = metric.scaled([[values[kimg] for kimg in shared] for values in by_line])
    if not shared:
        return np.array([]), np.array([]), np.array([])
    spread = scaled.std(axis=0, ddof=1) if len(lines) > 1 else np.zeros(len(shared))
    return np.array(shared), scaled.mean(axis=0), spread


def _panel(axis: Axes, metric: Metric, by_cell: Runs, baseline: str, cell: CellResult, name: str) -> None:
    describe(axis, cell=cell.cell)
    _lines(axis, metric, by_cell.get(baseline, ()), BASELINE)
    said = "baseline"
    if cell.estimate:
        _lines(axis, metric, by_cell[cell.cell], FORMS[cell.estimate.verdict].colour)
        change = "" if cell.estimate.value is None else wording.signed(metric, cell.estimate.value)
        said = f"{change} {cell.estimate.verdict}".lstrip()
    axis.set_title(f"{name}\n{said}", loc="left")


def _lines(axis: Axes, metric: Metric, runs: Sequence[tuple[RunRecord, Curve]], colour: str) -> None:
    """Thin lines, unless too many; mean and band over the runs that are done, or over all while none is."""
    for record, (kimg, values) in runs:
        if len(runs) <= MOST_LINES:
            [thin] = axis.plot(kimg, values, color=colour, linewidth=0.6, alpha=0.45)
            said = f"{wording.number(metric, float(values[-1]))} at {kimg[-1]:.3g} thousand"
            describe(
                thin, f"{record.run.cell}, seed {record.run.seed}: {said}", cell=record.run.cell, seed=record.run.seed
            )
        if state_of(record) == "diverged":
            end = float(np.clip(values[-1], *axis.get_ylim()))
            axis.plot(kimg[-1], end, "x", color=INK, markersize=5, markeredgewidth=1.3, zorder=4, clip_on=False)
    done = [line for record, line in runs if state_of(record) == "done"] or [line for _, line in runs]
    kimg, mean, spread = band(metric, done)
    low, middle, high = (metric.unscaled(mean + sign * spread) for sign in (-1, 0, 1))
    axis.fill_between(kimg, low, high, color=colour, alpha=0.22, linewidth=0)
    [line] = axis.plot(kimg, middle, color=colour, linewidth=1.6, marker="o", markersize=2.2, zorder=3)
    if len(middle):
        points = ", ".join(f"{wording.number(metric, float(y))} at {x:.3g}" for x, y in zip(kimg, middle, strict=True))
        describe(line, f"{runs[0][0].run.cell}, mean of {quantity(len(done), 'seed')}: {points} thousand")
