"""What the interaction plot shows, as numbers from the cells' runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from harness.analysis.fit import fit
from harness.analysis.results import InteractionResult, MetricResult
from harness.design.factors import Factor
from harness.metrics.definitions import Floats

LEVELS = tuple(product((False, True), (False, True)))
"""Of the first toggle and the second: both off, the second on, the first on, both on."""


@dataclass(frozen=True)
class PairMeans:
    """Means of a metric by the levels of two toggles, over the other toggles and the seeds."""

    pair: tuple[str, str]
    means: Floats
    """[4], in the order of `LEVELS`, on the scale of the analysis."""
    spreads: Floats
    """[4]: standard deviation over seeds, after what all cells share within a seed is taken off; 0 for one seed."""
    interaction: InteractionResult
    states: tuple[str, str] = ("off", "on")
    """Of the second idea, or the values of the factor whose level it is."""


@dataclass(frozen=True)
class TwoEnds:
    """What a toggle does alone and with all others on."""

    toggle: str
    alone: Floats
    """[n] by seed: toggle - origin, on the scale of the analysis."""
    with_others: Floats
    """[m] by seed: full - (full without it)."""
    interaction: InteractionResult


def pair_means(result: MetricResult, most: int, factors: Sequence[Factor] = ()) -> list[PairMeans]:
    """Those with the largest interactions, largest first. Of a group that cannot be told apart, its first pair."""
    shown = [one for one in result.interactions if not one.toggle and one.estimate.value is not None]
    shown.sort(key=lambda one: -abs(one.estimate.value or 0.0))
    table = adjusted(result)
    finished = {frozenset(cell.toggles): column for column, cell in enumerate(result.cells) if cell.seeds}
    pairs = []
    for one in shown:
        first, second = one.aliases[0].split(":")
        # A level is off where the factor has its reference, not where it has another level.
        others = {idea for factor in factors if {first, second} & {*factor.ideas} for idea in factor.ideas}
        compared = [cell for cell in finished if not cell & (others - {first, second})]
        groups = [[finished[cell] for cell in group] for group in grouped(compared, first, second)]
        if all(groups):
            means = [np.nanmean(table[:, group], axis=0).mean() for group in groups]
            spreads = [_spread(table[:, group]) for group in groups]
            states = next((_values(factor, second) for factor in factors if second in factor.ideas), ("off", "on"))
            pairs.append(PairMeans((first, second), np.array(means), np.array(spreads), one, states))
    return pairs[:most]


def _values(factor: Factor, level: str) -> tuple[str, str]:
    """Of the reference level and this one, as their names have them."""
    reference, own = (name.removeprefix(f"{factor.name}=") for name in (factor.reference, level))
    return reference, own


def _spread(cells: Floats) -> float:
    """Standard deviation over seeds of the mean over cells, about the cells' own means; 0 for one seed."""
    rest = cells[~np.isnan(cells).all(axis=1)] - np.nanmean(cells, axis=0)
    return float(np.nanmean(rest, axis=1).std(ddof=1)) if len(rest) > 1 else 0.0


def two_ends(result: MetricResult, full: Iterable[str]) -> list[TwoEnds]:
    """Every idea whose effects alone and with all others on both have a seed, in the study's order."""
    values = dict(zip((frozenset(cell.toggles) for cell in result.cells), _table(result).T, strict=True))
    ends = []
    for one in result.interactions:
        own = frozenset({one.toggle})
        top = own.union(full)
        if one.toggle and {own, frozenset(), top, top - own} <= values.keys():
            differences = values[own] - values[frozenset()], values[top] - values[top - own]
            alone, with_others = (each[~np.isnan(each)] for each in differences)
            if len(alone) and len(with_others):
                ends.append(TwoEnds(one.toggle, alone, with_others, one))
    return ends


def grouped(cells: Sequence[Iterable[str]], one: str, other: str) -> list[list[frozenset[str]]]:
    """The cells by `LEVELS` of two toggles.

    Where some four cells differ in these two alone, only such cells: the rest would bring in other toggles.
    """
    subsets = [frozenset(cell) for cell in cells]
    corners = [frozenset(corner) for corner in ((), (other,), (one,), (one, other))]
    whole = [cell for cell in subsets if all(cell - {one, other} | corner in subsets for corner in corners)]
    return [[cell for cell in whole or subsets if (one in cell, other in cell) == level] for level in LEVELS]


def adjusted(result: MetricResult) -> Floats:
    """[seeds, cells] as `_table`, without what all cells share within a seed, by least squares of cell + seed.

    So the mean of a cell is that of the fit, and no cell is favoured by the seeds that it happens to have.
    """
    table = _table(result)
    if not table.size:
        return table
    fitted = fit(table)
    levels: Floats = np.nanmean(table - fitted.means - fitted.residuals, axis=1, keepdims=True)
    levels -= levels.mean()
    return table - levels


def _table(result: MetricResult) -> Floats:
    """[seeds, cells] on the scale of the analysis; NaN where no run is finished."""
    seeds = list(dict.fromkeys(seed for cell in result.cells for seed in cell.seeds))
    by_cell = [dict(zip(cell.seeds, result.metric.scaled(cell.values).tolist(), strict=True)) for cell in result.cells]
    table = [[values.get(seed, np.nan) for values in by_cell] for seed in seeds]
    return np.array(table).reshape(len(seeds), len(by_cell))
