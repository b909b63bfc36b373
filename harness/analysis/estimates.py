"""Contrasts of cells to estimates with intervals, tests and verdicts, one family of comparisons at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis import statistics
from harness.analysis.fit import Bools, Fit, centred, fit
from harness.analysis.results import Estimate, Verdict
from harness.analysis.statistics import Floats
from harness.metrics.definitions import Metric

ALPHA = 1 - statistics.LEVEL
_UNEVEN = 0.01
"""Level, over all cells, of the test whether a cell's spread over seeds is unlike that of the others."""
_OWN_SPREAD = 0.25
"""Share of a contrast's squared weights on such cells from which on its interval is of its own spread; df = n - 1."""
_NO_SEEDS: Floats = np.empty(0)
_UNPAIRED = "no seed is shared, so the means are compared unpaired (Welch's t)"


@dataclass(frozen=True)
class Question:
    """A contrast of cells that is to be estimated, and what the states of its runs decide before."""

    weights: Floats
    """[cells]; all 0 where its cells have no results."""
    settled: Verdict | None = None
    """The verdict that no number can change."""
    reason: str = ""
    """What the contrast lacks, and why its verdict is settled."""


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

    @functools.cached_property
    def merged(self) -> Floats:
        """[seeds, cells]: the first of twins has the runs of all of them, the others none."""
        merged = np.full(self.values.shape, np.nan)
        for place, first in enumerate(self.twins):
            merged[:, first] = np.where(np.isfinite(merged[:, first]), merged[:, first], self.values[:, place])
        return merged

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
        return self.fit.uneven(_UNEVEN / max(1, len(self.twins)))[list(self.twins)]

    def folded(self, weights: Floats) -> Floats:
        """Contrasts [..., cells] with the weights of twins on the first of them; 0 where only twins are compared."""
        if self.twins == tuple(range(len(self.twins))):
            return weights
        folded = weights @ np.eye(len(self.twins))[list(self.twins)]
        # A sum of weights such as 1/3 + 1/3 - 2/3 is not exactly 0.
        return np.where(np.abs(folded) > 1e-12 * np.abs(weights).max(axis=-1, keepdims=True), folded, 0.0)

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


def estimates(sample: Sample, questions: Sequence[Question]) -> tuple[Estimate, ...]:
    """The answers to a family of contrasts; Holm's correction is over all of them."""
    if not questions:
        return ()
    fitted = zip(*sample.fit.estimates(sample.folded(np.array([each.weights for each in questions]))), strict=True)
    raw = [_contrast(sample, each.weights, *fit) for each, fit in zip(questions, fitted, strict=True)]
    p_values, equivalence = (
        statistics.holm(each) for each in zip(*((it.p, it.p_equivalent) for it in raw), strict=True)
    )
    corrected = (
        replace(it, p_holm=p, p_equivalent=equivalent)
        for it, p, equivalent in zip(raw, p_values, equivalence, strict=True)
    )
    return tuple(_judged(sample.metric, it, question) for it, question in zip(corrected, questions, strict=True))


def _contrast(sample: Sample, weights: Floats, value: float, error: float) -> Estimate:
    """`value` and `error` are those of the fit to all cells, NaN where the runs share too few seeds for them."""
    used = weights != 0
    if not used.any():
        return _estimate(sample, math.nan, math.nan, 0)
    if math.isnan(value):
        return _unpaired(sample, weights)
    there = np.isfinite(sample.values[:, used])
    rows = np.flatnonzero(there.all(axis=1))
    own = sample.within[rows][:, used] @ weights[used]
    noise = sample.noise * float(np.abs(weights).sum())
    value, df, uneven, reason = 0.0 if abs(value) <= noise else value, sample.fit.df, False, ""
    if sample.folded(weights).any():
        # A contrast whose cells spread unlike the others: the residual that all cells share is not theirs.
        uneven = float((weights[sample.uneven] ** 2).sum() / (weights**2).sum()) >= _OWN_SPREAD and len(own) > 1
        if not uneven:
            reason = "" if error > 0 else sample.without_spread()
        else:
            value, df, error = float(own.mean()), len(own) - 1, statistics.deviation(own) / math.sqrt(len(own))
            if statistics.constant(own, noise):
                error, reason = math.nan, "all its seeds differ by the very same amount"
    on, off = (there[:, weights[used] * sign > 0].any(axis=1).sum() for sign in (1, -1))
    return replace(
        _estimate(sample, value, error, df, own, noise),
        seeds=tuple(sample.seeds[row] for row in rows),
        uneven=uneven,
        verdict="inconclusive" if min(on, off) > 1 else "insufficient seeds",
        reason=reason,
    )


def _unpaired(sample: Sample, weights: Floats) -> Estimate:
    """A contrast of cells that share no seeds: of their means, each over its own seeds."""
    folded = sample.folded(weights)
    columns = [sample.merged[:, place] for place in np.flatnonzero(folded)]
    groups = [column[np.isfinite(column)] for column in columns]
    if not groups or not all(map(len, groups)):
        return _estimate(sample, math.nan, math.nan, 0)
    value, error, df = statistics.welch(groups, folded[folded != 0].tolist(), sample.noise)
    counts = sorted({len(each) for each in groups})
    runs = f"{counts[0]} to {counts[-1]} runs" if len(counts) > 1 else f"{counts[0]} run{'s' * (counts[0] > 1)}"
    reason = f"{_UNPAIRED}: {runs} per cell"
    if counts[0] == 1:
        reason += ", and one run has no spread"
    elif math.isnan(error):
        reason += "; every cell's runs gave the same numbers, so there is no spread to judge by"
    verdict: Verdict = "inconclusive" if counts[0] > 1 else "insufficient seeds"
    return replace(_estimate(sample, value, error, df), paired=False, verdict=verdict, reason=reason)


def _estimate(
    sample: Sample, value: float, error: float, df: float, own: Floats = _NO_SEEDS, noise: float = 0.0
) -> Estimate:
    """Of a contrast on the scale of the analysis, before the tests are corrected and judged.

    `error` is NaN without spread; `own` the contrast within each seed that has all of its cells, and `noise` how far
    rounding alone moves one of these.
    """
    p = equivalent = low = high = None
    if error > 0:
        reach = statistics.quantile(df) * error
        low, high = sample.shown(value - reach), sample.shown(value + reach)
        p = statistics.two_sided(value / error, df)
        if sample.margin is not None:
            least, most = sample.metric.difference([-sample.margin, sample.margin]).tolist()
            equivalent = statistics.tost(value, error, df, (least, most))
    interval, flips = statistics.paired_interval(own, noise), statistics.sign_flip(own, noise)
    own_low, own_high = map(sample.shown, interval) if interval else (None, None)
    better = own < -noise if sample.metric.better == "lower" else own > noise
    return Estimate(
        value=sample.shown(value) if math.isfinite(value) else None,
        low=low,
        high=high,
        p=p,
        p_holm=None,
        p_equivalent=equivalent,
        seeds=(),
        by_seed=tuple(map(sample.shown, own.tolist())),
        improved=int(better.sum()),
        own_low=own_low,
        own_high=own_high,
        sign_flip=flips and flips[0],
        sign_flip_least=flips and flips[1],
        d_z=statistics.hedges(own, noise),
        verdict="insufficient seeds",
    )


def _judged(metric: Metric, estimate: Estimate, question: Question) -> Estimate:
    """With its verdict, and in words why that is no plain one; empty where there is nothing to say."""
    verdict = question.settled or estimate.verdict
    if not question.settled and verdict != "insufficient seeds" and estimate.value is not None:
        # Before better and worse: a change within the margin does not matter, however sure it is.
        if estimate.p_equivalent is not None and estimate.p_equivalent < ALPHA:
            verdict = "equivalent"
        elif estimate.p_holm is not None and estimate.p_holm < ALPHA:
            verdict = "better" if (estimate.value < 0) == (metric.better == "lower") else "worse"
    reasons = [question.reason]
    if question.settled != "equivalent":
        reasons.append(estimate.reason)
    if not estimate.by_seed and estimate.paired and estimate.p is not None:
        reasons.append("no seed has all of its cells, so it is estimated through cells that share seeds with them")
    elif verdict == "insufficient seeds" and not estimate.reason and estimate.value is not None:
        reasons.append("one side of the comparison has a single seed")
    if estimate.value is None and not question.reason:
        reasons.append("it cannot be estimated from these runs")
    return replace(estimate, verdict=verdict, reason="; ".join(dict.fromkeys(filter(None, reasons))))
