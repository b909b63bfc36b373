"""A data source of flat pictures whose colour is their number."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from PIL import Image

from harness.data.sources import Record
from harness.settings import DataConfig


def png(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


class Handmade:
    """As many pictures as `path` says, forty if it says nothing."""

    name: ClassVar[str] = "handmade"
    needs: ClassVar[tuple[str, ...]] = ()
    places: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[tuple[str, ...]] = ()
    attribution = "nobody"
    altered: ClassVar[dict[int, tuple[bytes, tuple[str, ...]]]] = {}

    def __init__(self, config: DataConfig) -> None:
        self.count = int(config.path or 40)

    def records(self) -> Sequence[Record]:
        return [self._record(number) for number in range(self.count)]

    def _record(self, number: int) -> Record:
        flat = png(np.full((24, 24, 4), (number % 256, number // 256, 0, 255), np.uint8))
        encoded, captions = self.altered.get(number, (flat, (f"red {number}",) + ("alias",) * (number % 3)))
        stamp = hashlib.sha256(encoded).hexdigest()
        return Record(f"key-{number:06d}", captions, f"picture-{number}.png", stamp, lambda: encoded)
