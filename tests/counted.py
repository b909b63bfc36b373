"""What the tests of left-out things share: images in a moment, and the records of a source with its lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from harness.data.sources import open_source
from harness.data.sources.record import Record, Records
from harness.settings import DataConfig


def draw(path: Path, shade: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 40, 90)).save(path, "PNG")
    return path


def records(config: DataConfig) -> Records:
    found = open_source(config).records()
    assert isinstance(found, Records)
    return found


def captions(found: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    return {record.key: record.captions for record in found}
