"""One style for all figures: 120 mm wide, letters of 7 points and more, text that fits its place.

Colour is never the only sign: every verdict has a marker of its own, and its word beside it.
"""

from __future__ import annotations

import functools
import math
import string
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from harness import fonts
from harness.analysis.results import CellResult
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.figures import marks
from harness.report.figures.marks import MarkedFigure, describe
from harness.report.verdicts import INK
from harness.text import one_line

WIDTH = 4.72
"""Inches: the 120 mm of a paper's column and a half, and close to the width of a phone."""
SMALL, MEDIUM = 7.0, 8.0
"""Points."""
LINE = 0.125
"""Inches from one small line to the next."""
SOFT, RULE, BASELINE = "#5c5c5c", "#bdbdbd", "#8a8a8a"
EMPTY = "#f0f0f0"
"""Where a picture would be."""

Box = tuple[float, float, float, float]
"""Left, top, width and height in inches, from the upper left corner of the figure."""
Sides = tuple[float, float, float]
# Names and captions are the user's text: a dollar sign in them must not start a formula. Letters are drawn as shapes,
# so that the file looks alike where the font is missing.
_STYLE: dict[str, Any] = {
    "text.parse_math": False, "text.color": INK, "font.size": SMALL, "font.family": fonts.FONT,
    "svg.hashsalt": "harness", "svg.fonttype": "path", "pdf.fonttype": 42, "savefig.dpi": 300,
    "axes.labelcolor": SOFT, "axes.labelpad": 2.5, "axes.titlesize": "medium", "axes.titlepad": 3.0,
    "axes.edgecolor": RULE, "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#ececec", "grid.linewidth": 0.6,
    "xtick.color": SOFT, "xtick.major.size": 2.5, "xtick.major.pad": 2.0,
    "ytick.color": SOFT, "ytick.major.size": 2.5, "ytick.major.pad": 2.0,
    "lines.solid_capstyle": "round",
}  # fmt: skip
_for_page_alone = ContextVar("for_page_alone", default=False)
_MISSING = "Glyph .* missing from font"


@contextmanager
def drawing(stem: Path, height: float, note: str = "", width: float = WIDTH) -> Iterator[Figure]:
    """A figure of so many inches above its note, saved as stem.svg, stem.pdf and stem.png.

    The note says what the marks mean, in small lines. Equal drawings give equal bytes.
    """
    with matplotlib.rc_context(cast(Any, _STYLE)), warnings.catch_warnings():
        # Letters that no font has are given in words; of labels of ticks, which are made while drawing, as boxes.
        warnings.filterwarnings("ignore", message=_MISSING)
        figure = MarkedFigure()
        lines = folded(note, width - 0.1) if note else []
        figure.set_size_inches(width, height + (len(lines) * LINE + 0.05 if lines else 0.0))
        for row, line in enumerate(lines):
            written(figure, 0.05, height + row * LINE, line, color=SOFT)
        yield figure
        for text in figure.findobj(Text):
            if isinstance(text, Text) and not text.get_text().isascii():
                text.set_text(fonts.drawable(text.get_text()))
                text.set_fontfamily(list(fonts.families(text.get_text())))
        svg, pdf, png = (stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "pdf", "png"))
        figure.savefig(svg, metadata={"Date": None})
        marks.write(figure, svg)
        if not _for_page_alone.get():
            figure.savefig(pdf, metadata={"CreationDate": None})
            figure.savefig(png, metadata={"Software": None})


@contextmanager
def for_page_alone() -> Iterator[None]:
    """Figures are saved as SVG and nothing else, which takes a seventh of the time."""
    before = _for_page_alone.set(True)
    try:
        yield
    finally:
        _for_page_alone.reset(before)


def placed(figure: Figure, box: Box) -> Axes:
    """Axes in that place of the figure."""
    width, height = figure.get_size_inches()
    left, top, wide, high = box
    return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))


def panel(figure: Figure, place: int, columns: int, across: Sides, down: Sides) -> Axes:
    """One of several panels in rows, which share their axis of values: only the first of a row has its numbers.

    `across`, `down`: where the first begins, the width or height of each, and from one to the next, in inches.
    """
    row, column = divmod(place, columns)
    (left, width, step), (top, height, pitch) = across, down
    axis = placed(figure, (left + column * step, top + row * pitch, width, height))
    axis.tick_params(axis="y", labelleft=column == 0, left=column == 0)
    return axis


def written(figure: Figure, left: float, top: float, text: str, **look: Any) -> Text:
    """Text whose upper left corner lies there, in inches from that of the figure."""
    width, height = figure.get_size_inches()
    return figure.text(left / width, 1 - top / height, text, va="top", **look)


def heading(figure: Figure, top: float, text: str, right: str = "") -> list[Text]:
    """Above a panel; `right`: what stands beside its rows."""
    fitting = fitted(text, WIDTH - 0.15, MEDIUM, "bold")
    texts = [written(figure, 0.1, top, fitting, fontsize=MEDIUM, weight="bold")]
    if right:
        texts.append(written(figure, WIDTH - 0.05, top + 0.01, right, color=SOFT, ha="right"))
    return texts


def at_right(axis: Axes, y: float, text: str) -> Text:
    """Text beside a row of a plot."""
    return axis.annotate(
        text, (1.0, y), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
        annotation_clip=False,
    )  # fmt: skip


def plain(text: str) -> str:
    """The user's text as one line that every format can hold, letters that no font here has in words."""
    return fonts.drawable(one_line(text))


@functools.lru_cache(maxsize=20000)
def width_of(text: str, size: float = SMALL, weight: str = "normal") -> float:
    """Inches that one line of text takes in `size` points."""
    font = FontProperties(family=list(fonts.families(text)), size=size, weight=weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_MISSING)
        return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def fitted(text: str, inches: float, size: float = SMALL, weight: str = "normal") -> str:
    """The user's text in one line that is no wider, without its middle if it must be: names differ at their ends."""
    whole = plain(text)[:400]
    if width_of(whole, size, weight) <= inches:
        return whole
    for kept in range(min(len(whole) - 1, 200), 1, -1):
        short = f"{whole[: (kept + 1) // 2].rstrip()}…{whole[len(whole) - kept // 2 :].lstrip()}"
        if width_of(short, size, weight) <= inches:
            return short
    return "…"


def folded(text: str, inches: float) -> list[str]:
    """Our own text in lines that are no wider, broken at spaces."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and width_of(longer) > inches:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def in_lines(name: str, inches: float, most: int) -> str:
    """A name in up to so many lines that are no wider, broken after _, +, - and spaces; cut only if it is longer."""
    rest = plain(name)
    lines: list[str] = []
    while len(lines) < most - 1 and width_of(rest) > inches:
        fits = 0
        while fits < len(rest) and width_of(rest[: fits + 1]) <= inches:
            fits += 1
        end = max((place for place in range(1, fits + 1) if rest[place - 1] in "_+- "), default=fits)
        if not end:
            break
        lines.append(rest[:end].rstrip())
        rest = rest[end:]
    return "\n".join([*lines, fitted(rest, inches)])


def distinct(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The labels of these names; those that look alike with a number, which is the same in every figure."""
    looks = [unicodedata.normalize("NFC", label) for label in labels]
    alike = {look: sorted({name for name, it in zip(names, looks, strict=True) if it == look}) for look in looks}
    rows = zip(names, labels, (alike[look] for look in looks), strict=True)
    return [f"{same.index(name) + 1}: {label}" if same[1:] else label for name, label, same in rows]


def short_names(cells: Sequence[CellResult], toggles: Sequence[str], inches: float, lines: int = 1) -> dict[str, str]:
    """Cell -> a name in up to so many lines. One joined of toggles that would be cut becomes a letter a toggle.

    Cut names would look alike; books on designs use letters too.
    """
    names = {}
    for cell in cells:
        name = in_lines(cell.cell, inches, lines)
        is_joined = cell.cell == "+".join(cell.toggles) and len(cell.toggles) > 1
        is_cut = name.replace("\n", "").replace(" ", "") != plain(cell.cell).replace(" ", "")
        names[cell.cell] = in_lines(_code(cell, toggles), inches, lines) if is_joined and is_cut else name
    return dict(zip(names, distinct([*names], [*names.values()]), strict=True))


def key(names: dict[str, str], cells: Sequence[CellResult], toggles: Sequence[str]) -> str:
    """What the letters stand for: ` A: first; B: second.`; nothing where no cell is named by letters."""
    coded = [cell for cell in cells if names[cell.cell] == _code(cell, toggles) != cell.cell]
    used = {toggle for cell in coded for toggle in cell.toggles}
    meanings = "; ".join(f"{letter}: {in_a_note(t)}" for t, letter in _letters(toggles).items() if t in used)
    return f" {meanings}." if meanings else ""


def in_a_note(name: str) -> str:
    """The user's name in our sentence; it has a line of its own if it must."""
    return fitted(name, 4.0)


def _code(cell: CellResult, toggles: Sequence[str]) -> str:
    letters = _letters(toggles)
    return "+".join(letters[toggle] for toggle in cell.toggles)


def _letters(toggles: Sequence[str]) -> dict[str, str]:
    """Toggle -> A, B, ... or t1, t2, ... beyond the alphabet."""
    few = len(toggles) <= len(string.ascii_uppercase)
    return {t: string.ascii_uppercase[i] if few else f"t{i + 1}" for i, t in enumerate(toggles)}


@dataclass(frozen=True)
class NamedRows:
    """Rows of a plot with their names at the left, which may have several lines."""

    names: list[str]
    centres: list[float]
    """Down from the middle of a first row of one line, in rows."""
    edges: list[float]
    """The upper end of each, in the same way."""
    count: float
    """Of rows; one with several lines counts for more."""

    @classmethod
    def of(cls, names: Sequence[str], inches: float, row: float) -> NamedRows:
        """`row`: inches from row to row, for names of one line."""
        broken = distinct(names, [in_lines(name, inches, 4) for name in names])
        heights = [max(1.0, ((name.count("\n") + 1) * LINE + 0.07) / row) for name in broken]
        edges = [sum(heights[:place]) - 0.5 for place in range(len(heights))]
        centres = [edge + height / 2 for edge, height in zip(edges, heights, strict=True)]
        return cls(broken, centres, edges, sum(heights))

    @property
    def width(self) -> float:
        """Inches."""
        return max(width_of(line) for name in self.names for line in name.split("\n"))

    def name(self, axis: Axes, cells: Sequence[str] = ()) -> None:
        """`cells`: the ideas or cells whose names these are, as they may be cut; none if they are of something else."""
        axis.set_ylim(self.count - 0.5, -0.5)
        axis.set_yticks(self.centres, self.names)
        axis.tick_params(axis="y", length=0, labelcolor=INK)
        axis.grid(axis="y", visible=False)
        for label, cell in zip(axis.get_yticklabels(), cells, strict=bool(cells)):
            describe(label, cell=cell)


def value_axis(axis: Axes, which: str, metric: Metric, values: Sequence[float]) -> None:
    """An axis of the metric over these values: logarithmic for distances."""
    if metric.scale == "log":
        log_axis(axis, which, values)
        return
    low, high = min(values), max(values)
    edge = 0.08 * (high - low) or abs(high) * 0.02 or 1.0
    getattr(axis, f"set_{which}lim")(low - edge, high + edge)
    steps = MaxNLocator(4 if which == "y" else 6, steps=[1, 2, 2.5, 5, 10])
    (axis.xaxis if which == "x" else axis.yaxis).set_major_locator(steps)


def log_axis(axis: Axes, which: str, values: Sequence[float]) -> None:
    """A logarithmic axis over the values, which are positive, with plain numbers at 1, 2, 5 or, if close, at any."""
    getattr(axis, f"set_{which}scale")("log")
    ruler = axis.xaxis if which == "x" else axis.yaxis
    low, high = min(values), max(values)
    edge = max(high / low, 1.02) ** 0.07
    getattr(axis, f"set_{which}lim")(low / edge, high * edge)
    if high / low > 5:
        ruler.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,), numticks=12))
    else:
        steps = MaxNLocator(4 if which == "y" else 7, steps=[1, 2, 2.5, 5, 10]).tick_values(low / edge, high * edge)
        ruler.set_major_locator(FixedLocator([tick for tick in steps if tick > 0]))
    ruler.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ruler.set_minor_locator(NullLocator())


def titled(metric: Metric) -> str:
    """`Fréchet distance (emoji)`, `CLIP score [points]`."""
    return plain(metric.title) + (f" [{plain(metric.unit)}]" if metric.unit and metric.scale == "raw" else "")


def difference_axis(axis: Axes, metric: Metric, label: str) -> None:
    """Differences from left to right, once the axis has its ends: a line at 0, and which side is better."""
    axis.axvline(0, color=BASELINE, linewidth=0.9, zorder=1)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(tick(metric, axis.get_xlim())))
    axis.set_xlabel(f"{label}, {metric.better} is better")


def tick(metric: Metric, ends: tuple[float, float]) -> Callable[[float, int], str]:
    """Writes the ticks of an axis of differences with these ends."""
    least = 1e-9 * max(map(abs, ends))
    return lambda value, _: wording.minus(f"{value:+g}{wording.percent(metric)}") if abs(value) > least else "0"


def handle(label: str, **look: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], **{"linestyle": "none"} | look, label=label)


_LEGEND_COLUMNS = 4


def legend_height(entries: Sequence[Line2D]) -> float:
    """Inches."""
    return math.ceil(len(entries) / _LEGEND_COLUMNS) * LINE * 1.45 + 0.04


def legend(figure: Figure, top: float, entries: Sequence[Line2D]) -> None:
    """What the marks mean, `top` inches below the upper edge."""
    width, height = figure.get_size_inches()
    figure.legend(
        handles=entries, ncols=min(_LEGEND_COLUMNS, len(entries)), loc="upper left", frameon=False,
        bbox_to_anchor=(0.05 / width, 1 - top / height), borderpad=0, borderaxespad=0, handletextpad=0.4,
        columnspacing=1.2, handlelength=1.2,
    )  # fmt: skip
