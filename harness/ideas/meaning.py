"""The text of a module without what means nothing: what a change of a study's own code is judged by."""

from __future__ import annotations

import ast
import io
import tokenize


def meaning(text: str) -> str:
    """The source without comments, texts that stand alone (docstrings), blank lines and blanks at ends of lines.

    The same under every version of Python: the text is cut, and not written anew from a syntax tree.
    """
    lines = [f"{line}\n" for line in text.split("\n")]
    cuts: list[tuple[tuple[int, int], tuple[int, int]]] = []
    kept_ends: set[int] = set()
    """Lines whose end lies inside a text, where blanks count."""
    texts: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "COMMENT":
            cuts.append((token.start, token.end))
        elif kind == "STRING":
            kept_ends.update(range(token.start[0], token.end[0]))
        elif kind.endswith("STRING_START"):
            texts.append(token.start)
        elif kind.endswith("STRING_END"):
            kept_ends.update(range(texts.pop()[0], token.end[0]))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            ends = [(node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)]
            start, end = ((line, len(lines[line - 1].encode()[:column].decode())) for line, column in ends)
            cuts.append((start, end))
            kept_ends.difference_update(range(start[0], end[0]))
    return _without(lines, cuts, kept_ends)


def _without(lines: list[str], cuts: list[tuple[tuple[int, int], tuple[int, int]]], kept_ends: set[int]) -> str:
    for (first, start), (last, end) in sorted(cuts, reverse=True):
        if first == last:
            lines[first - 1] = lines[first - 1][:start] + lines[first - 1][end:]
        else:
            lines[first - 1] = lines[first - 1][:start] + "\n"
            lines[last - 1] = lines[last - 1][end:]
            lines[first : last - 1] = [""] * (last - 1 - first)
    whole = (line if number in kept_ends else f"{line.rstrip()}\n" for number, line in enumerate(lines, 1))
    return "".join(line for number, line in enumerate(whole, 1) if number in kept_ends or line.strip())
