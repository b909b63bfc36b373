"""Runs as columns: what every analysis starts from, wherever the numbers were found. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.design.kinds import Subset
from harness.metrics.definitions import Metric
from harness.records import STATES, State

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Cell:
    """One combination of toggles."""

    name: str
    toggles: Subset


@dataclass(frozen=True)
class Column:
    """One metric of all runs."""

    metric: Metric
    values: Floats
    """[runs], in the metric's own unit; not a number where a run has none."""
    cards: tuple[str, ...]
    """By cell: digest of how its runs were measured; empty if they were not measured alike."""
    seen: tuple[bool, ...]
    """By cell: whether training saw the network that measures."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """How all of them were measured; empty if unlike or unknown."""


@dataclass(frozen=True)
class Table:
    """Every planned run of a study; at most one of a cell and seed."""

    toggles: tuple[str, ...]
    cells: tuple[Cell, ...]
    cell: Ints
    """[runs], places in `cells`."""
    seed: Ints
    """[runs]."""
    states: tuple[State, ...]
    """[runs]."""
    columns: tuple[Column, ...]

    def place(self, name: str) -> int:
        """Where the cell of that name stands in `cells`."""
        return [cell.name for cell in self.cells].index(name)

    def counts(self) -> tuple[dict[State, int], ...]:
        """By cell: every planned run by its state."""
        found: list[Counter[State]] = [Counter() for _ in self.cells]
        for place, state in zip(self.cell.tolist(), self.states, strict=True):
            found[place][state] += 1
        return tuple({state: count[state] for state in STATES if count[state]} for count in found)

    def blocks(self, baseline: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The seeds under which more than the baseline was run, and those under which nothing else was.

        Where no other cell has any run, all seeds are of the first kind.
        """
        own = self.place(baseline)
        others = set(self.seed[self.cell != own].tolist())
        every = sorted(set(self.seed.tolist()))
        if not others:
            return tuple(every), ()
        return tuple(seed for seed in every if seed in others), tuple(seed for seed in every if seed not in others)

    def matrix(self, column: Column, seeds: tuple[int, ...]) -> Floats:
        """[seeds, cells] of that column; not a number where no run is finished."""
        rows = {seed: row for row, seed in enumerate(seeds)}
        found = np.full((len(seeds), len(self.cells)), np.nan)
        for seed, cell, value in zip(self.seed.tolist(), self.cell.tolist(), column.values.tolist(), strict=True):
            if seed in rows:
                found[rows[seed], cell] = value
        return found

    def twins(self, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """By cell: the first cell whose runs have the very same numbers in every metric, itself if there is no other.

        Such cells trained alike, as a toggle may change nothing; they are one for the residual. Two seeds at least.
        """
        matrices = [self.matrix(column, seeds) for column in self.columns]
        first: dict[bytes, int] = {}
        found = []
        for place in range(len(self.cells)):
            mine = np.column_stack([matrix[:, place] for matrix in matrices]) if matrices else np.empty((0, 0))
            replicated = int(np.isfinite(mine).any(axis=1).sum()) > 1 if mine.size else False
            found.append(first.setdefault(mine.tobytes(), place) if replicated else place)
        return tuple(found)
