"""What the head of a file of weights says of them. The tensors themselves are read where a run is trained or drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.errors import RecordError

_LARGEST_HEAD = 100_000_000
"""Bytes; the limit of safetensors."""


def read_head(path: Path) -> dict[str, Any] | None:
    """Name -> type, shape and place of each tensor, and "__metadata__"; None for what is no whole safetensors file."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head: dict[str, Any] = dict(json.loads(file.read(size))) if 0 < size <= _LARGEST_HEAD else {}
        ends = [each["data_offsets"][1] for name, each in head.items() if name != "__metadata__"]
        return head if 8 + size + max(ends, default=0) == path.stat().st_size else None
    except (ValueError, RecursionError, TypeError, LookupError):
        return None


def noted(head: dict[str, Any] | None, name: str) -> str:
    """What a file of ours notes beside its tensors under this name; empty for other files."""
    meta = (head or {}).get("__metadata__")
    text = meta.get(name) if isinstance(meta, dict) else None
    return text if isinstance(text, str) else ""


def refuse_of_another(path: Path, run_id: str) -> None:
    """Raises RecordError for weights that note another run than this one; those of earlier versions may note none."""
    whose = noted(read_head(path), "run")
    if whose not in ("", run_id):
        fix = "put back the file of this run, or move this one away"
        raise RecordError(f"{path}: belongs to run {whose!r}, not {run_id!r}; {fix}")
