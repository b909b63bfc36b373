"""Our own source as definitions that reach each other by name, each written out in a form that only its meaning moves.

A definition is a function, a class or a constant at the top of a module; what a module does beside that is one more.
Its form leaves out comments, docstrings, formatting, annotations and what an exception says, and calls what is imported
by the name that it has where it is defined. The syntax tree is written by rules of our own, as `ast.dump` differs
between versions of Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOOSE = ""
"""Stands for what a module does beside defining things."""
_NO_MEANING = frozenset(
    ("ctx", "kind", "type_comment", "type_ignores", "returns", "lineno", "type_params", "annotation", "simple")
)
Reached = tuple[str, str]
"""Module and the name of a definition in it."""


@dataclass
class Module:
    """The definitions of a file, and what its names stand for."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    bindings: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Local name -> (module, name in it); the name is empty where the module itself is meant."""


class Package:
    """The modules below a folder.

    `stops` are modules and definitions that are not entered; of modules in `values` only functions and methods count.
    """

    def __init__(self, root: Path, stops: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        self.root, self.stops, self.values = root, tuple(stops), frozenset(values)
        self.module = functools.cache(self._module)
        """Name -> module; None where it is not ours, or where nothing that decides is in it."""

    def _module(self, name: str) -> Module | None:
        if any(name == stop or name.startswith(f"{stop}.") for stop in self.stops):
            return None
        place = self.root.joinpath(*name.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            try:
                stamp = path.stat()
            except OSError:
                continue
            return _parsed(path, name in self.values, stamp.st_mtime_ns, stamp.st_size)
        return None

    def reached(self, roots: Iterable[str]) -> dict[Reached, str]:
        """(module, definition) -> its form, of everything that the roots (a module, or a definition of one) reach."""
        waiting = [each for root in roots for each in self._root(root)]
        forms: dict[Reached, str] = {}
        while waiting:
            name, wanted = waiting.pop()
            module = self.module(name)
            if module is None or (name, wanted) in forms or wanted not in module.definitions:
                continue
            if f"{name}.{wanted}" in self.stops:
                continue
            writer = _Writer(self, name, module)
            forms[name, wanted] = writer.written(module.definitions[wanted])
            waiting += [*writer.reached, (name, LOOSE)]
        return forms

    def resolve(self, module: str, name: str) -> Reached:
        """Where a name that is imported from a module is defined, through modules that pass it on."""
        there = self.module(module)
        if there and name not in there.definitions and name in there.bindings:
            further, theirs = there.bindings[name]
            return self.resolve(further, theirs) if theirs else (further, "")
        return module, name

    def is_class(self, place: Reached) -> bool:
        module = self.module(place[0])
        return module is not None and isinstance(module.definitions.get(place[1], [None])[0], ast.ClassDef)

    def _root(self, root: str) -> Iterator[Reached]:
        if module := self.module(root):
            yield from ((root, name) for name in module.definitions)
            return
        name, _, wanted = root.rpartition(".")
        module = self.module(name)
        if module is None or wanted not in module.definitions:
            raise LookupError(f"nothing is called {root}")
        yield name, wanted


def digest(forms: Mapping[Reached, str]) -> str:
    """12 hex digits over what the definitions are, wherever they stand."""
    return hashlib.sha256("\n".join(sorted(forms.values())).encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=512)
def _parsed(path: Path, values_are_known: bool, modified: int, size: int) -> Module:
    """Of the file as it is now; `modified` and `size` are there to notice another."""
    module = Module()
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                module.bindings[alias.asname or top] = (alias.name if alias.asname else top, "")
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module.bindings[alias.asname or alias.name] = (node.module, alias.name)
    for statement in _meant(tree.body):
        name = _name(statement)
        if values_are_known:
            if isinstance(statement, ast.ClassDef):
                statement.body = [each for each in statement.body if isinstance(each, ast.FunctionDef)]
            elif not isinstance(statement, ast.FunctionDef):
                continue
        module.definitions.setdefault(name, []).append(statement)
    return module


def _meant(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Without imports, texts that stand for themselves, and what is for a type checker."""
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in {
            getattr(statement.test, "id", ""),
            getattr(statement.test, "attr", ""),
        }:
            continue
        yield statement


def _name(statement: ast.stmt) -> str:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) and isinstance(targets[0], ast.Name):
        return targets[0].id
    return LOOSE


def _bound(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """Parameters and what is assigned inside."""
    nodes = list(ast.walk(function))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.name for node in nodes[1:] if isinstance(node, ast.FunctionDef)}
    shared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    return (names | {node.arg for node in nodes if isinstance(node, ast.arg)}) - shared


class _Writer:
    """Writes statements of one module, and notes which definitions they reach."""

    def __init__(self, package: Package, name: str, module: Module) -> None:
        self.package, self.name, self.module = package, name, module
        self.reached: list[Reached] = []
        self._local: list[set[str]] = []
        """Names that functions around bind themselves."""

    def written(self, statements: Sequence[ast.stmt]) -> str:
        return "\n".join(self._node(statement) for statement in statements)

    def _node(self, node: ast.AST) -> str:
        match node:
            case ast.Name() if self._is_local(node.id):
                return node.id
            case ast.Name():
                return self._reach(node.id)
            case ast.Attribute(value=ast.Name(id=base)) if not self._is_local(base) and self._is_module(base):
                return self._member(self.module.bindings[base], node.attr)
            case ast.Constant():
                return ascii(node.value)
            case ast.Raise():  # which exception, not what it says
                what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                return f"Raise({self._node(what) if what else ''})"
            case ast.JoinedStr():
                return self._list(_joined(node.values), "JoinedStr")
            case ast.arg():
                self._aside(node.annotation)
                return node.arg
            case ast.AnnAssign():
                self._aside(node.annotation)
                return self._fields(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._aside(getattr(node, "returns", None))
                self._local.append(_bound(node))
                form = self._fields(node)
                self._local.pop()
                return form
            case _:
                return self._fields(node)

    def _fields(self, node: ast.AST) -> str:
        """`Class(field=...)`, what is empty left out, so that a field of a later Python is no change."""
        fields = []
        for name in sorted(set(node._fields) - _NO_MEANING):
            value = getattr(node, name, None)
            if isinstance(value, list):
                body = name in ("body", "orelse", "finalbody")
                text = self._list(list(_meant(value)) if body else value, "")
                fields += [f"{name}={text}"] if text != "[]" else []
            elif isinstance(value, ast.AST):
                fields.append(f"{name}={self._node(value)}")
            elif value is not None:
                fields.append(f"{name}={value!a}")
        return f"{type(node).__name__}({','.join(fields)})"

    def _list(self, nodes: Sequence[object], head: str) -> str:
        forms = (self._node(node) if isinstance(node, ast.AST) else repr(node) for node in nodes)
        return f"{head}[{','.join(forms)}]"

    def _aside(self, node: ast.AST | None) -> None:
        """Classes that an annotation names are reached, as what is handed over is used; it is no part of the form."""
        if node:
            before = len(self.reached)
            self._node(node)
            self.reached[before:] = filter(self.package.is_class, self.reached[before:])

    def _is_local(self, name: str) -> bool:
        return any(name in names for names in self._local)

    def _is_module(self, name: str) -> bool:
        module, member = self.module.bindings.get(name, ("", ""))
        return bool(module) and (not member or self.package.module(f"{module}.{member}") is not None)

    def _reach(self, name: str) -> str:
        if name in self.module.definitions:
            self.reached.append((self.name, name))
            return name
        if name not in self.module.bindings:
            return name
        module, member = self.module.bindings[name]
        if self._is_module(name):
            whole = f"{module}.{member}" if member else module
            if ours := self.package.module(whole):
                self.reached += [(whole, each) for each in ours.definitions]
                return f"module {sorted(ours.definitions)}"
            return whole
        return self._member((module, ""), member)

    def _member(self, binding: tuple[str, str], member: str) -> str:
        """A name of another module: of ours what it is called there, of others' its full name."""
        module = ".".join(filter(None, binding))
        where, name = self.package.resolve(module, member)
        there = self.package.module(where)
        if there is None:
            return name if where.partition(".")[0] == "harness" else f"{where}.{name}"
        self.reached.append((where, name))
        return name


def _joined(values: Sequence[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, neighbouring texts as one: versions of Python cut them otherwise."""
    parts: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and parts and isinstance(parts[-1], ast.Constant):
            parts[-1] = ast.Constant(str(parts[-1].value) + str(value.value))
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            parts.append(value)
    return parts
