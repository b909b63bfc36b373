"""Marks of a drawing that answer: whose they are, and what they say, written into its SVG.

A browser shows what a mark says where the pointer rests on it; the page of a report offers more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from harness.text import one_line

_ID = "mark-{}"


@dataclass(frozen=True)
class _Meaning:
    says: str
    cell: str
    seed: int | None
    metric: str
    about: tuple[str, ...]


class MarkedFigure(Figure):
    """A figure that knows what its marks mean."""

    meanings: list[_Meaning]

    def __init__(self) -> None:
        super().__init__()
        self.meanings = []


def describe(
    artist: Artist,
    says: str = "",
    *,
    cell: str = "",
    seed: int | None = None,
    metric: str = "",
    about: tuple[str, ...] = (),
) -> None:
    """Give an artist what it says, such as its value, interval and seeds, and say whose it is.

    `cell`: of an idea or cell; `seed`: of one seed alone; `metric`: of one metric, where a drawing has several;
    `about`: of several ideas together.
    """
    figure = artist.get_figure(root=True)
    assert isinstance(figure, MarkedFigure), "drawings are made by style.drawing"
    artist.set_gid(_ID.format(len(figure.meanings)))
    figure.meanings.append(_Meaning(says, cell, seed, metric, about))


def write(figure: MarkedFigure, svg: Path) -> None:
    """Into the saved drawing: the attributes data-cell, data-seed, data-metric and data-about, and a title."""
    text = svg.read_text(encoding="utf-8")
    for number, meaning in enumerate(figure.meanings):
        opening = f'<g id="{_ID.format(number)}"'
        whose = {
            "cell": meaning.cell,
            "seed": "" if meaning.seed is None else str(meaning.seed),
            "metric": meaning.metric,
            "about": json.dumps([one_line(name) for name in meaning.about]) if meaning.about else "",
        }
        data = "".join(f' data-{name}="{escape(one_line(text))}"' for name, text in whose.items() if text)
        title = f"<title>{escape(one_line(meaning.says))}</title>" if meaning.says else ""
        text = text.replace(f"{opening}>", f'{opening} class="mark"{data}>{title}', 1)
    svg.write_text(text, encoding="utf-8")
