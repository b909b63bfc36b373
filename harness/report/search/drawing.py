"""Which figures the report of a search has, what each is called and what it shows in words. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from harness.report.document.document import Figure, slug
from harness.report.search.figures import front, history, importances, parallel, slices
from harness.tuning.findings import Findings

Drawn = tuple[str, Figure, Callable[[Path], bool]]
"""The kind of figure, what it is called, and what draws it below a stem: False when there is nothing to draw."""


def draw(found: Findings, folder: Path) -> dict[str, tuple[Figure, ...]]:
    """Draws all that there is to draw as SVG, PDF and PNG; kind of figure -> its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, tuple[Figure, ...]] = {}
    for kind, figure, artist in _wanted(found):
        if artist(folder / figure.stem):
            drawn[kind] = (*drawn.get(kind, ()), figure)
    return drawn


def _wanted(found: Findings) -> Iterator[Drawn]:
    yield "history", _HISTORY, partial(history.draw, found)
    yield "importances", _IMPORTANCES, partial(importances.draw, found)
    yield "front", _FRONT, partial(front.draw, found)
    for metric in found.search.objectives:
        name, title = slug(metric.name), metric.title
        told = f"Parallel coordinates: the weights of every trial, coloured by {title}"
        yield (
            "parallel",
            Figure(f"parallel-{name}", f"Weights and {title}", told),
            partial(parallel.draw, found, metric),
        )
        told = f"Slices: {title} of every trial against each weight"
        yield "slices", Figure(f"slices-{name}", f"{title} by weight", told), partial(slices.draw, found, metric)


_HISTORY = Figure("history", "Trial by trial", "History: the objective of every trial and the best so far")
_IMPORTANCES = Figure("importances", "What matters", "Importance of each weight by two evaluators, as in the table")
_FRONT = Figure("front", "Objectives against each other", "Pareto front: objectives of every trial against each other")
