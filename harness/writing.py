"""Files that are there whole or not at all. No torch here."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import RecordError


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Replace `path` by `text`; see `replacing`."""
    with replacing(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """A file to write, which then takes the place of `path`: a reader sees the old one or the new one, never a part.

    `durable`: also after a loss of power. Nothing is left behind where there is no room.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
        if durable:
            sync(path.parent)
    except IsADirectoryError as error:
        temporary.unlink(missing_ok=True)
        raise RecordError(f"{path}: is a folder; move it away") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path, of: str = "*") -> None:
    """The temporary files of `folder` that a killed process left when it replaced files whose names match `of`."""
    for leftover in folder.glob(f".{of}.[0-9]*"):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_json(path: Path, value: Mapping[str, Any], durable: bool = False) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", durable)
