"""Tests and intervals: pure functions of arrays. No torch here."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Of every interval; 1 - LEVEL is the error rate of a family."""
MOST_FLIPS = 12
"""Seeds up to which all sign flips are gone through."""

# Values that agree to this share come from a metric's resolution, not from agreement of seeds.
_SAME = 1e-9


@functools.cache
def quantile(df: float, level: float = LEVEL) -> float:
    """Half-width of a two-sided Student-t interval, in standard errors."""
    return float(special.stdtrit(df, (1 + level) / 2))


def two_sided(t: float, df: float) -> float:
    """p of Student's t."""
    return float(2 * special.stdtr(df, -abs(t)))


def equivalent(value: float, error: float, df: float, bounds: tuple[float, float]) -> float:
    """p of two one-sided tests (Schuirmann 1987): the larger of those against either bound."""
    low, high = bounds
    return float(max(special.stdtr(df, (low - value) / error), special.stdtr(df, (value - high) / error)))


def own_interval(differences: Floats) -> tuple[float, float] | None:
    """Student-t interval of the mean of paired differences by themselves; None below two or without spread."""
    if len(differences) < 2 or constant(differences):
        return None
    n = len(differences)
    mean, reach = float(differences.mean()), quantile(n - 1) * float(differences.std(ddof=1)) / math.sqrt(n)
    return mean - reach, mean + reach


def welch(ours: Floats, theirs: Floats) -> tuple[float, float, float] | None:
    """Interval of the difference of two independent means, and p (Welch 1947); None without spread to judge by."""
    if min(len(ours), len(theirs)) < 2 or (constant(ours) and constant(theirs)):
        return None
    parts = [float(values.var(ddof=1)) / len(values) for values in (ours, theirs)]
    df = sum(parts) ** 2 / (parts[0] ** 2 / (len(ours) - 1) + parts[1] ** 2 / (len(theirs) - 1))
    value, error = float(ours.mean() - theirs.mean()), math.sqrt(sum(parts))
    reach = quantile(df) * error
    return value - reach, value + reach, two_sided(value / error, df)


def constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= _SAME * max(1.0, float(np.abs(values).max())))


def correlation(ours: Floats, theirs: Floats) -> float | None:
    """Pearson's, of paired values; None below three pairs or without spread."""
    if len(ours) < 3 or constant(ours) or constant(theirs):
        return None
    return float(np.corrcoef(ours, theirs)[0, 1])


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of a family of p-values; a missing one stays missing and counts in the family."""
    size = len(p_values)
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * size
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (size - rank) * p))
        corrected[place] = largest
    return corrected


def sign_flip(differences: Floats) -> tuple[float, float] | None:
    """Exact two-sided sign-flip p of the mean (Fisher 1935) and the least that it could be; None without all flips."""
    n = len(differences)
    if not 2 <= n <= MOST_FLIPS:
        return None
    totals = np.abs(_signs(n) @ differences)
    reached = totals >= totals[0] - 1e-9 * max(1.0, float(np.abs(differences).sum()))
    return float(reached.mean()), 2.0 ** (1 - n)


@functools.cache
def _signs(n: int) -> Floats:
    """[2^n, n] of -1 and +1; the first row flips nothing."""
    return np.array(list(product((1.0, -1.0), repeat=n)))


def hedges(differences: Floats) -> float | None:
    """Standardised mean of paired differences, d_z, with Hedges's correction for few; None where it has no spread."""
    df = len(differences) - 1
    if df < 1 or constant(differences):
        return None
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else None
    return None if correction is None else float(correction * differences.mean() / differences.std(ddof=1))


def intraclass(values: Floats) -> float | None:
    """Correlation of runs of one seed, ICC(3,1) of Shrout & Fleiss (1979), over the seeds that all cells finished."""
    whole = values[np.isfinite(values).all(axis=1)]
    seeds, cells = whole.shape
    if seeds < 3 or cells < 2:
        return None
    residuals = whole - whole.mean(axis=0) - whole.mean(axis=1, keepdims=True) + whole.mean()
    within = float((residuals**2).sum()) / ((seeds - 1) * (cells - 1))
    between = cells * float(whole.mean(axis=1).var(ddof=1))
    total = between + (cells - 1) * within
    return (between - within) / total if total > 0 else None


def lenth(contrasts: Floats) -> tuple[float, float, float]:
    """Pseudo standard error, margin of error and simultaneous margin of unreplicated contrasts (Lenth 1989)."""
    size = np.abs(contrasts)
    first = 1.5 * float(np.median(size))
    inactive = size[size < 2.5 * first]
    error = 1.5 * float(np.median(inactive)) if len(inactive) else first
    df = len(size) / 3
    together = float(special.stdtrit(df, (1 + LEVEL ** (1 / len(size))) / 2))
    return error, quantile(df) * error, together * error
