"""Names beside marks: none covers a mark, another name or, as far as there is room, a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from harness.report.figures import style
from harness.report.figures.marks import describe
from harness.report.figures.style import SMALL, SOFT

Point = tuple[float, float]
Line = tuple[Point, Point]
Rectangle = tuple[float, float, float, float]
"""Left, bottom, right and top, in points."""
_RINGS = (0.0, 4.0, 9.0, 16.0, 26.0, 40.0, 58.0)
"""Points between a mark and its name, the nearest first."""
_TURNS = 16
_NEAR = 4.0
"""Points up to which a name needs no line to its mark."""
_LINE = SMALL * 1.2
"""Points from line to line of a name, as matplotlib sets them."""


@dataclass(frozen=True)
class Label:
    """A name and the mark that it belongs to."""

    name: str
    """In one line or several."""
    cell: str
    """Whose name it is, as names may be cut."""
    at: Point
    """In the data of the axes."""
    radius: float
    """Of the mark, in points."""
    weight: str = "normal"


def in_points(axis: Axes, places: Sequence[Point]) -> list[Point]:
    """Places in the data of the axes, in points of the figure."""
    points = axis.transData.transform(list(places)) * 72 / axis.figure.dpi
    return [(x, y) for x, y in points.tolist()]


def write(axis: Axes, labels: Sequence[Label], marks: Sequence[Rectangle], lines: Sequence[Rectangle]) -> None:
    """Each name where it meets no mark and no name before it, nor a line unless there is no such place.

    One that must stand further off has a line to its mark; one without any place is left out.
    """
    frame, dpi = axis.get_window_extent(), axis.figure.dpi / 72
    inside = (frame.x0 / dpi, frame.y0 / dpi, frame.x1 / dpi, frame.y1 / dpi)
    taken = list(marks)
    leaders: list[Line] = []
    for label, dot in zip(labels, in_points(axis, [label.at for label in labels]), strict=True):
        parts = label.name.split("\n")
        width = max(style.width_of(part, SMALL, label.weight) for part in parts) * 72 + 2
        size, reach = (width, SMALL + 2 + _LINE * (len(parts) - 1)), label.radius + 2
        spot = (
            free_spot(dot, reach, size, [*taken, *lines], inside, leaders)
            or free_spot(dot, reach, size, taken, inside, leaders)
            or free_spot(dot, reach, size, taken, inside)
        )
        if spot is None:
            continue
        box = (*spot, spot[0] + size[0], spot[1] + size[1])
        taken.append(box)
        arrow = None
        if _gap(dot, box) > reach + _NEAR:
            leaders.append((dot, _middle(box)))
            arrow = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": label.radius}
        written = axis.annotate(
            label.name, label.at, (spot[0] + 1 - dot[0], spot[1] + 1 - dot[1]), textcoords="offset points", zorder=5,
            weight=label.weight, va="bottom", linespacing=1.2, arrowprops=arrow,
            # Where a name must cross a line, it stands in front of it.
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.2},
        )  # fmt: skip
        for part in filter(None, (written, written.arrow_patch)):
            describe(part, cell=label.cell)


def free_spot(
    dot: Point,
    reach: float,
    size: Point,
    taken: Sequence[Rectangle],
    inside: Rectangle,
    leaders: Sequence[Line] | None = None,
) -> Point | None:
    """Lower left corner of a name of that size, the nearest around the dot that meets nothing; None: there is none.

    `leaders`: lines from marks to names so far, which the name must not cover, as its own must cross no name; None:
    they may.
    """
    wide, high = size
    others = [other for other in taken if not meet(other, (*dot, *dot))]
    # Right of the dot first, then around it, ever further away.
    for ring, turn in product(_RINGS, range(_TURNS)):
        angle = 2 * math.pi * turn / _TURNS
        sine, cosine = math.sin(angle), math.cos(angle)
        left = dot[0] + (reach + ring) * cosine - wide * (1 - cosine) / 2
        low = dot[1] + (reach + ring) * sine - high * (1 - sine) / 2
        box = (left, low, left + wide, low + high)
        within = inside[0] <= left and inside[1] <= low and box[2] <= inside[2] and box[3] <= inside[3]
        if not within or any(meet(box, other) for other in taken):
            continue
        if leaders is None:
            return left, low
        covers = any(_crosses(line, box) for line in leaders)
        has_line = _gap(dot, box) > reach + _NEAR
        if not covers and not (has_line and any(_crosses((dot, _middle(box)), other) for other in others)):
            return left, low
    return None


def meet(one: Rectangle, other: Rectangle) -> bool:
    """Whether two rectangles have a part in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _gap(dot: Point, box: Rectangle) -> float:
    """From a dot to the nearest place of a rectangle."""
    return math.dist(dot, (min(max(dot[0], box[0]), box[2]), min(max(dot[1], box[1]), box[3])))


def _middle(box: Rectangle) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _crosses(line: Line, box: Rectangle) -> bool:
    return bool(Path(line).intersects_bbox(Bbox.from_extents(*box)))
