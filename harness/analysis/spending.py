"""Spending an error rate over looks: the level of each look's test at which all of them together keep the rate.

By the alpha-spending function (Lan and DeMets 1983) of Hwang, Shih and DeCani (1990) with gamma 1, for the Gaussian
process whose information grows with the seeds, by the recursive integration of Armitage, McPherson and Rowe (1969).
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.statistics import Floats

GAMMA = 1.0
"""Of the spending function: the smaller, the more of the error rate is left for the last looks. Of the power family
and this one it needs the fewest runs where each of six ideas changes a metric by two spreads of a run."""
_SMALLEST = 1e-8
"""Error rate below which a p is bounded instead of interpolated; no family of comparisons asks so much."""
_RATES = 24
"""Error rates for which the levels are integrated; between them they are smooth."""
_GRID = 400
_NEWTON = 10
"""Steps to a bound; a few less give it to the last digit."""


def spent(seeds: ArrayLike, most: int) -> Floats:
    """The share of the error rate that is spent after so many seeds."""
    return np.expm1(-GAMMA * np.asarray(seeds) / most) / math.expm1(-GAMMA)


@functools.lru_cache(maxsize=64)
def log_levels(first: int, most: int, df: int) -> tuple[Floats, Floats]:
    """Logarithms of error rates, ascending, and of the two-sided levels [looks, rates] of a test that have them.

    `df`: degrees of freedom of the spread that each seed brings, without those of the first seed. A spread estimated
    anew makes the statistics of two looks less alike than their seeds do. A share df / (df + 3) of the information, by
    all degrees of freedom at the look, makes up for that: simulated, the rate is kept within a tenth of it from two
    cells on, where n alone would exceed it by a fifth.
    """
    chebyshev, seeds = np.polynomial.chebyshev, np.arange(first, most + 1)
    # Chebyshev's points from -1 to 1 with both ends, and a fine grid.
    nodes, fine = -np.cos(np.linspace(0, np.pi, _RATES)), np.linspace(-1, 1, _GRID)
    rates, fine_rates = (math.log(_SMALLEST) * (1 - each) / 2 for each in (nodes, fine))
    freedom = (seeds - 1) * df
    levels = nominal_levels(seeds * freedom / (freedom + 3), np.outer(spent(seeds, most), np.exp(rates)))
    fitted = chebyshev.chebfit(nodes, np.log(levels).T, _RATES - 1)
    return fine_rates, np.maximum.accumulate(chebyshev.chebval(fine, fitted), axis=1)


def nominal_levels(information: ArrayLike, spent: Floats) -> Floats:
    """Two-sided levels [looks, rules] of a test at each look, of rules that spend `spent` [looks, rules] by then.

    `information` [looks] increases, in any unit. The statistics at the looks are a Brownian motion at these times over
    its root; the chance to pass the bounds at a look for the first time is what is spent between it and the one before.
    """
    from scipy import special

    times, chances = np.asarray(information, dtype=np.float64), np.diff(spent, axis=0, prepend=0.0)
    bounds = -math.sqrt(times[0]) * special.ndtri(chances[0] / 2)
    levels = [chances[0]]
    # Points of Gauss and Legendre between the bounds, a step of the process being several of them wide.
    steps = np.sqrt(np.diff(times, prepend=0.0))
    count = 32 + int(2 * bounds.max() * math.sqrt(times[-1] / times[0]) / steps[1:].min(initial=math.inf))
    points, weights = np.polynomial.legendre.leggauss(count)
    x, mass = np.zeros((len(bounds), 1)), np.ones((len(bounds), 1))
    for step, time, before, chance in zip(steps, times[1:], steps[1:], chances[1:], strict=False):
        # Where the process is that has not passed a bound yet: its density times the weight of each point.
        nodes = bounds[:, None] * points
        density = np.exp(-(((nodes[:, :, None] - x[:, None, :]) / step) ** 2) / 2) / (step * math.sqrt(2 * math.pi))
        mass = np.einsum("rij,rj->ri", density, mass) * bounds[:, None] * weights
        x = nodes
        bounds = bounds * math.sqrt(time / (time - before**2))
        for _ in range(_NEWTON):
            # Newton's method on the logarithm, which is concave: from any start it comes down to the root.
            beyond = (x - bounds[:, None]) / before
            passed = 2 * (mass * special.ndtr(beyond)).sum(axis=1)
            slope = 2 * (mass * np.exp(-(beyond**2) / 2)).sum(axis=1) / (before * math.sqrt(2 * math.pi))
            bounds = np.maximum(bounds + np.log(passed / chance) * passed / slope, 0.0)
        levels.append(2 * special.ndtr(-bounds / math.sqrt(time)))
    return np.array(levels)
