"""Captioned images, prepared once: decoded, put on white, resized, stored under a content hash and memory-mapped.

Sampling is stateless: which images and captions make up step k is a pure function of (seed, k).
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.sources import Record, find
from harness.errors import DataError
from harness.rng import numpy_generator

PIXEL_RULE = "on-white,centre-square,lanczos/1"
"""Part of the fingerprint: raise its number with any change that moves a pixel."""
HELD_OUT_SHARE = 0.1
RESOLUTIONS = (8, 1024)


@dataclass(frozen=True)
class Dataset:
    """A prepared data set of M images."""

    name: str
    images: NDArray[np.uint8]
    """[M,3,R,R], RGB in 0..255, a read-only memory map."""
    captions: tuple[tuple[str, ...], ...]
    """Per image: the main caption, then its aliases."""
    train: NDArray[np.int64]
    """Ids to train on, ascending."""
    held_out: NDArray[np.int64]
    """Ids never trained on (one tenth), ascending."""
    fingerprint: str
    """16 hex digits; see `fingerprint`."""
    attribution: str


def fingerprint(source: str, resolution: int) -> str:
    """16 hex digits over everything that decides pixels, captions and split. Decodes no image. Raises DataError."""
    return _fingerprint(find(source).records(), source, resolution)


def load(source: str, resolution: int, cache: Path) -> Dataset:
    """The data set at `resolution` pixels, prepared below `cache` on first use. Raises DataError.

    Several processes may prepare the same data set at once: each writes a folder of its own and one of them is kept.
    """
    origin = find(source)
    records = origin.records()
    identity = _fingerprint(records, source, resolution)
    folder = cache / "data" / identity
    if not folder.is_dir():
        _prepare(records, resolution, folder)
    train, held_out = split([record.key for record in records])
    return Dataset(
        name=origin.name,
        images=_open(folder / "images.npy", (len(records), 3, resolution, resolution)),
        captions=tuple(record.captions for record in records),
        train=train,
        held_out=held_out,
        fingerprint=identity,
        attribution=origin.attribution,
    )


def split(keys: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids to train on and ids held out. A key's side depends on the key alone, so more data moves no image across."""
    draws = np.array([_unit(key) for key in keys])
    held = draws < HELD_OUT_SHARE
    if len(keys) > 1 and held.all():
        held[draws.argmax()] = False
    if len(keys) > 1 and not held.any():
        held[draws.argmin()] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def batch_ids(dataset: Dataset, seed: int, step: int, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Image ids and the index of each one's caption, both [batch], for one step.

    The train ids are walked in a new order every epoch, and every position of the walk has its caption: steps of 16
    and steps of 32 see the same sequence, and any step can be asked for first.
    """
    count = len(dataset.train)
    epochs, places = np.divmod(np.arange(step * batch, (step + 1) * batch), count)
    ids = np.empty(batch, np.int64)
    captions = np.empty(batch, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        order, draws = _epoch(seed, int(epoch), count)
        ids[here] = dataset.train[order[places[here]]]
        choices = [len(dataset.captions[image]) for image in ids[here]]
        captions[here] = (draws[places[here]] * choices).astype(np.int64)
    return ids, captions


@functools.lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = numpy_generator(seed, "data", epoch).permutation(count)
    return order, numpy_generator(seed, "caption", epoch).random(count)


def decode(encoded: bytes, resolution: int, where: str) -> NDArray[np.uint8]:
    """[3,R,R], RGB in 0..255: composited on white first, then centre-cropped to a square and resized with antialiasing.

    `where` names the file in the DataError that an unreadable image raises.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        Image.open(io.BytesIO(encoded)).verify()  # checksums; reading alone lets a damaged end pass
        picture = Image.open(io.BytesIO(encoded)).convert("RGBA")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot read the image {where}: {error}; replace or remove the file") from error
    # Resizing first would blend the arbitrary colour of transparent pixels into the edges.
    opaque = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    side = min(opaque.size)
    left, top = (opaque.width - side) // 2, (opaque.height - side) // 2
    square = opaque.crop((left, top, left + side, top + side))
    resized = square.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def _bytes(record: Record) -> bytes:
    try:
        return record.read()
    except OSError as error:
        raise DataError(f"cannot read the image {record.where}: {error.strerror}; replace or remove it") from error


def _unit(key: str) -> float:
    return int.from_bytes(hashlib.sha256(f"held-out\x00{key}".encode()).digest()[:8], "big") / 2**64


def _fingerprint(records: Sequence[Record], source: str, resolution: int) -> str:
    low, high = RESOLUTIONS
    if not low <= resolution <= high:
        raise DataError(f"data resolution {resolution} is out of range: allowed is {low} to {high} pixels")
    if not records:
        raise DataError(f"data source {source!r} holds no captioned image")
    digest = hashlib.sha256(json.dumps([source, resolution, PIXEL_RULE, HELD_OUT_SHARE]).encode())
    for record in records:
        digest.update(json.dumps([record.key, record.captions]).encode())
        digest.update(hashlib.sha256(_bytes(record)).digest())
    return digest.hexdigest()[:16]


def _prepare(records: Sequence[Record], resolution: int, folder: Path) -> None:
    """Writes all images beside `folder` and renames, so that a reader sees all of them or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    scratch.mkdir()
    try:
        shape = (len(records), 3, resolution, resolution)
        images = np.lib.format.open_memmap(scratch / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        for index, record in enumerate(records):
            images[index] = decode(_bytes(record), resolution, record.where)
        images.flush()
        _publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, folder: Path) -> None:
    try:
        os.rename(scratch, folder)
    except OSError:
        if not folder.is_dir():  # anything but another process having been faster
            raise


def _open(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the prepared images {path}: {error}; delete the folder {path.parent}") from error
    if images.shape != shape or images.dtype != np.uint8:
        found = f"{images.dtype} {list(images.shape)}"
        raise DataError(f"{path} holds {found}, not uint8 {list(shape)}; delete the folder {path.parent}")
    return images
