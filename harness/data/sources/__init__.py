"""Where captioned images come from.

A source is one class with a `records` method and one row of `SOURCES`; decoding, resizing, the split, fingerprints and
the cache are the same for all of them (see `harness.data.prepare`).
"""

from __future__ import annotations

from harness.data.sources.coco import Coco
from harness.data.sources.folder import Folder
from harness.data.sources.huggingface import HuggingFace
from harness.data.sources.record import Record, Source
from harness.data.sources.table import Table
from harness.data.sources.twemoji import Twemoji
from harness.data.sources.webdataset import WebDataset
from harness.data.sources.zip_archive import ZipArchive
from harness.errors import DataError, choices
from harness.settings import DataConfig

__all__ = ["SOURCES", "Record", "Source", "open_source"]

_ALL: list[type[Source]] = [Twemoji, Folder, Coco, Table, WebDataset, HuggingFace, ZipArchive]
SOURCES: dict[str, type[Source]] = {source.name: source for source in _ALL}


def open_source(config: DataConfig) -> Source:
    """The source of these settings. Raises DataError, naming what is allowed and the nearest match."""
    if config.source in SOURCES:
        return SOURCES[config.source](config)
    raise DataError(f"unknown data source {config.source!r}{choices(config.source, SOURCES)}")
