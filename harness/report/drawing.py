"""Which figures a report has, what each is called and what it shows in words. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from harness.analysis.costs import SPEED
from harness.report.document.document import Figure, slug
from harness.report.figures import curves, forest, half_normal, interactions, sheet, tradeoff
from harness.report.material import Material

Drawn = tuple[str, Figure, Callable[[Path], bool]]
"""The kind of figure, what it is called, and what draws it below a stem: False when there is nothing to draw."""


def draw(material: Material, folder: Path) -> dict[str, tuple[Figure, ...]]:
    """Draws all that there is to draw as SVG, PDF and PNG; kind of figure -> its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, tuple[Figure, ...]] = {}
    for kind, figure, artist in _wanted(material):
        if artist(folder / figure.stem):
            found[kind] = (*found.get(kind, ()), figure)
    return found


def _wanted(material: Material) -> Iterator[Drawn]:
    analysis, records = material.analysis, material.records
    speeds = {cost.cell: cost.means[SPEED] for cost in material.costs if SPEED in cost.means}
    yield "effects", _FOREST, partial(forest.draw, analysis)
    yield "interactions", _INTERACTIONS, partial(interactions.draw, analysis)
    yield "tradeoff", _TRADEOFF, partial(tradeoff.draw, analysis, speeds)
    yield "samples", _SAMPLES, partial(sheet.draw, records)
    for result in analysis.headlines:
        name, title = slug(result.metric.name), result.metric.title
        told = f"Learning curves: {title} against training images, for every cell"
        yield "curves", Figure(f"curves-{name}", title, told), partial(curves.draw, analysis, records, result)
        told = f"Half-normal plot of the contrasts on {title}, as in the table"
        yield "half-normal", Figure(f"half-normal-{name}", title, told), partial(half_normal.draw, result)


_FOREST = Figure(
    "effects",
    "Effects at a glance",
    "Forest plot: the effect of each idea with its 95 % interval and its seeds, as in the tables that follow",
)
_INTERACTIONS = Figure(
    "interactions", "Interactions at a glance", "Interaction plot: pairs of ideas, as in the tables that follow"
)
_TRADEOFF = Figure(
    "tradeoff", "Quality and cost", "Distance against CLIP score, a point a cell, its size the time for equal images"
)
_SAMPLES = Figure(
    "samples",
    "Same caption and latent down a column",
    "Sample sheet: real images on top, then one row a cell; the captions are listed below",
    photographs=True,
)
