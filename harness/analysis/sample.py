"""The numbers of one metric that are compared: by seed and cell, as they were at each look."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis import statistics
from harness.analysis.fit import Bools, Fit, centred, fit
from harness.analysis.looks import Looks
from harness.analysis.statistics import Floats
from harness.analysis.table import Ints
from harness.metrics.definitions import Metric

ALPHA = 1 - statistics.LEVEL
_UNEVEN = 0.01
"""Level, over all cells, of the test whether a cell's spread over seeds is unlike that of the others."""


@dataclass(frozen=True)
class Sample:
    """One metric on the scale of its analysis, by seed and cell."""

    metric: Metric
    seeds: tuple[int, ...]
    values: Floats
    """[seeds, cells]: logarithms for a metric of scale log; NaN where no comparable run is finished."""
    margin: float | None
    """Differences within it are equivalent; % or the metric's unit."""
    twins: tuple[int, ...]
    """By cell: the first cell that was trained alike, which stands for both in the fit."""
    looks: Looks | None = None
    """The rule by which seeds were added; None: their number was fixed."""
    twins_by_look: tuple[tuple[int, ...], ...] = ()
    """The same as each look before the last knew it."""
    one_run: tuple[bool, ...] = ()
    """By cell: whether all its runs are one, as training makes no use of the seed; empty: of none."""

    @functools.cached_property
    def at_looks(self) -> tuple[Sample, ...]:
        """What there was at each look, all of it at the last; nothing before the first look."""
        earlier = range(self.looks.first, len(self.seeds)) if self.looks else ()
        looks = [
            replace(self, seeds=self.seeds[:n], values=self.values[:n], looks=None, twins=twins)
            for n, twins in zip(earlier, self.twins_by_look, strict=True)
        ]
        return (*looks, self) if self.looks_begun else ()

    @property
    def looks_begun(self) -> bool:
        """Whether there are as many seeds as the first look needs."""
        return self.looks is None or len(self.seeds) >= self.looks.first

    @property
    def df(self) -> int:
        """Degrees of freedom of the spread that a seed brings."""
        return max(1, int(self.fit.there.any(axis=0).sum()) - 1)

    def level(self, df: int) -> float:
        """Of an interval of the last look that has the level `LEVEL` over all looks, by the `df` that a seed brings."""
        return 1 - self.looks.nominal(len(self.seeds), ALPHA, df) if self.looks else statistics.LEVEL

    @functools.cached_property
    def merged(self) -> Floats:
        """[seeds, cells]: the first of twins has the runs of all of them, the others none."""
        merged = np.full(self.values.shape, np.nan)
        for place, first in enumerate(self.twins):
            merged[:, first] = np.where(np.isfinite(merged[:, first]), merged[:, first], self.values[:, place])
        return merged

    @property
    def distinct(self) -> Floats:
        """[seeds, cells that trained differently]."""
        return self.merged[:, sorted(set(self.twins))]

    @functools.cached_property
    def fit(self) -> Fit:
        return fit(self.merged, self._rounding)

    @functools.cached_property
    def _rounding(self) -> Floats:
        """[seeds]: how far rounding alone moves a value."""
        return statistics.rounding(self.values, least=1.0 if self.metric.scale == "log" else 0.0)

    @property
    def noise(self) -> float:
        """How far rounding alone moves a value of any seed."""
        return float(self._rounding.max(initial=0.0))

    @functools.cached_property
    def within(self) -> Floats:
        """[seeds, cells] less what their seed has in common."""
        there = np.isfinite(self.values)
        return np.where(there, centred(self.values, there), np.nan)

    @functools.cached_property
    def uneven(self) -> Bools:
        """[cells]: which spread over seeds unlike the others."""
        return self.fit.uneven(_UNEVEN / max(1, len(set(self.twins))))[list(self.twins)]

    def folded(self, weights: Floats) -> Floats:
        """Contrasts [..., cells] with the weights of twins on the first of them; 0 where only twins are compared."""
        if self.twins == tuple(range(len(self.twins))):
            return weights
        folded = weights @ np.eye(len(self.twins))[list(self.twins)]
        # A sum of weights such as 1/3 + 1/3 - 2/3 is not exactly 0.
        return np.where(np.abs(folded) > 1e-12 * np.abs(weights).max(axis=-1, keepdims=True), folded, 0.0)

    def runs_of(self, folded: Floats) -> list[Floats]:
        """The finished runs of each cell of a contrast [cells]."""
        columns = [self.merged[:, place] for place in np.flatnonzero(folded)]
        return [column[np.isfinite(column)] for column in columns]

    def by_seed(self, weights: Floats) -> tuple[Ints, Floats]:
        """Rows of the seeds that have every cell of a contrast [cells], and the contrast within each of them."""
        used = weights != 0
        rows = np.flatnonzero(np.isfinite(self.values[:, used]).all(axis=1))
        return rows, self.within[rows][:, used] @ weights[used]

    def shown(self, difference: float) -> float:
        """A difference as readers see it: of logarithms in %."""
        return float(self.metric.change(difference))

    def without_spread(self) -> str:
        """Why no interval can be had of this sample; empty if it can."""
        if self.fit.sd:
            return ""
        if not self.fit.df:
            one = self.fit.there.any(axis=1).sum() == 1
            return "one seed has no spread to judge by" if one else "there are too few runs to estimate their spread"
        constant = all(
            statistics.constant(column[np.isfinite(column)], self.noise)
            for column in self.merged.T
            if np.isfinite(column).any()
        )
        if constant:
            return "every seed gave the same numbers, so there is no spread to judge by: the seed seems to be unused"
        return "all seeds differ by the very same amount, so there is no spread to judge by"
