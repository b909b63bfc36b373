"""Contrasts of cells to estimates with intervals, tests and verdicts, a family at a time. No torch here."""

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
"""Cells that spread over seeds as unlike the others as this chance (over all cells) do not share their residual."""
_WEIGHTY = 0.25
"""A contrast of which such cells make up this share is judged by its own spread alone; df = n - 1."""
UNPAIRED = "no seed is shared, so the means are compared unpaired (Welch's t)"


def noise_of(metric: Metric, scaled: Floats) -> Floats:
    """[seeds]: how far rounding alone moves a value of `scaled` [seeds, cells], on the scale of the analysis."""
    return statistics.rounding(scaled, least=1.0 if metric.scale == "log" else 0.0)


@dataclass(frozen=True)
class Question:
    """A contrast of cells, and what is known of it before any number is looked at."""

    weights: Floats
    """[cells]; all 0 where no contrast is left to be read."""
    settled: Verdict | None = None
    """The verdict that no number can change."""
    reason: str = ""
    """What the contrast lacks, and why it is settled."""


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
    """By cell: the first cell that was trained alike, which stands for both in the fit."""

    @functools.cached_property
    def merged(self) -> Floats:
        """[seeds, cells]: the first of twins has the runs of all of them, the others none."""
        found = np.full(self.values.shape, np.nan)
        for place, first in enumerate(self.twins):
            found[:, first] = np.where(np.isfinite(found[:, first]), found[:, first], self.values[:, place])
        return found

    @functools.cached_property
    def fit(self) -> Fit:
        return fit(self.merged, self.noise)

    @functools.cached_property
    def noise(self) -> Floats:
        """[seeds]: how far rounding alone moves a value."""
        return noise_of(self.metric, self.values)

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
        return np.where(np.abs(folded) > 1e-12 * np.abs(weights).max(axis=-1, keepdims=True), folded, 0.0)

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

    def without_spread(self) -> str:
        """Why no interval can be had of this sample; empty if it can."""
        if self.fit.sd:
            return ""
        if not self.fit.df:
            return (
                "one seed has no spread to judge by"
                if self.fit.there.any(axis=1).sum() == 1
                else "the runs leave nothing to judge their spread by"
            )
        constant = all(
            statistics.constant(column[np.isfinite(column)], float(self.noise.max()))
            for column in self.merged.T
            if np.isfinite(column).any()
        )
        if constant:
            return "every seed gave the same numbers, so there is no spread to judge by: the seed seems to be unused"
        return "all seeds differ by the very same amount, so there is no spread to judge by"


@dataclass(frozen=True)
class _Raw:
    """One contrast on the scale of the analysis."""

    value: float
    error: float
    df: float
    seeds: tuple[int, ...]
    own: Floats
    """By seed."""
    noise: float
    """How far rounding alone moves one of them."""
    replicated: bool
    """Whether either side of it rests on more than one seed."""
    uneven: bool = False
    paired: bool = True
    reason: str = ""


def estimates(sample: Sample, questions: Sequence[Question]) -> tuple[Estimate, ...]:
    """The answers to a family of contrasts."""
    if not questions:
        return ()
    fitted = zip(*sample.fit.estimates(sample.folded(np.array([each.weights for each in questions]))), strict=True)
    raws = [_raw(sample, each.weights, *found) for each, found in zip(questions, fitted, strict=True)]
    chances = [_chance(raw) for raw in raws]
    margins = [_within_margin(sample, raw) for raw in raws]
    corrected = zip(chances, statistics.holm(chances), statistics.holm(margins), strict=True)
    return tuple(
        _estimate(sample, raw, found, question) for raw, found, question in zip(raws, corrected, questions, strict=True)
    )


def _raw(sample: Sample, weights: Floats, value: float, error: float) -> _Raw:
    used = weights != 0
    if not used.any():
        return _Raw(math.nan, math.nan, 0, (), np.empty(0), 0.0, False)
    there = np.isfinite(sample.values[:, used])
    rows = np.flatnonzero(there.all(axis=1))
    if math.isnan(value):
        return _unpaired(sample, weights)
    own = sample.within[rows][:, used] @ weights[used]
    noise = float(sample.noise.max()) * float(np.abs(weights).sum())
    value = 0.0 if abs(value) <= noise else value
    on, off = (int(there[:, weights[used] * sign > 0].any(axis=1).sum()) for sign in (1, -1))
    seeds = tuple(sample.seeds[row] for row in rows)
    raw = _Raw(float(value), float(error), sample.fit.df, seeds, own, noise, min(on, off) > 1)
    if not sample.folded(weights).any():
        return raw
    share = float((weights[sample.uneven] ** 2).sum() / (weights**2).sum())
    if share < _WEIGHTY or len(own) < 2:
        return raw if error > 0 else replace(raw, reason=sample.without_spread())
    raw = replace(raw, value=float(own.mean()), df=len(own) - 1, uneven=True)
    if statistics.constant(own, noise):
        return replace(raw, error=math.nan, reason="all its seeds differ by the very same amount")
    return replace(raw, error=statistics.deviation(own) / math.sqrt(len(own)))


def _unpaired(sample: Sample, weights: Floats) -> _Raw:
    """A contrast that no seeds tell: of the means of its cells, each over its own seeds."""
    folded = sample.folded(weights)
    columns = [sample.merged[:, place] for place in np.flatnonzero(folded)]
    groups = [column[np.isfinite(column)] for column in columns]
    raw = _Raw(math.nan, math.nan, 0, (), np.empty(0), 0.0, False, paired=False)
    if not groups or not all(map(len, groups)):
        return raw
    noise = float(sample.noise.max())
    value, error, df = statistics.unpaired(groups, folded[folded != 0].tolist(), noise)
    counts = sorted({len(each) for each in groups})
    most = f"{counts[0]} to {counts[-1]} runs" if len(counts) > 1 else f"{counts[0]} run{'s' * (counts[0] > 1)}"
    told = f"{UNPAIRED}: {most} a cell"
    if counts[0] == 1:
        told = f"{told}, and one run has no spread"
    elif math.isnan(error):
        told = f"{told}; every cell's runs gave the same numbers, so there is no spread to judge by"
    return replace(raw, value=value, error=error, df=df, replicated=counts[0] > 1, reason=told)


def _chance(raw: _Raw) -> float | None:
    if not raw.error > 0:
        return None
    return statistics.two_sided(raw.value / raw.error, raw.df)


def _within_margin(sample: Sample, raw: _Raw) -> float | None:
    if sample.bounds is None or not raw.error > 0:
        return None
    return statistics.equivalent(raw.value, raw.error, raw.df, sample.bounds)


def _estimate(
    sample: Sample, raw: _Raw, found: tuple[float | None, float | None, float | None], question: Question
) -> Estimate:
    p, p_holm, p_equivalent = found
    known = math.isfinite(raw.value)
    reach = statistics.quantile(raw.df) * raw.error if raw.error > 0 else None
    own, flips = statistics.own_interval(raw.own, raw.noise), statistics.sign_flip(raw.own, raw.noise)
    better = raw.own < -raw.noise if sample.metric.better == "lower" else raw.own > raw.noise
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
        d_z=statistics.hedges(raw.own, raw.noise),
        verdict="insufficient seeds",
        uneven=raw.uneven,
        paired=raw.paired or not known,
    )
    verdict = question.settled or _verdict(sample.metric, estimate, raw.replicated)
    told = raw.reason if question.settled != "equivalent" else ""
    lost = "" if known or question.reason else "these runs do not tell it"
    reasons = (question.reason, told, _few(raw, verdict), lost)
    return replace(estimate, verdict=verdict, reason="; ".join(dict.fromkeys(filter(None, reasons))))


def _few(raw: _Raw, verdict: Verdict) -> str:
    """What an estimate lacks for a verdict, where nothing else has said it."""
    if not raw.own.size and raw.paired and raw.error > 0:
        return "no seed has all of its cells, so it is read through others that share seeds with them"
    if verdict != "insufficient seeds" or raw.reason or not math.isfinite(raw.value):
        return ""
    return "a side of it rests on one seed"


def _verdict(metric: Metric, estimate: Estimate, replicated: bool) -> Verdict:
    """A change within the margin does not matter, however sure it is."""
    if estimate.value is None or not replicated:
        return "insufficient seeds"
    if estimate.p_equivalent is not None and estimate.p_equivalent < ALPHA:
        return "equivalent"
    if estimate.p_holm is None or estimate.p_holm >= ALPHA:
        return "inconclusive"
    return "better" if (estimate.value < 0) == (metric.better == "lower") else "worse"
