"""Overlaying located YAML on a schema's defaults, and saying in plain words what does not fit.

The schema is a frozen dataclass; pydantic checks the outcome strictly ("true" is no truth value, 1.5 no whole number).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.errors import SpecError, nearest
from harness.settings import Settings, leaves
from harness.study.yaml import Node

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

Schema = TypeVar("Schema", bound=Settings)
Keys = tuple[str | int, ...]
"""Keys and list places from the root to a value."""
MAX_PROBLEMS = 40
"""Problems in one message."""
_ROUNDS = 4
"""Of putting defaults in place of what cannot be used, before all of it is."""

_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dataclass_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "literal_error": "{expected}",
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "missing": "a pair",
    "too_long": "a pair",
}
"""pydantic's error type -> what is allowed, to follow the words "must be"."""


class Draft(Generic[Schema]):
    """The full tree of a schema's values, some of them overlaid, with all that is wrong so far."""

    def __init__(self, schema: type[Schema], values: Mapping[str, Any] | None = None) -> None:
        self._schema: Any = schema
        self._defaults: dict[str, Any] = schema().as_dict()
        self._nodes: dict[Keys, Node] = {}
        self.tree: dict[Any, Any] = dict(values or self._defaults)
        self.changed: list[Keys] = []
        """Every value that an overlay has set, in order."""
        self.problems: list[str] = []
        self.faulty: set[Keys] = set()
        """Where the problems are."""

    def overlay(self, patch: Node, at: Keys = ()) -> None:
        """Set what `patch` names below `at`; sections merge key by key, everything else is replaced whole."""
        for name, node in patch.value.items():
            path = (*at, name)
            section = value_at(self._defaults, at)
            if name not in section:
                self._add(node.key_where, path, f"unknown setting{self._suggestion(name, section)}")
            elif section[name] and isinstance(section[name], dict):
                self._section(path, node, section[name])
            else:
                self._put(path, node)

    def forbid(self, patch: Node, names: Iterable[str], text: str) -> None:
        """Note that `patch` must not name these keys."""
        for name in names:
            if name in patch.value:
                self._add(patch.value[name].key_where, (name,), text)

    def refuse(self, path: Keys, text: str) -> None:
        """Note that the value at `path` cannot be used."""
        self._add(self.node(path).where, path, text)

    def node(self, path: Keys) -> Node:
        """The located value at `path`, or the nearest one above it."""
        while path and path not in self._nodes:
            path = path[:-1]
        return self._nodes.get(path, Node(None, "defaults", "defaults"))

    def set_root(self, root: Node) -> None:
        """Where values that nobody wrote are said to be missing."""
        self._nodes[()] = root

    def value(self) -> Schema | None:
        """The checked outcome; None if there are problems, all of which are then noted."""
        from pydantic import ValidationError

        try:
            checked = self._checked(self.tree)
        except ValidationError as error:
            self._note(error.errors(include_url=False))
            return None
        return None if self.problems else checked

    def usable(self) -> Schema:
        """The outcome with defaults in place of what cannot be used, so that the rest can be checked too."""
        from pydantic import ValidationError

        tree = self.tree
        for _ in range(_ROUNDS):
            try:
                return self._checked(tree)
            except ValidationError as error:
                for found in error.errors(include_url=False):
                    tree = _with_default(tree, self._defaults, _real(tree, found["loc"]))
        return self._checked(self._defaults)

    def _checked(self, tree: Mapping[str, Any]) -> Schema:
        # JSON mode is where pydantic is strict about scalars and still builds nested dataclasses.
        checked: Schema = _adapter(self._schema).validate_json(json.dumps(tree), strict=True)
        return checked

    def _section(self, path: Keys, node: Node, allowed: Mapping[str, Any]) -> None:
        if isinstance(node.value, dict):
            self._nodes[path] = node
            self.overlay(node, path)
        elif node.value is not None:
            text = f"must be a mapping, not {shown(node.plain())}; allowed keys: {', '.join(allowed)}"
            self._add(node.where, path, text)

    def _put(self, path: Keys, node: Node) -> None:
        parent = self.tree
        for key in path[:-1]:
            # A section may still be the default's own.
            parent[key] = dict(parent[key])
            parent = parent[key]
        parent[path[-1]] = node.plain()
        self._nodes = {old: there for old, there in self._nodes.items() if old[: len(path)] != path}
        self._nodes.update(_nodes(path, node))
        self.changed.append(path)

    def _note(self, errors: Iterable[ErrorDetails]) -> None:
        allowed: dict[Keys, list[str]] = {}
        for error in errors:
            known = _WORDS.get(error["type"])
            text = known.format(**error.get("ctx", {})) if known else error["msg"]
            allowed.setdefault(_real(self.tree, error["loc"]), []).append(text)
        # An alternative that failed deeper inside says more than those that failed at once.
        above = {path[:length] for path in allowed for length in range(len(path))}
        for path, words in allowed.items():
            if path in above:
                continue
            value = value_at(self.tree, path)
            near = nearest(value, re.findall(r"'(.*?)'", " ".join(words))) if isinstance(value, str) else ""
            self.refuse(path, f"must be {' or '.join(dict.fromkeys(words))}, not {shown(value)}{near}")

    def _suggestion(self, name: str, section: Mapping[str, Any]) -> str:
        elsewhere = [path for path, _ in leaves(self._defaults) if path.endswith(f".{name}")]
        near = nearest(name, section) or (f"; did you mean {elsewhere[0]!r}?" if elsewhere else "")
        return f"{near or ';'} allowed: {', '.join(section)}"

    def _add(self, where: str, path: Keys, text: str) -> None:
        self.problems.append(f"{where}: {dotted(path)}: {text}")
        self.faulty.add(path)


def stop_at(problems: Iterable[str]) -> None:
    """Raise SpecError listing the problems, each once, if there are any."""
    found = list(dict.fromkeys(problems))
    if found:
        more = [f"and {len(found) - MAX_PROBLEMS} more of the kind"] if len(found) > MAX_PROBLEMS else []
        raise SpecError("\n".join([*found[:MAX_PROBLEMS], *more]))


def dotted(path: Keys) -> str:
    """("design", "seeds", 0) -> "design.seeds[0]"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def shown(value: Any) -> str:
    """A value as an error message shows it."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def value_at(tree: Any, path: Keys) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _real(tree: Any, loc: tuple[str | int, ...]) -> Keys:
    """The part of pydantic's location that exists in the tree: it also names alternatives of a union."""
    path: list[str | int] = []
    for part in loc:
        inside = part in tree if isinstance(tree, dict) else isinstance(part, int) and _holds(tree, part)
        if inside:
            path.append(part)
            tree = tree[part]
    return tuple(path)


def _with_default(tree: Any, defaults: Any, path: Keys) -> Any:
    """A copy of nested mappings in which what lies at `path`, or the entry that holds it, has its default."""
    if not path or not isinstance(defaults, dict) or path[0] not in defaults:
        return defaults
    first, *rest = path
    return {**tree, first: _with_default(tree[first], defaults[first], tuple(rest))}


def _holds(tree: Any, place: int) -> bool:
    return isinstance(tree, list | tuple) and place < len(tree)


def _nodes(path: Keys, node: Node) -> Iterator[tuple[Keys, Node]]:
    yield path, node
    inside = node.value.items() if isinstance(node.value, dict) else ()
    for key, inner in enumerate(node.value) if isinstance(node.value, list) else inside:
        yield from _nodes((*path, key), inner)


@functools.cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)
