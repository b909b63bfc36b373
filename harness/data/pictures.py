"""Which images are the same picture, which pictures are held out, and which held-out ones look nearly like others.

Two images are one picture if their prepared pixels are equal: copies, links and other spellings of one file, rows that
hold it again, and the same pixels saved in another format. A shard is packed as if no two images were the same; where
two are, it is written again without the one that is left out. What only looks alike stays where it is and is counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.packed import Row, open_array, read_rows, rows_path, write_array, write_rows
from harness.data.sources import Record
from harness.errors import DataError

_MERGING = "settling"
"""Name of the file that is there while shards are written again."""
_SIDE = 8
_LUMA, _CHROMA = 2.0, 5.0
"""Most by which two thumbnails that look alike differ in brightness and in colour: root mean squares, in levels of 255.
JPEG of quality 50 moves even small and colourful pictures by 1.3 and 4.5; of 3,953 emoji 65 have another as near,
mostly one of another skin tone."""
_PLAIN = 20.0
"""Standard deviation of brightness, in levels, below which a picture is too plain to be told from others."""
_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
"""RGB to brightness and two values of colour, as JPEG stores them."""
LEAST_ALIKE = 0.05
"""Share of the held-out pictures below which lookalikes are not mentioned: so few move no metric."""
_BLOCK = 128
"""Held-out pictures that are compared with all others at a time; bounds the memory."""

Thumbnails = NDArray[np.uint8]
"""[n,3,8,8]"""


def choose_held_out(keys: Sequence[str], share: float) -> NDArray[np.bool_]:
    """[M]: whether each of these images is held out; about `share` of them, but of four images or more at least two,
    and at least two not. A key's side depends on the key alone, so more data moves no image across."""
    hashes = (hashlib.sha256(f"held-out\x00{key}".encode("utf-8", "surrogatepass")).digest() for key in keys)
    draws = np.array([int.from_bytes(each[:8], "big") / 2**64 for each in hashes])
    held: NDArray[np.bool_] = draws < share
    least, order = min(2, len(keys) // 2), draws.argsort()
    held[order[:least]] = True
    held[order[len(keys) - least :]] = False
    return held


def group_pictures(
    images: Sequence[tuple[Record, bool]], pixels: Sequence[bytes], share: float | None
) -> tuple[list[Row | None], int, int]:
    """Per image the key, captions and side of its picture, where it is the first of that one, else None; the captions
    are those of all its images, each once. Then how many images are left out because another
    is the same picture; how many pictures of the training data because the held-out data has them too.

    `pixels` are digests, empty for a bad image, which is like no other. About `share` of the pictures are held out;
    where it is None, those that have True in `images`.
    """
    groups: dict[tuple[bool, bytes | int], list[int]] = {}
    for place, (_, held) in enumerate(images):
        groups.setdefault((share is None and held, pixels[place] or place), []).append(place)
    first = [images[places[0]] for places in groups.values()]
    keys = [record.name for record, _ in first]
    if not all(keys) or max(Counter(keys).values()) > 1:  # names are keys only if every picture has one of its own
        keys = [record.key for record, _ in first]
    sides = [held for _, held in first] if share is None else choose_held_out(keys, share).tolist()
    pictures: list[Row | None] = [None] * len(images)
    held_out_too = 0
    for ((in_held_out_data, digest), places), key, side in zip(groups.items(), keys, sides, strict=True):
        if not in_held_out_data and (True, digest) in groups:
            held_out_too += 1
            continue
        captions = images[places[0]][0].captions  # those of a single image stay as they are
        if len(places) > 1:
            captions = tuple(dict.fromkeys(caption for place in places for caption in images[place][0].captions))
        pictures[places[0]] = {"key": key, "captions": list(captions), "held_out": side}
    return pictures, len(images) - len(groups), held_out_too


def thumbnails(pixels: NDArray[np.uint8]) -> Thumbnails:
    """Of [n,3,R,R]: the means of blocks."""
    side = pixels.shape[-1] // _SIDE
    blocks = pixels.reshape(-1, 3, _SIDE, side, _SIDE, side)
    return np.asarray(blocks.mean((3, 5), dtype=np.float32).round(), np.uint8)


def thumbnails_path(folder: Path, shard: int) -> Path:
    """The thumbnails of a shard, there from when it is packed until the index is written."""
    return folder / f"small-{shard:05d}.npy"


def count_lookalikes(small: Thumbnails, held: Sequence[int], train: Sequence[int]) -> tuple[int, tuple[int, int]]:
    """How many of `held` look nearly like one of `train`, both places in `small`, and the places of the nearest two."""
    count, nearest, example = 0, np.inf, (0, 0)
    if not held or not train:
        return count, example
    looks = np.einsum("cd,ndhw->nchw", _YCBCR, small.astype(np.float32) - 128).reshape(len(small), 3, -1)
    luma, chroma = looks[:, 0], looks[:, 1:].reshape(len(small), -1)
    plain = luma.std(1) < _PLAIN
    ones, others = (np.array([place for place in places if not plain[place]], int) for places in (held, train))
    squares, transposed = np.square(luma).sum(1), luma[others].T
    for start in range(0, len(ones), _BLOCK):
        block = ones[start : start + _BLOCK]
        # |a - b|^2 = |a|^2 - 2ab + |b|^2 finds candidates with one product of matrices. It rounds, hence the 2 more;
        # the candidates are few and are compared exactly.
        distances = squares[block, None] - 2 * luma[block] @ transposed + squares[others]
        rows, columns = np.nonzero(distances <= luma.shape[1] * _LUMA**2 + 2)
        one, other = block[rows], others[columns]
        bright = np.sqrt(np.square(luma[one] - luma[other]).mean(1))
        alike = (bright <= _LUMA) & (np.sqrt(np.square(chroma[one] - chroma[other]).mean(1)) <= _CHROMA)
        count += len(np.unique(one[alike]))
        if alike.any() and bright[alike].min() < nearest:
            nearest, best = bright[alike].min(), bright[alike].argmin()
            example = int(one[alike][best]), int(other[alike][best])
    return count, example


def merge_pictures(
    folder: Path, shards: int, images: Sequence[tuple[Record, bool]], share: float | None
) -> dict[str, Any]:
    """Leaves out of the shards what is the same picture as another or is in the held-out data too, and gives all others
    the captions and the side of the split that they then have. `images` and `share` as for `group_pictures`. Fields of
    `harness.data.packed.Index` that say what was done."""
    digests: list[str] = []
    pixels: list[bytes] = []
    for row in read_rows(folder, range(shards)):
        digests.append(row.get("sha256", ""))
        pixels.append(b"" if "bad" in row else bytes.fromhex(row["pixels"]))
    pictures, repeats, held_out_too = group_pictures(images, pixels, share)
    packed = [picture for picture, digest in zip(pictures, pixels, strict=True) if digest]
    alike, such_as = _lookalikes(folder, shards, packed)
    remaining = iter(pictures)
    for shard in range(shards):
        _rewrite_shard(folder, shard, remaining)
    counts = {"repeats": repeats, "held_out_too": held_out_too, "alike": alike, "alike_such_as": such_as}
    return {**counts, "content": content(digests)}


def content(digests: Iterable[str]) -> str:
    """32 hex digits over the images of a listing, each given by its SHA-256 in hex, empty where it cannot be read."""
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()[:32]


@contextmanager
def discard_unfinished(folder: Path) -> Iterator[None]:
    """Around packing, merging and writing the index: all is packed again next time if merging was cut short or the data
    is refused, as shards may be half merged then."""
    mark = folder / _MERGING
    if mark.exists():
        _discard(folder)
        mark.unlink()
    try:
        yield
    except DataError:
        _discard(folder)
        raise
    mark.unlink(missing_ok=True)


def _discard(folder: Path) -> None:
    for path in folder.glob("[0-9]*.jsonl"):  # without its rows, a shard is not there
        path.unlink()


def _lookalikes(folder: Path, shards: int, packed: Sequence[Row | None]) -> tuple[int, tuple[str, ...]]:
    """How many held-out pictures look nearly like one to train on, and the keys of two such; 0 if they are too few to
    matter. `packed` are the pictures of the images in the shards."""
    try:
        paths = [thumbnails_path(folder, shard) for shard in range(shards)]
        small = np.concatenate([open_array(path, np.uint8, (None, 3, _SIDE, _SIDE)) for path in paths])
    except DataError:  # packed by an older harness, or damaged
        return 0, ()
    if len(small) != len(packed):
        return 0, ()
    held = [place for place, picture in enumerate(packed) if picture and picture["held_out"]]
    train = [place for place, picture in enumerate(packed) if picture and not picture["held_out"]]
    count, example = count_lookalikes(small, held, train)
    if not count or count < LEAST_ALIKE * len(held):
        return 0, ()
    return count, tuple(picture["key"] for place in example if (picture := packed[place]))


def _rewrite_shard(folder: Path, shard: int, pictures: Iterator[Row | None]) -> None:
    """Writes a shard again where its rows are not what they should be; takes as many pictures as it has rows."""
    before = list(read_rows(folder, [shard]))
    after: list[Row | None] = []
    for row in before:
        picture = next(pictures)
        after.append(row if "bad" in row else {**row, **picture} if picture else None)
    if after == before:
        return
    (folder / _MERGING).touch()
    packed = [new for old, new in zip(before, after, strict=True) if "bad" not in old]
    staying = [place for place, row in enumerate(packed) if row]
    if len(staying) < len(packed):
        path = rows_path(folder, shard).with_suffix(".npy")
        write_array(path, open_array(path, np.uint8, (len(packed), 3, None, None))[staying])
    write_rows(folder, shard, filter(None, after))
