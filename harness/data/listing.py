"""What a data set consists of, known without reading an image."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.code.engine import loaded
from harness.data.pixels import PIXEL_RULE
from harness.data.sources import Record, find
from harness.data.sources.record import Records, forget_folders
from harness.data.split import held_out
from harness.errors import DataError
from harness.settings import DataConfig

_SHARD_BYTES, _SHARD_IMAGES = 2**26, 256
_VERSION = 3


@dataclass(frozen=True)
class Listing:
    """The images of a data set in the order of its shards. It travels to the processes that decode."""

    config: DataConfig

    @functools.cached_property
    def _main(self) -> Sequence[Record]:
        forget_folders()
        return find(self.config).records()

    @functools.cached_property
    def _other(self) -> Sequence[Record]:
        """The records of held-out data of its own, else none."""
        try:
            return find(self._apart).records() if self.has_apart else ()
        except DataError as error:
            raise DataError(f"data.held_out: {error}") from error

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for all of each kind that is there and is not among the images."""
        main, other = (part.left_out if isinstance(part, Records) else () for part in (self._main, self._other))
        return (*main, *(f"data.held_out: {line}" for line in other if line not in main))

    @functools.cached_property
    def parts(self) -> list[tuple[Record, bool]]:
        """Records, and whether they are held out as far as their names tell."""
        main, other = self._main, self._other
        if not self.has_apart:
            sides = held_out([record.key for record in main], self.config.held_out.share)
            return list(zip(main, sides.tolist(), strict=True))
        return [*((record, False) for record in main), *((_renamed(record), True) for record in other)]

    @property
    def has_apart(self) -> bool:
        """Whether data of its own is held out, rather than a share."""
        return bool(self.config.held_out.path or self.config.held_out.split)

    @property
    def _apart(self) -> DataConfig:
        """The data that is held out, where it is not a share; what it is held out from is then the other split."""
        apart = self.config.held_out
        if apart.path:
            split = apart.split or self.config.split
            return replace(self.config, path=apart.path, images=apart.images, split=split)
        return replace(self.config, split=apart.split, held_out=replace(apart, split=self.config.split))

    @property
    def hash(self) -> str:
        """32 hex digits over everything that decides the shards."""
        return self._hashes[0]

    @property
    def outline(self) -> str:
        """32 hex digits over all of that but the stamps: equal if only the images themselves may differ."""
        return self._hashes[1]

    @functools.cached_property
    def _hashes(self) -> tuple[str, str]:
        config = self.config
        share = None if self.has_apart else config.held_out.share
        rules = [_VERSION, loaded("pixels"), *pixel_rule(config), config.min_side, config.stored_features, share]
        outline, stamps = hashlib.sha256(json.dumps(rules).encode()), hashlib.sha256()
        for record, held in self.parts:
            told = [record.key, record.name, record.captions, record.fault, held]
            outline.update(json.dumps(told).encode())
            stamps.update(f"{record.stamp}\n".encode("utf-8", "surrogateescape"))
        stamps.update(outline.digest())
        return stamps.hexdigest()[:32], outline.hexdigest()[:32]

    @property
    def shards(self) -> int:
        return -(-len(self.parts) // self._per_shard)

    def shard(self, number: int) -> list[tuple[Record, bool]]:
        return self.parts[number * self._per_shard : (number + 1) * self._per_shard]

    @property
    def _per_shard(self) -> int:
        return max(16, min(_SHARD_IMAGES, _SHARD_BYTES // (3 * self.config.resolution**2)))


def _renamed(record: Record) -> Record:
    """So that data that is held out has no key of the data to train on."""
    return replace(record, key=f"held-out/{record.key}", name=record.name and f"held-out/{record.name}")


def pixel_rule(config: DataConfig) -> list[Any]:
    """How an image becomes pixels, and how many."""
    return [PIXEL_RULE.format(fit=config.fit), config.resolution]
