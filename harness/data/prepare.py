"""Decoding, resizing and packing a data set, once: all cores, flat memory, continued where it was stopped.

    <cache>/data/<listing>/   the hash covers names, captions, paths, sizes and times of files, and how pixels are made
        00000.npy ...         shards of pixels [n,3,R,R] uint8, the bad images left out
        00000.jsonl ...       per image of a shard: key, captions, side of the split, hash of its file; or why it is bad
        small-00000.npy ...   what `lookalikes` compares, until the index is written
        index.json            written last: fingerprint, counts, attribution
    <cache>/data/found/<fingerprint>    the name of a folder with that content
    <cache>/data/outlines/<outline>     the name of a folder made from data of these names and captions, whatever files
    <cache>/data/seen/<listing>         the name of a folder that has what this listing gives, as was found by reading

The fingerprint is of the content alone: data that was moved or packed another way is prepared again and is the same.
Data whose files have other stamps and the same content is read again, and not prepared again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import multiprocessing
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from harness.code.engine import loaded
from harness.data import lookalikes, stored
from harness.data.index import Index, read_index
from harness.data.listing import Listing, pixel_rule
from harness.data.pixels import Pixels, decode
from harness.data.pointers import point, pointed
from harness.data.rows import Row, path_of, rows, write
from harness.data.settle import Settled, content, settle, whole
from harness.data.sources import SOURCES, Record, Source, find
from harness.data.workers import finished
from harness.errors import DataError, HarnessError
from harness.files import write_json, write_text
from harness.settings import DataConfig
from harness.terminal.progress import Advance, counted

LEAST = 2
"""Images of each side of the split: fewer have no spread."""
_log = logging.getLogger("harness")
_TICK = 0.02
"""Seconds after which a file that is changed has another time than one that was changed before."""
_CHANGED = "{} changed while it was being prepared; ask again when it is at rest"
_FEW = 256
"""Up to so many images, starting other processes takes longer than it saves."""


def prepare(config: DataConfig, cache: Path) -> tuple[Path, Index]:
    """The folder of the prepared data set and its index; prepares what is missing. Raises DataError.

    Processes that ask at once wait for one of them. Bad images raise unless `on_bad_image` says to skip them.
    """
    listing = Listing(config)
    for line in listing.left_out:
        _log.info(f"{config.path or config.source}: {line}")
    folder = ready(listing, cache) or _made(listing, cache)
    index = read_index(folder)
    _refuse(config, index, folder)
    if index.bad:
        some = "1 image is" if len(index.bad) == 1 else f"{len(index.bad)} images are"
        _log.info(f"{some} left out: {_list(index.bad, folder)}")
    for note, count in index.notes.items():
        _log.info(f"{count:,} of {index.images:,} images of {config.path or config.source}: {note}")
    for remark in index.remarks:
        _log.info(f"{config.path or config.source}: {remark}")
    if known(index.fingerprint, cache) is None:
        with _writing(folder):
            point(cache, "found", index.fingerprint, folder)
    return folder, index


def ready(listing: Listing, cache: Path) -> Path | None:
    """The folder with what a listing gives, if it was prepared before; no image is read."""
    own, seen = cache / "data" / listing.hash, pointed(cache, "seen", listing.hash)
    return next((folder for folder in (own, seen) if folder and (folder / "index.json").exists()), None)


def _made(listing: Listing, cache: Path) -> Path:
    """As `ready`, of what was not prepared before, or lies under another listing."""
    time.sleep(_TICK)  # whatever changes from here on, while images are read, will have another stamp
    if same := _same(listing, cache):
        return same
    folder = cache / "data" / listing.hash
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not (folder / "index.json").exists():
                with whole(folder):
                    _pack(listing, folder)
                    settled = settle(listing, folder)
                    _refuse_changed(listing, settled.content)
                    write_json(folder / "index.json", _index(listing, folder, settled))
                lookalikes.forget(folder)
        point(cache, "outlines", listing.outline, folder)
    return folder


def _same(listing: Listing, cache: Path) -> Path | None:
    """A folder that was prepared from the same images under other stamps."""
    if listing.config.stored_features:  # which are no part of the content that is compared
        return None
    folder = pointed(cache, "outlines", listing.outline)
    try:
        index = read_index(folder) if folder else None
    except DataError:
        return None
    if folder is None or index is None or not _told_here(index, listing):
        return None
    if _content(listing) != index.content:
        return None
    _refuse_changed(listing, index.content)
    with _writing(folder):
        point(cache, "seen", listing.hash, folder)
    return folder


def _told_here(index: Index, listing: Listing) -> bool:
    """Whether bad images, which are told with their places, lie where they did."""
    places = {record.where for record, _ in listing.parts} if index.bad else set()
    return all(any(bad[: found.start()] in places for found in re.finditer(": ", bad)) for bad in index.bad)


def _content(listing: Listing) -> str:
    """`content` of all images as they are now."""
    told = f"reading {listing.config.path or listing.config.source}, whose files have changed"
    with counted(told, len(listing.parts)) as advance:
        return content(_digests(listing, advance))


def _digests(listing: Listing, advance: Advance) -> Iterator[str]:
    for record, _ in listing.parts:
        advance(1)
        try:
            yield hashlib.sha256(_encoded(record)).hexdigest()
        except DataError:
            yield ""


def _refuse_changed(listing: Listing, read: str) -> None:
    """Raises DataError if the data is no longer what was listed and read, whatever its stamps are by now."""
    now, alone = Listing(listing.config), listing.config.stored_features  # those are not part of what was read
    if now.hash != listing.hash and (alone or now.outline != listing.outline or _content(now) != read):
        raise DataError(_CHANGED.format(listing.config.path or listing.config.source))


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
        told = f"{LEAST} pictures to train on and {LEAST} held out are the least"
        there = f"but there are {train} and {index.held_out}"
        why = "".join(f"; {remark}" for remark in index.remarks)
        raise DataError(f"{config.path or config.source}: {told}, {there}{why}")


def known(fingerprint: str, cache: Path) -> tuple[Path, Index] | None:
    """As `prepare`, of content that was prepared before, without a look at where it came from; None if it was not."""
    folder = pointed(cache, "found", fingerprint)
    try:
        index = read_index(folder) if folder else None
    except DataError:
        return None
    is_it = index is not None and (index.fingerprint, index.pixels) == (fingerprint, loaded("pixels"))
    return (folder, index) if folder and index and is_it else None


def _pack(listing: Listing, folder: Path) -> None:
    missing = [number for number in range(listing.shards) if not path_of(folder, number).exists()]
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
    work = functools.partial(_work, SOURCES[listing.config.source], listing.config, listing.outline, folder)
    yield from finished(work, missing, cores)


@functools.lru_cache(maxsize=1)
def _listed(source: type[Source], config: DataConfig, expected: str) -> Listing:
    """The listing, once per process. `source` is sent along so that it is known there too."""
    SOURCES[config.source] = source
    listing = Listing(config)
    if listing.outline != expected:
        raise DataError(_CHANGED.format(config.path or config.source))
    return listing


def _work(source: type[Source], config: DataConfig, expected: str, folder: Path, number: int) -> int:
    return _pack_shard(_listed(source, config, expected), folder, number)


def _pack_shard(listing: Listing, folder: Path, number: int) -> int:
    """Writes a shard; its .jsonl comes last and says that it is whole."""
    images: list[Pixels] = []
    lines: list[Row] = []
    seen: dict[str, tuple[Pixels, list[str]]] = {}
    for record, held in listing.shard(number):
        digest, notes = "", list[str]()
        try:
            encoded = _encoded(record)
            digest = hashlib.sha256(encoded).hexdigest()
            if digest not in seen:
                seen[digest] = decode(encoded, listing.config, notes.append), notes
            image, notes = seen[digest]
        except DataError as error:
            lines.append({"bad": f"{record.where}: {error}", "sha256": digest})
            continue
        images.append(image)
        told = {"key": record.key, "captions": record.captions, "held_out": held, "sha256": digest}
        told["pixels"] = hashlib.sha256(image.tobytes()).hexdigest()
        lines.append(told | ({"notes": notes} if notes else {}))
    side = listing.config.resolution
    path = folder / f"{number:05d}.npy"
    scratch = folder / f"scratch-{number:05d}.npy"
    pixels = np.stack(images) if images else np.empty((0, 3, side, side), np.uint8)
    with _writing(folder):
        np.save(scratch, pixels, allow_pickle=False)
        scratch.replace(path)
        np.save(lookalikes.path_of(folder, number), lookalikes.small(pixels), allow_pickle=False)
        write(folder, number, lines)
    return number


def _encoded(record: Record) -> bytes:
    if record.fault or not record.captions:
        raise DataError(record.fault or "no caption")
    try:
        return record.read()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error


def _index(listing: Listing, folder: Path, settled: Settled) -> dict[str, Any]:
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
        "pixels": loaded("pixels"),
        "images": len(keys),
        "held_out": held,
        "shards": listing.shards,
        "bad": bad,
        "attribution": find(listing.config).attribution,
        "notes": dict(sorted(notes.items())),
        **asdict(settled),
    }


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
