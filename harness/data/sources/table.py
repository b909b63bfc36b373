"""Tables of images and captions: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.data.config import DataConfig
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
from harness.data.sources.record import Record, clean, in_order, inside, shown, stamp
from harness.errors import DataError

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

    def records(self) -> Sequence[Record]:
        """Every image of the table. Raises DataError."""
        path = file_at(self._config.path, "data.path")
        root = folder_at(self._config.images, "data.images") if self._config.images else path.parent
        kind = path.suffix.lower()
        if kind == ".parquet" and holds_images(path, self._config):
            records = packed(path, root, self._config)
        elif kind in _FORMATS:
            with faults_of(shown(path), "write it again, a text as UTF-8"):
                records = _merged(_FORMATS[kind](path, self._config), root)
        else:
            raise DataError(f"{shown(path)} is of no known format; allowed is {', '.join(_FORMATS)}")
        return in_order(records, shown(path), "write a row per caption into it")


def _merged(found: Iterable[Row], root: Path) -> list[Record]:
    """One record per image that the rows name, its captions in their order."""
    paths: dict[str, Path] = {}
    first: dict[Path, tuple[str, str]] = {}
    captions: dict[Path, list[str]] = {}
    for place, name, cell in found:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{place}: the image must be the path of a file, not {name!r:.80}")
        if name not in paths:
            paths[name] = inside(root, name, place)
        path = paths[name]
        first.setdefault(path, (place, _relative(name, path, root)))
        captions.setdefault(path, []).extend(captions_of(cell, place))
    return [
        Record(key_of(name), clean(captions[path], place), place, stamp(path), functools.partial(read_file, path))
        for path, (place, name) in first.items()
    ]


def _relative(name: str, path: Path, root: Path) -> str:
    """The name as written, or what of an absolute one is below the folder."""
    return str(path.relative_to(root)) if os.path.isabs(name) else os.path.normpath(name)


def _separated(separator: str, path: Path, config: DataConfig) -> Iterator[Row]:
    where = shown(path)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.reader(short_lines(stream, where), delimiter=separator, strict=True)
        try:
            header = next(lines, [])
            need_column(config.image_column, "data.image_column", header, where)
            need_column(config.caption_column, "data.caption_column", header, where)
            image, caption = header.index(config.image_column), header.index(config.caption_column)
            for row in filter(None, lines):
                place = f"{where}: line {lines.line_num}"
                if len(row) != len(header):
                    raise DataError(f"{place} has {len(row)} cells, the header {len(header)}; check quotes there")
                yield place, row[image], row[caption]
        except csv.Error as error:
            raise DataError(f"{where}: line {lines.line_num}: {error}; check quotes up to there") from error


def _json_lines(path: Path, config: DataConfig) -> Iterator[Row]:
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


_FORMATS: dict[str, Callable[[Path, DataConfig], Iterator[Row]]] = {
    ".csv": functools.partial(_separated, ","),
    ".tsv": functools.partial(_separated, "\t"),
    ".jsonl": _json_lines,
    ".parquet": rows,
}
