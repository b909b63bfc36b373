"""Values and types as they are written in a file that is not run."""

from __future__ import annotations

import ast
from typing import Any

from harness.ideas.forms import TYPES, SettingType, one_of
from harness.ideas.names import Names

ALLOWED_TYPES = f"{', '.join(TYPES)}, Literal[...]"


class Refused(Exception):
    """A mistake in an idea, and the line where it stands."""

    def __init__(self, node: ast.AST, text: str) -> None:
        self.line = getattr(node, "lineno", 1)
        super().__init__(text)


def literal(node: ast.expr, name: str) -> Any:
    """The value that is written for `name`. Raises Refused."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        text = f"{name} must be written out, as the file is read and not run; not {written(node)}"
        raise Refused(node, text) from None


def checked(node: ast.expr, name: str, kind: SettingType) -> Any:
    """The value of a setting, as a run has it. Raises Refused."""
    value = literal(node, name)
    if not kind.fits(value):
        raise Refused(node, f"{name} must be {kind.words}, not {written(node)}")
    return kind.stored(value)


def setting(parameter: ast.arg, default: ast.expr | None, names: Names) -> tuple[Any, Any]:
    """The default and the type of a keyword-only parameter. Raises Refused."""
    name = parameter.arg
    if parameter.annotation is None:
        raise Refused(parameter, f"the setting {name} needs a type, as {name}: float = 1.0; allowed: {ALLOWED_TYPES}")
    kind = _type(parameter.annotation, names)
    shown = written(parameter.annotation)
    if kind is None:
        raise Refused(parameter, f"the setting {name} cannot have the type {shown}; allowed: {ALLOWED_TYPES}")
    if default is None:
        raise Refused(parameter, f"the setting {name} needs a default: {name}: {shown} = ...")
    return checked(default, name, kind), kind.type


def _type(annotation: ast.expr, names: Names) -> SettingType | None:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except (SyntaxError, ValueError):
            return None
    if not isinstance(annotation, ast.Subscript):
        return TYPES.get(names.last(annotation))
    elements = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    try:
        values = tuple(ast.literal_eval(each) for each in elements)
    except (ValueError, TypeError):
        return None
    plain = all(any(TYPES[kind].fits(value) for kind in ("str", "int", "bool")) for value in values)
    return one_of(values) if plain and values and names.last(annotation.value) == "Literal" else None


def written(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}..."
