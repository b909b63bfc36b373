"""Overlaying located YAML on a schema's defaults, and saying in plain words what does not fit.

The schema is a frozen dataclass; pydantic checks the outcome strictly ("true" is no truth value, 1.5 no whole number).
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.errors import nearest
from harness.runs.initial import NETWORKS
from harness.settings import Settings
from harness.study.yaml import Node
from harness.trees import leaves

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

Schema = TypeVar("Schema", bound=Settings)
Keys = tuple[str | int, ...]
"""Keys and list places from the root to a value."""
_ROUNDS = 4
"""Of putting defaults in place of what cannot be used, before all of it is."""

_NO_IDEAS = (
    "there are none: `code: my_ideas.py` at the top of the study file names the file that defines them, and in it each "
    'has a mark above it: from harness.ideas import term, then @term("generator")'
)
DEFAULTS = Node(None, "defaults", "defaults")
ARGUMENTS: Keys = ("command", "args")
"""The mapping whose keys and types are those that the study file gives it."""
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}

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


class ConfigTree(Generic[Schema]):
    """The full tree of a schema's values, some of them overlaid, with all that is wrong so far."""

    def __init__(
        self, schema: type[Schema], root: Node = DEFAULTS, values: Mapping[str, Any] | None = None, inside: Keys = ()
    ) -> None:
        """`root`: where values that nobody wrote are said to be missing; `values`: all of them, else the defaults.

        `inside`: the part of the study file that is overlaid, such as a toggle, which messages name first.
        """
        self._inside = inside
        self._schema: Any = schema
        self._defaults: dict[str, Any] = schema().as_dict()
        self._declared: set[Keys] = set()
        self._nodes: dict[Keys, Node] = {(): root}
        self.tree: dict[str, Any] = copy.deepcopy({**(values or self._defaults)})
        self.changed: list[Keys] = []
        """Every value that an overlay has set, in order."""
        self.problems: list[str] = []
        self.faulty: set[Keys] = set()
        """Where the problems are."""
        if values is not None:
            self.declare(ARGUMENTS)

    def declare(self, path: Keys) -> None:
        """From here on the mapping at `path` has the keys that it has now, and each keeps the type of its value."""
        declared = value_at(self.tree, path)
        if isinstance(declared, dict):
            value_at(self._defaults, path[:-1])[path[-1]] = dict(declared)
            self._declared.add(path)

    def overlay(self, patch: Node, at: Keys = ()) -> None:
        """Set what `patch` names below `at`; sections merge key by key, everything else is replaced whole.

        Where a mapping has keys of the user's own, such as `margins` or `levels`, `a.b=c` leaves its other keys alone.
        """
        section = value_at(self._defaults, at)
        for name, node in patch.value.items():
            path = (*at, name)
            if name not in section:
                near = nearest(name, section, 0.8) or self._elsewhere(name) or nearest(name, section) or ";"
                allowed = f"allowed: {', '.join(section)}" if section else f"{dotted(at)} of the study file has none"
                self.refuse(path, f"unknown setting{near} {allowed}", node.key_where)
            elif path == ("ideas",) and not section[name]:
                self.refuse(path, _NO_IDEAS, node.key_where)
            elif not (isinstance(section[name], dict) and section[name]) and path not in self._declared:
                self._put(path, _put_below(self._nodes[path], node) if path in self._nodes else node)
            elif isinstance(node.value, dict):
                self._nodes[path] = node
                self.overlay(node, path)
            elif node.value is not None:
                allowed = f"allowed keys: {', '.join(section[name])}"
                self.refuse(path, f"must be a mapping, not {shown(node.plain())}; {allowed}", node.where)

    def _elsewhere(self, name: str) -> str:
        """`; did you mean 'train.kimg'?` for a name that other sections have; a script's own settings come first."""
        ending = re.compile(rf"(.+\.{re.escape(name)})(\.|$)")
        meant = [found[1] for leaf, _ in leaves(self._defaults) if (found := ending.match(leaf))]
        meant.sort(key=lambda path: not path.startswith(dotted(ARGUMENTS)))
        return f"; did you mean {meant[0]!r}?" if meant else ""

    def refuse(self, path: Keys, text: str, where: str = "") -> None:
        """Note that the value at `path` cannot be used; `where`: its place, by default that of its node."""
        self.problems.append(f"{where or self.node(path).where}: {dotted((*self._inside, *path))}: {text}")
        self.faulty.add(path)

    def node(self, path: Keys) -> Node:
        """The located value at `path`, or the nearest one above it."""
        while path not in self._nodes:
            path = path[:-1]
        return self._nodes[path]

    def value(self) -> Schema:
        """The checked outcome; what cannot be used is noted, and has its default so that the rest can be checked."""
        from pydantic import ValidationError

        tree = self.tree
        for attempt in range(_ROUNDS):
            try:
                # JSON mode is where pydantic is strict about scalars and still builds nested dataclasses.
                checked: Schema = _adapter(self._schema).validate_json(json.dumps(tree), strict=True)
                if attempt == 0:
                    self._refuse_numbers(tree, checked.as_dict())
                return checked
            except ValidationError as error:
                errors = error.errors(include_url=False)
            if attempt == 0:
                self._note(errors)
            for each in errors:
                tree = _with_default(tree, self._defaults, _real(tree, each["loc"]))
        default: Schema = self._schema()
        return default

    def _refuse_numbers(self, tree: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Note true and false that stand for a number: a choice of numbers takes them for 1 and 0, as Python does."""
        for path in dict.fromkeys(self.changed):
            written, read = value_at(tree, path), value_at(values, path)
            if isinstance(written, bool) and not isinstance(read, bool):
                self.refuse(path, f"must be a number, such as {shown(read)}, not {shown(written)}")

    def _put(self, path: Keys, node: Node) -> None:
        value = node.plain()
        if path[:-1] in self._declared:
            default = value_at(self._defaults, path)
            value = float(value) if type(default) is float and type(value) is int else value
            if type(value) is not type(default) and type(default) in _KINDS:
                kind, is_part = _KINDS[type(default)], type(default) is int and type(value) is float
                fix = f"; write the default as {default}.0" if is_part else _fix(kind, value, node.text)
                text = f"must be {kind} as {shown(default)} is, its default, not {shown(value)}{fix}"
                self.refuse(path, text, node.where)
                return
        value_at(self.tree, path[:-1])[path[-1]] = value
        self._nodes = {old: there for old, there in self._nodes.items() if old[: len(path)] != path}
        self._nodes.update(_nodes(path, node))
        self.changed.append(path)

    def _note(self, errors: Iterable[ErrorDetails]) -> None:
        allowed: dict[Keys, list[str]] = {}
        for error in errors:
            words = _WORDS.get(error["type"])
            text = words.format(**error.get("ctx", {})) if words else error["msg"]
            allowed.setdefault(_real(self.tree, error["loc"]), []).append(text)
        # An alternative that failed deeper inside says more than those that failed at once.
        above = {path[:length] for path in allowed for length in range(len(path))}
        for path in (path for path in allowed if path not in above):
            value, alternatives = value_at(self.tree, path), " or ".join(dict.fromkeys(allowed[path]))
            fix = _fix(alternatives, value, self.node(path).text)
            self.refuse(path, f"must be {alternatives}, not {shown(value)}{fix}")


def _fix(allowed: str, value: Any, text: str) -> str:
    """What to write in place of a value that is none of those allowed, which begins with a semicolon; often nothing.

    `text`: a number, true or false as the file has it.
    """
    if isinstance(value, str):
        is_list = allowed == _WORDS["tuple_type"]
        return f"; write {json.dumps(value.split())}" if is_list else nearest(value, re.findall(r"'(.*?)'", allowed))
    if allowed == _WORDS["tuple_type"] and isinstance(value, dict):
        return "; begin each entry with `- `"
    if allowed == _WORDS["dict_type"] and value is None:
        return "; what belongs to it stands below it, further to the right"
    if value and isinstance(value, dict) and all(each is None for each in value.values()):
        text = f"{{{', '.join(value)}}}"  # {seed} without quotation marks, which YAML reads as a mapping
    # What is no number either is meant as a text where numbers would do, as in a script's settings.
    if not allowed.endswith(_KINDS[str]) or (allowed == _KINDS[str] and not text):
        return ""
    if value is None:
        return "; write '' for none"
    return f"; put it into quotation marks: '{text or json.dumps(value, ensure_ascii=False)}'"


def nested(path: str, node: Node) -> Node:
    """`node` below a dotted path: a patch of the whole tree."""
    for key in reversed(path.split(".")):
        node = Node({key: node}, node.where, node.key_where, is_path=True)
    return node


def _put_below(there: Node, node: Node) -> Node:
    """`node`, with the other keys of the mapping that is there if it only leads to a value below."""
    if not (node.is_path and isinstance(there.value, dict)):
        return node
    ((key, inner),) = node.value.items()
    joined, last = key, inner
    while joined not in there.value and last.is_path:  # `loss.tau` may be one key there
        ((more, last),) = last.value.items()
        joined = f"{joined}.{more}"
    if joined in there.value:
        key, inner = joined, _put_below(there.value[joined], last)
    return replace(there, value={**there.value, key: inner})


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


def _real(tree: Any, loc: Keys) -> Keys:
    """The part of pydantic's location that exists in the tree: it also names alternatives of a union."""
    path: list[str | int] = []
    for part in loc:
        places = range(len(tree)) if isinstance(tree, list | tuple) else tree if isinstance(tree, dict) else ()
        if part in places:
            path.append(part)
            tree = tree[part]
    return tuple(path)


def _with_default(tree: Any, defaults: Any, path: Keys) -> Any:
    """A copy of nested mappings in which what lies at `path`, or the entry that holds it, has its default."""
    if not path or not isinstance(defaults, dict) or path[0] not in defaults:
        return defaults
    first, *rest = path
    return {**tree, first: _with_default(tree[first], defaults[first], tuple(rest))}


def _nodes(path: Keys, node: Node) -> Iterator[tuple[Keys, Node]]:
    yield path, node
    inside = node.value.items() if isinstance(node.value, dict) else ()
    for key, inner in enumerate(node.value) if isinstance(node.value, list) else inside:
        yield from _nodes((*path, key), inner)


@functools.lru_cache(maxsize=64)
def _adapter(schema: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def with_init_spelt_out(patch: Node) -> Node:
    """`init: SOURCE` is short for that source of every network; `init:` with nothing behind it is none for each."""
    init = patch.value.get("init")
    if init is None or not (init.value is None or isinstance(init.value, str)):
        return patch
    source = replace(init, value=init.value or "")
    return replace(patch, value={**patch.value, "init": replace(init, value=dict.fromkeys(NETWORKS, source))})
