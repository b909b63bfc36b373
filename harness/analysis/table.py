"""Runs as columns: what every analysis starts from, wherever the numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import compress, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.fit import Bools
from harness.design.coding import Weights
from harness.design.contrasts import Estimable, estimable
from harness.design.factors import Factor
from harness.design.kinds import DesignCell, Subset
from harness.metrics.definitions import Metric
from harness.runs.record import FINAL, STATES, State
from harness.text import shortened

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MEASURED_ALIKE = 1e-3
"""Of a metric's largest value: how far measuring the same weights twice, on another machine too, may be apart."""
_estimable = lru_cache(estimable)  # most metrics of a table have results in the same cells


@dataclass(frozen=True)
class Column:
    """One metric of all runs."""

    metric: Metric
    values: Floats
    """[runs], in the metric's own unit; NaN where a run has none."""
    cards: tuple[str, ...]
    """By cell: digest of how its runs were measured; empty if they were not measured alike."""
    seen: tuple[bool, ...]
    """By cell: whether training saw the network that measures."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """How all of them were measured; empty if unlike or unknown."""


@dataclass(frozen=True)
class RunTable:
    """Every planned run of a study; at most one of a cell and seed."""

    toggles: tuple[str, ...]
    """All ideas: toggles, then levels other than the reference."""
    cells: tuple[DesignCell, ...]
    cell: Ints
    """[runs], places in `cells`."""
    seed: Ints
    """[runs]."""
    states: tuple[State, ...]
    """[runs]."""
    columns: tuple[Column, ...]
    trained: tuple[tuple[str, str], ...] = ()
    """[runs]: (the run's id, digest of the weights that came out), each empty if unknown; or nothing."""
    factors: tuple[Factor, ...] = ()

    def place(self, name: str) -> int:
        """Where the cell of that name stands in `cells`."""
        return [cell.name for cell in self.cells].index(name)

    @cached_property
    def places(self) -> Mapping[Subset, int]:
        """Where the cell with these toggles stands."""
        return {cell.toggles: place for place, cell in enumerate(self.cells)}

    def names(self, places: Collection[int]) -> str:
        return shortened([self.cells[place].name for place in sorted(places)], 4)

    def vector(self, weights: Weights) -> Floats:
        """[cells]: a contrast as a weight for each of them."""
        vector = np.zeros(len(self.cells))
        for toggles, weight in weights.items():
            vector[self.places[toggles]] = weight
        return vector

    def estimable_from(self, places: Collection[int]) -> Estimable:
        """What these cells alone can tell, where the others have no result."""
        cells = tuple(self.cells[place].toggles for place in sorted(places))
        return _estimable(cells, self.toggles, (*self.places,), self.factors)

    @cached_property
    def estimable(self) -> Estimable:
        """What all planned cells can tell."""
        return self.estimable_from(range(len(self.cells)))

    @cached_property
    def counts(self) -> tuple[dict[State, int], ...]:
        """By cell: every planned run by its state."""
        counters: list[Counter[State]] = [Counter() for _ in self.cells]
        for place, state in zip(self.cell.tolist(), self.states, strict=True):
            counters[place][state] += 1
        return tuple({state: count[state] for state in STATES if count[state]} for count in counters)

    def blocks(self, baseline: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The seeds under which more than the baseline was run, and those under which nothing else was.

        Where the baseline shares no seed with any other cell, all seeds are of the first kind.
        """
        base = self.place(baseline)
        others = set(self.seed[self.cell != base].tolist())
        every = sorted(set(self.seed.tolist()))
        if others.isdisjoint(self.seed[self.cell == base].tolist()):
            return tuple(every), ()
        return tuple(seed for seed in every if seed in others), tuple(seed for seed in every if seed not in others)

    def whole(self, seeds: Collection[int]) -> tuple[int, ...]:
        """Those of `seeds`, in order, under which every cell has a run that ended, up to the first that is not so."""
        ended: dict[int, set[int]] = {seed: set() for seed in seeds}
        for seed, cell, state in zip(self.seed.tolist(), self.cell.tolist(), self.states, strict=True):
            if seed in ended and state in FINAL:
                ended[seed].add(cell)
        return tuple(takewhile(lambda seed: len(ended[seed]) == len(self.cells), sorted(ended)))

    def under(self, seeds: Collection[int]) -> RunTable:
        """The runs under these seeds alone, with all cells."""
        mine = np.isin(self.seed, [*seeds])
        return replace(
            self,
            cell=self.cell[mine],
            seed=self.seed[mine],
            states=tuple(compress(self.states, mine)),
            columns=tuple(replace(column, values=column.values[mine]) for column in self.columns),
            trained=tuple(compress(self.trained, mine)),
        )

    def matrix(self, column: Column, seeds: tuple[int, ...]) -> Floats:
        """[seeds, cells] of that column; NaN where no run is finished, or one that repeats an earlier one."""
        rows = {seed: row for row, seed in enumerate(seeds)}
        matrix = np.full((len(seeds), len(self.cells)), np.nan)
        values = np.where(self.repeats, np.nan, column.values).tolist()
        for seed, cell, value in zip(self.seed.tolist(), self.cell.tolist(), values, strict=True):
            if seed in rows:
                matrix[rows[seed], cell] = value
        return matrix

    @cached_property
    def twins(self) -> tuple[int, ...]:
        """By cell: the first cell that is proven to have been trained alike, itself if there is no other.

        Proof is one run for both, as their settings are the same, or equal weights in every seed that both finished,
        two at least; none of those alike may differ from another in a seed that these two finished. Equal numbers prove
        nothing: a rounded metric has them by chance. Twins are one cell for the residual.
        """
        by_cell: list[dict[int, tuple[str, str]]] = [{} for _ in self.cells]
        runs = zip(self.seed.tolist(), self.cell.tolist(), self.states, self.trained, strict=False)
        for seed, cell, state, trained in runs:  # none where `trained` is empty
            if state == "done":
                by_cell[cell][seed] = trained
        groups: dict[int, list[int]] = {}
        having: dict[tuple[int, str], set[int]] = {}
        twins: list[int] = []
        for place, own in enumerate(by_cell):
            marks = [(seed, mark) for seed, marks in own.items() for mark in marks if mark]
            # Only cells that have a run or weights in common are compared: most cells of a study have none.
            earlier = sorted(set().union(*(having.get(mark, ()) for mark in marks)))
            twins.append(next((one for one in earlier if _is_of([by_cell[it] for it in groups[one]], own)), place))
            groups.setdefault(twins[place], []).append(place)
            for mark in marks:
                having.setdefault(mark, set()).add(twins[place])
        return tuple(twins)

    @cached_property
    def repeats(self) -> Bools:
        """[runs]: those that are an earlier run of their cell once more, as training made no use of the seed.

        Proof is the same weights with the same numbers. However often such a run is counted, it is one draw.
        """
        found = np.zeros(len(self.seed), dtype=bool)
        numbers = np.array([column.values for column in self.columns]).reshape(len(self.columns), len(found))
        near = MEASURED_ALIKE * np.nan_to_num(np.abs(numbers)).max(axis=1, initial=0.0)
        first: dict[tuple[int, str], int] = {}
        for run in np.argsort(self.seed, kind="stable").tolist() if self.trained else ():
            weights = self.trained[run][1]
            if self.states[run] == "done" and weights:
                one = first.setdefault((int(self.cell[run]), weights), run)
                found[run] = one != run and not (np.abs(numbers[:, run] - numbers[:, one]) > near).any()
        return found

    @property
    def one_run(self) -> tuple[bool, ...]:
        """By cell: whether it was trained under several seeds, and all its runs are one."""
        done = np.array([state == "done" for state in self.states], dtype=bool)
        cells = range(len(self.cells))
        draws = np.bincount(self.cell[done & ~self.repeats], minlength=len(cells))
        return tuple(((draws == 1) & np.isin(cells, self.cell[self.repeats])).tolist())


def _is_of(group: Collection[Mapping[int, tuple[str, str]]], own: Mapping[int, tuple[str, str]]) -> bool:
    """Whether a cell is proven to have been trained as one of a group, and not proven to differ from any."""
    is_proven = False
    for each in group:
        both = [(each[seed], own[seed]) for seed in each.keys() & own.keys()]
        same_run, same_weights = (all(ours[i] and ours[i] == theirs[i] for ours, theirs in both) for i in (0, 1))
        if not same_run and not same_weights:
            return False
        is_proven |= bool(both) and (same_run or len(both) > 1)
    return is_proven
