"""Features of the images that came with the data, taken in place of computing them. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.arrays import open_array
from harness.data.sources.archive import Archive
from harness.errors import DataError
from harness.settings import DataConfig

ENCODER = ("open_clip", "ViT-B-32", "openai")
"""Family, model and tag of the network that LAFITE's tool computes them with."""
WIDTH = 512
_FILE = "stored.npy"
_COMPUTE = "set data.stored_features: false to compute them"

Features = NDArray[np.float32]


def write(config: DataConfig, keys: Sequence[str], folder: Path) -> bytes:
    """Puts the archive's features of these images beside the prepared images; the digest of their content.

    Raises DataError for an archive without them and, naming the image, for features that cannot be what they should.
    """
    found = Archive(config).stored_features()
    if found is None:
        raise DataError(f"{config.path} holds no clip_img_features; {_COMPUTE}")
    features = np.stack([_row(found, key, config.path) for key in keys])
    scratch = folder / f"scratch-{_FILE}"
    np.save(scratch, features, allow_pickle=False)
    scratch.replace(folder / _FILE)
    return hashlib.sha256(features.tobytes()).digest()


def read(folder: Path, images: int) -> Features:
    """[images,512] of unit norm, memory-mapped. Raises DataError for anything else."""
    return open_array(folder / _FILE, np.float32, (images, WIDTH))


def _row(found: Mapping[str, Features], key: str, where: str) -> Features:
    row = found.get(key)
    if row is None:
        raise DataError(f"{where}: no clip_img_features of {key!r}; {_COMPUTE}")
    length = np.linalg.norm(row)
    if row.shape != (WIDTH,) or not np.isfinite(length) or not length:
        told = f"must be {WIDTH} finite numbers, not all 0"
        raise DataError(f"{where}: clip_img_features of {key!r} {told}; {_COMPUTE}")
    return np.asarray(row / length, np.float32)
