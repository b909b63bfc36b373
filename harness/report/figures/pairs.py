"""What the interaction plot shows, as numbers from the cells' runs. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from harness.analysis.results import InteractionResult, MetricResult
from harness.design.kinds import Subset
from harness.report.figures.numbers import Floats, analysed

LEVELS = tuple(product((False, True), (False, True)))
"""Of the first toggle and the second: both off, the second on, the first on, both on."""


@dataclass(frozen=True)
class Foursome:
    """Means of a metric by the levels of two toggles, over the other toggles and the seeds."""

    pair: tuple[str, str]
    seeds: tuple[int, ...]
    """Under which every cell that enters has a finished run."""
    means: Floats
    """[4], in the order of `LEVELS`, on the scale of the analysis."""
    spreads: Floats
    """[4]: standard deviation over seeds, after what all four share within a seed is taken off; 0 for one seed."""
    found: InteractionResult


@dataclass(frozen=True)
class Beside:
    """What a toggle does alone and beside all others."""

    toggle: str
    alone: Floats
    """[n] by seed: toggle - origin, on the scale of the analysis."""
    beside: Floats
    """[m] by seed: full - (full without it)."""
    found: InteractionResult


def foursomes(result: MetricResult, most: int) -> list[Foursome]:
    """Those with the largest interactions, largest first. Of a group that cannot be told apart, its first pair."""
    known = [one for one in result.interactions if not one.toggle and one.estimate.value is not None]
    known.sort(key=lambda one: -abs(one.estimate.value or 0.0))
    made = (_foursome(result, one) for one in known)
    return [one for one in made if one][:most]


def besides(result: MetricResult) -> list[Beside]:
    """Every toggle whose effects alone and beside all others both have a seed, in the study's order."""
    every = {toggle for cell in result.cells for toggle in cell.toggles}
    runs = _runs(result)
    made = []
    for one in result.interactions:
        if one.toggle:
            rest = frozenset(every - {one.toggle})
            alone = _difference(runs, frozenset({one.toggle}), frozenset())
            beside = _difference(runs, frozenset(every), rest)
            made.append(Beside(one.toggle, alone, beside, one))
    return [one for one in made if len(one.alone) and len(one.beside)]


def _foursome(result: MetricResult, found: InteractionResult) -> Foursome | None:
    one, other = found.aliases[0].removeprefix("-").split(":")
    groups = grouped([cell.toggles for cell in result.cells], one, other)
    if not all(groups):
        return None
    runs = _runs(result)
    cells = [cell for group in groups for cell in group]
    seeds = sorted(set.intersection(*(set(runs[cell]) for cell in cells)))
    if not seeds:
        return None
    by_seed = np.array([[np.mean([runs[cell][seed] for cell in group]) for group in groups] for seed in seeds])
    own = by_seed - by_seed.mean(axis=1, keepdims=True)
    spreads = own.std(axis=0, ddof=1) if len(seeds) > 1 else np.zeros(4)
    return Foursome((one, other), tuple(seeds), by_seed.mean(axis=0), spreads, found)


def grouped(cells: Sequence[Subset], one: str, other: str) -> list[list[frozenset[str]]]:
    """The cells by `LEVELS` of two toggles.

    Where some foursomes of cells differ in these two alone, only those cells: the rest would bring in other toggles.
    """
    subsets = [frozenset(cell) for cell in cells]
    there = set(subsets)
    whole = [cell for cell in subsets if all(cell - {one, other} | part in there for part in _parts(one, other))]
    used = whole or subsets
    return [[cell for cell in used if (one in cell, other in cell) == level] for level in LEVELS]


def _parts(one: str, other: str) -> list[frozenset[str]]:
    return [frozenset(), frozenset({other}), frozenset({one}), frozenset({one, other})]


def _runs(result: MetricResult) -> Mapping[frozenset[str], Mapping[int, float]]:
    """Cell -> seed -> value on the scale of the analysis."""
    return {
        frozenset(cell.toggles): dict(zip(cell.seeds, analysed(result.metric, cell.values).tolist(), strict=True))
        for cell in result.cells
    }


def _difference(
    runs: Mapping[frozenset[str], Mapping[int, float]], plus: frozenset[str], minus: frozenset[str]
) -> Floats:
    ours, theirs = runs.get(plus, {}), runs.get(minus, {})
    return np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs])
