"""The user's text in Markdown and CSV, so that it is shown and never acts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate

Row = Sequence[str | float | int | None]

_SPECIAL = re.compile(r"([\\`*{}\[\]|~$])")
# Inside a word GitHub's Markdown leaves underscores alone, and names stay readable in the raw file.
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_LINE_START = re.compile(r"^(\s*)([#+\-=]|\d+(?=[.)]))")


def md(text: str) -> str:
    """`text` on one line of Markdown, standing for itself."""
    text = " ".join(str(text).split())
    text = _SPECIAL.sub(r"\\\1", text)
    text = _EMPHASIS.sub(r"\\_", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINE_START.sub(lambda match: match[1] + (f"&#{ord(match[2][0])};" + match[2][1:]), text)


def code(text: str) -> str:
    """`text` as a code span, fenced by more backticks than it holds; not for tables, where a bar would end the cell."""
    text = " ".join(str(text).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[str] = ()) -> str:
    """A Markdown table; the cells are Markdown already. The first column and those named in `text` are set left."""
    body = [list(row) for row in rows]
    align = ["left" if place == 0 or name in text else "right" for place, name in enumerate(head)]
    return tabulate(body, headers=list(head), tablefmt="pipe", colalign=align if body else None, disable_numparse=True)


def csv_text(head: Sequence[str], rows: Iterable[Row]) -> str:
    """A CSV file in full; text that a spreadsheet would take for a formula begins with an apostrophe."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_harmless(name) for name in head)
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return stream.getvalue()


def _harmless(value: str | float | int | None) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    text = f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value
    # A bare carriage return would end the row for some readers.
    return "\n".join(text.splitlines())
