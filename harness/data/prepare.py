"""Decoding, resizing and packing a data set, once: all cores, flat memory, continued where it was stopped.

    <cache>/data/<listing>/   the hash covers names, captions, sizes and times of the files, and how pixels are made
        00000.npy ...         shards of pixels [n,3,R,R] uint8, the bad images left out
        00000.jsonl ...       per image of a shard: key, captions, side of the split, hash of its file; or why it is bad
        index.json            written last: fingerprint, counts, attribution
    <cache>/data/found/<fingerprint>    the name of a folder with that content

The fingerprint is of the content alone: data that was moved or packed another way is prepared again and is the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from filelock import FileLock
from typing_extensions import TypedDict

from harness.data import stored
from harness.data.config import DataConfig
from harness.data.listing import Listing, pixel_rule
from harness.data.pixels import Pixels, decode
from harness.data.progress import counted
from harness.data.sources import SOURCES, Record, Source, find
from harness.data.workers import finished
from harness.errors import DataError, HarnessError, RecordError
from harness.reading import parse, read, read_bytes
from harness.writing import write_json, write_text

LEAST = 2
"""Images of each side of the split: fewer have no spread."""
_log = logging.getLogger("harness")
_PRINT = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(rb"[0-9a-f]{32}")
_FEW = 256
"""Up to so many images, starting other processes takes longer than it saves."""


class _Row(TypedDict, total=False):
    """A line of a shard's .jsonl."""

    key: str
    captions: list[str]
    held_out: bool
    sha256: str
    notes: list[str]
    bad: str


@dataclass(frozen=True)
class Index:
    """What `prepare` left, as index.json holds it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True}

    fingerprint: str
    """16 hex digits over pixels' rule and size, names, captions, split and the content of every image file."""
    images: int
    held_out: int
    """How many of them are never trained on."""
    shards: int
    bad: tuple[str, ...]
    """Images left out, each with its file and the reason."""
    attribution: str
    notes: dict[str, int] = field(default_factory=dict)
    """What to know of how images were read, see `harness.data.shown` -> of how many."""


def prepare(config: DataConfig, cache: Path) -> tuple[Path, Index]:
    """The folder of the prepared data set and its index; prepares what is missing. Raises DataError.

    Processes that ask at once wait for one of them. Bad images raise unless `on_bad_image` says to skip them.
    """
    listing = Listing(config)
    for line in listing.left_out:
        _log.info(f"{config.path or config.source}: {line}")
    folder = cache / "data" / listing.hash
    if not (folder / "index.json").exists():
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                if not (folder / "index.json").exists():
                    _pack(listing, folder)
                    write_json(folder / "index.json", _index(listing, folder))
    index = _read_index(folder)
    _refuse(config, index, folder)
    if index.bad:
        some = "1 image is" if len(index.bad) == 1 else f"{len(index.bad)} images are"
        _log.info(f"{some} left out: {_list(index.bad, folder)}")
    for note, count in index.notes.items():
        _log.info(f"{count:,} of {index.images:,} images of {config.path or config.source}: {note}")
    if known(index.fingerprint, cache) is None:
        pointer = _found(index.fingerprint, cache)
        with _writing(folder):
            pointer.parent.mkdir(exist_ok=True)
            write_text(pointer, folder.name)
    return folder, index


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        told = f"{folder} cannot be written ({error.strerror or error})"
        raise HarnessError(f"{told}; make room, or name another place in HARNESS_CACHE") from error


def _refuse(config: DataConfig, index: Index, folder: Path) -> None:
    if index.bad and config.on_bad_image == "fail":
        raise DataError(_told(index.bad, folder))
    train = index.images - index.held_out
    if min(train, index.held_out) < LEAST:
        told = (
            f"{LEAST} images to train on and {LEAST} held out are the least, but there are {train} and {index.held_out}"
        )
        raise DataError(f"{config.path or config.source}: {told}")


def known(fingerprint: str, cache: Path) -> tuple[Path, Index] | None:
    """As `prepare`, of content that was prepared before, without a look at where it came from; None if it was not."""
    try:
        name = read_bytes(_found(fingerprint, cache), "delete it") if _PRINT.fullmatch(fingerprint) else None
        if name is None or not _NAME.fullmatch(name):
            return None
        folder = cache / "data" / name.decode()
        index = _read_index(folder)
    except (RecordError, DataError):
        return None
    return (folder, index) if index.fingerprint == fingerprint else None


def _found(fingerprint: str, cache: Path) -> Path:
    return cache / "data" / "found" / fingerprint


def rows(folder: Path, shards: int) -> Iterator[dict[str, Any]]:
    """Per image, in the order of the shards: {"key", "captions", "held_out", "sha256"} and "notes" where there are any,
    or {"bad": reason}."""
    for number in range(shards):
        path, fix = folder / f"{number:05d}.jsonl", f"delete the folder {folder}"
        try:
            for line in (read_bytes(path, fix) or b"").splitlines():
                row: dict[str, Any] = {**parse(line, _Row, str(path), fix)}
                if "bad" not in row and not row.keys() >= _Row.__annotations__.keys() - {"bad", "notes"}:
                    raise DataError(f"{path}: a line lacks some of its parts; {fix}")
                yield row
        except RecordError as error:
            raise DataError(str(error)) from error


def _pack(listing: Listing, folder: Path) -> None:
    missing = [number for number in range(listing.shards) if not (folder / f"{number:05d}.jsonl").exists()]
    total = len(listing.parts)
    done = total - sum(len(listing.shard(number)) for number in missing)
    for left in folder.glob("scratch-*"):
        left.unlink()
    try:
        with counted(f"preparing {listing.config.path or listing.config.source}", total, done) as advance:
            for number in _packed(listing, folder, missing):
                advance(len(listing.shard(number)))
    except KeyboardInterrupt:
        _log.info("stopped; what is done is kept: ask again to continue")
        raise


def _packed(listing: Listing, folder: Path, missing: Sequence[int]) -> Iterator[int]:
    """The shards' numbers as they are finished."""
    cores = min(len(os.sched_getaffinity(0)), len(missing))
    if cores < 2 or len(listing.parts) <= _FEW or multiprocessing.current_process().daemon:
        for number in missing:
            yield _pack_shard(listing, folder, number)
        return
    work = functools.partial(_work, SOURCES[listing.config.source], listing.config, listing.hash, folder)
    yield from finished(work, missing, cores)


@functools.lru_cache(maxsize=1)
def _listed(source: type[Source], config: DataConfig, expected: str) -> Listing:
    """The listing, once per process. `source` is sent along so that it is known there too."""
    SOURCES[config.source] = source
    listing = Listing(config)
    if listing.hash != expected:
        raise DataError(f"{config.path} changed while it was being prepared; ask again when it is at rest")
    return listing


def _work(source: type[Source], config: DataConfig, expected: str, folder: Path, number: int) -> int:
    return _pack_shard(_listed(source, config, expected), folder, number)


def _pack_shard(listing: Listing, folder: Path, number: int) -> int:
    """Writes a shard; its .jsonl comes last and says that it is whole."""
    images: list[Pixels] = []
    lines: list[dict[str, Any]] = []
    for record, held in listing.shard(number):
        notes: list[str] = []
        try:
            encoded, image = _decoded(record, listing.config, notes)
        except DataError as error:
            lines.append({"bad": f"{record.where}: {error}"})
            continue
        images.append(image)
        digest = hashlib.sha256(encoded).hexdigest()
        line = {"key": record.key, "captions": record.captions, "held_out": held, "sha256": digest}
        lines.append(line | ({"notes": notes} if notes else {}))
    side = listing.config.resolution
    path = folder / f"{number:05d}.npy"
    scratch = folder / f"scratch-{number:05d}.npy"
    pixels = np.stack(images) if images else np.empty((0, 3, side, side), np.uint8)
    with _writing(folder):
        np.save(scratch, pixels, allow_pickle=False)
        scratch.replace(path)
        write_text(path.with_suffix(".jsonl"), "".join(json.dumps(line) + "\n" for line in lines))
    return number


def _decoded(record: Record, config: DataConfig, notes: list[str]) -> tuple[bytes, Pixels]:
    if record.fault or not record.captions:
        raise DataError(record.fault or "no caption")
    try:
        encoded = record.read()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error
    return encoded, decode(encoded, config, notes.append)


def _index(listing: Listing, folder: Path) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(pixel_rule(listing.config)).encode())
    keys, held, bad, notes = [], 0, [], Counter[str]()
    for row in rows(folder, listing.shards):
        if "bad" in row:
            bad.append(row["bad"])
            continue
        keys.append(row["key"])
        held += row["held_out"]
        notes.update(row.get("notes", ()))
        digest.update(json.dumps([row["key"], row["captions"], row["held_out"], row["sha256"]]).encode())
    if not keys:
        some = "\n".join(f"  {each}" for each in bad[:10])
        raise DataError(f"no image of {listing.config.path or listing.config.source} can be used:\n{some}")
    if listing.config.stored_features:
        digest.update(stored.write(listing.config, keys, folder))
    return {
        "fingerprint": digest.hexdigest()[:16],
        "images": len(keys),
        "held_out": held,
        "shards": listing.shards,
        "bad": bad,
        "attribution": find(listing.config).attribution,
        "notes": dict(sorted(notes.items())),
    }


def _read_index(folder: Path) -> Index:
    path, fix = folder / "index.json", f"delete the folder {folder}"
    try:
        index = read(path, Index, fix)
    except RecordError as error:
        raise DataError(str(error)) from error
    if index is None or min(index.images, index.held_out, index.shards) < 0:
        raise DataError(f"{path}: is missing, or counts less than nothing; {fix}")
    return index


def _list(bad: Sequence[str], folder: Path) -> Path:
    path = folder / "bad.txt"
    write_text(path, "".join(f"{each}\n" for each in bad).encode("utf-8", "backslashreplace").decode())
    return path


def _told(bad: Sequence[str], folder: Path) -> str:
    path = _list(bad, folder)
    some = "\n".join(f"  {each}" for each in bad[:10])
    more = f"\n  and {len(bad) - 10} more, listed in {path}" if len(bad) > 10 else ""
    plural = "image" if len(bad) == 1 else "images"
    return (
        f"{len(bad)} bad {plural}:\n{some}{more}\nmend or remove them, or set data.on_bad_image: skip to go on without"
    )
