"""Decoding, resizing and packing a data set, once: all cores, flat memory, continued where it was stopped.

What is on disk then is described in `harness.data.packed`. The fingerprint is of the content alone: data that was moved
or stored in another layout is prepared again and has the same fingerprint. Data whose files have other stamps and the
same content is read again, and not prepared again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import multiprocessing
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
from PIL import UnidentifiedImageError

from harness.code.engine import loaded
from harness.data import packed
from harness.data.decode import Pixels, decode, refuse_long
from harness.data.listing import Listing, pixel_rule
from harness.data.packed import Index, Row
from harness.data.pictures import content, discard_unfinished, merge_pictures, thumbnails, thumbnails_path
from harness.data.sources import SOURCES, Record, Source, open_source
from harness.data.sources.zip_archive import ZipArchive
from harness.errors import DataError, HarnessError
from harness.files import read_bytes, write_json, write_text
from harness.limits import core_count
from harness.processes import run_in_processes
from harness.settings import DataConfig
from harness.terminal.progress import counted
from harness.text import quantity

LEAST = 2
"""Images of each side of the split: fewer have no spread."""
_TICK = 0.02
"""Seconds after which a file that is changed has another time than one that was changed before."""
_FEW = 256
"""Up to so many images, starting other processes takes longer than it saves."""
_NO_MEMORY = "cannot be read: it takes more memory than there is now; free some and run the command again"
_CHANGED = "{} changed while it was being prepared; run the command again when it no longer changes"
_log = logging.getLogger("harness")


def prepare(config: DataConfig, cache: Path, describe: bool = False) -> tuple[Path, Index]:
    """The folder of the prepared data set and its index; prepares what is missing. Raises DataError.

    Processes that ask at once wait for one of them. Bad images raise unless `on_bad_image` says to skip them. What is
    left out, and how images are read, is logged when it is new, and with `describe`.
    """
    listing = Listing(config)
    folder = prepared_folder(listing, cache)
    left_out = "".join(f"{line}\n" for line in listing.left_out)
    is_new = not folder or read_bytes(folder / packed.LEFT_OUT, f"delete the folder {folder}") != left_out.encode()
    describe = describe or is_new
    for line in listing.left_out if describe else ():
        _log.info(f"{listing.name}: {line}")
    folder = folder or _prepare_new(listing, cache)
    index = packed.read_index(folder)
    _refuse_unusable(listing, folder, index)
    verb, bad_list = "is" if len(index.bad) == 1 else "are", folder / packed.BAD
    lines = [f"{quantity(len(index.bad), 'image')} {verb} left out: {bad_list}"] if index.bad else []
    lines += [f"{count:,} of {index.images:,} images of {listing.name}: {note}" for note, count in index.notes.items()]
    if index.uncaptioned:
        lines.append(f"{listing.name}: {index.counted}")
    lines += [f"{listing.name}: {remark}" for remark in index.remarks]
    for line in lines if describe else ():
        _log.info(line)
    with _writing(folder):
        if is_new:
            write_text(folder / packed.LEFT_OUT, left_out)
        if packed.find_prepared(index.fingerprint, cache) is None:
            packed.write_pointer(cache, "found", index.fingerprint, folder)
    return folder, index


def _refuse_unusable(listing: Listing, folder: Path, index: Index) -> None:
    """Raises DataError for bad images, unless they are to be skipped, and for too few images."""
    if index.bad:
        lines = "".join(f"{bad}\n" for bad in index.bad).encode("utf-8", "backslashreplace")
        if read_bytes(folder / packed.BAD, f"delete the folder {folder}") != lines:  # a shared cache may be read-only
            with _writing(folder):
                write_text(folder / packed.BAD, lines.decode())
    if index.bad and listing.config.on_bad_image == "fail":
        more = f"\n  and {len(index.bad) - 10} more, listed in {folder / packed.BAD}" if len(index.bad) > 10 else ""
        fix = f"repair or remove them, or set data.on_bad_image: skip to go on without them{_keep(listing)}"
        raise DataError(f"{quantity(len(index.bad), 'bad image')}:\n{_first_ten(index.bad)}{more}\n{fix}")
    train = index.images - index.held_out
    if min(train, index.held_out) < LEAST:
        counts = f"at least {LEAST} pictures to train on and {LEAST} held out are needed"
        why = "".join(f"; {remark}" for remark in index.remarks)
        raise DataError(f"{listing.name}: {counts}, but there are {train} and {index.held_out}{why}")


def _keep(listing: Listing) -> str:
    """The end of a message that tells how to keep images for want of a caption alone, where there are such."""
    if not listing.uncaptioned or listing.config.uncaptioned == "keep":
        return ""
    return "\nset data.uncaptioned: keep to train on images without a caption too"


def _first_ten(bad: Sequence[str]) -> str:
    return "\n".join(f"  {each}" for each in bad[:10])


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{folder} cannot be written ({error.strerror or error})"
        raise HarnessError(f"{reason}; make room, or name another place in HARNESS_CACHE") from error


def prepared_folder(listing: Listing, cache: Path) -> Path | None:
    """The folder with what a listing gives, if it was prepared before; no image is read but those that could not be
    read then, and if one can be by now, what was prepared is not what the listing gives."""
    own = cache / "data" / listing.hash
    same = packed.follow_pointer(cache, "seen", listing.hash)
    folder = same[0] if same else own if (own / "index.json").exists() else None
    return folder if folder and not _bad_is_read(listing, folder) else None


def _bad_is_read(listing: Listing, folder: Path, touched: bool = False) -> bool:
    """Whether an image that could not be read when the folder was prepared can be read now. With `touched`, those whose
    content is at fault are tried again too, and a place that is no longer there counts."""
    index = packed.read_index(folder)
    # Asked by every command: of many images only the rows of bad ones are read, and no records where none is tried.
    rows = packed.read_rows(folder, range(index.shards if index.bad else 0), b'"bad"')
    bad = [row for row in rows if "bad" in row and (touched or not row.get("sha256"))]
    records = {record.where: record for record, _ in listing.records} if bad else {}
    for row in bad:
        # A line is `place: reason`, where both may hold colons.
        places = (row["bad"][: colon.start()] for colon in re.finditer(": ", row["bad"]))
        record = next((records[place] for place in places if place in records), None)
        if not record and touched:
            return True
        now = _read_image(listing, record, False, {})[0] if record else row
        if "bad" not in now or now.get("sha256", "") != row.get("sha256", ""):
            return True
    return False


def _prepare_new(listing: Listing, cache: Path) -> Path:
    """As `prepared_folder`, of what was not prepared before, or was under another listing."""
    time.sleep(_TICK)  # whatever changes from here on, while images are read, will have another stamp
    if same := _same_content(listing, cache):
        return same
    folder = cache / "data" / listing.hash
    while (folder / "index.json").exists() and _bad_is_read(listing, folder):
        # Runs may be training on what is there: it stays, and a further folder is made.
        folder = folder.with_name(hashlib.sha256(folder.name.encode()).hexdigest()[:32])
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not (folder / "index.json").exists():
                with discard_unfinished(folder):
                    _pack(listing, folder)
                    merged = merge_pictures(folder, listing.shards, listing.records, listing.share)
                    _refuse_changed(listing, merged["content"])
                    write_json(folder / "index.json", asdict(_index(listing, folder, merged)))
                for path in folder.glob("small-*.npy"):
                    path.unlink()
        packed.write_pointer(cache, "outlines", listing.outline, folder)
        if folder.name != listing.hash:
            packed.write_pointer(cache, "seen", listing.hash, folder)
    return folder


def _same_content(listing: Listing, cache: Path) -> Path | None:
    """A folder that was prepared from the same images under other stamps."""
    found = packed.follow_pointer(cache, "outlines", listing.outline)
    if not found or listing.config.stored_features:  # which are no part of the content that is compared
        return None
    folder, index = found
    if _bad_is_read(listing, folder, touched=True) or _read_content(listing) != index.content:
        return None
    _refuse_changed(listing, index.content)
    with _writing(folder):
        packed.write_pointer(cache, "seen", listing.hash, folder)
    return folder


def _read_content(listing: Listing) -> str:
    """`content` of all images as they are now."""
    digests = []
    what = f"reading {listing.name}, whose files have changed"
    with counted(what, len(listing.records)) as advance:
        for record, _ in listing.records:
            advance(1)
            try:
                digests.append(hashlib.sha256(_encoded(listing, record)).hexdigest())
            except DataError:
                digests.append("")
    return content(digests)


def _refuse_changed(listing: Listing, read: str) -> None:
    """Raises DataError if the data is no longer what was listed and read, whatever its stamps are by now."""
    now = Listing(listing.config)
    # Stored features are not part of what was read, so that no comparison can show that they are the same.
    if now.hash != listing.hash and (
        listing.config.stored_features or now.outline != listing.outline or _read_content(now) != read
    ):
        raise DataError(_CHANGED.format(listing.name))


def _pack(listing: Listing, folder: Path) -> None:
    missing = [shard for shard in range(listing.shards) if not packed.rows_path(folder, shard).exists()]
    total = len(listing.records)
    done = total - sum(len(listing.shard(shard)) for shard in missing)
    for leftover in folder.glob("scratch-*"):
        leftover.unlink()
    cores = min(core_count(), len(missing))
    if cores < 2 or total <= _FEW or multiprocessing.current_process().daemon:  # daemons may start no processes
        finished: Iterator[int] = (_pack_shard(listing, folder, shard) for shard in missing)
    else:
        config = listing.config
        pack = functools.partial(_pack_in_worker, SOURCES[config.source], config, listing.outline, folder)
        finished = run_in_processes(pack, missing, cores, "prepares images")
    try:
        with counted(f"preparing {listing.name}", total, done) as advance:
            for shard in finished:
                advance(len(listing.shard(shard)))
    except KeyboardInterrupt:
        _log.info("stopped; what is done is kept: run the command again to continue")
        raise


def _pack_in_worker(source: type[Source], config: DataConfig, outline: str, folder: Path, shard: int) -> int:
    SOURCES[config.source] = source  # one that was added in the parent is not known here
    listing = _listing_in_worker(config)
    if listing.outline != outline:
        raise DataError(_CHANGED.format(listing.name))
    return _pack_shard(listing, folder, shard)


_listing_in_worker = functools.lru_cache(maxsize=1)(Listing)


def _pack_shard(listing: Listing, folder: Path, shard: int) -> int:
    """Writes a shard and gives its number; its .jsonl comes last and says that it is whole."""
    images: list[Pixels] = []
    rows: list[Row] = []
    decoded: dict[str, tuple[Pixels, list[str]]] = {}
    for record, held in listing.shard(shard):
        row, image = _read_image(listing, record, held, decoded)
        rows.append(row)
        images += [] if image is None else [image]
    side = listing.config.resolution
    pixels = np.stack(images) if images else np.empty((0, 3, side, side), np.uint8)
    with _writing(folder):
        packed.write_array(packed.rows_path(folder, shard).with_suffix(".npy"), pixels)
        np.save(thumbnails_path(folder, shard), thumbnails(pixels), allow_pickle=False)
        packed.write_rows(folder, shard, rows)
    return shard


def _read_image(
    listing: Listing, record: Record, held: bool, decoded: dict[str, tuple[Pixels, list[str]]]
) -> tuple[Row, Pixels | None]:
    """The row of an image and its pixels, None for a bad one. `decoded` has those of contents that were met before."""
    encoded, digest, notes = b"", "", list[str]()
    try:
        encoded = _encoded(listing, record)
        digest = hashlib.sha256(encoded).hexdigest()
        if digest not in decoded:
            refuse_long(encoded, listing.config)
            decoded[digest] = decode(encoded, listing.config, notes.append), notes
        image, notes = decoded[digest]
    except (DataError, MemoryError) as error:
        cause = error.__cause__ or error
        reason = _NO_MEMORY if isinstance(cause, MemoryError) else str(error)
        return {"bad": f"{record.where}: {reason}", "sha256": "" if _may_pass(cause, encoded) else digest}, None
    row: Row = {"key": record.key, "captions": list(record.captions), "held_out": held, "sha256": digest}
    row["pixels"] = hashlib.sha256(image.tobytes()).hexdigest()
    if notes:
        row["notes"] = notes
    return row, image


def _may_pass(cause: BaseException, encoded: bytes) -> bool:
    """Whether the same bytes may be decoded another time: they failed for want of memory, by a fault of the system, or
    as a HEIC or its kin, whose reader may be installed later."""
    if isinstance(cause, UnidentifiedImageError):
        return encoded[4:8] == b"ftyp"
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)


def _encoded(listing: Listing, record: Record) -> bytes:
    if record.fault:
        raise DataError(record.fault)
    if not record.captions and listing.config.uncaptioned == "bad":
        raise DataError(record.no_caption or "no caption")
    try:
        return record.read()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error


def _index(listing: Listing, folder: Path, merged: dict[str, Any]) -> Index:
    config = listing.config
    digest = hashlib.sha256(json.dumps(pixel_rule(config)).encode())
    keys, held, bad, notes = [], 0, [], Counter[str]()
    uncaptioned = Counter[bool]()
    for row in packed.read_rows(folder, range(listing.shards)):
        if "bad" in row:
            bad.append(row["bad"])
            continue
        keys.append(row["key"])
        held += row["held_out"]
        uncaptioned[row["held_out"]] += not row["captions"]
        notes.update(row.get("notes", ()))
        digest.update(json.dumps([row["key"], row["captions"], row["held_out"], row["sha256"]]).encode())
    if not keys:
        raise DataError(f"no image of {listing.name} can be used:\n{_first_ten(bad)}{_keep(listing)}")
    if config.stored_features:
        features = ZipArchive(config).stored_features(keys)
        packed.write_array(folder / packed.STORED, features)
        digest.update(hashlib.sha256(features.tobytes()).digest())
    return Index(
        fingerprint=digest.hexdigest()[:16],
        pixels=loaded("pixels"),
        images=len(keys),
        held_out=held,
        uncaptioned=uncaptioned.total(),
        uncaptioned_held_out=uncaptioned[True],
        shards=listing.shards,
        bad=tuple(bad),
        attribution=open_source(config).attribution,
        notes=dict(sorted(notes.items())),
        **merged,
    )
