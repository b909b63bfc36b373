"""Tables and sentences on the terminal: names are never broken, and what goes into a pipe is never wrapped.

In a pipe every record is one line. Where the terminal is too narrow, sentences in a table wrap at words, and a name
that is too long for its column stands on a line of its own, above the rest of its record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

UNWRAPPED = 1_000_000
"""Columns of a console whose lines are to stay whole."""
_EDGE, _GAPS = " ", ("   ", "  ")
"""The narrower gap is for tables that fit with it only."""
_LEAST_NAME = 12
"""Columns that are left for names at least before they get lines of their own."""
Entry = str | Text


class Columns:
    """A table: its first column has names, its numbers are set right."""

    def __init__(self, *headers: str, numbers: Sequence[str] = ()) -> None:
        self.headers = [Text(header) for header in headers]
        self._right = [header in numbers for header in headers]
        self.rows: list[list[Text] | None] = []

    def add_row(self, *cells: Entry) -> None:
        """A record; what is missing at its end stays empty. A line break in a cell is a space."""
        told = [_one_line(cell) for cell in cells]
        self.rows.append(told + [Text()] * (len(self.headers) - len(told)))

    def add_rule(self) -> None:
        """A line between the rows before and those after it, if there are any on both sides."""
        self.rows.append(None)

    @property
    def has_rows(self) -> bool:
        return any(row is not None for row in self.rows)

    def lines(self, width: int | None = None) -> Iterator[Text]:
        """The table in at most `width` columns, if its names, numbers and words allow that; None: as wide as it is."""
        columns = list(zip(self.headers, *(row for row in self.rows if row is not None), strict=True))
        full = [max(cell.cell_len for cell in column) for column in columns]
        gap = next((gap for gap in _GAPS if width is None or _total(full, gap) <= width), _GAPS[-1])
        words = [max(map(_longest_word, column)) for column in columns]
        least = [all_of if is_right else word for all_of, word, is_right in zip(full, words, self._right, strict=True)]
        widths = full if width is None else _narrowed(full, least, _total(full, gap) - width)
        rule = Text(_EDGE + "─" * (_total(widths, gap) - len(_EDGE)))
        yield from self._record(self.headers, widths, gap)
        yield rule
        for place, row in enumerate(self.rows):
            if row is not None:
                yield from self._record(row, widths, gap)
            elif 0 < place < len(self.rows) - 1:
                yield rule

    def _record(self, row: Sequence[Text], widths: Sequence[int], gap: str) -> Iterator[Text]:
        cells = [[row[0]], *(_wrapped(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        if row[0].cell_len > widths[0]:
            yield Text.assemble(_EDGE, row[0])
            cells[0] = [Text()]
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else Text() for cell in cells]
            yield self._joined(parts, widths, gap)

    def _joined(self, parts: Sequence[Text], widths: Sequence[int], gap: str) -> Text:
        line = Text(_EDGE)
        for part, width, is_right in zip(parts, widths, self._right, strict=True):
            pad = " " * max(0, width - part.cell_len)
            line.append_text(Text.assemble(pad, part, gap) if is_right else Text.assemble(part, pad, gap))
        line.rstrip()
        return line


def room(file: IO[str]) -> int | None:
    """The width of a console on this stream: as wide as it says, but without end where nobody looks, as in a pipe."""
    return None if file.isatty() or os.environ.get("COLUMNS") else UNWRAPPED


def width(console: Console) -> int | None:
    """How wide what is written may be; None for any width."""
    return console.width if console.width < UNWRAPPED else None


def show(console: Console, table: Columns) -> None:
    """Print a table between empty lines, which a pipe does not get."""
    wide = width(console)
    edge = [Text()] if wide is not None else []
    for line in (*edge, *table.lines(wide), *edge):
        console.print(line, soft_wrap=True)


def say(console: Console, text: Entry) -> None:
    """Print a sentence, wrapped at words where somebody looks at it."""
    console.print(Text(text) if isinstance(text, str) else text, soft_wrap=width(console) is None)


def _one_line(cell: Entry) -> Text:
    text = Text(cell) if isinstance(cell, str) else cell.copy()
    return Text(" ").join(text.split("\n")) if "\n" in text.plain else text


def _longest_word(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split()), default=0)


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
    return len(_EDGE) + sum(widths) + len(gap) * (len(widths) - 1)


def _narrowed(full: Sequence[int], least: Sequence[int], over: int) -> list[int]:
    """Widths that are `over` less in sum, as far as words allow."""
    widths = list(full)
    # Sentences give way first, those that are widest before the others; then the names.
    for place in sorted(range(1, len(full)), key=lambda place: least[place] - full[place]):
        give = max(0, min(over, full[place] - least[place]))
        widths[place], over = full[place] - give, over - give
    if over > 0:
        widths[0] = max(min(full[0], _LEAST_NAME), full[0] - over)
    return widths
