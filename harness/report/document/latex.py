"""Tables for papers, by booktabs alone, in which the user's text is shown and never acts.

`tables/<name>.tex` is a bare `tabular` to be put into a float of one's own; `tables.tex` shows them all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from harness.report.document.model import Mark, Strong, Table, Text, plain
from harness.text import one_line, quantity

MOST_ROWS = 40
"""Of a table, as a page holds no more; the CSV files hold all."""
_COMMANDS = {
    **{mark: f"\\{mark}" for mark in "{}$&#%_"},
    # A single one could join the next: -- is a dash, '' a quotation mark, ,, another.
    **{mark: f"{mark}{{}}" for mark in "-',"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
    "−": "$-$",
    "±": r"$\pm$",
    "–": "--",
    "…": r"\ldots{}",
    "—": "---",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "∞": r"$\infty$",
    "’": "'{}",
    "²": r"$^2$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}
_LETTERS = re.compile(r"(?![×÷ĸŉ])[\x00-\x7fÀ-ž]")
"""What T1 fonts have: ASCII, the letters of Latin-1 and most of Latin Extended-A."""
_DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[a3paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""
_FLOAT = r"""\begin{table}[p]
\centering\small
\caption{%s}
\input{tables/%s.tex}
\end{table}
\clearpage"""


def tex(text: str) -> str:
    """`text` on one line of LaTeX, shown as it is by pdfLaTeX; characters it has no letter for as U+XXXX."""
    characters = unicodedata.normalize("NFC", one_line(text))
    return "".join(_COMMANDS.get(c) or (c if _LETTERS.match(c) else rf"\texttt{{U+{ord(c):04X}}}") for c in characters)


def tabular(table: Table) -> str:
    """The table between its rules."""
    columns = "".join("l" if column.is_left else "r" for column in table.columns)
    head = " & ".join(tex(column.title) for column in table.columns)
    # A row that began with a star or a bracket would be read as an option of the line before.
    body = [" & ".join("{}" + _entry(cell.text) for cell in row.cells) for row in table.rows[:MOST_ROWS]]
    if (more := len(table.rows) - MOST_ROWS) > 0:
        body.append(rf"\multicolumn{{{len(table.columns)}}}{{l}}{{and {quantity(more, 'more row')} in the CSV files}}")
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head + r" \\", r"\midrule"]
    return "\n".join([*lines, *(row + r" \\" for row in body), r"\bottomrule", r"\end{tabular}", ""])


def _entry(text: Text) -> str:
    bold = isinstance(text, Strong) or (isinstance(text, Mark) and text.kind in ("better", "worse"))
    return rf"\textbf{{{tex(plain(text))}}}" if bold else tex(plain(text))


def all_tables(tables: Sequence[Table]) -> str:
    """A document of its own that shows every table."""
    floats = [_FLOAT % (tex(table.caption), table.name) for table in tables]
    return _DOCUMENT % ("\n".join(floats) or "Nothing to show yet.")
