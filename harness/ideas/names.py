"""What the names of a file stand for, and where it mentions a mark."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from harness.ideas import KINDS, IdeaKind

PACKAGE = "harness.ideas"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Names:
    """Names that a file imports, at the top or anywhere else, and their full names."""

    def __init__(self, tree: ast.Module) -> None:
        self.imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        self._full: dict[str, str] = {}
        for node in self.imports:
            module = getattr(node, "module", None)
            for alias in node.names:
                if isinstance(node, ast.ImportFrom) and alias.name == "*":
                    everything = KINDS if module == PACKAGE else ()
                    self._full |= {name: f"{module}.{name}" for name in everything}
                elif isinstance(node, ast.ImportFrom):
                    self._full[alias.asname or alias.name] = f"{module or ''}.{alias.name}"
                elif alias.asname:
                    self._full[alias.asname] = alias.name
                else:
                    self._full[alias.name.partition(".")[0]] = alias.name.partition(".")[0]

    def full(self, node: ast.AST) -> str:
        """`harness.ideas.term` for `t` after `from harness.ideas import term as t`; empty for what is no name."""
        if isinstance(node, ast.Name):
            return self._full.get(node.id, node.id)
        above = self.full(node.value) if isinstance(node, ast.Attribute) else ""
        return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else ""

    def last(self, node: ast.AST) -> str:
        """The last part of the full name: `Literal` for `typing.Literal`."""
        return self.full(node).rpartition(".")[2]

    def mark(self, node: ast.AST | None) -> IdeaKind | None:
        """Which mark this name is, or is a call of."""
        package, _, name = self.full(called(node)).rpartition(".") if node else ("", "", "")
        return next((kind for kind in KINDS if package == PACKAGE and kind == name), None)

    def mentions(
        self, node: ast.AST, around: tuple[ast.AST, ...] = ()
    ) -> Iterator[tuple[ast.expr, tuple[ast.AST, ...]]]:
        """Every name that is a mark, with the nodes around it, the outermost first.

        Names that a function or comprehension around binds itself are its own.
        """
        if isinstance(node, ast.Name | ast.Attribute) and self.mark(node):
            root = node
            while isinstance(root, ast.Attribute):
                root = root.value  # type: ignore[assignment]
            if not any(getattr(root, "id", "") in _bound(each) for each in around):
                yield node, around
            return
        for child in ast.iter_child_nodes(node):
            yield from self.mentions(child, (*around, node))


def called(node: ast.AST) -> ast.AST:
    """What is called, if it is a call."""
    return node.func if isinstance(node, ast.Call) else node


def bound_at_top(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(name, line) of everything that the file binds at its top, under conditions too."""
    waiting: list[ast.AST] = list(tree.body)
    for node in waiting:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
        elif not isinstance(node, (*_FUNCTIONS, *_COMPREHENSIONS)):
            waiting += ast.iter_child_nodes(node)


def _bound(node: ast.AST) -> frozenset[str]:
    """Names that a function, lambda or comprehension binds for what is inside it."""
    if not isinstance(node, (*_FUNCTIONS, *_COMPREHENSIONS)):
        return frozenset()
    inside = ast.walk(node)
    names = {each.id for each in inside if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return frozenset(names | {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)})
