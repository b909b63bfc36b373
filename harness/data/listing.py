"""What a data set consists of, known without reading an image."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.data.config import DataConfig
from harness.data.pixels import PIXEL_RULE
from harness.data.sources import Record, find
from harness.data.sources.record import Records
from harness.data.split import held_out
from harness.errors import DataError

_SHARD_BYTES, _SHARD_IMAGES = 2**26, 256
_VERSION = 3


@dataclass(frozen=True)
class Listing:
    """The images of a data set in the order of its shards. It travels to the processes that decode."""

    config: DataConfig

    @functools.cached_property
    def _main(self) -> Sequence[Record]:
        return find(self.config).records()

    @functools.cached_property
    def _other(self) -> Sequence[Record]:
        """The records of held-out data of its own, else none."""
        apart = self.config.held_out
        try:
            return find(self._apart).records() if apart.path or apart.split else ()
        except DataError as error:
            raise DataError(f"data.held_out: {error}") from error

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for all of each kind that is there and is not among the images."""
        main, other = (part.left_out if isinstance(part, Records) else () for part in (self._main, self._other))
        return (*main, *(f"data.held_out: {line}" for line in other if line not in main))

    @functools.cached_property
    def parts(self) -> list[tuple[Record, bool]]:
        """Records, and whether they are held out."""
        main, other = self._main, self._other
        if not other:
            sides = held_out([record.key for record in main], self.config.held_out.share)
            return list(zip(main, sides.tolist(), strict=True))
        renamed = [replace(record, key=f"held-out/{record.key}") for record in other]
        return [*((record, False) for record in main), *((record, True) for record in renamed)]

    @property
    def _apart(self) -> DataConfig:
        """The data that is held out, where it is not a share."""
        apart = self.config.held_out
        config = replace(self.config, split=apart.split or self.config.split)
        return replace(config, path=apart.path, images=apart.images) if apart.path else config

    @functools.cached_property
    def hash(self) -> str:
        """32 hex digits over everything that decides the shards."""
        config = self.config
        rules = [_VERSION, *pixel_rule(config), config.min_side, config.stored_features]
        digest = hashlib.sha256(json.dumps(rules).encode())
        for record, held in self.parts:
            digest.update(json.dumps([record.key, record.captions, record.stamp, held]).encode())
        return digest.hexdigest()[:32]

    @property
    def shards(self) -> int:
        return -(-len(self.parts) // self._per_shard)

    def shard(self, number: int) -> list[tuple[Record, bool]]:
        return self.parts[number * self._per_shard : (number + 1) * self._per_shard]

    @property
    def _per_shard(self) -> int:
        return max(16, min(_SHARD_IMAGES, _SHARD_BYTES // (3 * self.config.resolution**2)))


def pixel_rule(config: DataConfig) -> list[Any]:
    """How an image becomes pixels, and how many."""
    return [PIXEL_RULE.format(fit=config.fit), config.resolution]
