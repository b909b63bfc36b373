"""Captioned images as training and metrics read them: memory-mapped pixels, captions and the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.decode import Pixels
from harness.data.packed import STORED, find_prepared, open_array, read_rows
from harness.data.prepare import prepare
from harness.data.sources.zip_archive import WIDTH
from harness.errors import DataError
from harness.rng import numpy_generator
from harness.settings import DataConfig

MIRRORED = "-mirrored"
"""How the fingerprint of a data set ends whose images are turned left to right."""
TUNING = "-tuning"
"""What `tuning` adds to a fingerprint."""


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


@dataclass(frozen=True)
class Dataset:
    """A prepared data set of M images."""

    name: str
    images: Pixels | Shards
    """[M,3,R,R], RGB in 0..255, read-only."""
    captions: tuple[tuple[str, ...], ...]
    """Per image: the main caption, then the others; none for an image that has no caption."""
    train: NDArray[np.int64]
    """Ids to train on, ascending."""
    held_out: NDArray[np.int64]
    """Ids never trained on, ascending."""
    fingerprint: str
    """16 hex digits over all of the above; see `harness.data.prepare`."""
    attribution: str
    stored: NDArray[np.float32] | None = None
    """[M,512], unit norm: features of the images that came with the data, by
    `harness.data.sources.zip_archive.STORED_BY`, if they are to be used."""

    def captioned(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of these images that have a caption, in their order."""
        return ids[[bool(self.captions[image]) for image in ids]] if len(ids) else ids


def mirror(dataset: Dataset) -> Dataset:
    """The same data set with every image turned left to right."""
    images = dataset.images.mirror() if isinstance(dataset.images, Shards) else dataset.images[..., ::-1]
    return replace(dataset, images=images, fingerprint=f"{dataset.fingerprint}{MIRRORED}")


def tuning(dataset: Dataset) -> Dataset:
    """The same images without the held-out ones; as many of the others, half at most, are held out in their place. What
    is tuned on this has seen nothing that a report measures with."""
    order = numpy_generator(0, "held out for tuning").permutation(dataset.train)
    count = min(len(dataset.held_out), len(order) // 2)
    held, train = np.sort(order[:count]), np.sort(order[count:])
    return replace(dataset, train=train, held_out=held, fingerprint=f"{dataset.fingerprint}{TUNING}")


def without_split(fingerprint: str) -> str:
    """The fingerprint of the images and captions that a data set was made from, whatever its split."""
    return fingerprint.replace(TUNING, "")


def fingerprint(config: DataConfig, cache: Path) -> str:
    """16 hex digits over pixels, captions and split; prepares what is not yet prepared. Raises DataError."""
    return prepare(config, cache)[1].fingerprint


def load(config: DataConfig, cache: Path, planned: str = "") -> Dataset:
    """The data set of these settings, prepared below `cache` on first use. Raises DataError.

    `planned` is the fingerprint that it must have. What was prepared with it is taken as it is, without listing the
    source again, which takes seconds for a large one. One that ends with TUNING asks for that split of it.
    """
    if planned.endswith(TUNING):
        return tuning(load(config, cache, without_split(planned)))
    folder, index = find_prepared(planned, cache) or prepare(config, cache)
    if planned and index.fingerprint != planned:
        change = f"is not what the run was planned with (fingerprint {index.fingerprint}, not {planned})"
        raise DataError(f"{config.path or config.source} {change}; ask again to plan runs on the data as it is now")
    shape = (None, 3, config.resolution, config.resolution)
    parts = [open_array(folder / f"{shard:05d}.npy", np.uint8, shape) for shard in range(index.shards)]
    rows = [row for row in read_rows(folder, range(index.shards)) if "bad" not in row]
    held = np.array([row["held_out"] for row in rows], dtype=bool)
    count = sum(map(len, parts))
    if not 0 < count == len(rows) == index.images or held.sum() != index.held_out:
        counts = f"{count} images, {len(rows)} captions and {held.sum()} held out"
        raise DataError(f"{folder} is damaged: {counts}; delete the folder {folder}")
    return Dataset(
        name=config.source,
        images=Shards([part for part in parts if len(part)]),
        captions=tuple(tuple(row["captions"]) for row in rows),
        train=np.flatnonzero(~held),
        held_out=np.flatnonzero(held),
        fingerprint=index.fingerprint,
        attribution=index.attribution,
        stored=open_array(folder / STORED, np.float32, (count, WIDTH)) if config.stored_features else None,
    )
