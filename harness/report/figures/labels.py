"""Names beside marks: none covers a mark, another name or, as far as there is room, a line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from harness.report.figures import style
from harness.report.figures.style import SMALL, SOFT
from harness.report.verdicts import INK

Point = tuple[float, float]
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
    leaders: list[tuple[Point, Point]] = []
    dots = in_points(axis, [label.at for label in labels])
    for label, dot in zip(labels, dots, strict=True):
        parts = label.name.split("\n")
        width = max(style.width_of(part, SMALL, label.weight) for part in parts)
        size = width * 72 + 2, SMALL + 2 + _LINE * (len(parts) - 1)
        reach = label.radius + 2
        spot = free_spot(dot, reach, size, [*taken, *lines], inside, leaders)
        spot = spot or free_spot(dot, reach, size, taken, inside, leaders)
        spot = spot or free_spot(dot, reach, size, taken, inside)
        if spot is None:
            continue
        box = (*spot, spot[0] + size[0], spot[1] + size[1])
        taken.append(box)
        if _gap(dot, box) > label.radius + 2 + _NEAR:
            leaders.append((dot, _middle(box)))
        _put(axis, label, dot, box)


def _put(axis: Axes, label: Label, dot: Point, box: Rectangle) -> None:
    line = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": label.radius}
    # Where a name must cross a line, it stands in front of it.
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.2}
    axis.annotate(
        label.name, label.at, (box[0] + 1 - dot[0], box[1] + 1 - dot[1]), textcoords="offset points", fontsize=SMALL,
        color=INK, zorder=5, weight=label.weight, va="bottom", linespacing=1.2, bbox=behind,
        arrowprops=line if _gap(dot, box) > label.radius + 2 + _NEAR else None,
    )  # fmt: skip


def free_spot(
    dot: Point,
    reach: float,
    size: Point,
    taken: Sequence[Rectangle],
    inside: Rectangle,
    leaders: Sequence[tuple[Point, Point]] | None = None,
) -> Point | None:
    """Lower left corner of a name of that size, the nearest around the dot that meets nothing; None: there is none.

    `leaders`: lines from marks to names so far, which the name must not cover, as its own must cross no name; None:
    they may.
    """
    for left, low in _spots(dot, reach, size):
        box = (left, low, left + size[0], low + size[1])
        within = box[0] >= inside[0] and box[1] >= inside[1] and box[2] <= inside[2] and box[3] <= inside[3]
        if not within or any(meet(box, other) for other in taken):
            continue
        if leaders is not None and not _is_clear(dot, reach, box, taken, leaders):
            continue
        return left, low
    return None


def _is_clear(
    dot: Point, reach: float, box: Rectangle, taken: Sequence[Rectangle], leaders: Sequence[tuple[Point, Point]]
) -> bool:
    if any(_crosses(other, box) for other in leaders):
        return False
    others = [other for other in taken if not meet(other, (*dot, *dot))]
    return _gap(dot, box) <= reach + _NEAR or not any(_crosses((dot, _middle(box)), other) for other in others)


def _spots(dot: Point, reach: float, size: Point) -> Iterator[Point]:
    """Around the dot, right of it first, ever further away."""
    wide, high = size
    for ring in _RINGS:
        for turn in range(_TURNS):
            angle = 2 * math.pi * turn / _TURNS
            sine, cosine = math.sin(angle), math.cos(angle)
            left = dot[0] + (reach + ring) * cosine - wide * (1 - cosine) / 2
            yield left, dot[1] + (reach + ring) * sine - high * (1 - sine) / 2


def meet(one: Rectangle, other: Rectangle) -> bool:
    """Whether two rectangles have a part in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _gap(dot: Point, box: Rectangle) -> float:
    """From a dot to the nearest place of a rectangle."""
    return math.dist(dot, (min(max(dot[0], box[0]), box[2]), min(max(dot[1], box[1]), box[3])))


def _middle(box: Rectangle) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _crosses(line: tuple[Point, Point], box: Rectangle) -> bool:
    """Whether a straight line meets a rectangle: what is left of it after cutting it at each side (Liang, Barsky)."""
    (x, y), (to_x, to_y) = line
    first, last = 0.0, 1.0
    for step, low, high in ((to_x - x, box[0] - x, box[2] - x), (to_y - y, box[1] - y, box[3] - y)):
        if step == 0:
            if low > 0 or high < 0:
                return False
            continue
        ends = sorted((low / step, high / step))
        first, last = max(first, ends[0]), min(last, ends[1])
    return first < last
