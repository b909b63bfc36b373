"""Tables for machines and spreadsheets, in which no text becomes a formula. No torch here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

Value = str | float | int | None


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """A CSV file in full; text that a spreadsheet would take for a formula begins with an apostrophe."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_harmless(name) for name in head)
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return stream.getvalue()


def _harmless(value: Value) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        # numpy's floats are floats that would say so.
        return float.__repr__(value) if isinstance(value, float) else repr(value)
    text = f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value
    # A bare carriage return would end the row for some readers.
    return "\n".join(text.splitlines())
