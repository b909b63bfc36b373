"""What the distances take of the real images alone: computed once for a manifest, and kept in the cache.

For 20,000 real images that is half of the work of a measurement, for 118,000 of COCO nearly all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.code.engine import loaded
from harness.data import features
from harness.data.dataset import Dataset
from harness.metrics.formulas import Floats, Gaussian, Ids, gaussian
from harness.metrics.pairs import RealPairs, real_pairs


@dataclass(frozen=True, eq=False)
class RealSide:
    """Of real features [N,d]."""

    gaussian: Gaussian
    pairs: RealPairs

    def to_array(self) -> Floats:
        """[R,d]: the Cholesky factor, zeros where there is none, then one after the other the mean, three numbers, the
        centre, and of all real rows the first equal ones and the radii.
        """
        d = len(self.gaussian.mean)
        lower = np.zeros((d, d)) if self.gaussian.lower is None else self.gaussian.lower
        rest = np.concatenate(
            [
                self.gaussian.mean,
                [self.gaussian.trace, self.pairs.kernel, self.gaussian.lower is not None],
                self.pairs.centre,
                self.pairs.first,
                self.pairs.radii,
            ]
        )
        padded = np.zeros(_rows(len(self.pairs.first), d) * d - d * d)
        padded[: len(rest)] = rest
        return np.concatenate([lower, padded.reshape(-1, d)])

    @classmethod
    def of_array(cls, stored: Floats, count: int) -> RealSide:
        """From what `to_array` gave, of so many real images."""
        d = stored.shape[1]
        rest = np.array(stored[d:]).ravel()
        mean, numbers, centre = rest[:d], rest[d : d + 3], rest[d + 3 : 2 * d + 3]
        first, radii = rest[2 * d + 3 :][:count].astype(np.int64), rest[2 * d + 3 + count :][:count]
        lower = np.asarray(stored[:d]) if numbers[2] else None
        return cls(Gaussian(mean, float(numbers[0]), lower), RealPairs(centre, float(numbers[1]), first, radii))


def _rows(count: int, d: int) -> int:
    """Of the array for so many real images and a width of d."""
    return d + -(-(2 * d + 3 + 2 * count) // d)


def real_side(real: NDArray[Any], device: str = "cpu") -> RealSide:
    """Of real features [N,d], N >= 2. Raises Diverged for features that are not finite."""
    return RealSide(gaussian(real), real_pairs(real, device))


def stored_real_side(dataset: Dataset, name: str, ids: Ids, real: NDArray[Any], device: str) -> RealSide:
    """That of the images `ids` of a data set, whose features by the network of that name are `real`; from the cache,
    where the first caller puts it."""

    def compute(advance: Callable[[int], object]) -> Iterator[Floats]:
        side = real_side(real, device).to_array()
        advance(len(side))
        yield side

    kind = features.of_images(f"real-side:{loaded('measuring')}", ids)
    rows = _rows(*real.shape)
    stored = features.cached(kind, dataset.fingerprint, name, rows, compute, np.float64)
    return RealSide.of_array(stored, len(real))
