"""What a search came to, on the terminal: the answer, then the weights. No torch here."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console
from rich.text import Text

from harness.report.document.document import one_line, plain
from harness.report.search import answer
from harness.report.search.sections import doubt, weights_table
from harness.terminal.table import TextTable, print_sentence, print_table
from harness.tuning.findings import Findings

_LEFT_OUT = "setting"
"""Longer than a terminal is wide; the report has it."""


def print_search(found: Findings, console: Console) -> None:
    """Fits 80 columns."""
    print_sentence(console, one_line(answer.state(found)))
    print_sentence(console, one_line(answer.on_tuning_seeds(found)))
    for _, told in (*answer.on_fresh_seeds(found), *answer.on_gains(found)):
        print_sentence(console, Text(one_line(told), "bold"))
    if len(found.search.objectives) > 1:
        # Two columns an objective are more than a terminal has room for.
        found = replace(found, importances={})
    print_table(console, _weights(found))
    if note := doubt(found):
        print_sentence(console, Text(note, "dim"))


def _weights(found: Findings) -> TextTable:
    told = weights_table(found)
    shown = [place for place, column in enumerate(told.columns) if column.title != _LEFT_OUT]
    titles = {place: one_line(told.columns[place].title) for place in shown}
    built = TextTable(*titles.values(), numbers=[titles[p] for p in shown if told.columns[p].kind == "number"])
    for row in told.rows:
        built.add_row(*(one_line(plain(row.cells[place].text)) for place in shown))
    return built
