"""Tables and sentences on the terminal: names are never broken, and what goes into a pipe is never wrapped.

In a pipe every record is one line. Where the terminal is too narrow, sentences in a table wrap at words, and a name
that is too long for its column is written on a line of its own, above the rest of its record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

UNWRAPPED = 1_000_000
"""Width of a console whose lines are to stay whole."""
_MARGIN = " "
_GAPS = ("   ", "  ")
"""Between two columns; the narrower gap is for tables that fit with it only."""
_LEAST_NAME = 12
"""Width of the column of names below which they are written on lines of their own."""
Cell = str | Text


class TextTable:
    """A table: its first column holds names; columns of numbers are aligned right."""

    def __init__(self, *headers: str, numbers: Sequence[str] = ()) -> None:
        """`numbers`: the headers of columns that hold numbers; names that are no header do no harm."""
        self.headers = [Text(header) for header in headers]
        self._is_number = [header in numbers for header in headers]
        self.rows: list[list[Text] | None] = []
        """None is a rule."""

    def add_row(self, *cells: Cell) -> None:
        """A record; cells that are missing at its end stay empty. A line break in a cell becomes a space."""
        texts = [Text(cell) if isinstance(cell, str) else cell for cell in cells]
        row = [Text(" ").join(text.split("\n")) if "\n" in text.plain else text.copy() for text in texts]
        self.rows.append(row + [Text()] * (len(self.headers) - len(row)))

    def add_rule(self) -> None:
        """A line between the rows before and those after it, if there are any on both sides."""
        self.rows.append(None)

    def lines(self, width: int | None = None) -> Iterator[Text]:
        """The table, at most `width` wide if its names, numbers and words allow that; None: as wide as it is."""
        columns = list(zip(self.headers, *(row for row in self.rows if row is not None), strict=True))
        full = [max(cell.cell_len for cell in column) for column in columns]
        gap = next((gap for gap in _GAPS if width is None or _total(full, gap) <= width), _GAPS[-1])
        widths = full
        if width is not None:
            words = [max(cell_len(word) for cell in column for word in ["", *cell.plain.split()]) for column in columns]
            sizes = zip(full, words, self._is_number, strict=True)
            least = [whole if is_number else word for whole, word, is_number in sizes]
            widths = _narrowed(full, least, _total(full, gap) - width)
        rule = Text(_MARGIN + "─" * (_total(widths, gap) - len(_MARGIN)))
        yield from self._record(self.headers, widths, gap)
        yield rule
        for place, row in enumerate(self.rows):
            if row is not None:
                yield from self._record(row, widths, gap)
            elif 0 < place < len(self.rows) - 1:
                yield rule

    def _record(self, row: Sequence[Text], widths: Sequence[int], gap: str) -> Iterator[Text]:
        """The lines of one row."""
        cells = [[row[0]], *(_wrapped(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        if row[0].cell_len > widths[0]:
            yield Text.assemble(_MARGIN, row[0])
            cells[0] = [Text()]
        for parts in zip_longest(*cells, fillvalue=Text()):
            line = Text(_MARGIN)
            for part, width, is_number in zip(parts, widths, self._is_number, strict=True):
                pad = " " * max(0, width - part.cell_len)
                line.append_text(Text.assemble(pad, part, gap) if is_number else Text.assemble(part, pad, gap))
            line.rstrip()
            yield line


def stream_width(file: IO[str]) -> int | None:
    """The width for a console on this stream: without limit in a pipe or file; None: as wide as the terminal says."""
    return None if file.isatty() or os.environ.get("COLUMNS") else UNWRAPPED


def console_width(console: Console) -> int | None:
    """How wide what is printed may be; None for any width."""
    return console.width if console.width < UNWRAPPED else None


def print_table(console: Console, table: TextTable) -> None:
    """Between empty lines, except in a pipe."""
    width = console_width(console)
    edge = [Text()] if width is not None else []
    for line in (*edge, *table.lines(width), *edge):
        console.print(line, soft_wrap=True)


def print_sentence(console: Console, text: Cell) -> None:
    """Wrapped at words, except in a pipe."""
    console.print(Text(text) if isinstance(text, str) else text, soft_wrap=console_width(console) is None)


def _wrapped(cell: Text, width: int) -> list[Text]:
    """The cell in lines of up to `width`, broken at spaces only."""
    lines, line = [], Text()
    for word in cell.split(" "):
        if line.plain and line.cell_len + 1 + word.cell_len > width:
            lines.append(line)
            line = Text()
        line = Text.assemble(line, " ", word) if line.plain else word
    return [*lines, line]


def _total(widths: Sequence[int], gap: str) -> int:
    return len(_MARGIN) + sum(widths) + len(gap) * (len(widths) - 1)


def _narrowed(full: Sequence[int], least: Sequence[int], excess: int) -> list[int]:
    """Widths that are `excess` less in sum, as far as words allow."""
    widths = list(full)
    # Sentences give way first, those that can give most before the others; then the names.
    for place in sorted(range(1, len(full)), key=lambda place: least[place] - full[place]):
        give = max(0, min(excess, full[place] - least[place]))
        widths[place], excess = full[place] - give, excess - give
    if excess > 0:
        widths[0] = max(min(full[0], _LEAST_NAME), full[0] - excess)
    return widths
