"""The modules beside a study that a file imports, and their text without what means nothing."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

_OURS = "harness"


def module_name(file: str) -> str:
    """`blocks/attention.py` -> `blocks.attention`, `blocks/__init__.py` -> `blocks`."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def imported_files(tree: ast.Module, file: str, folder: Path) -> Iterator[tuple[str, int]]:
    """(file below `folder`, line) of every module there that the file at `file` imports, wherever it does so.

    Modules are looked up from `folder` as from the first place of a search path; packages bring their __init__.py.
    """
    package = module_name(file) if file.endswith("/__init__.py") else module_name(file).rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            names = [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] == _OURS:
                continue
            for length in range(1, len(parts) + 1):
                if there := _file_of("/".join(parts[:length]), folder):
                    yield there, getattr(node, "lineno", 1)


def _file_of(place: str, folder: Path) -> str:
    return next((file for file in (f"{place}/__init__.py", f"{place}.py") if (folder / file).is_file()), "")


def hidden_by(file: str, folder: Path) -> str:
    """What is installed under the name that a module beside the study has; empty if nothing is."""
    name = module_name(file).partition(".")[0]
    if name == _OURS or name in sys.stdlib_module_names or name in sys.builtin_module_names:
        return f"Python's own module {name}" if name != _OURS else "this program's package"
    elsewhere = [place for place in sys.path if Path(place or ".").resolve() != folder.resolve()]
    spec = PathFinder.find_spec(name, elsewhere)
    return f"the installed package {name}" if spec is not None and spec.origin is not None else ""


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
