"""Contrasts of cells to estimates with intervals, tests and verdicts, one family of comparisons at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
UNPAIRED = "no seed is shared, so the means are compared unpaired (Welch's t)"


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


@dataclass(frozen=True)
class _Contrast:
    """One contrast on the scale of the analysis."""

    value: float = math.nan
    error: float = math.nan
    """Standard error; NaN without spread."""
    df: float = 0
    seeds: tuple[int, ...] = ()
    """Those in which all of its cells have a run."""
    own: Floats = field(default_factory=lambda: np.empty(0))
    """[seeds]: the contrast within each of them."""
    noise: float = 0.0
    """How far rounding alone moves one of them."""
    replicated: bool = False
    """Whether both sides of it have more than one seed."""
    uneven: bool = False
    paired: bool = True
    reason: str = ""


def estimates(sample: Sample, questions: Sequence[Question]) -> tuple[Estimate, ...]:
    """The answers to a family of contrasts; Holm's correction is over all of them."""
    if not questions:
        return ()
    fitted = zip(*sample.fit.estimates(sample.folded(np.array([each.weights for each in questions]))), strict=True)
    contrasts = [_contrast(sample, each.weights, *fit) for each, fit in zip(questions, fitted, strict=True)]
    p = [statistics.two_sided(it.value / it.error, it.df) if it.error > 0 else None for it in contrasts]
    equivalent: list[float | None] = [None] * len(contrasts)
    if sample.margin is not None:
        low, high = sample.metric.difference([-sample.margin, sample.margin]).tolist()
        equivalent = [
            statistics.tost(it.value, it.error, it.df, (low, high)) if it.error > 0 else None for it in contrasts
        ]
    corrected = zip(p, statistics.holm(p), statistics.holm(equivalent), strict=True)
    return tuple(
        _estimate(sample, contrast, tests, question)
        for contrast, tests, question in zip(contrasts, corrected, questions, strict=True)
    )


def _contrast(sample: Sample, weights: Floats, value: float, error: float) -> _Contrast:
    """`value` and `error` are those of the fit to all cells, NaN where the runs share too few seeds for them."""
    used = weights != 0
    if not used.any():
        return _Contrast()
    if math.isnan(value):
        return _unpaired(sample, weights)
    there = np.isfinite(sample.values[:, used])
    rows = np.flatnonzero(there.all(axis=1))
    own = sample.within[rows][:, used] @ weights[used]
    noise = sample.noise * float(np.abs(weights).sum())
    on, off = (int(there[:, weights[used] * sign > 0].any(axis=1).sum()) for sign in (1, -1))
    contrast = _Contrast(
        value=0.0 if abs(value) <= noise else float(value),
        error=float(error),
        df=sample.fit.df,
        seeds=tuple(sample.seeds[row] for row in rows),
        own=own,
        noise=noise,
        replicated=min(on, off) > 1,
    )
    if not sample.folded(weights).any():
        return contrast
    share = float((weights[sample.uneven] ** 2).sum() / (weights**2).sum())
    if share < _OWN_SPREAD or len(own) < 2:
        return contrast if error > 0 else replace(contrast, reason=sample.without_spread())
    # Its cells spread unlike the others, so the residual that all cells share is not theirs.
    contrast = replace(contrast, value=float(own.mean()), df=len(own) - 1, uneven=True)
    if statistics.constant(own, noise):
        return replace(contrast, error=math.nan, reason="all its seeds differ by the very same amount")
    return replace(contrast, error=statistics.deviation(own) / math.sqrt(len(own)))


def _unpaired(sample: Sample, weights: Floats) -> _Contrast:
    """A contrast of cells that share no seeds: of their means, each over its own seeds."""
    folded = sample.folded(weights)
    columns = [sample.merged[:, place] for place in np.flatnonzero(folded)]
    groups = [column[np.isfinite(column)] for column in columns]
    if not groups or not all(map(len, groups)):
        return _Contrast(paired=False)
    value, error, df = statistics.welch(groups, folded[folded != 0].tolist(), sample.noise)
    counts = sorted({len(each) for each in groups})
    runs = f"{counts[0]} to {counts[-1]} runs" if len(counts) > 1 else f"{counts[0]} run{'s' * (counts[0] > 1)}"
    reason = f"{UNPAIRED}: {runs} per cell"
    if counts[0] == 1:
        reason += ", and one run has no spread"
    elif math.isnan(error):
        reason += "; every cell's runs gave the same numbers, so there is no spread to judge by"
    return _Contrast(value, error, df, replicated=counts[0] > 1, paired=False, reason=reason)


def _estimate(
    sample: Sample, contrast: _Contrast, tests: tuple[float | None, float | None, float | None], question: Question
) -> Estimate:
    """`tests`: p, p after Holm's correction, and p of equivalence after it."""
    p, p_holm, p_equivalent = tests
    known = math.isfinite(contrast.value)
    reach = statistics.quantile(contrast.df) * contrast.error if contrast.error > 0 else None
    own, flips = (of(contrast.own, contrast.noise) for of in (statistics.paired_interval, statistics.sign_flip))
    lower = sample.metric.better == "lower"
    better = contrast.own < -contrast.noise if lower else contrast.own > contrast.noise
    estimate = Estimate(
        value=sample.shown(contrast.value) if known else None,
        low=None if reach is None else sample.shown(contrast.value - reach),
        high=None if reach is None else sample.shown(contrast.value + reach),
        p=p,
        p_holm=p_holm,
        p_equivalent=p_equivalent,
        seeds=contrast.seeds,
        by_seed=tuple(map(sample.shown, contrast.own.tolist())),
        improved=int(better.sum()),
        own_low=None if own is None else sample.shown(own[0]),
        own_high=None if own is None else sample.shown(own[1]),
        sign_flip=None if flips is None else flips[0],
        sign_flip_least=None if flips is None else flips[1],
        d_z=statistics.hedges(contrast.own, contrast.noise),
        verdict="insufficient seeds",
        uneven=contrast.uneven,
        paired=contrast.paired or not known,
    )
    verdict = question.settled or _verdict(sample.metric, estimate, contrast.replicated)
    return replace(estimate, verdict=verdict, reason=_reason(contrast, question, verdict))


def _reason(contrast: _Contrast, question: Question, verdict: Verdict) -> str:
    """Why the verdict is no plain one, in words; empty where there is nothing to say."""
    is_known = math.isfinite(contrast.value)
    reasons = [question.reason]
    if question.settled != "equivalent":
        reasons.append(contrast.reason)
    if not contrast.own.size and contrast.paired and contrast.error > 0:
        reasons.append("no seed has all of its cells, so it is estimated through cells that share seeds with them")
    elif verdict == "insufficient seeds" and not contrast.reason and is_known:
        reasons.append("one side of the comparison has a single seed")
    if not is_known and not question.reason:
        reasons.append("it cannot be estimated from these runs")
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def _verdict(metric: Metric, estimate: Estimate, replicated: bool) -> Verdict:
    if estimate.value is None or not replicated:
        return "insufficient seeds"
    # Before better and worse: a change within the margin does not matter, however sure it is.
    if estimate.p_equivalent is not None and estimate.p_equivalent < ALPHA:
        return "equivalent"
    if estimate.p_holm is None or estimate.p_holm >= ALPHA:
        return "inconclusive"
    return "better" if (estimate.value < 0) == (metric.better == "lower") else "worse"
