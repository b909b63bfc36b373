"""A CSV as columns of text. No torch here."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from harness.errors import DataError


def read_frame(path: Path) -> pd.DataFrame:
    """Every cell as stripped text; the index says where a row stands among the lines below the header.

    Raises DataError.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline().rstrip("\n")
        frame = pd.read_csv(
            path, sep=_separator(head), dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).strip().splitlines()[-1]
        told = (reason or type(error).__name__).removeprefix("Error tokenizing data. C error: ")
        raise DataError(f"{path}: cannot be read as CSV ({told}); a header and a row a run are needed") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path}: rows have more values than the header has names; give every column a name")
    _refuse_twins(path, head)
    for name in frame.columns:
        frame[name] = frame[name].fillna("").str.strip()
    # Blank lines are left out; the index remembers where the others stand.
    frame = frame[(frame != "").any(axis=1)]
    if frame.empty:
        raise DataError(f"{path}: has no rows; a header and a row a run are needed")
    return frame


def _separator(head: str) -> str:
    """The mark that most parts the header: a comma, semicolon or tab."""
    return max(",;\t", key=head.count)


def _refuse_twins(path: Path, head: str) -> None:
    names = [name.strip() for name in next(csv.reader([head], delimiter=_separator(head)), [])]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}:1: several columns are called {', '.join(map(repr, twice))}; give each a name of its own"
        )
