"""What a generator is judged by: pure float64 functions of feature arrays, and the table that says how to read them.

Every function takes features [N,d], one row an image or a caption, and raises `Diverged` when a feature is not finite.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from harness.errors import Diverged
from harness.rng import numpy_generator
from harness.study.settings import Settings

Floats = NDArray[np.float64]
Role = Literal["headline", "further", "diagnostic"]

_BLOCK = 1024


@dataclass(frozen=True)
class Metric:
    """How one measured number is read."""

    name: str
    better: Literal["lower", "higher"]
    scale: Literal["log", "raw"]
    """log: runs are compared by ratios, shown as % change; raw: by differences."""
    title: str
    unit: str
    role: Role
    """A diagnostic is shown and takes no part in verdicts."""
    doc: str

    @property
    def headline(self) -> bool:
        return self.role == "headline"


_ALL = (
    Metric("fd", "lower", "log", "Fréchet distance", "", "headline", "Between Gaussians of image features; biased up."),
    Metric(
        "clip_score", "higher", "raw", "CLIP score", "points", "headline", "Mean 100 max(cos, 0), held-out captions."
    ),
    Metric(
        "kid", "lower", "raw", "Kernel distance", "", "further", "Cubic MMD² of image features; unbiased, can be < 0."
    ),
    Metric("r_precision", "higher", "raw", "R-precision", "share", "further", "Own caption ranks first among 100."),
    Metric("precision", "higher", "raw", "Precision", "share", "further", "Generated images among the real: fidelity."),
    Metric("recall", "higher", "raw", "Recall", "share", "further", "Real images among the generated: variety."),
    Metric(
        "clip_score_seen", "higher", "raw", "Guide's CLIP score", "points", "diagnostic", "By the CLIP trained against."
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
_NAMED_BY_EXTRACTOR = ("fd", "kid")


def names(settings: Settings) -> dict[str, str]:
    """Name in `METRICS` -> name under which a run under these settings records it (`fd` -> `fd_emoji`)."""
    extractor = _short(settings.metrics.resnet)
    return {name: f"{name}_{extractor}" if name in _NAMED_BY_EXTRACTOR else name for name in METRICS}


def find(recorded: str) -> Metric | None:
    """The row of a recorded name, its title naming the extractor; None for any other logged number."""
    base, _, extractor = recorded.partition("_")
    if recorded in METRICS:
        return METRICS[recorded]
    if base not in _NAMED_BY_EXTRACTOR or not extractor:
        return None
    return replace(METRICS[base], name=recorded, title=f"{METRICS[base].title} ({extractor})")


def rows(recorded: Iterable[str]) -> tuple[Metric, ...]:
    """The rows of those recorded names that are metrics, each once, in the table's order."""
    titles = [metric.title for metric in METRICS.values()]
    found = [metric for metric in map(find, sorted(set(recorded))) if metric]
    return tuple(sorted(found, key=lambda metric: titles.index(metric.title.partition(" (")[0])))


def _short(extractor: str) -> str:
    """`embedded:resnet-measure` -> emoji, which it was trained on; `timm:resnet50.a1_in1k@file` -> resnet50_a1_in1k."""
    library, _, name = extractor.partition(":")
    if library == "embedded":
        return "emoji"
    return re.sub(r"[^a-z0-9]+", "_", name.partition("@")[0].lower()).strip("_")


def frechet_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Distance of the Gaussians fitted to `a` [N,d] and `b` [M,d] (Dowson & Landau 1982); N, M >= 2.

    |m1-m2|^2 + tr S1 + tr S2 - 2 |A B^T|_*, with A, B the centred features over sqrt(n-1) and |.|_* the nuclear norm:
    S1 = A^T A makes the singular values of A B^T the square roots of the eigenvalues of S1 S2. Holds for any N and d,
    singular covariances included, so that nothing has to be added to a diagonal.
    """
    a, b = _pair(a, b, least=2)
    centred_a, centred_b = _centred(a), _centred(b)
    spread = np.sum(centred_a**2) + np.sum(centred_b**2)
    cross = linalg.svdvals(_factor(centred_a) @ _factor(centred_b).T, overwrite_a=True, check_finite=False).sum()
    shift = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    return max(0.0, float(shift + spread - 2 * cross))


def _centred(features: Floats) -> Floats:
    return np.asarray((features - features.mean(axis=0)) / np.sqrt(len(features) - 1), np.float64)


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
    across = sum(_kernel(block, b).sum() for block in _blocks(a)) / (len(a) * len(b))
    return float(_mean_within(a) + _mean_within(b) - 2 * across)


def _kernel(a: Floats, b: Floats) -> Floats:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3, np.float64)


def _mean_within(features: Floats) -> float:
    """Mean kernel of all pairs of two different rows."""
    total = sum(float(_kernel(block, features).sum()) for block in _blocks(features))
    diagonal = float(np.sum((np.sum(features**2, axis=1) / features.shape[1] + 1) ** 3))
    return (total - diagonal) / (len(features) * (len(features) - 1))


def precision_recall(real: NDArray[Any], fake: NDArray[Any], k: int = 3) -> tuple[float, float]:
    """Precision and recall of manifolds (Kynkäänniemi et al., arXiv 1904.06991, Sec. 2); each set of more than k rows.

    A set's manifold is the union of balls around its rows that reach to their k-th neighbour.
    """
    real, fake = _pair(real, fake, least=k + 1)
    # Distances come from dot products: near the origin they cancel least.
    centre = real.mean(axis=0)
    real, fake = real - centre, fake - centre
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


def _share_inside(points: Floats, manifold: Floats, k: int) -> float:
    """Share of `points` within any of the manifold's balls."""
    reach = [np.partition(_squared_distances(block, manifold), k, axis=1)[:, k] for block in _blocks(manifold)]
    radii = np.concatenate(reach)
    inside = [np.any(_squared_distances(block, manifold) <= radii, axis=1) for block in _blocks(points)]
    return float(np.concatenate(inside).mean())


def _squared_distances(a: Floats, b: Floats) -> Floats:
    squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * (a @ b.T)
    distances: Floats = np.maximum(squares, 0.0)
    return distances


def clip_score(images: NDArray[Any], texts: NDArray[Any]) -> float:
    """Mean 100 max(cos, 0) of row i of `images` [N,F] and row i of `texts` [N,F]: 0 to 100."""
    images, texts = _matched(images, texts)
    return float(np.mean(100 * np.maximum(np.sum(images * texts, axis=1), 0.0)))


def r_precision(images: NDArray[Any], texts: NDArray[Any], pool: int = 100, seed: int = 0) -> float:
    """Share of `images` [N,F] whose own caption (row i of `texts` [N,F]) is strictly nearest among `pool` captions.

    The others are drawn, by `seed`, from the distinct rows of `texts` without the own caption, so that a repeated
    caption is neither drawn twice nor counted as wrong; with fewer than `pool` distinct captions all of them are used.
    """
    images, texts = _matched(images, texts)
    captions, own = np.unique(texts, axis=0, return_inverse=True)
    generator = numpy_generator(seed, "r-precision")
    others = min(pool, len(captions)) - 1
    hits = 0
    for image, mine in zip(images, own.ravel(), strict=True):
        drawn = generator.choice(len(captions) - 1, others, replace=False)
        rivals = captions[drawn + (drawn >= mine)]
        hits += bool(np.all(rivals @ image < captions[mine] @ image))
    return hits / len(images)


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
