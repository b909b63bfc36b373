"""Several objectives against each other, and the trials that no other beats in all of them. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from matplotlib.axes import Axes

from harness.metrics.definitions import Metric
from harness.report.figures import style
from harness.report.figures.style import GOOD, SMALL, SOFT
from harness.report.search.figures import marks
from harness.report.search.figures.history import LEAST
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
    if any(len(near) < len(_both(found, pair)) for pair in panels for near in within(_both(found, pair), pair)):
        text += f" {marks.BEYOND}"
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
    near = within(rows, pair)
    for which, metric, values in zip("xy", pair, near, strict=True):
        marks.ruler(axis, which, metric, values)
        label = f"{style.titled(metric)}, {metric.better} is better"
        getattr(axis, f"set_{which}label")(style.fitted(label, 3.5 if which == "x" else _PANEL), color=SOFT)
    stands = {row.number: marks.put_both(axis, _point(row, pair), near, marks.look(found, row)) for row in rows}
    front = [row for row in found.front if row.number in stands]
    for row in front:
        axis.plot(*stands[row.number], **_RING, zorder=4, linestyle="none", clip_on=False)
        axis.annotate(
            str(row.number), stands[row.number], (6, 5), textcoords="offset points", fontsize=SMALL, color=SOFT,
            zorder=7, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.3}, annotation_clip=False,
        )  # fmt: skip
    if len(found.search.objectives) == 2 and front:
        axis.plot(
            *zip(*(_point(row, pair) for row in front), strict=True),
            color=GOOD,
            linewidth=0.9,
            zorder=2,
            drawstyle="steps-post",
        )


def within(rows: Sequence[TrialRow], pair: tuple[Metric, Metric]) -> tuple[list[float], list[float]]:
    """The values that the two axes reach to; others stand at their edges."""
    x, y = (marks.fence(metric, [row.measured[metric.name] for row in rows]) for metric in pair)
    return x, y


def _point(row: TrialRow, pair: tuple[Metric, Metric]) -> tuple[float, float]:
    return row.measured[pair[0].name], row.measured[pair[1].name]
