"""The formulas of the metrics: pure float64 functions of feature arrays.

Every function takes features [N,d], one row an image or a caption, and raises `Diverged` when a feature is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from harness.errors import Diverged
from harness.metrics.definitions import POOL
from harness.rng import numpy_generator

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

_SMALL = 256
"""Sides up to which singular values cost nothing worth saving."""
_COINCIDE = 1e-4
"""Distance of features that are one and the same, as a share of their length: rounding makes 1e-6, a word 0.04."""
_TOLERATED = 1e-6
"""Share of a distance by which a faster route may change it."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """What the Frechet distance takes of one side [N,d] alone."""

    mean: Floats
    """[d]."""
    trace: float
    """Of the covariance."""
    lower: Floats | None
    """[d,d]: Cholesky factor of the covariance; None where it is not numerically definite, as for N <= d."""


def gaussian(features: NDArray[Any]) -> Gaussian:
    """Of features [N,d], N >= 2. Raises as `check`."""
    features, _ = _pair(features, features, least=2)
    centred = _centred(features)
    lower = _lower(centred.T @ centred) if len(features) > features.shape[1] else None
    return Gaussian(features.mean(axis=0), float(np.vdot(centred, centred)), lower)


def _lower(covariance: Floats) -> Floats | None:
    try:
        return np.asarray(linalg.cholesky(covariance, lower=True, check_finite=False), np.float64)
    except linalg.LinAlgError:
        return None


def frechet_distance(a: NDArray[Any], b: NDArray[Any], known: Gaussian | None = None) -> float:
    """Distance of the Gaussians fitted to `a` [N,d] and `b` [M,d] (Dowson & Landau 1982); N, M >= 2. `known`: of `a`.

    |m1-m2|^2 + tr S1 + tr S2 - 2 |A B^T|_*, with A, B the centred features over sqrt(n-1) and |.|_* the nuclear norm:
    S1 = A^T A makes the singular values of A B^T the square roots of the eigenvalues of S1 S2. Holds for any N and d,
    singular covariances included, so nothing has to be added to a diagonal. Wide features take the eigenvalues of a
    symmetric matrix, several times faster, where that is known to change the distance by less than 1e-6 of itself.
    """
    check(a, b, least=2)
    known, fitted = known or gaussian(a), np.asarray(b, np.float64)
    centred = _centred(fitted)
    shift = np.sum((known.mean - fitted.mean(axis=0)) ** 2)
    apart = float(shift + known.trace + np.vdot(centred, centred))
    if min(*a.shape, len(b)) > _SMALL:
        cross, error = _nuclear_norm_by_squares(a, centred, known)
        if 2 * error < _TOLERATED * (apart - 2 * cross):
            return apart - 2 * cross
    product = _factor(_centred(np.asarray(a, np.float64))) @ _factor(centred).T
    return max(0.0, apart - 2 * float(linalg.svdvals(product, overwrite_a=True, check_finite=False).sum()))


def _nuclear_norm_by_squares(a: NDArray[Any], b: Floats, known: Gaussian) -> tuple[float, float]:
    """|A B^T|_* as the sum of roots of eigenvalues, and a bound of its error: squares lose the small singular values.

    A are the centred features `a`, `b` is B. Rounding moves an eigenvalue by a few eps of the largest, hence its root v
    by that over 2 v. The error is infinite where a covariance is not numerically definite.
    """
    if min(len(a), len(b)) > a.shape[1]:
        if known.lower is None:
            return 0.0, math.inf
        one, two = known.lower @ known.lower.T, b.T @ b
        matrix, scale = known.lower.T @ two @ known.lower, _largest(one) * _largest(two)
    else:
        product = _factor(_centred(np.asarray(a, np.float64))) @ _factor(b).T
        matrix = product @ product.T if len(product) <= product.shape[1] else product.T @ product
        scale = _largest(matrix)
    squares = linalg.eigh(matrix, eigvals_only=True, driver="evd", overwrite_a=True, check_finite=False)
    uncertain = 16 * float(np.finfo(np.float64).eps) * scale
    roots = np.sqrt(np.maximum(squares, 0.0))
    error = np.sum(uncertain / np.maximum(roots, np.sqrt(uncertain)))
    return float(roots.sum()), float(error)


def _largest(matrix: Floats) -> float:
    """The largest eigenvalue of a positive semidefinite matrix, to a few per cent, by powers."""
    vector, length = np.ones(len(matrix)), math.sqrt(len(matrix))
    for _ in range(20):
        vector = matrix @ (vector / length)
        length = float(np.linalg.norm(vector))
        if not length:
            break
    return length


def _centred(features: Floats) -> Floats:
    centred: Floats = features - features.mean(axis=0)
    centred /= math.sqrt(len(features) - 1)
    return centred


def _factor(features: Floats) -> Floats:
    """A matrix of at most d rows with the same Gram matrix: R of a QR factorisation, which loses no precision."""
    count, width = features.shape
    if count <= width:
        return features
    return np.asarray(linalg.qr(features, mode="r", check_finite=False)[0][:width], np.float64)


def clip_score(images: NDArray[Any], texts: NDArray[Any]) -> float:
    """Mean 100 max(cos, 0) of row i of `images` [N,F] and row i of `texts` [N,F]: 0 to 100."""
    return float(np.mean(clip_scores(images, texts)))


def clip_scores(images: NDArray[Any], texts: NDArray[Any]) -> Floats:
    """[N]: what `clip_score` is the mean of."""
    images, texts = _matched(images, texts)
    return np.asarray(100 * np.maximum(np.sum(images * texts, axis=1), 0.0), np.float64)


def r_precision(
    images: NDArray[Any],
    texts: NDArray[Any],
    pool: int = POOL,
    seed: int = 0,
    right: Mapping[int, Sequence[int]] | None = None,
) -> float:
    """Share of `images` [N,F] whose own caption (row i of `texts` [N,F]) is strictly nearest among `pool` captions.

    The others are drawn, by `seed`, from the captions that do not coincide with the own one, each once: AttnGAN's 99
    mismatching captions (arXiv 1711.10485, Sec. 4), as one that coincides is no mismatch. `right` has for some images
    further rows of `texts` that are none. With fewer there are fewer, see `rivals`; images without any are left out,
    and it is NaN where that is all of them, as then none can be wrong.
    """
    images, texts = _matched(images, texts)
    captions, own = _distinct(texts)
    generator = numpy_generator(seed, "r-precision")
    hits: list[bool] = []
    for place, (image, caption) in enumerate(zip(images, own, strict=True)):
        fit = {int(caption), *(int(own[row]) for row in (right or {}).get(place, ()))}
        others = min(pool - 1, len(captions) - len(fit))
        if others < 1:
            continue
        drawn = generator.choice(len(captions) - len(fit), others, replace=False)
        for each in sorted(fit):
            drawn = drawn + (drawn >= each)
        hits.append(bool(np.all(captions[drawn] @ image < captions[caption] @ image)))
    return float(np.mean(hits)) if hits else math.nan


def rivals(texts: NDArray[Any], pool: int = POOL) -> int:
    """How many captions each of `texts` [N,F] is ranked against by `r_precision`."""
    return min(pool, len(_distinct(_unit(np.asarray(texts, np.float64)))[0])) - 1


def further_right(texts: NDArray[Any], rows: Ids, further: NDArray[Any]) -> dict[int, tuple[int, ...]]:
    """Row of `texts` [N,F] -> other rows that fit its image as well, coinciding with a further caption of that image.

    `further` [A,F] are those captions, each of the image of a row.
    """
    first = alike(np.concatenate([texts, further]))
    right: dict[int, set[int]] = {}
    for row, met in zip(rows.tolist(), first[len(texts) :].tolist(), strict=True):
        if met < len(texts) and met != first[row]:
            right.setdefault(row, set()).add(met)
    return {row: tuple(sorted(others)) for row, others in right.items()}


def _distinct(texts: Floats) -> tuple[Floats, Ids]:
    """The rows that do not coincide, and for each row which of them it is."""
    first = alike(texts)
    captions, own = np.unique(texts[first], axis=0, return_inverse=True)
    return captions, own.ravel()


def alike(features: NDArray[Any]) -> Ids:
    """[N]: for each row of `features` [N,d] the first one that it coincides with, itself if there is none before.

    A network gives equal inputs features that differ by a millionth of their length, as the rest of a batch differs.
    """
    rows = np.asarray(features, np.float64)
    if not len(rows):
        return np.empty(0, np.int64)
    tolerated = _COINCIDE * float(np.sqrt(np.mean(np.sum(rows**2, axis=1))))
    directions = numpy_generator(0, "directions").normal(size=(rows.shape[1], 4))
    lines = rows @ (directions / np.linalg.norm(directions, axis=0))
    first = np.arange(len(rows))
    left, step = np.argsort(lines[:, 0], kind="stable"), 1
    # On any line two rows are no further apart than in space. Of neighbours that coincide only one goes on.
    while step < len(left):
        one, other = left[:-step], left[step:]
        if not np.any(lines[other, 0] - lines[one, 0] <= tolerated):
            break
        near = np.all(np.abs(lines[other] - lines[one]) <= tolerated, axis=1)
        one, other = one[near], other[near]
        met = np.linalg.norm(rows[one] - rows[other], axis=1) <= tolerated
        for pair in zip(one[met], other[met], strict=True):
            earlier, later = sorted(_root(first, row) for row in pair)
            first[later] = earlier
        roots = left[[_root(first, row) == row for row in left]]
        step = 1 if len(roots) < len(left) else step + 1
        left = roots
    return np.array([_root(first, row) for row in range(len(rows))], np.int64)


def _root(first: Ids, row: int) -> int:
    while first[row] != row:
        row = int(first[row])
    return row


def _matched(images: NDArray[Any], texts: NDArray[Any]) -> tuple[Floats, Floats]:
    images, texts = _pair(images, texts, least=1)
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images but {len(texts)} captions")
    return _unit(images), _unit(texts)


def _unit(features: Floats) -> Floats:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: Floats = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    return unit


def _pair(a: NDArray[Any], b: NDArray[Any], least: int) -> tuple[Floats, Floats]:
    """Both as float64. Raises as `check`."""
    check(a, b, least)
    return np.asarray(a, np.float64), np.asarray(b, np.float64)


def check(a: NDArray[Any], b: NDArray[Any], least: int) -> None:
    """Raises ValueError for unfit shapes, Diverged for features that are not finite."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be [N,d] and [M,d], not {a.shape} and {b.shape}")
    if min(len(a), len(b)) < least:
        raise ValueError(f"at least {least} rows are needed, not {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise Diverged("features are not finite")
