"""Pictures that are held out and look nearly like one to train on: copies in another size or quality, frames of a film.

What is the same cannot be told from what only looks so; they are counted and stay where they are. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.arrays import open_array
from harness.errors import DataError

_SIDE = 8
_LUMA, _CHROMA = 2.0, 5.0
"""Most by which two small pictures that look alike differ in brightness and in colour: root mean squares, in levels of
255. JPEG of quality 50 moves even small and colourful pictures by 1.3 and 4.5; of 3,953 emoji 65 have another as near,
of another skin tone mostly."""
_PLAIN = 20.0
"""Standard deviation of brightness, in levels, below which a picture is too plain to be told from others."""
_AS_VIDEO = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
"""RGB to brightness and two of colour, as JPEG stores them."""
TOLD_FROM = 0.05
"""Share of the held-out pictures below which nothing is said: so few move no metric."""
_BLOCK = 128

Small = NDArray[np.uint8]
"""[n,3,8,8]"""


@dataclass(frozen=True)
class Lookalikes:
    """What `between` found."""

    count: int = 0
    """Pictures of the first kind that look nearly like one of the second."""
    example: tuple[int, int] = (0, 0)
    """Places of the nearest two."""


def small(pixels: NDArray[np.uint8]) -> Small:
    """Of [n,3,R,R]: the means of blocks."""
    side = pixels.shape[-1] // _SIDE
    blocks = pixels.reshape(-1, 3, _SIDE, side, _SIDE, side)
    return np.asarray(blocks.mean((3, 5), dtype=np.float32).round(), np.uint8)


def path_of(folder: Path, number: int) -> Path:
    """The small pictures of a shard, there from when it is packed until the data set is settled."""
    return folder / f"small-{number:05d}.npy"


def kept(folder: Path, shards: int) -> Small | None:
    """Those of all shards; None if they are not all there."""
    try:
        parts = [open_array(path_of(folder, number), np.uint8, (None, 3, _SIDE, _SIDE)) for number in range(shards)]
    except DataError:
        return None
    return np.concatenate(parts)


def forget(folder: Path) -> None:
    """Removes them."""
    for path in folder.glob("small-*.npy"):
        path.unlink()


def between(pictures: Small, ones: Sequence[int], others: Sequence[int]) -> Lookalikes:
    """How many of `ones` look nearly like one of `others`, both places in `pictures`."""
    if not ones or not others:
        return Lookalikes()
    looks = np.einsum("cd,ndhw->nchw", _AS_VIDEO, pictures.astype(np.float32) - 128).reshape(len(pictures), 3, -1)
    luma, chroma = looks[:, 0], looks[:, 1:].reshape(len(pictures), -1)
    shown = luma.std(1) >= _PLAIN
    mine, theirs = (np.array([place for place in places if shown[place]], int) for places in (ones, others))
    squares, ahead = np.square(luma).sum(1), luma[theirs].T
    count, nearest, example = 0, np.inf, (0, 0)
    for start in range(0, len(mine), _BLOCK):
        block = mine[start : start + _BLOCK]
        apart = squares[block, None] - 2 * luma[block] @ ahead + squares[theirs]
        rows, columns = np.nonzero(apart <= luma.shape[1] * _LUMA**2 + 2)  # rounding; looked at closely below
        one, other = block[rows], theirs[columns]
        bright, coloured = _difference(luma, one, other), _difference(chroma, one, other)
        alike = (bright <= _LUMA) & (coloured <= _CHROMA)
        count += len(np.unique(one[alike]))
        if alike.any() and bright[alike].min() < nearest:
            nearest, best = bright[alike].min(), bright[alike].argmin()
            example = int(one[alike][best]), int(other[alike][best])
    return Lookalikes(count, example)


def _difference(looks: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt(np.square(looks[one] - looks[other]).mean(1)))
