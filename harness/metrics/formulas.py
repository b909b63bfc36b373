"""The formulas of the metrics: pure float64 functions of feature arrays.

Every function takes features [N,d], one row an image or a caption, and raises `Diverged` when a feature is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from harness.errors import Diverged
from harness.metrics.definitions import POOL
from harness.rng import numpy_generator

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

_BLOCK = 256
"""Rows of a pairwise matrix that are held at once: 20 MB against 10,000 others."""
_SMALL = 256
"""Sides up to which singular values cost nothing worth saving."""
_COINCIDE = 1e-4
"""Distance of features that are one and the same, as a share of their length: rounding makes 1e-6, a word 0.04."""
_TOLERATED = 1e-6
"""Share of a distance by which a faster route may change it."""


def frechet_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Distance of the Gaussians fitted to `a` [N,d] and `b` [M,d] (Dowson & Landau 1982); N, M >= 2.

    |m1-m2|^2 + tr S1 + tr S2 - 2 |A B^T|_*, with A, B the centred features over sqrt(n-1) and |.|_* the nuclear norm:
    S1 = A^T A makes the singular values of A B^T the square roots of the eigenvalues of S1 S2. Holds for any N and d,
    singular covariances included, so nothing has to be added to a diagonal. Wide features take the eigenvalues of a
    symmetric matrix, several times faster, where that is known to change the distance by less than 1e-6 of itself.
    """
    a, b = _pair(a, b, least=2)
    centred_a, centred_b = _centred(a), _centred(b)
    shift = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    apart = float(shift + np.vdot(centred_a, centred_a) + np.vdot(centred_b, centred_b))
    if min(*a.shape, len(b)) > _SMALL:
        cross, error = _nuclear_norm_by_squares(centred_a, centred_b)
        if 2 * error < _TOLERATED * (apart - 2 * cross):
            return apart - 2 * cross
    product = _factor(centred_a) @ _factor(centred_b).T
    return max(0.0, apart - 2 * float(linalg.svdvals(product, overwrite_a=True, check_finite=False).sum()))


def _nuclear_norm_by_squares(a: Floats, b: Floats) -> tuple[float, float]:
    """|A B^T|_* as the sum of roots of eigenvalues, and a bound of its error: squares lose the small singular values.

    Rounding moves an eigenvalue by a few eps of the largest, hence its root v by that over 2 v. The error is infinite
    where a covariance is not numerically definite.
    """
    if min(len(a), len(b)) > a.shape[1]:
        one, two = a.T @ a, b.T @ b
        try:
            lower = linalg.cholesky(one, lower=True, check_finite=False)
        except linalg.LinAlgError:
            return 0.0, math.inf
        matrix, scale = lower.T @ two @ lower, _largest(one) * _largest(two)
    else:
        product = _factor(a) @ _factor(b).T
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


def kernel_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Unbiased squared MMD under (x.y / d + 1)^3 over all of `a` [N,d] and `b` [M,d] (KID, arXiv 1801.01401, Sec. 4).

    A U-statistic of the full samples, without subsets; negative values are its right answer to close distributions.
    """
    a, b = _pair(a, b, least=2)
    across = sum(_kernel_sum(block, b) for block in _blocks(a)) / (len(a) * len(b))
    return float(_mean_within(a) + _mean_within(b) - 2 * across)


def _kernel_sum(a: Floats, b: Floats) -> float:
    """Sum of the kernel over all pairs of rows."""
    base = a @ b.T
    base /= a.shape[1]
    base += 1
    return float(np.einsum("ij,ij,ij->", base, base, base))


def _mean_within(features: Floats) -> float:
    """Mean kernel of all pairs of two different rows."""
    total = sum(_kernel_sum(block, features) for block in _blocks(features))
    diagonal = float(np.sum((np.sum(features**2, axis=1) / features.shape[1] + 1) ** 3))
    return (total - diagonal) / (len(features) * (len(features) - 1))


def precision_recall(real: NDArray[Any], fake: NDArray[Any], k: int = 3) -> tuple[float, float]:
    """Precision and recall of manifolds (Kynkäänniemi et al., arXiv 1904.06991, Sec. 2); each set of more than k rows.

    A set's manifold is the union of balls around its rows that reach to their k-th neighbour. Real rows that coincide
    are one row of theirs: balls around copies would have no width, and nothing but the very copies would lie in them.
    NaN where no more than k real rows differ, which span no manifold.
    """
    real, fake = _pair(real, fake, least=k + 1)
    first = alike(real)
    if len(set(first)) <= k:
        return math.nan, math.nan
    # Distances come from dot products: near the origin they cancel least.
    centre = real.mean(axis=0)
    real, fake = real - centre, fake - centre
    different, place = np.unique(first, return_inverse=True)
    rows = real[different]
    of_real, of_fake = _radii(rows, k), _radii(fake, k)
    precise, recalled = [], np.zeros(len(rows), bool)
    for block, radii in zip(_blocks(fake), _blocks(of_fake), strict=True):
        distances = _squared_distances(block, rows)
        precise.append(np.any(distances <= of_real, axis=1))
        recalled |= np.any(distances <= radii[:, None], axis=0)
    return float(np.concatenate(precise).mean()), float(recalled[place].mean())


def _radii(features: Floats, k: int) -> Floats:
    """[N]: squared distance of every row to its k-th neighbour; it is its own 0-th."""
    radii = []
    for block in _blocks(features):
        distances = _squared_distances(block, features)
        distances.partition(k, axis=1)
        radii.append(distances[:, k].copy())
    return np.concatenate(radii)


def _squared_distances(a: Floats, b: Floats) -> Floats:
    distances: Floats = a @ b.T
    distances *= -2
    distances += np.einsum("ij,ij->i", a, a)[:, None]
    distances += np.einsum("ij,ij->i", b, b)
    return np.maximum(distances, 0.0, out=distances)


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


def _blocks(features: Floats) -> Iterator[Floats]:
    for start in range(0, len(features), _BLOCK):
        yield features[start : start + _BLOCK]


def _pair(a: NDArray[Any], b: NDArray[Any], least: int) -> tuple[Floats, Floats]:
    """Both as float64. Raises ValueError for unfit shapes, Diverged for features that are not finite."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be [N,d] and [M,d], not {a.shape} and {b.shape}")
    if min(len(a), len(b)) < least:
        raise ValueError(f"at least {least} rows are needed, not {len(a)} and {len(b)}")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise Diverged("features are not finite")
    return a, b
