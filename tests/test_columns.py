"""Tables and sentences on the terminal and in pipes: names whole, one record a line."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from harness.terminal.table import UNWRAPPED, TextTable, console_width, print_sentence, print_table, stream_width

NAME = "full-minus-separate_features+transform_w"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table() -> TextTable:
    made = TextTable("cell", "seed", "run", "why", numbers=["seed"])
    made.add_row("origin", "0", "dd9154ff0851", "new")
    made.add_row(NAME, "12", "bc95e0e3a5c9", "changed: " + "train.kimg from 1 to 2, " * 6 + "end")
    return made


def printed(file: io.StringIO, columns: int, content: Any) -> list[str]:
    console = Console(file=file, width=columns, color_system=None, markup=False, highlight=False)
    print_table(console, content) if isinstance(content, TextTable) else print_sentence(console, content)
    return file.getvalue().splitlines()


def test_a_pipe_gets_one_line_a_record() -> None:
    lines = printed(io.StringIO(), UNWRAPPED, table())
    assert len(lines) == 4 and lines[3].split()[:3] == [NAME, "12", "bc95e0e3a5c9"] and lines[3].endswith("end")
    assert not any(line.endswith(" ") for line in lines)
    assert printed(io.StringIO(), UNWRAPPED, "a sentence " * 30) == ["a sentence " * 30]


def test_room_is_without_end_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert stream_width(io.StringIO()) == UNWRAPPED and stream_width(Terminal()) is None
    # Colours that were asked for make no terminal of a pipe.
    assert console_width(Console(file=io.StringIO(), force_terminal=True, width=stream_width(io.StringIO()))) is None
    monkeypatch.setenv("COLUMNS", "70")
    assert stream_width(io.StringIO()) is None


@pytest.mark.parametrize("columns", [50, 60, 80, 100, 120])
def test_a_narrow_terminal_breaks_between_words_only(columns: int) -> None:
    lines = printed(Terminal(), columns, table())
    assert max(map(len, lines)) <= columns
    words = {word for line in lines for word in line.split()}
    assert {NAME, "bc95e0e3a5c9", "train.kimg", "changed:"} <= words
    told = [word for line in lines for word in line.split() if "─" not in word]
    assert told.count("train.kimg") == 6 and told.count(NAME) == 1


def test_a_name_too_long_stands_above_its_record() -> None:
    lines = [line.split() for line in printed(Terminal(), 50, table())]
    place = lines.index([NAME])
    assert lines[place + 1][:2] == ["12", "bc95e0e3a5c9"]


def test_what_cannot_fit_is_not_cut() -> None:
    made = TextTable("cell", "path")
    made.add_row("a" * 30, "/very/long/" + "p" * 90)
    text = "\n".join(printed(Terminal(), 40, made))
    assert "a" * 30 in text and "/very/long/" + "p" * 90 in text


@pytest.mark.parametrize("wide", [20, 40, 80, None])
def test_numbers_end_below_each_other(wide: int | None) -> None:
    made = TextTable("cell", "size", numbers=["size"])
    for size in ("1", "1000"):
        made.add_row("名前の長い細胞" if size == "1" else "origin", size)
    from rich.cells import cell_len

    ends = {cell_len(line.plain) for line in made.lines(wide) if line.plain.rstrip().endswith(("1", "1000"))}
    assert len(ends) == 1


def test_rules_stand_between_rows_only() -> None:
    made = TextTable("cell")
    made.add_rule()
    made.add_row("one")
    made.add_rule()
    assert sum("─" in line.plain for line in made.lines()) == 1
    made.add_row("two")
    assert sum("─" in line.plain for line in made.lines()) == 2


def test_a_line_break_in_a_cell_makes_no_second_record() -> None:
    made = TextTable("cell", "why")
    made.add_row("one", "a\nb")
    assert [line.plain.split() for line in made.lines()][2] == ["one", "a", "b"]
