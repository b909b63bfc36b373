"""The smallest effects that a design can detect with so many seeds.

A study is analysed within seeds: a run is its cell's mean, plus what all runs of its seed share, plus a residual of
standard deviation sd. A contrast of cells with weights w then has the standard error sd sqrt(sum w^2 / seeds), with
(seeds - 1)(cells - 1) degrees of freedom. Its t is judged at the first step of Holm's correction over its family.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from harness.design.coding import Weights
from harness.design.contrasts import Estimable
from harness.design.kinds import Subset

ALPHA = 0.05
POWER = 0.8


def detectable(
    design: Estimable,
    cells: int,
    seeds: int,
    twins: Mapping[Subset, Subset] | None = None,
    level: Callable[[float, int], float] = lambda rate, df: rate,
) -> tuple[float | None, float | None]:
    """The smallest main effect and interaction that are found with 80 % probability, in residual sds.

    Each is the worst of its family: any effect (or group of interactions) as large as that is found. None: the design
    has none, or one seed, which gives no interval at all. `twins`: cells -> the cell that has their settings and
    whose runs are theirs; both are one cell for the residual, and a contrast of such alone is not in the family.
    `level`: of a test that is to have an error rate, by the rate and the degrees of freedom that a seed brings, where
    seeds are added by a rule.
    """
    twins = twins or {}
    of_a_seed = cells - len(twins) - 1
    df = (seeds - 1) * of_a_seed

    def worst(family: Sequence[Weights]) -> float | None:
        squares = []
        for weights in family:
            folded: dict[Subset, float] = {}
            for cell, weight in weights.items():
                folded[twins.get(cell, cell)] = folded.get(twins.get(cell, cell), 0.0) + weight
            squares.append(sum(weight**2 for weight in folded.values()))
        squares = [each for each in squares if each > 1e-18]
        if not squares or df < 1:
            return None
        return minimum_detectable(math.sqrt(max(squares) / seeds), df, level(ALPHA / len(squares), of_a_seed))

    return worst([effect.weights for effect in design.effects]), worst([group.weights for group in design.interactions])


def minimum_detectable(spread: float, df: int, alpha: float = ALPHA) -> float:
    """The effect whose two-sided t test at this level has power POWER, in the unit of `spread`.

    `spread` is the estimate's standard error, `df` its degrees of freedom, at least 1. The tail on the wrong side is
    left out: at this power it holds less than 1 in 10,000.
    """
    from scipy.special import nctdtrinc, stdtrit

    critical = stdtrit(df, 1 - alpha / 2)
    return spread * float(nctdtrinc(df, 1 - POWER, critical))


def share(effect: float) -> float:
    """An effect on the log scale as a relative change: exp(effect) - 1, infinite beyond 1e300."""
    return math.expm1(effect) if effect < 690 else math.inf  # e^690 is 1e300
