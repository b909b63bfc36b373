"""Names under which a prepared data set is found again: small files that hold the name of its folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from harness.errors import RecordError
from harness.files import read_bytes, write_text

Kind = Literal["found", "outlines", "seen"]
_KEY = re.compile(r"[0-9a-f]{16}([0-9a-f]{16})?")
_NAME = re.compile(rb"[0-9a-f]{32}")


def pointed(cache: Path, kind: Kind, key: str) -> Path | None:
    """The folder that `point` was given last, whatever is in it now; None if there is none."""
    try:
        name = read_bytes(_path(cache, kind, key), "delete it") if _KEY.fullmatch(key) else None
    except RecordError:
        return None
    return cache / "data" / name.decode() if name and _NAME.fullmatch(name) else None


def point(cache: Path, kind: Kind, key: str, folder: Path) -> None:
    """From here on `key` leads to that folder of the cache. Raises OSError."""
    path = _path(cache, kind, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, folder.name)


def _path(cache: Path, kind: Kind, key: str) -> Path:
    return cache / "data" / kind / key
