"""Several objectives against each other, and the trials that no other beats in all of them. No torch here."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from matplotlib.axes import Axes

from harness.metrics.definitions import Metric
from harness.report.figures import style
from harness.report.figures.style import GOOD, SMALL, SOFT
from harness.tuning.figures import marks
from harness.tuning.figures.history import LEAST
from harness.tuning.findings import Findings, TrialRow

_LEFT, _PANEL, _FOOT, _GAP = 0.55, 2.2, 0.42, 0.12
_RING: marks.Look = {"marker": "o", "markersize": 9, "color": GOOD, "markerfacecolor": "none", "markeredgewidth": 1.3}


def draw(found: Findings, stem: Path) -> bool:
    """A panel a pair of objectives. False for a single one, or below two trials that were measured."""
    panels = [pair for pair in combinations(found.search.objectives, 2) if len(_both(found, pair)) >= LEAST]
    if not panels:
        return False
    text = "Ringed: no other trial is better in all objectives" + (
        "; the line is what they reach together." if len(found.search.objectives) == 2 else "."
    )
    rows = [row for pair in panels for row in _both(found, pair)]
    entries = marks.handles(marks.used(found, rows), [style.handle("Pareto front", **_RING)])
    head = marks.legend_height(entries) + 0.12
    with style.drawing(stem) as figure:
        top = head + len(panels) * (_PANEL + _FOOT + _GAP)
        figure.set_size_inches(style.WIDTH, top + style.note_height(0.05, text) + 0.05)
        marks.legend(figure, 0.06, entries)
        for place, pair in enumerate(panels):
            down = head + place * (_PANEL + _FOOT + _GAP)
            _panel(style.placed(figure, (_LEFT, down, style.WIDTH - _LEFT - 0.12, _PANEL)), found, pair)
        style.note(figure, 0.05, top, text)
    return True


def _both(found: Findings, pair: tuple[Metric, Metric]) -> list[TrialRow]:
    """The trials whose values of both can be drawn."""
    other = {row.number for row in marks.drawable(found, pair[1])}
    return [row for row in marks.drawable(found, pair[0]) if row.number in other]


def _panel(axis: Axes, found: Findings, pair: tuple[Metric, Metric]) -> None:
    rows = _both(found, pair)
    for which, metric in zip("xy", pair, strict=True):
        marks.ruler(axis, which, metric, [row.measured[metric.name] for row in rows])
        label = f"{style.titled(metric)}, {metric.better} is better"
        getattr(axis, f"set_{which}label")(style.fitted(label, 3.5 if which == "x" else _PANEL), color=SOFT)
    for row in rows:
        axis.plot(*_point(row, pair), **marks.look(found, row))
    numbers = {row.number for row in rows}
    front = [row for row in found.front if row.number in numbers]
    for row in front:
        axis.plot(*_point(row, pair), **_RING, zorder=4, linestyle="none")
        axis.annotate(
            str(row.number), _point(row, pair), (6, 5), textcoords="offset points", fontsize=SMALL, color=SOFT,
            zorder=7, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.3},
        )  # fmt: skip
    if len(found.search.objectives) == 2 and front:
        axis.plot(
            *zip(*(_point(row, pair) for row in front), strict=True),
            color=GOOD,
            linewidth=0.9,
            zorder=2,
            drawstyle="steps-post",
        )


def _point(row: TrialRow, pair: tuple[Metric, Metric]) -> tuple[float, float]:
    return row.measured[pair[0].name], row.measured[pair[1].name]
