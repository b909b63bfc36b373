"""What the interaction plot shows, as numbers from the cells' runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from harness.analysis.fit import fit
from harness.analysis.results import InteractionResult, MetricResult
from harness.metrics.definitions import Floats

Runs = Mapping[frozenset[str], Mapping[int, float]]
"""Cell -> seed -> value, finished runs only."""
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


@dataclass(frozen=True)
class TwoEnds:
    """What a toggle does alone and with all others on."""

    toggle: str
    alone: Floats
    """[n] by seed: toggle - origin, on the scale of the analysis."""
    with_others: Floats
    """[m] by seed: full - (full without it)."""
    interaction: InteractionResult


def pair_means(result: MetricResult, most: int) -> list[PairMeans]:
    """Those with the largest interactions, largest first. Of a group that cannot be told apart, its first pair."""
    known = [one for one in result.interactions if not one.toggle and one.estimate.value is not None]
    known.sort(key=lambda one: -abs(one.estimate.value or 0.0))
    runs = adjusted(result)
    made = (_pair(runs, one) for one in known)
    return [one for one in made if one][:most]


def _pair(runs: Runs, interaction: InteractionResult) -> PairMeans | None:
    toggles = {toggle for cell in runs for toggle in cell}
    one, other = next(pair for pair in permutations(toggles, 2) if ":".join(pair) == interaction.aliases[0])
    groups = grouped([cell for cell, values in runs.items() if values], one, other)
    if not all(groups):
        return None
    cells = [[runs[cell] for cell in group] for group in groups]
    means = [float(np.mean([np.mean([*values.values()]) for values in group])) for group in cells]
    return PairMeans((one, other), np.array(means), np.array([_spread(group) for group in cells]), interaction)


def _spread(cells: Sequence[Mapping[int, float]]) -> float:
    """Standard deviation over seeds of the mean over cells, about the cells' own means; 0 for one seed."""
    by_seed: dict[int, list[float]] = {}
    for values in cells:
        mean = float(np.mean([*values.values()]))
        for seed, value in values.items():
            by_seed.setdefault(seed, []).append(value - mean)
    return float(np.std([np.mean(rest) for rest in by_seed.values()], ddof=1)) if len(by_seed) > 1 else 0.0


def two_ends(result: MetricResult) -> list[TwoEnds]:
    """Every toggle whose effects alone and with all others on both have a seed, in the study's order."""
    full = frozenset(toggle for cell in result.cells for toggle in cell.toggles)
    runs = _runs(result)

    def difference(plus: frozenset[str], minus: frozenset[str]) -> Floats:
        ours, theirs = runs.get(plus, {}), runs.get(minus, {})
        return np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs])

    made = []
    for one in result.interactions:
        if one.toggle:
            own = frozenset({one.toggle})
            alone, with_others = difference(own, frozenset()), difference(full, full - own)
            made.append(TwoEnds(one.toggle, alone, with_others, one))
    return [one for one in made if len(one.alone) and len(one.with_others)]


def grouped(cells: Sequence[Iterable[str]], one: str, other: str) -> list[list[frozenset[str]]]:
    """The cells by `LEVELS` of two toggles.

    Where some four cells differ in these two alone, only such cells: the rest would bring in other toggles.
    """
    subsets = [frozenset(cell) for cell in cells]
    there = set(subsets)
    corners = [frozenset(corner) for corner in ((), (other,), (one,), (one, other))]
    whole = [cell for cell in subsets if all(cell - {one, other} | corner in there for corner in corners)]
    used = whole or subsets
    return [[cell for cell in used if (one in cell, other in cell) == level] for level in LEVELS]


def adjusted(result: MetricResult) -> Runs:
    """Every run without what all cells share within its seed, by least squares of cell + seed.

    So the mean of a cell is that of the fit, and no cell is favoured by the seeds that it happens to have.
    """
    runs = _runs(result)
    seeds = list(dict.fromkeys(seed for values in runs.values() for seed in values))
    table = np.array([[values.get(seed, np.nan) for values in runs.values()] for seed in seeds])
    if not seeds:
        return runs
    fitted = fit(table)
    levels = np.nanmean(table - fitted.means - fitted.residuals, axis=1)
    shared = dict(zip(seeds, (levels - levels.mean()).tolist(), strict=True))
    return {cell: {seed: value - shared[seed] for seed, value in values.items()} for cell, values in runs.items()}


def _runs(result: MetricResult) -> Runs:
    """On the scale of the analysis."""
    return {
        frozenset(cell.toggles): dict(zip(cell.seeds, result.metric.scaled(cell.values).tolist(), strict=True))
        for cell in result.cells
    }
