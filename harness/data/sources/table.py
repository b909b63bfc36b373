"""Tables of images and captions: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import contextlib
import csv
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.data import reading
from harness.data.image_files import is_image
from harness.data.reading import printable
from harness.data.sources.matching import NamedFiles, count_other_parts
from harness.data.sources.parquet import holds_images, read_images, read_paths
from harness.data.sources.record import (
    LeftOut,
    Record,
    Records,
    Source,
    field_captions,
    has_captions,
    in_order,
    key_of,
    text_lines,
)
from harness.errors import DataError
from harness.settings import DataConfig
from harness.text import quantity

Row = tuple[str, Any, Any]
"""The place that an error message names, the image's cell and the captions' cell."""


class Table(Source):
    """`path` is a table with a header; its suffix says of which format.

    `image_column` holds paths below `images`, or below the table's own folder without that setting; in a Parquet file
    it may hold the encoded images themselves. `caption_column` holds a text or a list of texts. Rows of the same image
    are one image with several captions.
    """

    name = "table"
    reads = ("images", "image_column", "caption_column")
    places = ("path", "images")

    def records(self) -> Records:
        """Every image of the table. Raises DataError."""
        config, left_out = self._config, LeftOut()
        path = reading.file_at(config.path, "data.path")
        root = reading.folder_at(config.images, "data.images") if config.images else path.parent
        suffix = path.suffix.lower()
        if suffix == ".parquet" and holds_images(path, config):
            records = read_images(path, root, config, left_out)
        elif suffix in FORMATS:
            with reading.as_data_error(printable(path), "write or copy it again"):
                records = _records(FORMATS[suffix](path, root, config, left_out), root, left_out)
        else:
            raise DataError(f"{printable(path)} is of no known format; allowed is {', '.join(FORMATS)}")
        count_other_parts(path, left_out)
        return in_order(records, printable(path), "write a row per caption into it", left_out)


def _records(rows: Iterable[Row], root: Path, left_out: LeftOut) -> list[Record]:
    """One record per image that the rows name, with its captions in their order."""
    files, by_name = NamedFiles(root), dict[str, tuple[Path, str]]()
    first: dict[Path, tuple[str, str]] = {}
    captions: dict[Path, list[tuple[str, str]]] = {}
    for place, name, cell in rows:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{place}: the image must be the path of a file, not {name!r:.80}")
        if name not in by_name:
            by_name[name] = files.find(name, place)
        path, written = by_name[name]
        relative = str(path.relative_to(root)) if os.path.isabs(written) else os.path.normpath(written)
        start, least = first.get(path, (place, relative))
        first[path] = start, min(least, relative)  # of several names the least, so that no order of rows matters
        captions.setdefault(path, []).extend((place, text) for text in field_captions(cell, place, left_out) or [""])
    files.count_unnamed(left_out)
    records = []
    for path, (place, name) in first.items():
        texts: dict[str, None] = {}
        for row, text in captions[path]:
            if text in texts:
                left_out.add("row", "with a caption that its image has already", row)
            elif text:
                texts[text] = None
            elif len(captions[path]) > 1:
                left_out.add("row", "without a caption, of an image with other rows", row)
        read, fault = functools.partial(reading.read_file, path), files.why_missing(path)
        records.append(Record(key_of(name), tuple(texts), place, reading.stamp(path), read, fault))
    return records


def _separated(separator: str, path: Path, root: Path, config: DataConfig, left_out: LeftOut) -> Sequence[Row]:
    """The rows of a CSV or TSV. Raises DataError. A TSV whose quotes do not pair up was written without quoting and is
    read so, if that gives every row its cells."""
    doubtful: list[str] = []
    try:
        rows = list(_cells({"delimiter": separator}, path, root, config, doubtful, left_out))
    except DataError:
        rows = []
        with contextlib.suppress(DataError):
            if separator == "\t":
                unquoted = {"delimiter": separator, "quoting": csv.QUOTE_NONE}
                rows = list(_cells(unquoted, path, root, config, [], LeftOut()))
        if not rows:
            raise
        left_out.note("table", "whose quotation marks do not pair up, read without quoting", path.name)
        return rows
    if separator == "\t" and 0 < len(doubtful) < len(rows):
        state = "with a cell in quotation marks that it does not need, taken as the table's and not the caption's"
        left_out.note("row", state, doubtful[0], len(doubtful))
    return rows


def _cells(
    dialect: dict[str, Any], path: Path, root: Path, config: DataConfig, doubtful: list[str], left_out: LeftOut
) -> Iterator[Row]:
    """By the rules of Python's csv, which are Excel's. `doubtful` gathers the places of rows with needless quotes."""
    where, lines, separator = printable(path), list[str](), dialect["delimiter"]

    def read_lines() -> Iterator[str]:
        for line in reading.short_lines(stream, where):
            lines.append(line)
            yield line

    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(read_lines(), strict=True, **dialect)
        try:
            header = next(filter(None, rows), [])
            image, caption = _columns(header, config, where, left_out)
            lines.clear()
            for row in rows:
                place = f"{where}: line {rows.line_num}"
                _refuse_swallowed(lines, separator, row, image, root, place)
                if f'{separator}"' in lines[0] and not any(set(cell) & set(f'"\r\n{separator}') for cell in row):
                    doubtful.append(place)
                lines.clear()
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{place} has {quantity(len(row), 'cell')}, the header {len(header)}; check quotes there"
                    )
                yield place, row[image], None if caption is None else row[caption]
        except csv.Error as error:
            raise DataError(f"{where}: line {rows.line_num}: {error}; check quotes up to there") from error


def _refuse_swallowed(
    lines: Sequence[str], separator: str, row: Sequence[str], image: int, root: Path, place: str
) -> None:
    """Raises DataError for a row over several lines of which a later one is a row of its own: it names an image."""
    own = row[image] if len(lines) > 1 and len(row) > image else ""
    ends = len(text_lines(own)) - 1 if os.path.isfile(root / own) else 0  # a file may be called so
    start = 1 + sum(len(text_lines(cell)) - 1 for cell in row[:image])
    for line in (*lines[1:start], *lines[start + ends :]):
        cells = line.rstrip("\r\n").split(separator)
        name = cells[image].strip().strip('"') if len(cells) > image else ""
        kind = is_image(name) or not is_image(own)  # prose may be the name of some other file
        if name and ((is_image(name) and " " not in name) or (kind and os.path.isfile(root / name))):
            reason = f"a quotation mark opened before takes in the row of {printable(name)} as part of a caption"
            raise DataError(f'{place}: {reason}; write " as """" in quoted cells, or the table as JSON lines')


def _columns(header: Sequence[str], config: DataConfig, where: str, left_out: LeftOut) -> tuple[int, int | None]:
    """Where in a row the image's cell and the caption's are, None for no captions. Raises DataError."""
    if config.image_column not in header and any(map(is_image, header)):
        first = f"its first line, {', '.join(header)!r:.80}, is a row and names no columns"
        names = f"{config.image_column},{config.caption_column}"
        raise DataError(f"{where}: {first}; put a line before it that does, such as {names}")
    if len(header) == 1 and (other := next((mark for mark in ";\t,|" if mark in header[0]), "")):
        raise DataError(f"{where}: its cells are separated by {other!r}; write commas in a .csv, tabs in a .tsv")
    reading.need_column(config.image_column, "data.image_column", header, where)
    there = has_captions(config, header, where, left_out)
    return header.index(config.image_column), header.index(config.caption_column) if there else None


def _json_lines(path: Path, root: Path, config: DataConfig, left_out: LeftOut) -> Iterator[Row]:
    """Captions may be missing from some rows, the image from none."""
    where, columns = printable(path), set[str]()
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(reading.short_lines(stream, where), start=1):
            if not line.strip():
                continue
            place = f"{where}: line {number}"
            row = reading.parse_json(line, place)
            if not isinstance(row, dict):
                raise DataError(f"{place} must be an object, not {row!r:.80}")
            reading.need_column(config.image_column, "data.image_column", row, place)
            columns.update(row)
            yield place, row[config.image_column], row.get(config.caption_column)
    if columns:
        has_captions(config, columns, where, left_out)


FORMATS: dict[str, Callable[[Path, Path, DataConfig, LeftOut], Iterable[Row]]] = {
    ".csv": functools.partial(_separated, ","),
    ".tsv": functools.partial(_separated, "\t"),
    ".jsonl": _json_lines,
    ".parquet": lambda path, root, config, left_out: read_paths(path, config, left_out),
}
"""Suffix -> reader of rows: (path, folder of the images, settings, what it leaves out)."""
