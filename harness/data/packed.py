"""A prepared data set on disk: what `prepare` writes and everything else reads, below the folder of the cache.

data/<listing>/             the hash covers names, captions, sizes and times of files, and how pixels are made
    00000.npy ...           shards of pixels [n,3,R,R] uint8, without the bad images
    00000.jsonl ...         per image: key, captions, side of the split, hashes of file and pixels; or why it is bad
    small-00000.npy ...     what is compared to find lookalikes, until the index is written
    stored.npy              features that came with the data, if they are used
    index.json              written last: fingerprint, counts, attribution
    bad.txt                 the images that are left out, with the reasons
    left-out.txt            what was reported of files beside the images; other lines are reported again
data/found/<fingerprint>    the name of a folder with that content
data/outlines/<outline>     the name of a folder made from data of these names and captions, whatever the files hold
data/seen/<listing>         the name of a folder whose images, when read, were those of this listing
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from typing_extensions import TypedDict

from harness.code.engine import loaded
from harness.errors import DataError, RecordError
from harness.files import parse, read, read_bytes, write_text
from harness.text import quantity

Pointer = Literal["found", "outlines", "seen"]
BAD, LEFT_OUT = "bad.txt", "left-out.txt"
STORED = "stored.npy"
"""Features of the images that came with the data."""
_POINTER_NAME = re.compile(r"[0-9a-f]{16}([0-9a-f]{16})?")
"""16 digits of a fingerprint, 32 of a listing or an outline."""
_FOLDER_NAME = re.compile(rb"[0-9a-f]{32}")


@dataclass(frozen=True)
class Index:
    """A prepared data set as a whole, as its index.json holds it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True}

    fingerprint: str
    """16 hex digits over size and making of the pixels, names, captions, split and the content of every image file."""
    images: int
    held_out: int
    """How many of them are never trained on."""
    shards: int
    bad: tuple[str, ...]
    """Images left out, each with its file and the reason."""
    attribution: str
    notes: dict[str, int] = field(default_factory=dict)
    """Note on how images were read, see `harness.data.decode` -> of how many."""
    repeats: int = 0
    """Images left out because another is the same picture, which has their captions too."""
    held_out_too: int = 0
    """Pictures of the training data that are left out because the held-out data has them too."""
    alike: int = 0
    """Held-out pictures that look nearly like one to train on; 0 if they are too few to matter."""
    alike_such_as: tuple[str, ...] = ()
    """The keys of the two that are nearest."""
    uncaptioned: int = 0
    """Images that are kept without a caption."""
    uncaptioned_held_out: int = 0
    """How many of them are held out."""
    content: str = ""
    """See `harness.data.pictures.content`."""
    pixels: str = ""
    """Which code decoded them, see `harness.code.engine`; other code decodes them again."""

    @property
    def counted(self) -> str:
        """How many images there are, and how many of them without a caption."""
        lacking = f", {self.uncaptioned:,} of them without a caption" if self.uncaptioned else ""
        return f"{quantity(self.images, 'image')}{lacking}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on images that are the same picture or nearly so; none where there are no such images."""
        lines = []
        if self.repeats:
            images = f"{quantity(self.repeats, 'image')} {'is' if self.repeats == 1 else 'are'}"
            rule = "every picture is used once, with the captions of all its images"
            lines.append(f"{images} the same picture as another, with equal pixels at this resolution: {rule}")
        if self.held_out_too:
            pictures = quantity(self.held_out_too, "picture")
            lines.append(f"{pictures} of the training data not trained on, because data.held_out has the same")
        if self.alike:
            pictures = f"{self.alike:,} of {self.held_out:,} held-out pictures look nearly like ones to train on"
            pair = f"such as {' and '.join(map(repr, self.alike_such_as))}"
            lines.append(f"{pictures}, {pair}: if they are copies in another size or quality, remove them on one side")
        return tuple(lines)


def read_index(folder: Path) -> Index:
    """The index of a folder of prepared data. Raises DataError."""
    path, fix = folder / "index.json", f"delete the folder {folder}"
    try:
        index = read(path, Index, fix)
    except RecordError as error:
        raise DataError(str(error)) from error
    if index is None or min(index.images, index.held_out, index.shards) < 0:
        raise DataError(f"{path}: is missing or has a negative count; {fix}")
    return index


def find_prepared(fingerprint: str, cache: Path) -> tuple[Path, Index] | None:
    """Folder and index of the data with that fingerprint, without a look at its source; None if there is none."""
    found = follow_pointer(cache, "found", fingerprint)
    return found if found and (found[1].fingerprint, found[1].pixels) == (fingerprint, loaded("pixels")) else None


class Row(TypedDict, total=False):
    """A line of a shard's .jsonl, an image: all but `notes` and `bad`, or `bad` and perhaps `sha256`."""

    key: str
    captions: list[str]
    held_out: bool
    sha256: str
    """Of the encoded image; of a bad one too if the fault is in these bytes, which are not read again then."""
    pixels: str
    """SHA-256 of the prepared pixels."""
    notes: list[str]
    """On how it was read, see `harness.data.decode`."""
    bad: str
    """The file and the reason."""


def rows_path(folder: Path, shard: int) -> Path:
    """The rows of a shard; its pixels have the same name and end in .npy."""
    return folder / f"{shard:05d}.jsonl"


def read_rows(folder: Path, shards: Iterable[int], holding: bytes = b"") -> Iterator[Row]:
    """The rows of these shards in order, of those lines that hold these bytes. Raises DataError."""
    for shard in shards:
        path, fix = rows_path(folder, shard), f"delete the folder {folder}"
        try:
            for line in (read_bytes(path, fix) or b"").splitlines():
                if holding not in line:
                    continue
                row = parse(line, Row, str(path), fix)
                if "bad" not in row and not row.keys() >= {"key", "captions", "held_out", "sha256"}:
                    raise DataError(f"{path}: a line lacks some of its parts; {fix}")
                yield row
        except RecordError as error:
            raise DataError(str(error)) from error


def write_rows(folder: Path, shard: int, rows: Iterable[Row]) -> None:
    """Replaces the rows of a shard."""
    write_text(rows_path(folder, shard), "".join(json.dumps(row) + "\n" for row in rows))


def follow_pointer(cache: Path, kind: Pointer, name: str) -> tuple[Path, Index] | None:
    """The folder that `write_pointer` was given last, and its index; None where there is none that is sound."""
    try:
        found = read_bytes(cache / "data" / kind / name, "delete it") if _POINTER_NAME.fullmatch(name) else None
        if not found or not _FOLDER_NAME.fullmatch(found):
            return None
        folder = cache / "data" / found.decode()
        return folder, read_index(folder)
    except (DataError, RecordError):
        return None


def write_pointer(cache: Path, kind: Pointer, name: str, folder: Path) -> None:
    """Makes `name` lead to that folder of the cache. Raises OSError."""
    path = cache / "data" / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, folder.name)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Replaces a .npy file; a `scratch-` file beside it is what a killed process leaves. Raises OSError."""
    scratch = path.with_name(f"scratch-{path.name}")
    np.save(scratch, array, allow_pickle=False)
    scratch.replace(path)


def open_array(path: Path, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """A .npy file of this type and shape, where None stands for any number; memory-mapped, read-only, never unpickled.
    Raises DataError, which names the folder to delete, for any other file, also for one of the wrong length."""
    fix = f"delete the folder {path.parent}"
    try:
        if not path.is_file():
            raise OSError("no plain file")
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the header is a Python literal, and numpy passes on whatever the parser raises
        raise DataError(f"cannot read {path}: {error}; {fix}") from error
    fits = len(shape) == array.ndim and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype or not array.flags.c_contiguous:
        wanted = f"{np.dtype(dtype)} [{','.join('*' if size is None else str(size) for size in shape)}]"
        raise DataError(f"{path} holds {array.dtype} {list(array.shape)} in place of {wanted}; {fix}")
    size = path.stat().st_size
    # An array without elements is no memory map and has no offset: its length cannot be checked.
    if size != getattr(array, "offset", size) + array.nbytes:
        raise DataError(f"{path} has {size} bytes, which is not what its header says; {fix}")
    return array
