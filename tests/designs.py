"""Tables of made-up numbers over every kind of design."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.analysis.table import Column, RunTable
from harness.design.kinds import DesignCell, DesignConfig, expand
from harness.metrics.definitions import METRICS, Metric

FOUR = tuple("abcd")
KINDS = {
    "one-at-a-time": DesignConfig(kind="one-at-a-time"),
    "leave-one-out": DesignConfig(kind="leave-one-out", include=("origin",)),
    "both": DesignConfig(kind="both"),
    "full": DesignConfig(kind="full"),
    "fractional": DesignConfig(kind="fractional", generators=("D=ABC",)),
    "fraction and one more": DesignConfig(kind="fractional", generators=("D=ABC",), include=("a",)),
    "regression": DesignConfig(
        kind="list", cells=((), ("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("a", "b", "c"))
    ),
}
SCORE = METRICS["clip_score"]
DISTANCE = METRICS["fd"]


def cells_of(kind: str) -> list[tuple[str, ...]]:
    return [cell.toggles for cell in expand(KINDS[kind], FOUR).cells]


def table_of(
    cells: list[tuple[str, ...]], values: np.ndarray, metric: Metric = SCORE, *, toggles: tuple[str, ...] = FOUR
) -> RunTable:
    """One metric from values [seeds, cells]; NaN: a failed run."""
    seeds, count = values.shape
    named = tuple(DesignCell("+".join(cell) or "origin", cell) for cell in cells)
    column = Column(metric, values.ravel(), ("alike",) * count, (False,) * count)
    states = tuple("done" if np.isfinite(value) else "failed" for value in values.ravel())
    places = np.tile(np.arange(count), seeds)
    return RunTable(toggles, named, places, np.repeat(np.arange(seeds), count), states, (column,))


def without(table: RunTable, cell: str, state: str = "failed") -> RunTable:
    """The table with every run of a cell in that state."""
    mine = table.cell == table.place(cell)
    columns = tuple(replace(column, values=np.where(mine, np.nan, column.values)) for column in table.columns)
    states = tuple(state if lost else was for was, lost in zip(table.states, mine, strict=True))
    return replace(table, states=states, columns=columns)


def surface(cells: list[tuple[str, ...]], main: dict[str, float], pairs: dict[tuple[str, str], float]) -> np.ndarray:
    """[cells]: effects and interactions in the coding -1 off, +1 on."""
    x = {toggle: np.array([1.0 if toggle in cell else -1.0 for cell in cells]) for toggle in FOUR}
    found = sum((effect / 2 * x[toggle] for toggle, effect in main.items()), np.zeros(len(cells)))
    return found + sum((effect / 2 * x[one] * x[two] for (one, two), effect in pairs.items()), np.zeros(len(cells)))
