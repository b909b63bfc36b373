"""A design as numbers: cells with a column for each idea, and contrasts as weights of cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from harness.design.factors import Factor
from harness.design.kinds import Subset, in_study_order

Floats = NDArray[np.float64]
Weights = Mapping[Subset, float]
"""Cell -> its weight; the weights sum to 0, so that what all runs of a seed share drops out."""


@dataclass(frozen=True)
class Contrast:
    """A main effect, or an interaction, or the sum of several interactions that are aliases."""

    toggle: str
    """Of a main effect the toggle or level, of a trend the factor. Of an interaction empty, or the idea all of whose
    interactions are summed: half of what it gains beside all others over alone."""
    weights: Weights
    aliases: tuple[str, ...] = ()
    """Interactions `a:b` in it, or `-a:b` with the other sign: those that no data can tell from a main effect, or that
    an interaction is the sum of."""
    pairs: int = 0
    """Pairs of cells that differ in this idea alone; 0: there is none, and it is estimated from the whole design."""


@dataclass(frozen=True)
class Coding:
    """The cells of a design, each once, as numbers."""

    cells: tuple[Subset, ...]
    ideas: Subset
    columns: Floats
    """[cells, ideas]: of an idea with two states -1 and +1, of a level of three or more -1/k and 1 - 1/k."""
    siblings: tuple[tuple[int, ...], ...]
    """Places of the levels of each factor of three levels or more."""

    @cached_property
    def steps(self) -> Floats:
        """[ideas]: a column's rise from off to on."""
        steps = np.full(len(self.ideas), 2.0)
        steps[[place for places in self.siblings for place in places]] = 1.0
        return steps

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Two ideas that can be on together."""
        together = [{self.ideas[place] for place in places} for places in self.siblings]
        return (pair for pair in combinations(self.ideas, 2) if not any(set(pair) <= levels for levels in together))

    @cached_property
    def model(self) -> Floats:
        """[cells, 1 + ideas]: the mean and the main effects, in columns of equal length that are orthogonal if every
        level is in as many cells as the others of its factor, and in as many of those of every other idea.
        """
        columns = self.columns.copy()
        for places in self.siblings:
            # Helmert's contrasts: a level against the mean of those before it, the reference being the first.
            on = columns[:, places] > 0
            levels = np.column_stack([~on.any(axis=1), on]).astype(float)
            for j, place in enumerate(places, start=1):
                helmert = np.array([1.0] * j + [-j] + [0.0] * (len(places) - j))
                columns[:, place] = levels @ helmert * math.sqrt((len(places) + 1) / (j * (j + 1)))
        return np.column_stack([np.ones(len(columns)), columns])

    @cached_property
    def orthogonal(self) -> bool:
        """Whether every toggle is on in half of the cells, and in half of those of every other toggle; levels alike."""
        model, count = self.model, len(self.cells)
        return self.columns.size > 0 and np.allclose(model.T @ model, count * np.eye(model.shape[1]), 0, 1e-9 * count)

    @property
    def condition(self) -> float | None:
        if not self.columns.size or (self.siblings and self.orthogonal):
            return 1.0
        condition = float(np.linalg.cond(self.model))
        return condition if len(self.model) >= self.model.shape[1] and condition < 1e9 else None

    def only(self, places: Sequence[int]) -> Coding:
        """With these ideas alone."""
        new = {old: place for place, old in enumerate(places)}
        siblings = tuple(tuple(new[old] for old in each if old in new) for each in self.siblings)
        return replace(
            self, ideas=tuple(self.ideas[at] for at in places), columns=self.columns[:, places], siblings=siblings
        )


def coding_of(cells: Sequence[Subset], ideas: Subset, factors: Sequence[Factor]) -> Coding:
    distinct = tuple(dict.fromkeys(in_study_order(cell, ideas) for cell in cells))
    levels = [[1.0 if idea in cell else -1.0 for idea in ideas] for cell in distinct]
    columns = np.array(levels).reshape(len(distinct), len(ideas))
    siblings = []
    for factor in factors:
        places = tuple(ideas.index(idea) for idea in factor.ideas if idea in ideas)
        if len(places) > 1:
            siblings.append(places)
            on = columns[:, places] > 0
            # Of the levels that these cells have, so that the mean over levels is that over what is there.
            present = int(on.any(axis=0).sum()) + bool((~on.any(axis=1)).any())
            columns[:, places] = on - 1 / max(present, 1)
    return Coding(distinct, ideas, columns, tuple(siblings))


def edges_of(cells: Sequence[Subset], idea: str) -> list[tuple[Subset, Subset]]:
    """(with, without) for every pair of cells that differ in this idea alone."""
    there = set(cells)
    pairs = ((cell, tuple(name for name in cell if name != idea)) for cell in cells if idea in cell)
    return [(on, off) for on, off in pairs if off in there]
