"""What is known of each prepared image: the lines beside the shards of pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from harness.errors import DataError, RecordError
from harness.files import parse, read_bytes, write_text

Row = dict[str, Any]
_NEEDED = frozenset({"key", "captions", "held_out", "sha256"})


class _Row(TypedDict, total=False):
    """A line of a shard's .jsonl."""

    key: str
    captions: list[str]
    held_out: bool
    sha256: str
    """Of the encoded image, of a bad one too if it could be read."""
    pixels: str
    """SHA-256 of the prepared pixels."""
    notes: list[str]
    """What to know of how it was read."""
    bad: str


def path_of(folder: Path, number: int) -> Path:
    """The lines of a shard; its pixels have the same name and end in .npy."""
    return folder / f"{number:05d}.jsonl"


def rows(folder: Path, shards: int) -> Iterator[Row]:
    """Per image, in the order of the shards: {"key", "captions", "held_out", "sha256", "pixels"} and "notes" if there
    are any, or {"bad": reason}. Raises DataError.
    """
    for number in range(shards):
        yield from of_shard(folder, number)


def of_shard(folder: Path, number: int) -> Iterator[Row]:
    """As `rows`, of one shard."""
    path, fix = path_of(folder, number), f"delete the folder {folder}"
    try:
        for line in (read_bytes(path, fix) or b"").splitlines():
            row: Row = {**parse(line, _Row, str(path), fix)}
            if "bad" not in row and not row.keys() >= _NEEDED:
                raise DataError(f"{path}: a line lacks some of its parts; {fix}")
            yield row
    except RecordError as error:
        raise DataError(str(error)) from error


def write(folder: Path, number: int, lines: Iterable[Row]) -> None:
    """Replaces the lines of a shard."""
    write_text(path_of(folder, number), "".join(json.dumps(line) + "\n" for line in lines))
