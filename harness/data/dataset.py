"""Captioned images as a training reads them: memory-mapped pixels, captions, and what is shown at a step.

Sampling is stateless: which images and captions make up step k is a pure function of (seed, k).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data import stored
from harness.data.arrays import open_array
from harness.data.pixels import Pixels, Shards
from harness.data.prepare import known, prepare
from harness.data.rows import rows
from harness.errors import DataError
from harness.rng import numpy_generator
from harness.settings import DataConfig

MIRRORED = "-mirrored"
"""How the fingerprint of a data set ends whose images are turned left to right."""
TUNING = "-tuning"
"""What `tuning` adds to a fingerprint."""


@dataclass(frozen=True)
class Dataset:
    """A prepared data set of M images."""

    name: str
    images: Pixels | Shards
    """[M,3,R,R], RGB in 0..255, read-only."""
    captions: tuple[tuple[str, ...], ...]
    """Per image: the main caption, then the others."""
    train: NDArray[np.int64]
    """Ids to train on, ascending."""
    held_out: NDArray[np.int64]
    """Ids never trained on, ascending."""
    fingerprint: str
    """16 hex digits over all of the above; see `harness.data.prepare`."""
    attribution: str
    stored: NDArray[np.float32] | None = None
    """[M,512]: features of the images that came with the data, by `harness.data.stored.ENCODER`, if they are to be
    used."""


def mirror(dataset: Dataset) -> Dataset:
    """The same data set with every image turned left to right."""
    images = dataset.images.mirror() if isinstance(dataset.images, Shards) else dataset.images[..., ::-1]
    return replace(dataset, images=images, fingerprint=f"{dataset.fingerprint}{MIRRORED}")


def tuning(dataset: Dataset) -> Dataset:
    """The same images without the held-out ones, as many of the others being held out in their place, half at most.

    What is tuned on this has seen nothing of what a report asks for.
    """
    order = numpy_generator(0, "held out for tuning").permutation(dataset.train)
    count = min(len(dataset.held_out), len(order) // 2)
    held, train = np.sort(order[:count]), np.sort(order[count:])
    return replace(dataset, train=train, held_out=held, fingerprint=f"{dataset.fingerprint}{TUNING}")


def packed(fingerprint: str) -> str:
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
        return tuning(load(config, cache, packed(planned)))
    folder, index = known(planned, cache) or prepare(config, cache)
    if planned and index.fingerprint != planned:
        told = f"is not what the run was planned with (fingerprint {index.fingerprint}, not {planned})"
        raise DataError(f"{config.path or config.source} {told}; ask again to plan runs on the data as it is now")
    shape = (None, 3, config.resolution, config.resolution)
    parts = [open_array(folder / f"{number:05d}.npy", np.uint8, shape) for number in range(index.shards)]
    found = [row for row in rows(folder, index.shards) if "bad" not in row]
    held = np.array([row["held_out"] for row in found], dtype=bool)
    count = sum(map(len, parts))
    if not 0 < count == len(found) == index.images or held.sum() != index.held_out:
        told = f"{count} images, {len(found)} captions and {held.sum()} held out"
        raise DataError(f"{folder} is damaged: {told}; delete the folder {folder}")
    images = Shards([part for part in parts if len(part)])
    return Dataset(
        name=config.source,
        images=images,
        captions=tuple(tuple(row["captions"]) for row in found),
        train=np.flatnonzero(~held),
        held_out=np.flatnonzero(held),
        fingerprint=index.fingerprint,
        attribution=index.attribution,
        stored=stored.read(folder, count) if config.stored_features else None,
    )


def batch_ids(dataset: Dataset, seed: int, step: int, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Image ids and the index of each one's caption, both [batch], for one step.

    The train ids are walked in a new order every epoch, and every position of the walk has its caption: steps of 16
    and steps of 32 see the same sequence, and any step can be asked for first.
    """
    ids, draws = _walk(dataset, seed, step, batch, "caption")
    choices = [len(dataset.captions[image]) for image in ids]
    return ids, (draws * choices).astype(np.int64)


def flips(dataset: Dataset, seed: int, step: int, batch: int) -> NDArray[np.bool_]:
    """[batch]: which of the images of `batch_ids` are shown mirrored at that step, by chance one half."""
    return np.asarray(_walk(dataset, seed, step, batch, "mirror")[1] < 0.5)


def _walk(
    dataset: Dataset, seed: int, step: int, batch: int, purpose: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Image ids, and a number in [0,1) for each place of the walk, both [batch]."""
    count = len(dataset.train)
    epochs, places = np.divmod(np.arange(step * batch, (step + 1) * batch), count)
    ids, draws = np.empty(batch, np.int64), np.empty(batch)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        ids[here] = dataset.train[_order(seed, int(epoch), count)[places[here]]]
        draws[here] = _draws(seed, purpose, int(epoch), count)[places[here]]
    return ids, draws


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return numpy_generator(seed, "data", epoch).permutation(count)


@functools.lru_cache(maxsize=8)
def _draws(seed: int, purpose: str, epoch: int, count: int) -> NDArray[np.float64]:
    return numpy_generator(seed, purpose, epoch).random(count)
