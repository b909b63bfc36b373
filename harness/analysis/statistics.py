"""Tests and intervals: pure functions of arrays.

None of them depends on the unit or the zero of the numbers. `noise` is how far rounding alone moves one of the values:
the caller knows it, who has the numbers as large as they were before they were subtracted.
Only scipy.special is loaded: scipy.stats takes half a second more, and knows neither Welch's weights nor `noise`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Of every interval; 1 - LEVEL is the error rate of a family."""
MOST_FLIPS = 12
"""Seeds up to which all sign flips are tried: 4,096 of them."""
_ROUNDINGS = 4
"""Times that a number is rounded before it is compared: when written, read, scaled and subtracted."""


def rounding(values: Floats, least: float = 0.0) -> Floats:
    """[rows]: how far rounding alone moves the largest of each row of `values` [rows, columns]; NaN counts as 0.

    `least`: a size below which no row counts, 1 for logarithms, as what they are of is rounded by a share of itself.
    """
    double = np.finfo(np.float64)
    sizes = np.maximum(np.abs(np.nan_to_num(values)).max(axis=1, initial=0.0), least)
    return np.asarray(_ROUNDINGS * np.maximum(double.eps * sizes, double.smallest_subnormal))


@functools.cache
def quantile(df: float, level: float = LEVEL) -> float:
    """Half-width of a two-sided Student-t interval, in standard errors."""
    return float(special.stdtrit(df, (1 + level) / 2))


def two_sided(t: Floats, df: Floats) -> Floats:
    """p of Student's t."""
    return np.asarray(2 * special.stdtr(df, -np.abs(t)), dtype=np.float64)


def tost(values: Floats, errors: Floats, df: Floats, bounds: tuple[float, float]) -> Floats:
    """p of two one-sided tests (Schuirmann 1987): the larger of those against either bound."""
    low, high = bounds
    below, above = (special.stdtr(df, t) for t in ((low - values) / errors, (values - high) / errors))
    return np.asarray(np.maximum(below, above), dtype=np.float64)


def deviation(values: Floats) -> float:
    """Sample standard deviation of two values or more, also where their squares would under- or overflow."""
    centred = values - values[0]
    size = float(np.abs(centred).max())
    return size * float((centred / size).std(ddof=1)) if size else 0.0


def constant(values: Floats, noise: float = 0.0) -> bool:
    """Whether the values are equal but for rounding."""
    return bool(np.ptp(values) <= 2 * noise)


def paired_interval(differences: Floats, noise: float = 0.0, level: float = LEVEL) -> tuple[float, float] | None:
    """Student-t interval of the mean of paired differences, df = n - 1; None below two or without spread."""
    if len(differences) < 2 or constant(differences, noise):
        return None
    n = len(differences)
    mean, reach = float(differences.mean()), quantile(n - 1, level) * deviation(differences) / math.sqrt(n)
    return mean - reach, mean + reach


def welch(groups: Sequence[Floats], weights: Sequence[float], noise: float = 0.0) -> tuple[float, float, float]:
    """Weighted sum of the means of independent groups, its standard error and degrees of freedom (Welch 1947).

    The weights sum to 0. The error is NaN where a group has one value, or no group has spread.
    """
    zero = groups[0][0]  # subtracted first, so that large equal values leave no rounding
    value = math.fsum(weight * float((each - zero).mean()) for each, weight in zip(groups, weights, strict=True))
    if min(map(len, groups)) < 2 or all(constant(each, noise) for each in groups):
        return value, math.nan, math.nan
    errors = np.array([w * deviation(each) / math.sqrt(len(each)) for each, w in zip(groups, weights, strict=True)])
    largest = float(np.abs(errors).max())
    shares = (errors / largest) ** 2
    df = float(shares.sum()) ** 2 / float((shares**2 / [len(each) - 1 for each in groups]).sum())
    return value, largest * math.sqrt(float(shares.sum())), df


def pearson(ours: Floats, theirs: Floats, noise: float = 0.0) -> float | None:
    """Pearson's, of paired values; None below three pairs or without spread."""
    if len(ours) < 3 or constant(ours, noise) or constant(theirs, noise):
        return None
    scaled = [(each - each.mean()) / np.ptp(each) for each in (ours, theirs)]
    return float(np.corrcoef(*scaled)[0, 1])


def holm(p_values: Sequence[float | None], size: int) -> list[float | None]:
    """Holm's step-down correction of a family of so many p-values; a missing one stays missing."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    steps = accumulate((min(1.0, (size - rank) * p) for rank, (p, _) in enumerate(order)), max)
    corrected = {place: step for (_, place), step in zip(order, steps, strict=True)}
    return [corrected.get(place) for place in range(len(p_values))]


def sign_flip(differences: Floats, noise: float = 0.0) -> tuple[float, float] | None:
    """Exact two-sided sign-flip p of the mean (Fisher 1935), and the least that it could be with so many values.

    None below two values and above MOST_FLIPS.
    """
    n = len(differences)
    if not 2 <= n <= MOST_FLIPS:
        return None
    # [2^n, n] of +1 and -1: the bits of the row's number; the first row flips nothing.
    signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n)[::-1] & 1)
    totals = np.abs(signs @ differences)
    # Sums that differ by rounding are ties, and count as reached.
    own = np.finfo(np.float64).eps * float(np.abs(differences).sum())
    reached = totals >= totals[0] - n * max(noise, own)
    return float(reached.mean()), 2.0 ** (1 - n)


def hedges(differences: Floats, noise: float = 0.0) -> float | None:
    """Standardised mean of paired differences, d_z, with Hedges's correction; None below three or without spread."""
    df = len(differences) - 1
    if df < 2 or constant(differences, noise):
        return None
    # As logarithms of the gamma function, which itself overflows beyond 170.
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return correction * float(differences.mean()) / deviation(differences)


def intraclass(values: Floats, noise: float = 0.0) -> float | None:
    """Correlation of runs of one seed, ICC(3,1) of Shrout & Fleiss (1979), over the seeds that all cells finished."""
    whole = values[np.isfinite(values).all(axis=1)]
    seeds, cells = whole.shape
    if seeds < 3 or cells < 2 or constant(whole, noise):
        return None
    whole = (whole - whole[0, 0]) / np.ptp(whole)
    residuals = whole - whole.mean(axis=0) - whole.mean(axis=1, keepdims=True) + whole.mean()
    within = float((residuals**2).sum()) / ((seeds - 1) * (cells - 1))
    between = cells * float(whole.mean(axis=1).var(ddof=1))
    total = between + (cells - 1) * within
    return (between - within) / total if total > 0 else None


def lenth(contrasts: Floats) -> tuple[float, float, float] | None:
    """Pseudo standard error, margin of error and simultaneous margin of unreplicated contrasts (Lenth 1989).

    None where so many contrasts are 0 that they leave no error to hold the others against.
    """
    size = np.abs(contrasts)
    first = 1.5 * float(np.median(size))
    inactive = size[size < 2.5 * first]
    error = 1.5 * float(np.median(inactive)) if len(inactive) else first
    if not error:
        return None
    df = len(size) / 3
    together = float(special.stdtrit(df, (1 + LEVEL ** (1 / len(size))) / 2))
    return error, quantile(df) * error, together * error
