"""CSV and TSV: rows by their quotes, and what gives away that the quotes are not the table's own."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.formats import is_image
from harness.data.sources.reading import need_column, short_lines
from harness.data.sources.record import LeftOut, shown
from harness.errors import DataError
from harness.settings import DataConfig


@dataclass(frozen=True)
class _Columns:
    """Where in a row the two cells are that are read, and how many cells there are."""

    image: int
    caption: int
    count: int


def separated(
    separator: str, path: Path, root: Path, config: DataConfig, left_out: LeftOut
) -> Iterator[tuple[str, str, str]]:
    """Per row its place, the image's cell and the caption's. Raises DataError.

    A TSV whose quotes do not pair up was written without quoting and is read so, if that gives every row its cells.
    """
    try:
        rows = list(_quoted(separator, path, root, config, doubtful := list[str]()))
    except DataError:
        rows = _plain(path, config) if separator == "\t" else []
        if not rows:
            raise
        left_out.tell("table", "whose quotation marks do not pair up, read without quoting", path.name)
        return iter(rows)
    if separator == "\t" and 0 < len(doubtful) < len(rows):
        told = "with a cell in quotation marks that it does not need, taken as the table's and not the caption's"
        left_out.tell("row", told, doubtful[0], len(doubtful))
    return iter(rows)


def _quoted(
    separator: str, path: Path, root: Path, config: DataConfig, doubtful: list[str]
) -> Iterator[tuple[str, str, str]]:
    """By the rules of Python's csv, which are Excel's. `doubtful` gathers rows whose quotation marks need not be."""
    where, taken = shown(path), list[str]()
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.reader(_kept(short_lines(stream, where), taken), delimiter=separator, strict=True)
        try:
            columns = _columns(next(filter(None, lines), []), config, where)
            taken.clear()
            for row in lines:
                place = f"{where}: line {lines.line_num}"
                _refuse_swallowed(taken, separator, columns, root, place)
                if f'{separator}"' in taken[0] and not any(set(cell) & set(f'"\r\n{separator}') for cell in row):
                    doubtful.append(place)
                taken.clear()
                if not row:
                    continue
                if len(row) != columns.count:
                    raise DataError(f"{place} has {len(row)} cells, the header {columns.count}; check quotes there")
                yield place, row[columns.image], row[columns.caption]
        except csv.Error as error:
            raise DataError(f"{where}: line {lines.line_num}: {error}; check quotes up to there") from error


def _kept(lines: Iterator[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _refuse_swallowed(lines: Sequence[str], separator: str, columns: _Columns, root: Path, place: str) -> None:
    """Raises DataError for a row over several lines of which a later one is a row of its own: it names an image."""
    for line in lines[1:]:
        cells = line.rstrip("\r\n").split(separator)
        name = cells[columns.image].strip().strip('"') if len(cells) > columns.image else ""
        if name and ((is_image(name) and " " not in name) or (root / name).is_file()):
            told = f"a quotation mark opened before takes in the row of {shown(name)} as part of a caption"
            raise DataError(f'{place}: {told}; write " as """" in quoted cells, or the table as JSON lines')


def _plain(path: Path, config: DataConfig) -> list[tuple[str, str, str]]:
    """The rows of a TSV in which quotation marks mean nothing; none where a line has not as many cells as the first."""
    where, rows = shown(path), list[tuple[str, str, str]]()
    with path.open(encoding="utf-8-sig") as stream:
        lines = (line.rstrip("\r\n") for line in short_lines(stream, where))
        numbered = ((number, line.split("\t")) for number, line in enumerate(lines, start=1) if line)
        columns = _columns(next(numbered, (0, list[str]()))[1], config, where)
        for number, cells in numbered:
            if len(cells) != columns.count:
                return []
            rows.append((f"{where}: line {number}", cells[columns.image], cells[columns.caption]))
    return rows


def _columns(header: Sequence[str], config: DataConfig, where: str) -> _Columns:
    if config.image_column not in header and any(map(is_image, header)):
        told = f"its first line, {', '.join(header)!r:.80}, is a row and names no columns"
        names = f"{config.image_column},{config.caption_column}"
        raise DataError(f"{where}: {told}; put a line before it that does, such as {names}")
    if len(header) == 1 and (other := next((mark for mark in ";\t,|" if mark in header[0]), "")):
        raise DataError(f"{where}: its cells are separated by {other!r}; write commas in a .csv, tabs in a .tsv")
    need_column(config.image_column, "data.image_column", header, where)
    need_column(config.caption_column, "data.caption_column", header, where)
    return _Columns(header.index(config.image_column), header.index(config.caption_column), len(header))
