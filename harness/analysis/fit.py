"""The model of every comparison, y = seed + cell + residual, fitted by least squares.

Seeds are blocks: what all runs of a seed share drops out. Runs may be missing; the cell effects are then those of the
intra-block analysis of an incomplete block design (Montgomery, Design and Analysis of Experiments, sec. 4.4).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.statistics import Floats, rounding

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Fit:
    """Least squares estimates of the cells, and their precision."""

    means: Floats
    """[cells], up to a constant: only contrasts mean something."""
    inverse: Floats
    """[cells, cells], generalised inverse of the cells' normal equations after the seeds are swept out."""
    space: Floats
    """[cells, cells], projection on the contrasts that the runs can tell."""
    sd: float
    """Of a residual; 0 if it is nothing but rounding, or without degrees of freedom."""
    df: int
    residuals: Floats
    """[seeds, cells], 0 where a run is missing."""
    there: Bools
    """[seeds, cells]: the runs that are compared, those whose seed has another one."""

    def uneven(self, level: float) -> Bools:
        """[cells]: those that spread so unlike the others that a shared residual has no more than this chance.

        F test of a cell's own residual squares against what the fit without it would leave; exact with no run missing.
        """
        from scipy import special

        if not self.sd:
            return np.zeros(self.residuals.shape[1], dtype=bool)
        runs = self.there.sum(axis=0)
        cells = int((runs > 0).sum())
        squares = ((self.residuals / self.sd) ** 2).sum(axis=0) * cells / max(1, cells - 1)
        own = np.maximum(runs - 1, 0)
        left = self.df - own
        rest = np.maximum(self.df - squares, 1e-12)
        testable = (own > 0) & (left > 1)
        ratio = np.where(testable, squares / np.maximum(own, 1) / rest * np.maximum(left, 1), 0)
        return np.asarray(testable & (special.fdtrc(np.maximum(own, 1), np.maximum(left, 1), ratio) < level))

    def estimates(self, weights: Floats) -> tuple[Floats, Floats]:
        """Values and standard errors of contrasts [contrasts, cells]; NaN where the runs cannot tell them."""
        # A contrast that is not in the space of those that the runs can tell has a part outside of it.
        outside = np.abs(weights @ self.space - weights).max(axis=1, initial=0.0)
        known = outside <= 1e-8 * np.abs(weights).max(axis=1, initial=0.0)
        spread = np.maximum(np.einsum("ij,ij->i", weights @ self.inverse, weights), 0)
        values = np.where(known, weights @ self.means, np.nan)
        return values, np.where(known, np.sqrt(spread) * self.sd, np.nan)


def fit(values: Floats, noise: Floats | None = None) -> Fit:
    """Fit `values` [seeds, cells], NaN where a run is missing.

    `noise` [seeds]: how far rounding alone moves a value; by default, what the size of the values tells.
    """
    there = np.isfinite(values)
    noise = rounding(np.where(there, values, 0.0)) if noise is None else noise
    # A seed with one run says nothing about differences of cells.
    there &= there.sum(axis=1, keepdims=True) > 1
    y = centred(values, there)
    # Squares of very small or large numbers under- or overflow, so the largest is the unit.
    unit = float(np.abs(y).max(initial=0.0)) or 1.0
    inverse, space = _normal(there.shape, there.tobytes())
    means, left = _swept(y / unit, there, inverse)
    more, residuals = _swept(left, there, inverse)  # a second step takes out what rounding left in the first
    runs = there.sum(axis=1)
    df = int(runs.sum()) - int((runs > 0).sum()) - round(float(np.trace(space)))
    variance = float((residuals**2).sum()) / max(df, 1)
    floor = float((runs * (noise / unit) ** 2).sum()) / max(int(runs.sum()), 1)
    sd = unit * math.sqrt(variance) if df > 0 and variance > floor else 0.0
    return Fit((means + more) * unit, inverse, space, sd, max(df, 0), residuals * unit, there)


def centred(values: Floats, there: Bools) -> Floats:
    """[seeds, cells] less the middle value of their seed, 0 where a run is missing: exact where values are alike."""
    placed = np.sort(np.where(there, values, np.inf), axis=1)
    middle = np.maximum(there.sum(axis=1) - 1, 0) // 2
    zero = placed[np.arange(len(values)), middle] if values.shape[1] else np.zeros(len(values))
    return np.where(there, values - np.where(there.any(axis=1), zero, 0.0)[:, None], 0.0)


def _swept(y: Floats, there: Bools, inverse: Floats) -> tuple[Floats, Floats]:
    """Estimates [cells], and the residuals [seeds, cells] of them and the seeds."""
    per_seed = np.maximum(there.sum(axis=1), 1)
    means = inverse @ (y.sum(axis=0) - there.T @ (y.sum(axis=1) / per_seed))
    seeds = (y - there * means).sum(axis=1) / per_seed
    return means, there * (y - means - seeds[:, None])


@functools.lru_cache(maxsize=4)
def _normal(shape: tuple[int, int], pattern: bytes) -> tuple[Floats, Floats]:
    """Inverse and space of the cells' normal equations for these finished runs; shared by metrics."""
    there = np.frombuffer(pattern, dtype=bool).reshape(shape)
    seeds, cells = shape
    if there.all() and there.size:
        space = np.eye(cells) - 1 / cells
        return space / seeds, space
    shares = there / np.maximum(there.sum(axis=1), 1)[:, None]
    normal = np.diag(there.sum(axis=0).astype(float)) - there.T.astype(float) @ shares
    inverse = np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
    return inverse, normal @ inverse
