"""One style for all figures: 120 mm wide, letters of 7 points and more, colours safe for colour-blind readers.

Colour never stands alone: every verdict has a marker of its own, and its word beside it. No torch here.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from harness.analysis.results import Verdict
from harness.metrics.definitions import Metric

WIDTH = 4.72
"""Inches: the 120 mm of a paper's column and a half, and close to the width of a phone."""
SMALL, MEDIUM = 7.0, 8.0
"""Points."""
INK, SOFT, RULE = "#222222", "#5c5c5c", "#bdbdbd"
EMPTY = "#f0f0f0"
"""Where a picture would be."""
GOOD, BAD, NEUTRAL = "#009e73", "#d55e00", "#0072b2"
BASELINE = "#8a8a8a"

Box = tuple[float, float, float, float]
"""Left, top, width and height in inches, from the upper left corner of the figure."""


@dataclass(frozen=True)
class Look:
    """How a verdict is drawn."""

    colour: str
    marker: str
    word: str
    hollow: bool = False

    def dot(self, size: float = 5.5) -> dict[str, Any]:
        """Properties of a marker, for `Axes.plot`."""
        face = "white" if self.hollow else self.colour
        return {"marker": self.marker, "markersize": size, "color": self.colour, "markerfacecolor": face}


LOOKS: Mapping[Verdict, Look] = {
    "better": Look(GOOD, "o", "better"),
    "worse": Look(BAD, "s", "worse"),
    "equivalent": Look("#56b4e9", "D", "equivalent"),
    "inconclusive": Look(NEUTRAL, "o", "inconclusive", hollow=True),
    "insufficient seeds": Look("#e69f00", "v", "too few seeds", hollow=True),
    "diverged": Look("#cc79a7", "X", "diverged"),
    "diagnostic": Look(INK, "d", "not judged", hollow=True),
}
"""Colours of Okabe and Ito (2008); grey is left to the baseline."""

# Names and captions are the user's text: a dollar sign in them must not start a formula. Letters are drawn as shapes,
# so that the file looks alike where the font is missing.
_STYLE: dict[str, Any] = {
    "text.parse_math": False,
    "svg.hashsalt": "harness",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "font.size": MEDIUM,
    "font.family": fonts.FONT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.7,
    "axes.labelsize": SMALL,
    "axes.labelpad": 2.5,
    "axes.titlesize": SMALL,
    "axes.titlepad": 3.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 300,
}


_MISSING = "Glyph .* missing from font"


@contextmanager
def drawing(stem: Path) -> Iterator[Figure]:
    """A figure in the house style, saved as stem.svg, stem.pdf and stem.png: equal drawings give equal bytes.

    Set its size before placing anything in it.
    """
    with matplotlib.rc_context(cast(Any, _STYLE)), warnings.catch_warnings():
        # Letters that no font has are given in words; of labels of ticks, which are made while drawing, as boxes.
        warnings.filterwarnings("ignore", message=_MISSING)
        figure = Figure()
        yield figure
        for text in figure.findobj(Text):
            if isinstance(text, Text) and not text.get_text().isascii():
                text.set_text(fonts.drawable(text.get_text()))
                text.set_fontfamily(list(fonts.families(text.get_text())))
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})


def placed(figure: Figure, box: Box) -> Axes:
    """Axes in that place of the figure."""
    width, height = figure.get_size_inches()
    left, top, wide, high = box
    return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))


def written(figure: Figure, left: float, top: float, text: str, **look: Any) -> Text:
    """Text whose upper left corner lies there, in inches from that of the figure."""
    width, height = figure.get_size_inches()
    given: dict[str, Any] = {"va": "top", "ha": "left", "fontsize": SMALL}
    return figure.text(left / width, 1 - top / height, text, **(given | look))


def plain(text: str) -> str:
    """The user's text as one line that every format can hold, letters that no font here has in words."""
    return fonts.drawable("".join(letter if letter.isprintable() else "�" for letter in " ".join(text.split())))


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


def folded(text: str, inches: float, size: float = SMALL) -> list[str]:
    """Our own text in lines that are no wider, broken at spaces."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and width_of(longer, size) > inches:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def in_two(name: str, inches: float) -> str:
    """A name in two lines where it is too wide for one, broken after _, + or -; cut only where that is not enough."""
    whole = plain(name)
    if width_of(whole) <= inches:
        return whole
    breaks = [place for place in range(len(whole) - 1, 0, -1) if whole[place - 1] in "_+- "]
    first = next((place for place in breaks if width_of(whole[:place]) <= inches), 0)
    if not first:
        return fitted(name, inches)
    return f"{whole[:first].rstrip()}\n{fitted(whole[first:], inches)}"


LINE = 0.125
"""Inches from one small line to the next."""


def note(figure: Figure, left: float, top: float, text: str) -> None:
    """What the marks mean, in small lines across the rest of the figure. `note_height` says how high they are."""
    for row, line in enumerate(folded(text, _note_width(left))):
        written(figure, left, top + row * LINE, line, color=SOFT)


def note_height(left: float, text: str) -> float:
    """Inches."""
    return len(folded(text, _note_width(left))) * LINE


def _note_width(left: float) -> float:
    return WIDTH - left - 0.05


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


def handle(label: str, **look: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], **{"linestyle": "none"} | look, label=label)
