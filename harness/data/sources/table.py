"""Tables of images and captions: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.data.sources.located import Located
from harness.data.sources.numbers import other_parts
from harness.data.sources.parquet import holds_images, packed, rows
from harness.data.sources.reading import (
    captions_of,
    faults_of,
    file_at,
    folder_at,
    key_of,
    need_column,
    parsed,
    read_file,
    short_lines,
)
from harness.data.sources.record import LeftOut, Record, Records, in_order, shown, stamp
from harness.data.sources.separated import separated
from harness.errors import DataError
from harness.settings import DataConfig

Row = tuple[str, Any, Any]
"""The place that an error message names, the image's cell and the captions' cell."""


class Table:
    """`path` is a table with a header; its suffix says of which format.

    `image_column` holds paths below `images`, or below the table's own folder without that setting; in a Parquet file
    it may hold the encoded images themselves. `caption_column` holds a text or a list of texts. Rows of the same image
    are one image with several captions.
    """

    name: ClassVar[str] = "table"
    needs: ClassVar[tuple[str, ...]] = ("path",)
    reads: ClassVar[tuple[str, ...]] = ("images", "image_column", "caption_column")
    places: ClassVar[tuple[str, ...]] = ("path", "images")
    attribution = ""

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def records(self) -> Records:
        """Every image of the table. Raises DataError."""
        path, left_out = file_at(self._config.path, "data.path"), LeftOut()
        root = folder_at(self._config.images, "data.images") if self._config.images else path.parent
        kind = path.suffix.lower()
        if kind == ".parquet" and holds_images(path, self._config):
            records = packed(path, root, self._config, left_out)
        elif kind in FORMATS:
            with faults_of(shown(path), "write or copy it again"):
                records = _merged(FORMATS[kind](path, root, self._config, left_out), root, left_out)
        else:
            raise DataError(f"{shown(path)} is of no known format; allowed is {', '.join(FORMATS)}")
        other_parts(path, left_out)
        return in_order(records, shown(path), "write a row per caption into it", left_out)


def _merged(found: Iterable[Row], root: Path, left_out: LeftOut) -> list[Record]:
    """One record per image that the rows name, its captions in their order."""
    located, paths = Located(root), dict[str, tuple[Path, str]]()
    first: dict[Path, tuple[str, str]] = {}
    captions: dict[Path, list[tuple[str, str]]] = {}
    for place, name, cell in found:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{place}: the image must be the path of a file, not {name!r:.80}")
        if name not in paths:
            paths[name] = located.find(name, place)
        path, written = paths[name]
        told = _relative(written, path, root)
        if path not in first:
            first[path] = place, told
        elif told < first[path][1]:  # of several names, whatever the order of the rows
            first[path] = first[path][0], told
        captions.setdefault(path, []).extend((place, text) for text in captions_of(cell, place, left_out) or [""])
    located.unnamed(left_out)
    records = []
    for path, (place, name) in first.items():
        texts, read = _distinct(captions[path], left_out), functools.partial(read_file, path)
        records.append(Record(key_of(name), texts, place, stamp(path), read, located.missing(path)))
    return records


def _distinct(rows: Sequence[tuple[str, str]], left_out: LeftOut) -> tuple[str, ...]:
    """The texts of one image's rows, each once; rows that add nothing to the others are counted."""
    found: dict[str, None] = {}
    for place, text in rows:
        if text in found:
            left_out.add("row", "with a caption that its image has already", place)
        elif text:
            found[text] = None
        elif len(rows) > 1:
            left_out.add("row", "without a caption, of an image with other rows", place)
    return tuple(found)


def _relative(name: str, path: Path, root: Path) -> str:
    """The name as written, or what of an absolute one is below the folder."""
    return str(path.relative_to(root)) if os.path.isabs(name) else os.path.normpath(name)


def _json_lines(path: Path, root: Path, config: DataConfig, left_out: LeftOut) -> Iterator[Row]:
    """Captions may be missing from some rows, the image from none."""
    where = shown(path)
    seen: set[str] = set()
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(short_lines(stream, where), start=1):
            if not line.strip():
                continue
            place = f"{where}: line {number}"
            row = parsed(line, place)
            if not isinstance(row, dict):
                raise DataError(f"{place} must be an object, not {row!r:.80}")
            need_column(config.image_column, "data.image_column", row, place)
            seen.update(row)
            yield place, row[config.image_column], row.get(config.caption_column)
    if seen:
        need_column(config.caption_column, "data.caption_column", seen, where)


FORMATS: dict[str, Callable[[Path, Path, DataConfig, LeftOut], Iterator[Row]]] = {
    ".csv": functools.partial(separated, ","),
    ".tsv": functools.partial(separated, "\t"),
    ".jsonl": _json_lines,
    ".parquet": lambda path, root, config, left_out: rows(path, config),
}
"""Suffix -> reader of rows: (path, folder of the images, settings, what it leaves out)."""
