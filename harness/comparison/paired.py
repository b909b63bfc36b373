"""Statistics of paired values: pure functions of arrays. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Of every interval; 1 - LEVEL is the error rate of a family."""

# Differences that agree to this share of the values come from a metric's resolution, not from agreement of seeds.
_SAME = 1e-9


def student(ours: Floats, theirs: Floats) -> tuple[float | None, float | None, float | None]:
    """Ends of the paired Student-t interval, and p; nothing where the differences have no spread to judge by."""
    if len(ours) < 2 or _constant(ours - theirs, ours):
        return None, None, None
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(LEVEL)
    return float(interval.low), float(interval.high), float(test.pvalue)


def _constant(values: Floats, scale: Floats) -> bool:
    return bool(np.ptp(values) <= _SAME * max(1.0, float(np.abs(scale).max())))


def correlation(ours: Floats, theirs: Floats) -> float | None:
    if len(ours) < 3 or _constant(ours, ours) or _constant(theirs, theirs):
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
