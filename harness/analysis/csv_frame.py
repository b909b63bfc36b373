"""A CSV as columns of text: every row and column of the file, or a refusal with the line. No torch here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from harness.errors import DataError

_MARKS = ",;\t"
_NEEDED = "a header and a row a run are needed"
_KINDS = {
    b"PK\x03\x04": "a zip archive, as workbooks are; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"\x1f\x8b": "compressed; unpack it first, with gunzip",
    b"BZh": "compressed; unpack it first, with bunzip2",
    b"\x28\xb5\x2f\xfd": "compressed; unpack it first, with unzstd",
    b"PAR1": "a Parquet file; write it as CSV",
    b"SQLite format 3": "an SQLite database; write the table of runs as CSV",
}
"""First bytes of what is given for a CSV -> what it is, and what to do."""


def read_frame(path: Path) -> pd.DataFrame:
    """Every cell as stripped text; the index is the line of the file on which a row begins, the header being line 1.

    Names are stripped too; a column without a name is called `column N`, and left out if it is empty. Raises DataError
    for a row that has more or fewer values than the header has names, and for a stray quotation mark that joins rows.
    """
    lines = _lines(path)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: cannot be read as CSV (it is empty); {_NEEDED}")
    if not any(mark in first for mark in _MARKS):
        told = f"the header is {first.strip()[:80]!r}, a single name"
        raise DataError(f"{path}:{lines.index(first) + 1}: {told}; part the columns by commas, semicolons or tabs")
    found = list(_rows(path, lines, _separator(first)))
    if not found:
        raise DataError(f"{path}: cannot be read as CSV (its header has no name); {_NEEDED}")
    (_, head), *rows = found
    names = [name or f"column {place}" for place, name in enumerate(head, start=1)]
    _refuse_twins(path, names)
    if not rows:
        raise DataError(f"{path}: has no rows; {_NEEDED}")
    frame = pd.DataFrame([row for _, row in rows], columns=names, index=[line for line, _ in rows], dtype=str)
    empty = [name for name, given in zip(names, head, strict=True) if not given and (frame[name] == "").all()]
    return frame.drop(columns=empty)


def _lines(path: Path) -> list[str]:
    """The lines of a text, ends and all. Raises DataError."""
    try:
        with path.open("rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read as CSV ({error.strerror}); {_NEEDED}") from error
    kind = next((told for mark, told in _KINDS.items() if content.startswith(mark)), None)
    if kind:
        raise DataError(f"{path}: cannot be read as CSV: it is {kind}")
    try:
        return list(io.StringIO(content.decode("utf-8-sig"), newline=""))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: cannot be read as CSV: byte {error.start} is no UTF-8 text; save the file as UTF-8"
        ) from error


def _separator(head: str) -> str:
    """The mark that most parts the header: a comma, semicolon or tab."""
    return max(_MARKS, key=head.count)


def _rows(path: Path, lines: Sequence[str], mark: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row begins, and its stripped values; the first is the header. Blank rows are left out."""
    reader, begins, width = csv.reader(lines, delimiter=mark, strict=True), 1, 0
    head = 1
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if not width and any(values):
                width, head = len(values), begins
            _refuse_joined(path, lines[begins - 1 : reader.line_num], begins, (mark, width))
            if any(values) and len(values) != width:
                more = "more" if len(values) > width else "fewer"
                told = f"{len(values)} values, {more} than the header's {width} names (line {head})"
                fix = "quote a value that holds the separator, and leave empty what is missing"
                raise DataError(f"{path}:{begins}: {told}; {fix}; nothing may stand before the header")
            if any(values):
                yield begins, values
            begins = reader.line_num + 1
    except csv.Error as error:
        fix = "write a quotation mark inside a value twice, and quote the value"
        raise DataError(f"{path}:{begins}: cannot be read as CSV ({error}); {fix}") from error


def _refuse_joined(path: Path, lines: Sequence[str], begins: int, header: tuple[str, int]) -> None:
    """Lines that a quotation mark joins, though each of them is a whole row."""
    mark, width = header
    if len(lines) > 1 and width > 1 and all(line.count(mark) == width - 1 for line in lines):
        last = begins + len(lines) - 1
        fix = "write a quotation mark inside a value twice, and quote the value"
        raise DataError(f"{path}:{begins}: a quotation mark makes one row of the lines {begins} to {last}; {fix}")


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}:1: several columns are called {', '.join(map(repr, twice))}; give each a name of its own"
        )
