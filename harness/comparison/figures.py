"""The report's figures, each as SVG and PNG. Okabe-Ito colours (safe for colour-blind readers) say the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from harness.comparison.analysis import Comparison, Effect, Verdict
from harness.comparison.wording import signed
from harness.metrics.definitions import Metric
from harness.records import RunRecord, state_of

Curve = tuple[list[float], list[float]]

GREY, INK = "#8a8a8a", "#222222"
COLOURS: dict[Verdict, str] = {
    "better": "#009e73",
    "worse": "#d55e00",
    "no evidence either way": "#0072b2",
    "insufficient seeds": "#0072b2",
    "diagnostic": "#0072b2",
    "diverged": "#cc79a7",
}
# Names and captions are the user's text: a dollar sign in them must not start a formula.
_STYLE: dict[str, Any] = {
    "text.parse_math": False,
    "svg.hashsalt": "harness",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#bbbbbb",
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 160,
}
_WORDS: dict[Verdict, str] = {"no evidence either way": "unclear", "insufficient seeds": "too few", "diagnostic": ""}
_COLUMNS = 4


@contextmanager
def drawing(stem: Path) -> Iterator[Figure]:
    """A figure in the house style, saved as stem.svg and stem.png: equal drawings give equal bytes."""
    with matplotlib.rc_context(cast(Any, _STYLE)):
        figure = Figure(layout="constrained")
        yield figure
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})


def learning_curves(comparison: Comparison, records: Sequence[RunRecord], metric: Metric, stem: Path) -> None:
    """One panel a variant: the metric against thousands of images, thin lines the seeds, the baseline in grey."""
    variants = [cell.cell for cell in comparison.cells if cell.cell != comparison.baseline] or [comparison.baseline]
    columns = min(_COLUMNS, len(variants))
    rows = math.ceil(len(variants) / columns)
    effects = {effect.cell: effect for effect in comparison.of(metric.name)}
    with drawing(stem) as figure:
        figure.set_size_inches(2.6 * columns + 0.5, 2.1 * rows + 0.6)
        axes = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axis, cell in zip(axes, variants, strict=False):
            _curves(axis, _of_cell(records, comparison.baseline), metric, GREY)
            _curve_panel(axis, _of_cell(records, cell), metric, effects.get(cell))
            axis.set_title(cell, loc="left", color=INK, fontsize=min(9, 260 / len(cell)))
        _scale(axes[0], records, metric)
        for place, axis in enumerate(axes):
            axis.set_visible(place < len(variants))
            axis.tick_params(labelbottom=place + columns >= len(variants))
        figure.supxlabel("training images shown, thousands", fontsize=9, color=INK)
        figure.supylabel(metric.title, fontsize=9, color=INK)
        legend = f"{metric.title}, {metric.better} is better; grey: {comparison.baseline}; thin: seeds; ×: diverged"
        figure.suptitle(legend, fontsize=9, x=0.01, ha="left")


def _curve_panel(axis: Axes, records: Sequence[RunRecord], metric: Metric, effect: Effect | None) -> None:
    if effect is None:
        return
    colour = COLOURS[effect.verdict]
    _curves(axis, records, metric, colour)
    # The corner that the curves leave free.
    height, edge = (0.95, "top") if metric.better == "lower" else (0.05, "bottom")
    place: dict[str, Any] = {"transform": axis.transAxes, "ha": "right", "va": edge}
    axis.text(0.98, height, _short(metric, effect), color=colour, fontsize=8, **place)


def _scale(axis: Axes, records: Sequence[RunRecord], metric: Metric) -> None:
    """The range of the trained snapshots: the untrained one, far off, would flatten all that is to be compared."""
    if metric.scale == "log":
        _log_scale(axis)
    curves = [zip(*curve(record, metric), strict=True) for record in records]
    values = [value for points in curves for kimg, value in points if kimg > 0]
    if values and min(values) < max(values):
        low, high = axis.transData.transform([(0, min(values)), (0, max(values))])[:, 1]
        edges = [(0, low - 0.06 * (high - low)), (0, high + 0.06 * (high - low))]
        axis.set_ylim(*axis.transData.inverted().transform(edges)[:, 1])


def _of_cell(records: Sequence[RunRecord], cell: str) -> list[RunRecord]:
    return [record for record in records if record.run.cell == cell]


def _log_scale(axis: Axes) -> None:
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def curve(record: RunRecord, metric: Metric) -> Curve:
    """Thousands of images and values of every measured snapshot of a run."""
    key = f"metrics/{metric.name}"
    points = [(point.kimg, point.values[key]) for point in record.points if key in point.values]
    return [kimg for kimg, _ in points], [value for _, value in points]


def _curves(axis: Axes, records: Sequence[RunRecord], metric: Metric, colour: str) -> None:
    """Thin lines, and their mean over the runs that are done, or over all while none is."""
    for record in records:
        kimg, values = curve(record, metric)
        axis.plot(kimg, values, color=colour, linewidth=0.8, alpha=0.5)
        if kimg and state_of(record) == "diverged":
            axis.plot(kimg[-1], values[-1], marker="x", color=colour, markersize=6, markeredgewidth=1.6)
    done = [record for record in records if state_of(record) == "done"] or records
    seen = [dict(zip(*curve(record, metric), strict=True)) for record in done if curve(record, metric)[0]]
    shared = sorted(set.intersection(*map(set, seen))) if seen else []
    mean = [_mean(metric, [values[kimg] for values in seen]) for kimg in shared]
    axis.plot(shared, mean, color=colour, linewidth=2.0, marker="o", markersize=3)


def _mean(metric: Metric, values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))) if metric.scale == "log" else np.mean(values))


def _short(metric: Metric, effect: Effect) -> str:
    if effect.difference is None:
        return "nothing to compare"
    return f"{signed(metric, effect.difference)} {_WORDS.get(effect.verdict, effect.verdict)}".strip()


def forest(comparison: Comparison, metrics: Sequence[Metric], stem: Path) -> None:
    """Differences from the baseline with 95 % intervals, a panel a metric, a row a variant; small dots are seeds."""
    cells = [cell.cell for cell in comparison.cells if cell.cell != comparison.baseline]
    with drawing(stem) as figure:
        figure.set_size_inches(4.3 * len(metrics) + 1.2, 0.42 * len(cells) + 1.3)
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            _forest_panel(axis, metric, comparison.of(metric.name))
        axes[0].set_yticks(range(len(cells)), cells, fontsize=9, color=INK)
        axes[0].set_ylim(len(cells) - 0.4, -0.6)
        title = f"Against {comparison.baseline}: mean, 95 % interval and single seeds; seeds improved and verdict"
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")


def _forest_panel(axis: Axes, metric: Metric, effects: Sequence[Effect]) -> None:
    limits = _limits(effects)
    axis.axvline(0, color=GREY, linewidth=1)
    axis.set_xlim(*limits)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(_tick(metric)))
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    for row, effect in enumerate(effects):
        _forest_row(axis, row, effect, limits)
    good, bad = ("left", "right") if metric.better == "lower" else ("right", "left")
    axis.set_title("← better" if good == "left" else "better →", loc=cast(Any, good), fontsize=8, color="#009e73")
    axis.set_title("worse →" if bad == "right" else "← worse", loc=cast(Any, bad), fontsize=8, color="#d55e00")
    axis.set_xlabel(f"{metric.title}, {'% change' if metric.scale == 'log' else metric.unit or 'difference'}")


def _tick(metric: Metric) -> Callable[[float, int], str]:
    unit = " %" if metric.scale == "log" else ""
    return lambda value, _: f"{value:+g}{unit}".replace("-", "−") if value else "0"


def _limits(effects: Sequence[Effect]) -> tuple[float, float]:
    """Ends of the axis. A hopelessly wide interval leaves it rather than flattening all others."""
    seeds = [value for effect in effects for value in effect.differences]
    widest = 2.5 * max(map(abs, seeds), default=0.0)
    ends = [end for effect in effects for end in (effect.low, effect.high) if end is not None]
    shown = [0.0, *seeds, *(min(max(end, -widest), widest) for end in ends)]
    margin = 0.08 * (max(shown) - min(shown)) or 1.0
    return min(shown) - margin, max(shown) + margin


def _forest_row(axis: Axes, row: int, effect: Effect, limits: tuple[float, float]) -> None:
    colour = COLOURS[effect.verdict]
    if effect.low is not None and effect.high is not None:
        ends = max(effect.low, limits[0]), min(effect.high, limits[1])
        axis.plot(ends, (row, row), color=colour, linewidth=2)
        axis.plot(ends[0], row, marker="|" if ends[0] == effect.low else "<", color=colour, clip_on=False)
        axis.plot(ends[1], row, marker="|" if ends[1] == effect.high else ">", color=colour, clip_on=False)
    spread = [row + 0.22] * effect.n
    axis.plot(effect.differences, spread, "o", color=colour, markersize=2.8, alpha=0.7, linestyle="none")
    if effect.difference is not None:
        axis.plot(effect.difference, row, "o", color=colour, markersize=5.5, markeredgecolor="white")
    axis.annotate(
        _row_note(effect), (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour
    )


def _row_note(effect: Effect) -> str:
    if not effect.n:
        return "nothing to compare"
    return f"{effect.improved}/{effect.n} {_WORDS.get(effect.verdict, effect.verdict)}"
