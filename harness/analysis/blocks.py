"""The model of every comparison, y = seed + cell + residual, fitted by least squares. No torch here.

Seeds are blocks: what all runs of a seed share drops out. Runs may be missing; the cell effects are then those of the
intra-block analysis of an incomplete block design (Montgomery, Design and Analysis of Experiments, sec. 4.4).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EXACT = 1e-9
"""Residuals below this share of the values are rounding, not spread."""


@dataclass(frozen=True)
class Fit:
    """Least squares estimates of the cells and what they are worth."""

    means: Floats
    """[cells], up to a constant: only contrasts mean something."""
    inverse: Floats
    """[cells, cells], generalised inverse of the cells' normal equations after the seeds are swept out."""
    space: Floats
    """[cells, cells], projection on the contrasts that the runs can tell."""
    variance: float
    """Of a residual; 0 if it is nothing but rounding, or without degrees of freedom."""
    df: int
    residuals: Floats
    """[seeds, cells], 0 where a run is missing."""

    def uneven(self, level: float) -> NDArray[np.bool_]:
        """[cells]: those that spread so unlike the others that a shared residual has no more than this chance.

        F test of a cell's own residual squares against what the fit without it would leave; exact with no run missing.
        """
        from scipy import special

        if not self.variance:
            return np.zeros(self.residuals.shape[1], dtype=bool)
        runs = (self.residuals != 0).sum(axis=0)
        cells = int((runs > 0).sum())
        squares = (self.residuals**2).sum(axis=0) * cells / max(1, cells - 1)
        own = np.maximum(runs - 1, 0)
        left = self.df - own
        rest = np.maximum(self.variance * self.df - squares, 1e-12 * self.variance)
        testable = (own > 0) & (left > 1)
        ratio = np.where(testable, squares / np.maximum(own, 1) / rest * np.maximum(left, 1), 0)
        return np.asarray(testable & (special.fdtrc(np.maximum(own, 1), np.maximum(left, 1), ratio) < level))

    def estimates(self, weights: Floats) -> tuple[Floats, Floats]:
        """Values and standard errors of contrasts [contrasts, cells]; not numbers where the runs do not tell."""
        known = np.isclose(weights @ self.space, weights, atol=1e-8).all(axis=1)
        spread = np.maximum(np.einsum("ij,ij->i", weights @ self.inverse, weights), 0)
        values = np.where(known, weights @ self.means, np.nan)
        return values, np.where(known, np.sqrt(spread * self.variance), np.nan)


def fit(values: Floats) -> Fit:
    """Fit `values` [seeds, cells], not numbers where a run is missing."""
    there = np.isfinite(values)
    # A seed with one run says nothing about differences of cells.
    there &= there.sum(axis=1, keepdims=True) > 1
    y = np.where(there, values, 0.0)
    per_seed = np.maximum(there.sum(axis=1), 1)
    inverse, space = _normal(there.shape, there.tobytes())
    means = inverse @ (y.sum(axis=0) - there.T @ (y.sum(axis=1) / per_seed))
    seeds = (y - there * means).sum(axis=1) / per_seed
    residuals = there * (y - means - seeds[:, None])
    df = int(there.sum()) - int(there.any(axis=1).sum()) - round(float(np.trace(space)))
    squares = float((residuals**2).sum())
    rounding = squares <= max(df, 1) * (_EXACT * max(1.0, float(np.abs(y).max(initial=0.0)))) ** 2
    return Fit(means, inverse, space, 0.0 if df < 1 or rounding else squares / df, max(df, 0), residuals)


@functools.lru_cache(maxsize=4)
def _normal(shape: tuple[int, int], pattern: bytes) -> tuple[Floats, Floats]:
    """Inverse and space of the cells' normal equations for these finished runs; shared by metrics."""
    there = np.frombuffer(pattern, dtype=bool).reshape(shape)
    seeds, cells = shape
    if there.all() and cells:
        space = np.eye(cells) - 1 / cells
        return space / seeds, space
    shares = there / np.maximum(there.sum(axis=1), 1)[:, None]
    normal = np.diag(there.sum(axis=0).astype(float)) - there.T.astype(float) @ shares
    inverse = np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
    return inverse, normal @ inverse
