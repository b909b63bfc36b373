"""Looks: a rule, fixed beforehand, by which whole seeds are added until the results decide.

A comparison that may be made after 3, 4, ... seeds has as many chances of a false alarm. So the error rate is spent on
the looks (`spending`), and the smallest rate at which a p would have rejected at its look is a p of the whole rule
(Jennison and Turnbull 2000, sec. 9.5); the smallest of those of several looks is one, too. The levels of the looks are
those of Gaussian statistics, and are taken as levels of Student's t: the significance level approach (Jennison and
Turnbull 2000, sec. 4.4).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.spending import log_levels, spent
from harness.analysis.statistics import Floats
from harness.analysis.table import RunTable
from harness.design.kinds import FIRST_LOOK, LARGEST_MOST, MOST_SEEDS
from harness.errors import HarnessError
from harness.runs.record import FINAL
from harness.text import quantity, shortened

LEAST_SEEDS = 2


@dataclass(frozen=True)
class Looks:
    """When results are looked at: after `first` whole seeds, after one more, ..., after `most`."""

    first: int = FIRST_LOOK
    most: int = MOST_SEEDS

    def __post_init__(self) -> None:
        is_whole = all(isinstance(each, Integral) and not isinstance(each, bool) for each in (self.first, self.most))
        if not is_whole or not LEAST_SEEDS <= self.first <= self.most <= LARGEST_MOST:
            allowed = f"whole numbers with {LEAST_SEEDS} <= first <= most <= {LARGEST_MOST} are"
            raise HarnessError(f"looks from {self.first} to {self.most} seeds: {allowed} allowed, such as 3 and 8")

    def nominal(self, seeds: int, rate: float, df: int) -> float:
        """The two-sided level of a test at the look after so many seeds, where all looks have `rate`; 0 before them.

        `df`: degrees of freedom of the spread that a seed brings.
        """
        if seeds < self.first:
            return 0.0
        if self.first == self.most:
            return rate
        rates, levels = log_levels(self.first, self.most, df)
        return float(np.exp(np.interp(np.log(rate), rates, levels[seeds - self.first])))

    def p(self, seeds: int, nominal: ArrayLike, df: int) -> Floats:
        """The smallest rates of the rule at which these two-sided p reject at the look after so many seeds."""
        nominal = np.asarray(nominal, dtype=np.float64)
        if self.first == self.most:
            return nominal
        rates, levels = log_levels(self.first, self.most, df)
        # Below the smallest rate it is Bonferroni's bound, from what is spent at the look alone, that is safe.
        bound = nominal / np.diff(spent(range(self.first, self.most + 1), self.most), prepend=0.0)[seeds - self.first]
        with np.errstate(divide="ignore"):
            rate = np.exp(np.interp(np.log(nominal), levels[seeds - self.first], rates, right=0.0))
        # Rounding aside, the p of a rule is no less than that of one look.
        return np.asarray(np.maximum(nominal, np.minimum(rate, bound)))

    def one_sided_p(self, seeds: int, nominal: ArrayLike, df: int) -> Floats:
        """As `p`, of one-sided p: a bound on one side has half the chance of two bounds to be passed.

        Half and a little more, as a process may pass first the one and then the other: below 0.0002 at a rate of 0.05.
        """
        nominal = np.asarray(nominal, dtype=np.float64)
        return np.asarray(np.maximum(nominal, self.p(seeds, np.minimum(1.0, 2 * nominal), df) / 2))


def looked_at(table: RunTable, baseline: str, looks: Looks) -> tuple[RunTable, tuple[str, ...]]:
    """The runs of the first whole seeds, at most as many as the rule allows, and of the control; what is left out."""
    planned, control = table.blocks(baseline)
    seeds = table.whole(planned)[: looks.most]
    rest = table.under([seed for seed in planned if seed not in seeds])
    ended = Counter(seed for seed, state in zip(rest.seed.tolist(), rest.states, strict=True) if state in FINAL)
    notes = []
    if ended and len(seeds) == looks.most:
        runs = quantity(sum(ended.values()), "run")
        notes.append(f"The most seeds by the rule are {looks.most}: {runs} under further seeds are left out.")
    elif ended:
        which = shortened([f"{seed} ({count} of {len(table.cells)} cells)" for seed, count in sorted(ended.items())], 4)
        notes.append(
            "Seeds are compared once every cell has a run that ended under them and under those before. Left out until "
            f"then are the runs that ended under seed{'s' * (len(ended) > 1)} {which}."
        )
    return table.under([*seeds, *control]), tuple(notes)
