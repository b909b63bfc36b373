"""An encoded image as R x R pixels, and many of them as one array over files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.shown import Tell, opaque
from harness.settings import DataConfig

PIXEL_RULE = "on-white,srgb,{fit},lanczos/3"
"""Part of the fingerprint: raise its number with any change that moves a pixel."""

Pixels = NDArray[np.uint8]


def decode(encoded: bytes, config: DataConfig, tell: Tell | None = None) -> Pixels:
    """[3,R,R], RGB in 0..255: as a viewer shows it on white, then made square and resized with antialiasing.

    Raises DataError with the reason when the image cannot be read, is too small or too large; `tell` as in `opaque`.
    """
    from PIL import Image

    side = (config.resolution, config.resolution)
    opened = opaque(encoded, config.min_side, tell)
    return planes(_square(opened, config.fit).resize(side, Image.Resampling.LANCZOS))


def planes(picture: Any) -> Pixels:
    """[3,H,W] of an RGB image."""
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _square(picture: Any, fit: str) -> Any:
    from PIL import ImageOps

    if fit == "stretch":
        return picture
    if fit == "pad":
        side = max(picture.size)
        return ImageOps.pad(picture, (side, side), color="white")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


class Shards:
    """[M,3,R,R] uint8 over several memory-mapped files, indexed like an array of images; read-only."""

    def __init__(self, parts: Sequence[Pixels]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, ids: int | slice | NDArray[np.integer[Any]] | Sequence[int]) -> Pixels:
        """One image [3,R,R] of one id; [n,3,R,R], a copy, of n ids."""
        if isinstance(ids, slice):
            ids = np.arange(len(self))[ids]
        chosen = np.asarray(ids)
        if chosen.size and not (-len(self) <= chosen.min() and chosen.max() < len(self)):
            raise IndexError(f"image {chosen.min()} to {chosen.max()} of {len(self)}")
        wrapped = np.atleast_1d(chosen) % len(self)
        files = np.searchsorted(self._starts, wrapped, side="right") - 1
        images = np.empty((len(wrapped), *self.shape[1:]), np.uint8)
        for place, (file, image) in enumerate(zip(files, wrapped, strict=True)):
            images[place] = self._parts[file][image - self._starts[file]]
        return images if chosen.ndim else images[0]

    def mirror(self) -> Shards:
        """The same images turned left to right."""
        return Shards([part[..., ::-1] for part in self._parts])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.concatenate(self._parts).astype(dtype or self.dtype, copy=False)
