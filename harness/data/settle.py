"""Once all images of a data set are packed: those that are one picture become one, and the split is settled.

A shard is packed as if no two images were alike; where two are, it is written again without what is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from harness.data import lookalikes
from harness.data.arrays import open_array
from harness.data.identity import Image, Picture, pictures
from harness.data.listing import Listing
from harness.data.rows import Row, of_shard, path_of, rows, write
from harness.errors import DataError

_MARK = "settling"


@dataclass(frozen=True)
class Settled:
    """What `settle` found."""

    repeats: int
    """See `harness.data.identity.Pictures`."""
    held_out_too: int
    content: str
    """`content` of the images as they were read."""
    alike: int
    alike_such_as: tuple[str, ...]
    """See `harness.data.index.Index`."""


def content(digests: Iterator[str]) -> str:
    """32 hex digits over the images of a listing, each given by its SHA-256 in hex, empty where it cannot be read."""
    whole = hashlib.sha256()
    for digest in digests:
        whole.update(f"{digest}\n".encode())
    return whole.hexdigest()[:32]


@contextmanager
def whole(folder: Path) -> Iterator[None]:
    """Around packing, settling and writing the index: if settling was cut short, or the data was refused, all that was
    packed counts no longer."""
    mark = folder / _MARK
    if mark.exists():
        _forget(folder)
        mark.unlink()
    try:
        yield
    except DataError:
        _forget(folder)
        raise
    mark.unlink(missing_ok=True)


def _forget(folder: Path) -> None:
    for path in folder.glob("[0-9]*.jsonl"):
        path.unlink()


def settle(listing: Listing, folder: Path) -> Settled:
    """Leave out of the shards what is another's picture or held out too, with captions and sides as they then are."""
    digests: list[str] = []
    found: list[Image] = []
    for row, (record, held) in zip(rows(folder, listing.shards), listing.parts, strict=True):
        digests.append(row.get("sha256", ""))
        pixels = b"" if "bad" in row else bytes.fromhex(row["pixels"])
        captions = () if "bad" in row else record.captions
        found.append(Image(record.key, record.name, captions, pixels, listing.has_apart and held))
    told = pictures(found, None if listing.has_apart else listing.config.held_out.share)
    alike = _alike(told.of, [bool(image.pixels) for image in found], lookalikes.kept(folder, listing.shards))
    places = iter(told.of)
    for number in range(listing.shards):
        _settle_shard(folder, number, places)
    return Settled(told.repeats, told.held_out_too, content(iter(digests)), *alike)


def _alike(
    of: Sequence[Picture | None], read: Sequence[bool], small: lookalikes.Small | None
) -> tuple[int, tuple[str, ...]]:
    """How many held-out pictures look nearly like one to train on, and the keys of two such."""
    pictures = [picture for picture, good in zip(of, read, strict=True) if good]
    if small is None or len(small) != len(pictures):  # packed by an older harness, or damaged
        return 0, ()
    sides: dict[bool, list[int]] = {False: [], True: []}
    for place, picture in enumerate(pictures):
        if picture:
            sides[picture.held_out].append(place)
    found = lookalikes.between(small, sides[True], sides[False])
    if found.count < lookalikes.TOLD_FROM * len(sides[True]) or not found.count:
        return 0, ()
    return found.count, tuple(picture.key for place in found.example if (picture := pictures[place]))


def _settle_shard(folder: Path, number: int, places: Iterator[Picture | None]) -> None:
    """Writes a shard again where its lines are not what they should be; takes as many places as it has lines."""
    before = list(of_shard(folder, number))
    settled = [_settled(row, next(places)) for row in before]
    if settled == before:
        return
    (folder / _MARK).touch()
    packed = [new for old, new in zip(before, settled, strict=True) if "bad" not in old]
    kept = [place for place, row in enumerate(packed) if row]
    if len(kept) < len(packed):
        path = path_of(folder, number).with_suffix(".npy")
        scratch = folder / f"scratch-{path.name}"
        np.save(scratch, open_array(path, np.uint8, (len(packed), 3, None, None))[kept], allow_pickle=False)
        scratch.replace(path)
    write(folder, number, filter(None, settled))


def _settled(row: Row, picture: Picture | None) -> Row | None:
    """The line of an image as it stays, None for one that is left out."""
    if "bad" in row:
        return row
    return {**row, **asdict(picture), "captions": list(picture.captions)} if picture else None
