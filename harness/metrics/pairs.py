"""KID, precision and recall: what is computed over all pairs of two sets of features, in float64, tile by tile.

One pass serves all three. What it takes of the real images alone is computed once (`RealPairs`). Memory: the generated
features [N,d] in float64, and a few tiles of `TILE` x `TILE`, however many real images there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.metrics.formulas import Floats, Ids, alike, check

TILE = 2048
NEIGHBOURS = 3
"""A ball of precision and recall reaches to the neighbour of this number."""
_ROUNDING = 1e-13
"""Of squared distances, as a share of squared lengths: a ball around copies of one row holds all of them."""


@dataclass(frozen=True, eq=False)
class RealPairs:
    """What the distances over pairs take of real features [N,d] alone."""

    centre: Floats
    """[d]: distances come from dot products, and near the origin they cancel least."""
    kernel: float
    """Mean kernel of two different rows."""
    first: Ids
    """[N]: the first row that each one coincides with, itself if there is none before it."""
    radii: Floats
    """[N]: squared radius of the ball around each row; -1 where it coincides with an earlier one."""

    @property
    def spans_a_manifold(self) -> bool:
        return len(np.unique(self.first)) > NEIGHBOURS


def real_pairs(real: NDArray[Any], device: str = "cpu") -> RealPairs:
    """Of real features [N,d], N >= 2. Raises Diverged for features that are not finite."""
    check(real, real, least=2)
    centre, first = real.mean(axis=0, dtype=np.float64), alike(real)
    counts = torch.from_numpy(first == np.arange(len(first))).to(device)
    kernel, radii = _within(_Rows(real, centre, device), counts)
    # Infinite where so few rows differ that there is no such neighbour.
    return RealPairs(centre, kernel, first, np.where((counts & radii.isfinite()).cpu(), radii.cpu(), -1.0))


def kid_precision_recall(
    real: NDArray[Any], fake: NDArray[Any], known: RealPairs | None = None, device: str = "cpu"
) -> tuple[float, float, float]:
    """KID, precision and recall of `fake` [M,d] against `real` [N,d]; N, M >= 2. `known`: of the very `real`.

    KID: unbiased squared MMD under (x.y / d + 1)^3 over all rows (arXiv 1801.01401, Sec. 4): a U-statistic of the full
    samples, without subsets; negative values are its right answer to close distributions.

    Precision and recall of manifolds (Kynkäänniemi et al., arXiv 1904.06991, Sec. 2): a set's manifold is the union of
    balls around its rows that reach to their 3rd neighbour. Real rows that coincide are one row of theirs: balls around
    copies would have no width, and nothing but the very copies would lie in them. NaN where no more than 3 real rows
    differ or there are no more than 3 generated ones, which span no manifold.

    Raises ValueError for unfit shapes, Diverged for features that are not finite.
    """
    check(real, fake, least=2)
    known = known or real_pairs(real, device)
    reals, fakes = (_Rows(each, known.centre, device) for each in (real, fake))
    within, fake_radii = _within(fakes, torch.ones(len(fake), dtype=torch.bool, device=device))
    real_radii = torch.from_numpy(known.radii).to(device)
    precise, recalled = (torch.zeros(len(each), dtype=torch.bool, device=device) for each in (fake, real))
    across = torch.zeros((), dtype=torch.float64, device=device)
    for here, a in reals.tiles():
        for there, b in fakes.tiles():
            products = a.rows @ b.rows.T
            across += _kernel_sum(products, a, b)
            squared = _squared_distances(products, a, b)
            precise[there] |= (squared <= real_radii[here, None]).any(0)
            recalled[here] |= (squared <= fake_radii[there]).any(1)
    kid = known.kernel + within - 2 * float(across) / (len(real) * len(fake))
    if not known.spans_a_manifold or len(fake) <= NEIGHBOURS:
        return kid, math.nan, math.nan
    return kid, float(precise.double().mean()), float(recalled.cpu().numpy()[known.first].mean())


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some rows of a set, less the centre c."""

    rows: Tensor  # [n,d]
    centre: Tensor  # [d]

    @cached_property
    def along(self) -> Tensor:
        """[n]: x.c of the centred rows."""
        return self.rows @ self.centre

    @cached_property
    def squares(self) -> Tensor:
        """[n]: squared lengths of the centred rows."""
        return self.rows.square().sum(1)


class _Rows:
    """A set of features, of which a tile is made when it is needed."""

    def __init__(self, features: NDArray[Any], centre: Floats, device: str) -> None:
        self.features, self.device = features, device
        self.centre = torch.from_numpy(centre).to(device)

    def __len__(self) -> int:
        return len(self.features)

    def tiles(self, start: int = 0) -> Iterator[tuple[slice, _Tile]]:
        for place in range(start, len(self), TILE):
            part = slice(place, place + TILE)
            rows = torch.from_numpy(np.array(self.features[part])).to(self.device, torch.float64)
            yield part, _Tile(rows.sub_(self.centre), self.centre)


def _within(rows: _Rows, counts: Tensor) -> tuple[float, Tensor]:
    """Mean kernel of two different rows, and [N] squared radii among those rows that count."""
    total = torch.zeros((), dtype=torch.float64, device=rows.device)
    nearest = torch.full((len(rows), NEIGHBOURS + 1), math.inf, dtype=torch.float64, device=rows.device)
    most = 0.0
    for here, a in rows.tiles():
        norms = a.squares + 2 * a.along + a.centre @ a.centre
        total -= (norms / a.rows.shape[1] + 1).pow(3).sum()  # a row with itself
        most = max(most, float(a.squares.max()))
        for there, b in rows.tiles(here.start):
            products = a.rows @ b.rows.T
            total += _kernel_sum(products, a, b) * (1 if here == there else 2)
            squared = _squared_distances(products, a, b)
            nearest[here] = _smallest(nearest[here], squared.masked_fill(~counts[there], math.inf))
            if here != there:
                nearest[there] = _smallest(nearest[there], squared.T.masked_fill(~counts[here], math.inf))
    radii = nearest[:, NEIGHBOURS] + _ROUNDING * most  # a row is its own 0-th neighbour
    return float(total) / (len(rows) * (len(rows) - 1)), radii


def _smallest(before: Tensor, further: Tensor) -> Tensor:
    """[n, k + 1]: the smallest of each row of both, in order."""
    return torch.cat([before, further], dim=1).topk(before.shape[1], dim=1, largest=False).values


def _kernel_sum(products: Tensor, a: _Tile, b: _Tile) -> Tensor:
    """Sum of the kernel over all pairs of rows, of the dot products of the centred ones."""
    base = products + (a.along[:, None] + a.centre @ a.centre)
    base += b.along
    base /= a.rows.shape[1]
    base += 1
    return base.pow_(3).sum()


def _squared_distances(products: Tensor, a: _Tile, b: _Tile) -> Tensor:
    """Written over `products`."""
    products *= -2
    products += a.squares[:, None]
    products += b.squares
    return products.clamp_(min=0)
