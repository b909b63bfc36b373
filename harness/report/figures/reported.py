"""What a script reports while it trains: a row for each of its names, one line for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator

from harness.analysis.results import Analysis
from harness.metrics.definitions import Floats
from harness.report.figures import style
from harness.report.figures.marks import describe
from harness.report.figures.style import BASELINE, SOFT
from harness.runs.record import RunRecord, state_of

PREFIX = "script/"
MOST_NAMES, MOST_CELLS = 6, 8
_LEFT, _ROW, _PANEL = 0.5, 1.05, 0.72


def names(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The script's names in all runs that are done, in their order."""
    points = (point for record in records if state_of(record) == "done" for point in record.points)
    found = (name.removeprefix(PREFIX) for point in points for name in point.values if name.startswith(PREFIX))
    return tuple(dict.fromkeys(found))


def draw(analysis: Analysis, records: Sequence[RunRecord], stem: Path) -> bool:
    """The mean over seeds of each cell, the baseline grey. False where nothing was reported."""
    every = names(records)
    cells = list(dict.fromkeys(record.run.cell for record in records if state_of(record) == "done"))
    cells.sort(key=lambda cell: cell != analysis.baseline)
    if not every:
        return False
    shown, drawn = every[:MOST_NAMES], cells[:MOST_CELLS]
    left_out = [f"{len(shown)} of {len(every)} names"] if len(every) > len(shown) else []
    left_out += [f"{len(drawn)} of {len(cells)} cells"] if len(cells) > len(drawn) else []
    text = f"Means over finished seeds against steps. {', '.join(left_out)}{' are drawn.' if left_out else ''}"
    colours = dict(zip(drawn, colormaps["viridis"](np.linspace(0.0, 0.85, len(drawn))), strict=True))
    colours |= {analysis.baseline: BASELINE} if analysis.baseline in colours else {}
    entries = [style.handle(style.plain(cell), linestyle="-", color=colours[cell], linewidth=1.4) for cell in drawn]
    below = style.legend_height(entries)
    height = len(shown) * _ROW + 0.2 + below
    with style.drawing(stem, height, text.strip()) as figure:
        for row, name in enumerate(shown):
            style.heading(figure, row * _ROW + 0.04, style.plain(name))
            axis = style.placed(figure, (_LEFT, row * _ROW + 0.22, style.WIDTH - _LEFT - 0.1, _PANEL))
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            for cell in drawn:
                steps, means = line(records, cell, name)
                [drawn_line] = axis.plot(steps, means, color=colours[cell], linewidth=1.2)
                end = f", {means[-1]:.4g} at step {steps[-1]:.0f}" if len(means) else ""
                describe(drawn_line, f"{cell}: {name}{end}", cell=cell)
        style.written(figure, style.WIDTH / 2, len(shown) * _ROW + 0.1, "steps", color=SOFT, ha="center")
        style.legend(figure, len(shown) * _ROW + 0.2, entries)
    return True


def line(records: Sequence[RunRecord], cell: str, name: str) -> tuple[Floats, Floats]:
    """Steps that every finished run of the cell has reported the name at, and the mean there."""
    runs = [record for record in records if record.run.cell == cell and state_of(record) == "done"]
    series = [{p.step: p.values[PREFIX + name] for p in run.points if PREFIX + name in p.values} for run in runs]
    steps = sorted(set.intersection(*map(set, series))) if series else []
    means = [float(np.mean([each[step] for each in series])) for step in steps]
    return np.array(steps, dtype=np.float64), np.array(means, dtype=np.float64)
