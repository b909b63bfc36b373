"""Contrasts of cells to estimates with intervals, tests and verdicts, one family of comparisons at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis import statistics
from harness.analysis.fit import Bools
from harness.analysis.results import Estimate, Verdict
from harness.analysis.sample import ALPHA, Sample
from harness.analysis.statistics import Floats
from harness.metrics.definitions import Metric

_OWN_SPREAD = 0.25
"""Share of a contrast's squared weights on such cells from which on its interval is of its own spread; df = n - 1."""
_NO_SEEDS: Floats = np.empty(0)
_TOO_EARLY = "nothing is tested before the first look, which is after {} seeds"
_UNPAIRED = "no seed is shared, so the means are compared unpaired (Welch's t)"


@dataclass(frozen=True)
class Question:
    """A contrast of cells that is to be estimated, and what the states of its runs decide before."""

    weights: Floats
    """[cells]; all 0 where its cells have no results."""
    planned: Floats
    """The same by the plan, with the cells that have no results."""
    settled: Verdict | None = None
    """The verdict that no number can change."""
    reason: str = ""
    """What the contrast lacks, and why its verdict is settled."""


@dataclass(frozen=True)
class _Fitted:
    """Contrasts [contrasts] at one look, on the scale of the analysis."""

    values: Floats
    """NaN where the runs cannot tell them."""
    errors: Floats
    """Standard errors; not above 0 without spread."""
    df: Floats
    paired: Bools
    uneven: Bools
    """Whose cells spread unlike the others, so that error and df are of its own values by seed."""
    single: Bools
    """Of which one side has a single seed."""
    one_run: Bools
    """Of which that side has a single run for every seed, so that further ones add nothing to it."""

    @property
    def apart(self) -> Bools:
        """Which have a spread of their own, from one value in a seed."""
        return self.uneven | ~self.paired

    def tests(self, bounds: tuple[float, float] | None) -> tuple[Floats, Floats]:
        """p of no difference and, with bounds, of one outside of them; NaN without spread."""
        errors = np.where(self.errors > 0, self.errors, np.nan)
        none = np.full(len(errors), np.nan)
        p = statistics.two_sided(self.values / errors, self.df)
        return p, statistics.tost(self.values, errors, self.df, bounds) if bounds else none


def estimates(sample: Sample, questions: Sequence[Question]) -> tuple[Estimate, ...]:
    """The answers to a family of contrasts.

    Holm's correction is over all of them but those of cells that trained alike: these are known and not tested. One
    without a result counts, so that a lost cell makes no other verdict easier.
    Where seeds were added by looks, a p is one of all looks so far, and Holm's correction of these is the
    group-sequential Holm procedure (Ye, Li, Liu and Yao 2013; Maurer and Bretz 2013). Which cells trained alike is as
    each look knew it, and what it told stands.
    """
    if not questions:
        return ()
    weights = np.array([each.weights for each in questions])
    looks = [_fitted(look, weights) for look in sample.at_looks]
    last = looks[-1] if looks else _fitted(sample, weights)
    p, equivalent = _over_looks(sample, looks, last)
    planned = np.array([each.planned for each in questions])
    alike = [np.asarray(~look.folded(planned).any(axis=1)) for look in sample.at_looks or (sample,)]
    corrected = [_corrected(of, alike) for of in (p, equivalent)]
    answers = []
    for place, question in enumerate(questions):
        by_look = [[row[place] for row in of] for of in corrected]
        is_alike, is_one_run = bool(alike[-1][place]), bool(last.one_run[place])
        estimate = replace(_contrast(sample, question.weights, last, place), alike=is_alike, one_run=is_one_run)
        if not estimate.alike:
            own = _without_nan(p[-1])[place]
            estimate = replace(estimate, p=own, p_holm=by_look[0][-1], p_equivalent=by_look[1][-1])
        estimate = _judged(sample.metric, estimate, question)
        if sample.looks and not question.settled and estimate.verdict in ("better", "worse", "equivalent"):
            deciding = by_look[estimate.verdict == "equivalent"]
            look = next(look for look, p in enumerate(deciding) if p is not None and p < ALPHA)
            estimate = replace(estimate, decided_after=sample.looks.first + look)
        answers.append(estimate)
    return tuple(answers)


def _corrected(p: Floats, alike: Sequence[Bools]) -> list[list[float | None]]:
    """By look, p of all looks so far [looks, contrasts] after correction for those not of cells alike by then."""
    rows = [
        statistics.holm(_without_nan(np.where(known, np.nan, row)), int((~known).sum()))
        for row, known in zip(p, alike, strict=True)
    ]
    corrected = np.fmin.accumulate(np.array(rows, dtype=np.float64))
    return [_without_nan(row) for row in corrected]


def _without_nan(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _over_looks(sample: Sample, looks: Sequence[_Fitted], last: _Fitted) -> tuple[Floats, Floats]:
    """p of no difference and of one outside the margin [looks, contrasts], each of all looks up to that one."""
    bounds = None
    if sample.margin is not None:
        bounds = tuple(sample.metric.difference([-sample.margin, sample.margin]).tolist())
    if sample.looks is None:
        p, equivalent = last.tests(bounds)
        return p[None], equivalent[None]
    if not looks:  # nothing is tested before the first look
        none = np.full((1, len(last.values)), np.nan)
        return none, none
    rows = []
    for seeds, fitted in enumerate(looks, sample.looks.first):
        p, equivalent = fitted.tests(bounds)
        # What points the other way by now is not claimed, so an earlier look of that sign gives no p.
        lost = (fitted.single & (fitted is not last)) | (np.sign(fitted.values) != np.sign(last.values))
        p[lost] = np.nan
        if bounds and fitted is not last:  # nor that a change lies within the margin which by now does not
            equivalent[(last.values <= bounds[0]) | (last.values >= bounds[1])] = np.nan
        for df, own in ((sample.df, ~fitted.apart), (1, fitted.apart)):
            if own.any():
                p[own] = sample.looks.p(seeds, p[own], df)
                equivalent[own] = sample.looks.one_sided_p(seeds, equivalent[own], df) if bounds else np.nan
        rows.append((p, equivalent))
    p, equivalent = (np.array(each) for each in zip(*rows, strict=True))
    return np.fmin.accumulate(p), np.fmin.accumulate(equivalent)


def _fitted(sample: Sample, weights: Floats) -> _Fitted:
    """Of contrasts [contrasts, cells]."""
    folded = sample.folded(weights)
    squares = folded**2
    values, errors = sample.fit.estimates(folded)
    values = np.where(np.abs(values) <= sample.noise * np.abs(weights).sum(axis=1), 0.0, values)
    df, paired = np.full(len(values), float(sample.fit.df)), ~np.isnan(values)
    for place in np.flatnonzero(~paired).tolist():
        values[place], errors[place], df[place] = _welch(sample, folded[place])
    # A contrast whose cells spread unlike the others: the residual that all cells share is not theirs.
    shares = squares[:, sample.uneven].sum(axis=1) / np.where(folded.any(axis=1), squares.sum(axis=1), 1.0)
    uneven = (shares >= _OWN_SPREAD) & paired & folded.any(axis=1)
    for place in np.flatnonzero(uneven).tolist():
        own = sample.by_seed(weights[place])[1]
        uneven[place] = len(own) > 1
        if uneven[place]:
            values[place], df[place] = own.mean(), len(own) - 1
            errors[place] = statistics.deviation(own) / math.sqrt(len(own))
            if statistics.constant(own, sample.noise * float(np.abs(weights[place]).sum())):
                errors[place] = math.nan
    return _Fitted(values, errors, df, paired, uneven, *_single(sample, weights))


def _single(sample: Sample, weights: Floats) -> tuple[Bools, Bools]:
    """Of contrasts [contrasts, cells]: which have a side with a single seed, and which one that is a single run."""
    there = np.isfinite(sample.values).astype(float)
    varied = ~np.array(sample.one_run or [False] * there.shape[1], dtype=bool)
    single, one_run = np.zeros((2, len(weights)), dtype=bool)
    for side in (weights > 0, weights < 0):
        own = (there @ side.T > 0).sum(axis=0) < 2
        single |= own
        one_run |= own & side.any(axis=1) & ~(side & varied).any(axis=1)
    return single, one_run


def _contrast(sample: Sample, weights: Floats, fitted: _Fitted, place: int) -> Estimate:
    """Before it is tested and judged."""
    if not weights.any():
        return _estimate(sample, math.nan, math.nan)
    value, error, df = (float(each[place]) for each in (fitted.values, fitted.errors, fitted.df))
    reach = math.nan
    if error > 0 and sample.looks_begun:
        reach = statistics.quantile(df, sample.level(1 if fitted.apart[place] else sample.df)) * error
    if not fitted.paired[place]:
        return _unpaired(sample, weights, value, error, reach)
    rows, own = sample.by_seed(weights)
    reason, noise = "", sample.noise * float(np.abs(weights).sum())
    if not sample.looks_begun:
        reason = _TOO_EARLY.format(sample.looks.first if sample.looks else 0)
    elif fitted.uneven[place] and math.isnan(error):
        reason = "all its seeds differ by the very same amount"
    elif not fitted.uneven[place] and not error > 0 and sample.folded(weights).any():
        reason = sample.without_spread()
    return replace(
        _estimate(sample, value, reach, own, noise),
        seeds=tuple(sample.seeds[row] for row in rows),
        uneven=bool(fitted.uneven[place]) and not math.isnan(reach),
        verdict="insufficient seeds" if fitted.single[place] or not sample.looks_begun else "inconclusive",
        reason=reason,
    )


def _welch(sample: Sample, folded: Floats) -> tuple[float, float, float]:
    """Of a contrast of cells that share no seeds, each mean over its own: value, error and df; NaN without a run."""
    groups = sample.runs_of(folded)
    if not groups or not all(map(len, groups)):
        return math.nan, math.nan, 0
    return statistics.welch(groups, folded[folded != 0].tolist(), sample.noise)


def _unpaired(sample: Sample, weights: Floats, value: float, error: float, reach: float) -> Estimate:
    """A contrast of cells that share no seeds: of their means, each over its own seeds."""
    if math.isnan(value):
        return _estimate(sample, math.nan, math.nan)
    counts = sorted({len(each) for each in sample.runs_of(sample.folded(weights))})
    runs = f"{counts[0]} to {counts[-1]} runs" if len(counts) > 1 else f"{counts[0]} run{'s' * (counts[0] > 1)}"
    reason = f"{_UNPAIRED}: {runs} per cell"
    if counts[0] == 1:
        reason += ", and one run has no spread"
    elif math.isnan(error):
        reason += "; every cell's runs gave the same numbers, so there is no spread to judge by"
    verdict: Verdict = "inconclusive" if counts[0] > 1 else "insufficient seeds"
    return replace(_estimate(sample, value, reach), paired=False, verdict=verdict, reason=reason)


def _estimate(sample: Sample, value: float, reach: float, own: Floats = _NO_SEEDS, noise: float = 0.0) -> Estimate:
    """Of a contrast on the scale of the analysis, before the tests are corrected and judged.

    `reach`: half of its interval, NaN where there is none; `own`: the contrast within each seed that has all of its
    cells, and `noise` how far rounding alone moves one of these.
    """
    interval = statistics.paired_interval(own, noise, sample.level(1)) if sample.looks_begun else None
    # The p of sign flips holds for a number of seeds that was fixed, and has no counterpart over looks.
    flips = statistics.sign_flip(own, noise) if sample.looks is None else None
    own_low, own_high = map(sample.shown, interval) if interval else (None, None)
    better = own < -noise if sample.metric.better == "lower" else own > noise
    return Estimate(
        value=sample.shown(value) if math.isfinite(value) else None,
        low=None if math.isnan(reach) else sample.shown(value - reach),
        high=None if math.isnan(reach) else sample.shown(value + reach),
        p=None,
        p_holm=None,
        p_equivalent=None,
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
        of_side = "makes no use of the seed and is a single run" if estimate.one_run else "has a single seed"
        reasons.append(f"one side of the comparison {of_side}")
    if estimate.value is None and not question.reason:
        reasons.append("it cannot be estimated from these runs")
    return replace(estimate, verdict=verdict, reason="; ".join(dict.fromkeys(filter(None, reasons))))
