"""A folder of images, from anyone: found, checked and read. No torch here."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.formats import IMAGE_SUFFIXES, is_image
from harness.data.pixels import planes
from harness.data.shown import opaque
from harness.data.sources.beside import TEXT
from harness.data.sources.record import LeftOut
from harness.errors import DataError

_AHEAD = 64


@dataclass(frozen=True)
class Picture:
    """A decoded image."""

    pixels: NDArray[np.uint8]
    """[3,H,W] RGB; what was transparent is white."""
    content: bytes
    """SHA-256 of size and pixels: equal for one picture in two files, whatever their formats."""
    notes: tuple[str, ...] = ()
    """What to know of how it was read, see `harness.data.shown`."""


def find(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """All images in and below the folder, sorted by their path; what else is there is counted in `left_out`.

    Raises DataError for fewer than two.
    """
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {state}; give a folder that holds images")
    left_out = left_out or LeftOut()
    names = sorted(_names(folder, left_out), key=Path.as_posix)
    found = [folder / name for name in names if is_image(name.name)]
    for name in names:
        if not is_image(name.name) and name.suffix.lower() != TEXT:
            left_out.file(name.as_posix())
    if len(found) < 2:
        told = "".join(f"; {line}" for line in left_out.lines()) or f" ({', '.join(IMAGE_SUFFIXES)})"
        raise DataError(f"{folder}: holds {len(found)} images; at least 2 are needed, in it or below it{told}")
    return found


def _names(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Relative paths of the files that are not hidden; a linked folder is not entered."""
    for parent, folders, files in os.walk(folder):
        for name in folders:
            path = Path(parent, name).relative_to(folder)
            if name.startswith("."):
                left_out.add("hidden folder", "with all that is in it", path)
            elif (folder / path).is_symlink():
                left_out.add("linked folder", "with all that is in it", path)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name).relative_to(folder)
            if not name.startswith("."):
                yield path
            elif is_image(name):
                left_out.add("hidden image", "whose name begins with a dot", path)


def read(paths: Sequence[Path]) -> Iterator[Picture]:
    """The images in order, decoded on threads a little ahead. Raises DataError naming the file."""
    waiting = iter(paths)
    with ThreadPoolExecutor() as pool:
        ahead: deque[Future[Picture]] = deque(pool.submit(_read, path) for path in islice(waiting, _AHEAD))
        try:
            while ahead:
                picture = ahead.popleft().result()
                ahead.extend(pool.submit(_read, path) for path in islice(waiting, 1))
                yield picture
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(path: Path) -> Picture:
    notes: list[str] = []
    try:
        pixels = planes(opaque(path.read_bytes(), tell=notes.append))
    except (OSError, DataError) as error:
        raise DataError(f"{path}: {error}; replace it or take it away") from error
    shape = repr(pixels.shape).encode()
    content = hashlib.sha256(shape + pixels.tobytes()).digest()
    return Picture(pixels, content, tuple(notes))
