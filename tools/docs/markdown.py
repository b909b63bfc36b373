"""Markdown as the repository's pages have it, made ready for Python-Markdown, which mkdocs renders with.

The two agree but for lists: Python-Markdown wants what belongs to an item indented by four blanks whatever the marker,
and a blank line above a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

_LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")
_MARKER = re.compile(r"( *)([-*+]|\d+[.)])(?: {1,4}(?! )|$)")
_CODE = ("fence", "code_block")
_LISTS = ("bullet_list_open", "ordered_list_open")
_INDENT = 4


@dataclass(frozen=True)
class _Item:
    """An item of a list: its lines, and the column at which what belongs to it begins."""

    first: int
    end: int
    column: int


def for_site(text: str, link: Callable[[str], str]) -> str:
    """`text` with each link as `link` gives it, and with lists as Python-Markdown reads them."""
    lines = text.split("\n")
    code, items, tops = _structure(text, lines)
    written: list[str] = []
    for number, line in enumerate(lines):
        if number in tops and number and lines[number - 1].strip():
            written.append("")
        line = line if number in code else _LINK.sub(lambda found: link(found[0]), line)
        written.append(_indented(line, number, [item for item in items if item.first <= number < item.end]))
    return "\n".join(written)


def links(text: str) -> Iterator[str]:
    """The targets of the links of a page, outside of blocks of code."""
    lines = text.split("\n")
    code, _, _ = _structure(text, lines)
    for number, line in enumerate(lines):
        if number not in code:
            yield from _LINK.findall(line)


def notebook(text: str) -> str:
    """The cells of a notebook of Python one below the other, without what they have shown."""
    cells = [("".join(cell["source"]), cell["cell_type"]) for cell in json.loads(text)["cells"]]
    return "\n\n".join(source if kind == "markdown" else fenced(source, "python") for source, kind in cells) + "\n"


def fenced(text: str, language: str) -> str:
    """A block of code, whatever stands in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def _structure(text: str, lines: list[str]) -> tuple[set[int], list[_Item], set[int]]:
    """The lines of code, the items of lists from the outermost in, and the first lines of outermost lists."""
    code: set[int] = set()
    items: list[_Item] = []
    tops: set[int] = set()
    depth = 0
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        first, end = token.map or (0, 0)
        if token.type in _CODE:
            code.update(range(first, end))
        elif token.type in _LISTS:
            tops.update([first] if depth == 0 else [])
        elif token.type == "list_item_open" and (found := _MARKER.match(lines[first])):
            items.append(_Item(first, end, found.end()))
        depth += token.nesting if token.type.endswith(("list_open", "list_close")) else 0
    return code, items, tops


def _indented(line: str, number: int, around: list[_Item]) -> str:
    """A line of the items `around` it, the outermost first."""
    if not around or not line.strip():
        return line
    item, blanks = around[-1], len(line) - len(line.lstrip())
    if number == item.first:
        marker = line[blanks : item.column].rstrip()
        return " " * _INDENT * (len(around) - 1) + marker.ljust(_INDENT) + line[item.column :]
    return " " * _INDENT * len(around) + line[min(blanks, item.column) :]
