"""Contrasts of cells to estimates with intervals, tests and verdicts, a family at a time. No torch here."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.analysis import statistics
from harness.analysis.blocks import Fit, fit
from harness.analysis.results import Estimate, Verdict
from harness.analysis.statistics import Floats
from harness.metrics.definitions import Metric

ALPHA = 1 - statistics.LEVEL
_UNEVEN = 0.01
"""Cells that spread over seeds as unlike the others as this chance (over all cells) do not share their residual."""
_WEIGHTY = 0.25
"""A contrast of which such cells make up this share is judged by its own spread alone; df = n - 1."""


@dataclass(frozen=True)
class Sample:
    """One metric on the scale of its analysis, by seed and cell."""

    metric: Metric
    seeds: tuple[int, ...]
    values: Floats
    """[seeds, cells]: logarithms for a metric of scale log; not numbers where no comparable run is finished."""
    margin: float | None
    """Differences within it are equivalent; % or the metric's unit."""
    twins: tuple[int, ...]
    """By cell: the first cell that has the very same numbers, which stands for both in the fit."""

    @functools.cached_property
    def fit(self) -> Fit:
        first = np.array(self.twins) == np.arange(len(self.twins))
        return fit(np.where(first, self.values, np.nan))

    @functools.cached_property
    def uneven(self) -> NDArray[np.bool_]:
        """[cells]: which spread over seeds unlike the others."""
        return self.fit.uneven(_UNEVEN / max(1, len(self.twins)))[list(self.twins)]

    def fitted(self, weights: Floats) -> tuple[list[float], list[float]]:
        """Values and standard errors of contrasts [contrasts, cells]; not numbers where the runs do not tell."""
        values, errors = self.fit.estimates(self.folded(weights))
        return values.tolist(), errors.tolist()

    def folded(self, weights: Floats) -> Floats:
        """Contrasts [..., cells] with the weights of twins on the first of them; 0 where only twins are compared."""
        if self.twins == tuple(range(len(self.twins))):
            return weights
        return weights @ np.eye(len(self.twins))[list(self.twins)]

    def shown(self, difference: float) -> float:
        """A difference as readers see it: of logarithms in %."""
        return float(self.metric.change(difference))

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The margin on the scale of the analysis."""
        if self.margin is None:
            return None
        low, high = self.metric.difference([-self.margin, self.margin]).tolist()
        return low, high


@dataclass(frozen=True)
class _Raw:
    """One contrast on the scale of the analysis."""

    value: float
    error: float
    df: int
    seeds: tuple[int, ...]
    own: Floats
    """By seed."""
    replicated: bool
    """Whether either side of it rests on more than one seed."""
    uneven: bool


def estimates(sample: Sample, weights: Floats, settled: Sequence[Verdict | None]) -> tuple[Estimate, ...]:
    """A family of contrasts [contrasts, cells]; `settled` holds the verdicts that no number can change."""
    raws = _raws(sample, weights)
    chances = [_chance(raw) for raw in raws]
    margins = [_within_margin(sample, raw) for raw in raws]
    corrected = zip(chances, statistics.holm(chances), statistics.holm(margins), strict=True)
    return tuple(
        _estimate(sample, raw, found, verdict) for raw, found, verdict in zip(raws, corrected, settled, strict=True)
    )


def _raws(sample: Sample, weights: Floats) -> list[_Raw]:
    return [_raw(sample, row, fitted) for row, *fitted in zip(weights, *sample.fitted(weights), strict=True)]


def _raw(sample: Sample, weights: Floats, fitted: Sequence[float]) -> _Raw:
    used = weights != 0
    there = np.isfinite(sample.values[:, used])
    rows = np.flatnonzero(there.all(axis=1))
    own = sample.values[rows][:, used] @ weights[used]
    on, off = (int(there[:, weights[used] * sign > 0].any(axis=1).sum()) for sign in (1, -1))
    value, error = fitted
    raw = _Raw(value, error, sample.fit.df, tuple(sample.seeds[row] for row in rows), own, min(on, off) > 1, False)
    share = float((weights[sample.uneven] ** 2).sum() / (weights**2).sum())
    if share < _WEIGHTY or len(own) < 2:
        return raw
    error = float(own.std(ddof=1)) / math.sqrt(len(own))
    return replace(raw, value=float(own.mean()), error=error, df=len(own) - 1, uneven=True)


def _chance(raw: _Raw) -> float | None:
    if not raw.error > 0:
        return None
    return statistics.two_sided(raw.value / raw.error, raw.df)


def _within_margin(sample: Sample, raw: _Raw) -> float | None:
    if sample.bounds is None or not raw.error > 0:
        return None
    return statistics.equivalent(raw.value, raw.error, raw.df, sample.bounds)


def _estimate(
    sample: Sample, raw: _Raw, found: tuple[float | None, float | None, float | None], settled: Verdict | None
) -> Estimate:
    p, p_holm, p_equivalent = found
    known = math.isfinite(raw.value)
    reach = statistics.quantile(raw.df) * raw.error if raw.error > 0 else None
    own, flips = statistics.own_interval(raw.own), statistics.sign_flip(raw.own)
    better = raw.own < 0 if sample.metric.better == "lower" else raw.own > 0
    estimate = Estimate(
        value=sample.shown(raw.value) if known else None,
        low=None if reach is None else sample.shown(raw.value - reach),
        high=None if reach is None else sample.shown(raw.value + reach),
        p=p,
        p_holm=p_holm,
        p_equivalent=p_equivalent,
        seeds=raw.seeds,
        by_seed=tuple(map(sample.shown, raw.own.tolist())),
        improved=int(better.sum()),
        own_low=None if own is None else sample.shown(own[0]),
        own_high=None if own is None else sample.shown(own[1]),
        sign_flip=None if flips is None else flips[0],
        sign_flip_least=None if flips is None else flips[1],
        d_z=statistics.hedges(raw.own),
        verdict="insufficient seeds",
        uneven=raw.uneven,
    )
    return replace(estimate, verdict=settled or _verdict(sample.metric, estimate, raw.replicated))


def _verdict(metric: Metric, estimate: Estimate, replicated: bool) -> Verdict:
    """A change within the margin does not matter, however sure it is."""
    if estimate.value is None or not replicated:
        return "insufficient seeds"
    if estimate.p_equivalent is not None and estimate.p_equivalent < ALPHA:
        return "equivalent"
    if estimate.p_holm is None or estimate.p_holm >= ALPHA:
        return "inconclusive"
    return "better" if (estimate.value < 0) == (metric.better == "lower") else "worse"
