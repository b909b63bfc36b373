"""The table of ideas and metrics as one picture, wide and low, for a README or a slide.

Its SVG is light or dark as the reader's screen is, each on its own ground.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from harness.analysis.results import Analysis
from harness.report.document.model import Bar, Cell, Column, Mark, Table, plain, simple
from harness.report.figures import style
from harness.report.figures.style import RULE, SOFT
from harness.report.matrix import is_against_baseline, matrix, subjects
from harness.report.verdicts import INK
from harness.text import quantity

WIDE, TALLEST = 8.6, 5.2
"""Inches: 826 and 499 pixels of a page."""
MOST_METRICS = 3
_HEAD, _ROW, _FOOT, _MARGIN = 0.5, 0.36, 0.34, 0.12
_BAR, _NAME, _GAP = 0.8, 1.9, 0.1
_LARGE = 9.0
_COLOURS = {"better": "#00705a", "worse": "#a84300", "badge": "#a84300", "equivalent": "#0b5c94", "diverged": "#96356f"}
"""Of words, which need more contrast than marks; of all others SOFT."""
_SHADE, _PAPER = "#dcebf5", "#ffffff"
_DARK = {
    _PAPER: "#16181b",
    INK: "#e5e4df",
    SOFT: "#a3a6aa",
    RULE: "#4a4e54",
    _SHADE: "#22384a",
    _COLOURS["better"]: "#4fcaa6",
    _COLOURS["worse"]: "#f39a63",
    _COLOURS["equivalent"]: "#7fbcec",
    _COLOURS["diverged"]: "#e49bca",
}
"""Colour -> the one where the screen is dark."""


def draw(analysis: Analysis, at_equal_time: Analysis | None, stem: Path) -> bool:
    """One row for each idea, the best first. False where there are not two ideas or cells to compare."""
    every = subjects(analysis)
    if len(every) < 2:
        return False
    table = matrix(analysis, every, at_equal_time)
    rows = [row.cells for row in table.rows][: int((TALLEST - _HEAD - _FOOT) / _ROW)]
    names = _names([plain(cells[0].text) for cells in rows])
    left = 2 * _MARGIN + max(style.width_of(line, size) for name, size in names for line in name.split("\n"))
    room = WIDE - left - _MARGIN
    # As many metrics as leave each column the room of what stands in it.
    widths = [max(_width(cells[metric]) for cells in rows) for metric in range(1, len(table.columns))][:MOST_METRICS]
    fits = [many for many in range(1, len(widths) + 1) if (max(widths[:many]) + _GAP) * many <= room]
    columns = table.columns[1 : max(fits, default=1) + 1]
    wide = room / len(columns)
    height = _HEAD + len(rows) * _ROW + _FOOT
    with style.drawing(stem, height, width=WIDE) as figure:
        axis = style.placed(figure, (0, 0, WIDE, height))
        axis.set(xlim=(0, WIDE), ylim=(height, 0))
        axis.set_axis_off()
        axis.add_patch(Rectangle((0, 0), WIDE, height, facecolor=_PAPER, linewidth=0, zorder=0))
        for place, column in enumerate(columns):
            _head(axis, left + place * wide, wide - _GAP, column)
        for place, ((name, size), cells) in enumerate(zip(names, rows, strict=True)):
            middle = _HEAD + (place + 0.5) * _ROW
            axis.plot((_MARGIN, WIDE - _MARGIN), (middle - _ROW / 2,) * 2, color=RULE, linewidth=0.6)
            axis.text(_MARGIN, middle, name, va="center", fontsize=size)
            for metric, cell in enumerate(cells[1 : len(columns) + 1]):
                _entry(axis, left + metric * wide, middle, cell)
        note = style.fitted(_note(analysis, table, len(rows), len(columns)), WIDE - 2 * _MARGIN)
        axis.text(_MARGIN, height - _FOOT / 2, note, va="center", color=SOFT)
    _follow_the_screen(stem.with_name(f"{stem.name}.svg"))
    return True


def _names(names: Sequence[str]) -> list[tuple[str, float]]:
    """Each name with the size of its letters: large ones where it fits, else two lines of small ones."""
    sizes = [_LARGE if style.width_of(style.plain(name), _LARGE) <= _NAME else style.SMALL for name in names]
    labels = [
        style.plain(n) if size == _LARGE else style.in_lines(n, _NAME, 2) for n, size in zip(names, sizes, strict=True)
    ]
    return list(zip(style.distinct(names, labels), sizes, strict=True))


def _head(axis: Axes, left: float, wide: float, column: Column) -> None:
    title, _, better = column.title.rpartition(": ")
    axis.text(left, 0.19, style.fitted(title, wide, _LARGE, "bold"), va="center", weight="bold", fontsize=_LARGE)
    axis.text(left, 0.36, better, va="center", color=SOFT)


def _entry(axis: Axes, left: float, middle: float, cell: Cell) -> None:
    if cell.bar:
        _bar(axis, left + _BAR / 2, middle, cell.bar, _colour(cell))
    for at, down, text, look in _words(cell):
        axis.text(left + at, middle + down, text, va="center", **look)


def _width(cell: Cell) -> float:
    """Inches that a cell takes."""
    return max(
        at + style.width_of(text, look.get("fontsize", style.SMALL), look.get("weight", "normal"))
        for at, _, text, look in _words(cell)
    )


def _colour(cell: Cell) -> str:
    first, *_ = simple(cell.text)
    return _COLOURS.get(first.kind, SOFT) if isinstance(first, Mark) else SOFT


def _words(cell: Cell) -> Iterator[tuple[float, float, str, dict[str, Any]]]:
    """The change and its verdict; below it the interval and what weakens the claim: each text with its place, from the
    left of the cell and down from its middle, and its look."""
    first, *rest = simple(cell.text)
    at, colour = _BAR + 0.12, _colour(cell)
    weight = "bold" if colour != SOFT else "normal"
    yield at, -0.075, plain(first), {"color": colour, "weight": weight, "fontsize": _LARGE}
    interval = "".join(plain(span) for span in rest if not isinstance(span, Mark)).strip()
    yield at, 0.085, interval, {"color": SOFT}
    # Of several weaknesses the first stands beside the verdict, as the line of the interval has no room for all.
    weaknesses = [span.text for span in rest if isinstance(span, Mark)]
    look = {"color": _COLOURS["badge"]}
    if weaknesses[1:]:
        yield at + style.width_of(plain(first), _LARGE, weight) + 0.1, -0.07, weaknesses[0], look
    for text in weaknesses[-2:] if len(weaknesses) > 2 else weaknesses[-1:]:
        at += style.width_of(interval) + 0.1
        yield at, 0.085, text, look
        interval = text


def _bar(axis: Axes, centre: float, middle: float, bar: Bar, colour: str) -> None:
    def at(value: float) -> float:
        return centre + value * _BAR / 2

    if bar.margin:
        shade = Rectangle((at(-bar.margin), middle - 0.12), bar.margin * _BAR, 0.24, facecolor=_SHADE, linewidth=0)
        axis.add_patch(shade)
    axis.plot((centre, centre), (middle - 0.12, middle + 0.12), color=SOFT, linewidth=0.6)
    if bar.low is not None and bar.high is not None:
        axis.plot((at(bar.low), at(bar.high)), (middle, middle), color=colour, linewidth=1.6, solid_capstyle="butt")
    axis.plot(at(bar.value), middle, "o", color=colour, markersize=4.5)


def _note(analysis: Analysis, table: Table, rows: int, columns: int) -> str:
    """What is shown, and how much is not."""
    runs = sum(sum(cell.states.values()) for cell in analysis.cells)
    what = f"Change against {analysis.baseline}" if is_against_baseline(analysis) else "Effect of each idea"
    parts = [
        f"{what} and 95 % interval",
        *(["shaded: within the margin"] if any(result.margin for result in analysis.headlines) else []),
        f"{quantity(len(analysis.cells), 'cell')}, {quantity(len(analysis.seeds), 'seed')}, {quantity(runs, 'run')}",
    ]
    for shown, every, what in ((rows, len(table.rows), "row"), (columns, len(table.columns) - 1, "metric")):
        parts += [f"{shown} of {quantity(every, what)}"] if shown < every else []
    return f"{'; '.join(parts)}."


def _follow_the_screen(svg: Path) -> None:
    rules = "".join(
        f'[style*="{part}: {old}"]{{{part}:{new}!important}}'
        for old, new in _DARK.items()
        for part in ("fill", "stroke")
    )
    text = svg.read_text(encoding="utf-8")
    dark = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    svg.write_text(text.replace('<g id="figure_1">', f'{dark}<g id="figure_1">', 1), encoding="utf-8")
