"""What a data set consists of, known without reading an image."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.code.engine import loaded
from harness.data.decode import PIXEL_RULE
from harness.data.pictures import choose_held_out
from harness.data.reading import forget_folders
from harness.data.sources import Record, open_source
from harness.data.sources.record import Records
from harness.errors import DataError
from harness.settings import DataConfig

_SHARD_BYTES, _SHARD_IMAGES = 2**26, 256
"""Most that a shard holds: what one process has in memory at a time, and what is lost when preparing is stopped."""
_VERSION = 3
"""Part of the hashes: raise it with any change of what `prepare` writes."""


@dataclass(frozen=True)
class Listing:
    """The images of a data set in the order of its shards."""

    config: DataConfig

    @property
    def name(self) -> str:
        """What messages call the data."""
        return self.config.path or self.config.source

    @functools.cached_property
    def _main(self) -> Sequence[Record]:
        forget_folders()
        return open_source(self.config).records()

    @functools.cached_property
    def _held_out(self) -> Sequence[Record]:
        """The records of held-out data of its own, else none."""
        config, apart = self.config, self.config.held_out
        if self.share is not None:
            return ()
        if apart.path:
            config = replace(config, path=apart.path, images=apart.images, split=apart.split or config.split)
        else:  # the split to train on is then the other one, which is not counted as left out
            config = replace(config, split=apart.split, held_out=replace(apart, split=config.split))
        try:
            return open_source(config).records()
        except DataError as error:
            raise DataError(f"data.held_out: {error}") from error

    @property
    def share(self) -> float | None:
        """Share of the images that is held out; None where that is data of its own."""
        apart = self.config.held_out
        return None if apart.path or apart.split else apart.share

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each kind of thing that is there and is not among the images."""
        main, other = (part.left_out if isinstance(part, Records) else () for part in (self._main, self._held_out))
        return (*main, *(f"data.held_out: {line}" for line in other if line not in main))

    @functools.cached_property
    def records(self) -> list[tuple[Record, bool]]:
        """Records, and whether they are held out as far as their names tell."""
        if self.share is not None:
            sides = choose_held_out([record.key for record in self._main], self.share)
            return list(zip(self._main, sides.tolist(), strict=True))
        # No key of the held-out data may be one of the data to train on.
        prefix = "held-out/"
        renamed = (
            replace(record, key=f"{prefix}{record.key}", name=record.name and f"{prefix}{record.name}")
            for record in self._held_out
        )
        return [*((record, False) for record in self._main), *((record, True) for record in renamed)]

    @functools.cached_property
    def hash(self) -> str:
        """32 hex digits over everything that decides the shards."""
        stamps = "".join(f"{record.stamp}\n" for record, _ in self.records).encode("utf-8", "surrogateescape")
        return hashlib.sha256(stamps + self._outline).hexdigest()[:32]

    @property
    def outline(self) -> str:
        """32 hex digits over all of that but the stamps: equal if only the images themselves may differ."""
        return self._outline.hex()[:32]

    @functools.cached_property
    def _outline(self) -> bytes:
        config = self.config
        rules = [_VERSION, loaded("pixels"), *pixel_rule(config), config.min_side, config.stored_features, self.share]
        if self.uncaptioned and config.uncaptioned == "keep":
            rules.append(config.uncaptioned)
        outline = hashlib.sha256(json.dumps(rules).encode())
        for record, held in self.records:
            entry = [record.key, record.name, record.captions, record.fault or self.no_caption(record), held]
            outline.update(json.dumps(entry).encode())
        return outline.digest()

    def no_caption(self, record: Record) -> str:
        """Why a record is a bad one for its lack of a caption; empty where something says so no further, for a record
        with captions, and where those without are kept."""
        return "" if record.captions or self.config.uncaptioned == "keep" else record.no_caption

    @functools.cached_property
    def uncaptioned(self) -> int:
        """How many images have no caption and nothing else wrong with them, as far as is known without reading them."""
        return sum(not record.captions and not record.fault for record, _ in self.records)

    @property
    def shards(self) -> int:
        return -(-len(self.records) // self._per_shard)

    def shard(self, number: int) -> list[tuple[Record, bool]]:
        return self.records[number * self._per_shard : (number + 1) * self._per_shard]

    @property
    def _per_shard(self) -> int:
        return max(16, min(_SHARD_IMAGES, _SHARD_BYTES // (3 * self.config.resolution**2)))


def pixel_rule(config: DataConfig) -> list[Any]:
    """How an image becomes pixels, and how many."""
    return [PIXEL_RULE.format(fit=config.fit), config.resolution]
