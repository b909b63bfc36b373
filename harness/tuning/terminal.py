"""What a search came to, on the terminal: the answer, then the weights. No torch here."""

from __future__ import annotations

from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.document import one_line, plain
from harness.tuning import answer
from harness.tuning.findings import Findings
from harness.tuning.sections import doubt, weights_table

_LEFT_OUT = "setting"
"""Longer than a terminal is wide; the report has it."""


def print_search(found: Findings, console: Console) -> None:
    """Fits 80 columns."""
    console.print(Text(one_line(answer.state(found))))
    console.print(Text(one_line(answer.on_tuning_seeds(found))))
    for _, told in (*answer.on_fresh_seeds(found), *answer.on_gains(found)):
        console.print(Text(one_line(told), "bold"))
    if len(found.search.objectives) > 1:
        # Two columns an objective are more than a terminal has room for.
        found = replace(found, importances={})
    console.print(_weights(found))
    if note := doubt(found):
        console.print(Text(note, "dim"))


def _weights(found: Findings) -> Table:
    told = weights_table(found)
    shown = [place for place, column in enumerate(told.columns) if column.title != _LEFT_OUT]
    built = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place in shown:
        column = told.columns[place]
        built.add_column(Text(one_line(column.title)), justify="right" if column.kind == "number" else "left")
    for row in told.rows:
        built.add_row(*(Text(one_line(plain(row.cells[place].text))) for place in shown))
    return built
