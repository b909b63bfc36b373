"""A folder of images and their captions, from anyone: found, checked and read. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.pixels import opaque, planes
from harness.data.sources.record import IMAGE_SUFFIXES
from harness.errors import DataError

_AHEAD = 64


@dataclass(frozen=True)
class Picture:
    """A decoded image."""

    pixels: NDArray[np.uint8]
    """[3,H,W] RGB; what was transparent is white."""
    digest: bytes
    """SHA-256 of the file."""


def find(folder: Path) -> list[Path]:
    """All images in and below the folder, sorted by their path. Raises DataError for fewer than two."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one that holds images")
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.name.lower().endswith(IMAGE_SUFFIXES))
    visible = sorted(
        (path for path in inside if not any(part.startswith(".") for part in path.parts)), key=Path.as_posix
    )
    found = [folder / path for path in visible if not (folder / path).is_dir()]
    if len(found) < 2:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"{folder}: holds {len(found)} images; at least 2 are needed ({kinds}), in it or below it")
    return found


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
    try:
        encoded = path.read_bytes()
        pixels = planes(opaque(encoded))
    except (OSError, DataError) as error:
        raise DataError(f"{path}: {error}; replace it or take it away") from error
    return Picture(pixels, hashlib.sha256(encoded).digest())


def captions(source: Path, folder: Path, images: Sequence[Path]) -> list[str]:
    """One caption for every image of the folder, in order.

    `source` is a text file of lines `relative/path<TAB>caption`, a JSON file {relative path: caption}, or a folder that
    holds `relative/path.txt` beside or instead of the image. Raises DataError naming what does not fit.
    """
    keys = [path.relative_to(folder).as_posix() for path in images]
    if source.is_dir():
        found = {key: _only_line(_beside(source, key)) for key in keys}
    elif source.suffix.lower() == ".json":
        found = _from_json(source)
    else:
        found = _from_lines(source)
    _check(source, folder, keys, found)
    return [found[key] for key in keys]


def _only_line(path: Path) -> str:
    lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if len(lines) > 1:
        raise DataError(f"{path}: holds {len(lines)} captions; leave the one that the image was generated from")
    return "".join(lines)


def _beside(source: Path, key: str) -> Path:
    return (source / key).with_suffix(".txt")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; every generated image needs its caption") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error


def _from_json(path: Path) -> dict[str, str]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(caption, str) for caption in found.values()):
        raise DataError(f'{path}: must be an object of texts, {{"relative/path.png": "caption"}}')
    return {key: caption.strip() for key, caption in found.items()}


def _from_lines(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        key, tab, caption = line.partition("\t")
        if not line.strip():
            continue
        if not tab:
            raise DataError(f"{path}:{number}: must be a relative path, a tab and a caption, not {line[:60]!r}")
        if key in found:
            raise DataError(f"{path}:{number}: {key!r} has a caption already; give each image one")
        found[key] = caption.strip()
    return found


def _check(source: Path, folder: Path, keys: Sequence[str], found: Mapping[str, str]) -> None:
    known = set(keys)
    for key, caption in found.items():
        if key not in known:
            raise DataError(f"{source}: {key!r} is no image in {folder}; keys are paths below it, such as {keys[0]!r}")
        if not caption:
            raise DataError(f"{source}: the caption of {key!r} is empty")
    for key in keys:
        if key not in found:
            raise DataError(f"{source}: no caption for {key!r} of {folder}; every generated image needs one")
