"""The modules beside a study that a file imports, and imports that a run would not find."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from harness.ideas.names import Names
from harness.text import quantity

_OURS = "harness"
_BY_NAME = ("importlib.import_module", "importlib.__import__", "builtins.__import__", "__import__")
"""Functions that import what a text says."""


def module_name(file: str) -> str:
    """`blocks/attention.py` -> `blocks.attention`, `blocks/__init__.py` -> `blocks`."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


class _Import(NamedTuple):
    """One statement, or one module of it."""

    line: int
    module: str
    """Its full name; of `from . import x` that of the package."""
    names: tuple[str, ...] = ()
    """What is taken from it, which may be modules as well."""
    dots: int = 0
    """Before the name: 0 where it is looked up from the study's folder."""


def _imports(tree: ast.Module, package: str) -> Iterator[_Import]:
    """Those of a file in that package, wherever they stand in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (_Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            above = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join(filter(None, [*above, node.module]))
            yield _Import(node.lineno, module, tuple(alias.name for alias in node.names), node.level)


def _package(file: str) -> str:
    return module_name(file) if file.endswith("/__init__.py") else module_name(file).rpartition(".")[0]


def imported_files(tree: ast.Module, file: str, folder: Path) -> Iterator[tuple[str, int]]:
    """(file below `folder`, line) of every module there that the file at `file` imports, wherever it does so.

    Modules are looked up from `folder` as from the first place of a search path; packages bring their __init__.py.
    """
    for each in _imports(tree, _package(file)):
        for name in (each.module, *(f"{each.module}.{name}".lstrip(".") for name in each.names)):
            parts = name.split(".")
            if parts[0] == _OURS:
                continue
            for length in range(1, len(parts) + 1):
                if there := _file_of("/".join(parts[:length]), folder):
                    yield there, each.line


def _file_of(place: str, folder: Path) -> str:
    return next((file for file in (f"{place}/__init__.py", f"{place}.py") if (folder / file).is_file()), "")


def _is_here(place: str, folder: Path) -> bool:
    """Whether a module is there, or a folder with a module at any depth, which needs no __init__.py."""
    below = (path.relative_to(folder).with_suffix("") for path in (folder / place).rglob("*.py"))
    return bool(_file_of(place, folder)) or any(all(map(str.isidentifier, path.parts)) for path in below)


# Imports that a run would not find.


def lost_imports(tree: ast.Module, file: str, folder: Path) -> Iterator[tuple[int, str]]:
    """(line, what is wrong with the fix) of imports that reach nothing, or that the run would not carry.

    A run imports the study's own modules from texts, by their places below `folder`.
    """
    package, tried = _package(file), _tried(tree)
    for each in _imports(tree, package):
        if each.line not in tried and (problem := _problem(each, package, folder)):
            yield each.line, problem
    names = Names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or names.full(node.func) not in _BY_NAME or not node.args:
            continue
        text = getattr(node.args[0], "value", None)
        if isinstance(text, str) and (text.startswith(".") or _file_of(text.split(".")[0], folder)):
            yield node.lineno, f"{text!r} is imported by a call, which is not followed: write an import statement"


def _problem(each: _Import, package: str, folder: Path) -> str:
    depth = package.count(".") + 1 if package else 0
    if each.dots > depth:
        plain = f"import {', '.join(each.names)}" if not each.module else f"from {each.module} import ..."
        below = f"{quantity(depth, 'folder')} below the study's" if depth else "in the study's folder"
        where = f"the file lies {below}"
        dots = "." * each.dots
        return f"{dots} is no package, as {where}, from which modules are looked up: write {plain}"
    top = each.module.partition(".")[0]
    place = each.module.replace(".", "/")
    if each.dots or _file_of(top, folder) or (_is_here(top, folder) and not installed(top, folder)):
        if not _is_here(place, folder):
            return f"{each.module} is not in the study's folder"
        lacking = [name for name in each.names if name != "*" and not _is_here(f"{place}/{name}", folder)]
        if lacking and not _file_of(place, folder):
            return f"{each.module}.{lacking[0]} is not in the study's folder"
        return ""
    beside = _file_of(f"{package.replace('.', '/')}/{top}", folder) if package else ""
    if beside and top != _OURS and not installed(top, folder):
        name = each.module if each.names else top
        fix = f"from .{name} import ..." if each.names else f"from . import {name}"
        return f"{top} is not in the study's folder, from which modules are looked up; for {beside} write {fix}"
    return ""


def installed(name: str, folder: Path) -> str:
    """What a module of that name is where it is not one beside the study; empty if there is none."""
    if name == _OURS or name in sys.stdlib_module_names or name in sys.builtin_module_names:
        return f"Python's own module {name}" if name != _OURS else "this program's package"
    elsewhere = [place for place in sys.path if Path(place or ".").resolve() != folder.resolve()]
    spec = PathFinder.find_spec(name, elsewhere)
    return f"the installed package {name}" if spec is not None and spec.origin is not None else ""


def absent_libraries(tree: ast.Module, folder: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of what is imported and is neither installed here nor in `folder`, each once; nothing is imported.

    Not of what somebody only tries to import, nor of what is for a type checker.
    """
    absent: dict[str, int] = {}
    aside = _tried(tree) | _for_type_checkers(tree)
    for each in _imports(tree, ""):
        top = each.module.partition(".")[0]
        if each.dots or each.line in aside or _is_here(top, folder):
            continue
        with contextlib.suppress(ValueError):  # it is loaded already, by somebody who does not say from where
            if find_spec(top) is None:
                absent.setdefault(top, each.line)
    yield from ((line, name) for name, line in absent.items())


def _tried(tree: ast.Module) -> set[int]:
    """Lines in a `try` with handlers: who tries to import something has something else to do."""
    tries = (each for each in ast.walk(tree) if isinstance(each, ast.Try) and each.handlers)
    return {line for each in tries for statement in each.body for line in _lines(statement)}


def _for_type_checkers(tree: ast.Module) -> set[int]:
    """Lines below `if TYPE_CHECKING:`."""
    ifs = (each for each in ast.walk(tree) if isinstance(each, ast.If))
    checking = (each for each in ifs if "TYPE_CHECKING" in ast.unparse(each.test).split("."))
    return {line for each in checking for statement in each.body for line in _lines(statement)}


def _lines(statement: ast.stmt) -> set[int]:
    return {getattr(node, "lineno", 0) for node in ast.walk(statement)}
