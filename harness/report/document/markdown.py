"""A document as Markdown, in which the user's text is shown and never acts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tabulate import tabulate

from harness.report.document.model import (
    Block,
    Bullets,
    Code,
    CodeBlock,
    Curves,
    Details,
    Document,
    Figure,
    FileLink,
    Link,
    Paragraph,
    Section,
    Simple,
    Strong,
    Table,
    Text,
    Viewer,
    flow,
    plain,
    simple,
    unbroken,
)
from harness.text import one_line, quantity

MOST_ROWS = 200
"""Of a table; the CSV files hold all."""
_SPECIAL = re.compile(r"([\\`*{}\[\]|~$])")
# Inside a word GitHub's Markdown leaves underscores alone, and names stay readable in the raw file.
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_LINE_START = re.compile(r"^(\s*)([#+\-=]|\d+(?=[.)]))")


def markdown(document: Document) -> str:
    parts = [f"# {md(document.title)}", *rendered(document.answer, 2), *rendered(document.sections, 2)]
    return "\n\n".join(parts) + "\n"


def md(text: str) -> str:
    """`text` on one line of Markdown that is shown as it is, even at the beginning of a line."""
    return _LINE_START.sub(lambda match: match[1] + (f"&#{ord(match[2][0])};" + match[2][1:]), within(text))


def within(text: str) -> str:
    """`text` after the beginning of a line or in a table, where no list, heading or rule can start."""
    text = _EMPHASIS.sub(r"\\_", _SPECIAL.sub(r"\\\1", one_line(text)))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """`text` as a code span; not for tables, where a bar would end the cell."""
    text = one_line(text)
    fence, pad = _fence(text, 1), " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _fence(text: str, least: int) -> str:
    """So many backticks, or one more than the text has side by side."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def table(block: Table) -> str:
    """The first rows, and how many more there are."""
    head = [within(column.title) for column in block.columns]
    rows = [[_entry(cell.text) for cell in row.cells] for row in block.rows[:MOST_ROWS]]
    align = ["left" if column.is_left else "right" for column in block.columns] if rows else None
    text = tabulate(rows, headers=head, tablefmt="pipe", colalign=align, disable_numparse=True)
    more = len(block.rows) - MOST_ROWS
    return f"{text}\n\nAnd {quantity(more, 'more row')} in the CSV files." if more > 0 else text


def _inline(text: Text) -> str:
    first, *rest = simple(text)
    return _span(first, md) + "".join(_span(span, within) for span in rest)


def _span(span: Simple, escape: Callable[[str], str]) -> str:
    if isinstance(span, str):
        return flow(span, escape)
    if isinstance(span, Code):
        return code(span.text)
    return escape(span.text) if isinstance(span, Link | FileLink) else f"**{within(span.text)}**"


def _entry(text: Text) -> str:
    """In a table no code, as a bar would end it, and no verdict in bold, as a column of bold says nothing."""
    entry = unbroken(flow(plain(text), within))
    return f"**{entry}**" if isinstance(text, Strong) else entry


def rendered(blocks: Iterable[Block], level: int) -> list[str]:
    """Each block that says something in Markdown; `level`: of its headings."""
    return [part for block in blocks if (part := _block(block, level))]


def _block(block: Block, level: int) -> str:
    heading = "#" * level
    match block:
        case Paragraph():
            return _inline(block.text)
        case Bullets():
            return "\n".join(f"{'  ' * depth}- {_inline(item)}" for depth, item in block.items)
        case Table():
            return table(block)
        case Figure():
            picture = f"![{md(block.alt)}](figures/{block.stem}.png)"
            return "\n\n".join(filter(None, [f"{heading} {md(block.title)}", picture, md(block.caption)]))
        case Viewer() | Curves():
            return ""
        case CodeBlock():
            fence = _fence(block.text, 3)
            return f"{fence}{block.language}\n{block.text}\n{fence}"
        case Details():
            inner = "\n\n".join(rendered(block.blocks, level))
            return f"<details><summary>{md(block.summary)}</summary>\n\n{inner}\n\n</details>"
        case Section():
            return "\n\n".join([f"{heading} {md(block.title)}", *rendered(block.blocks, level + 1)])
