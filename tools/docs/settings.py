"""The page of all settings of a study file, from the classes that define them."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal

from harness.data.sources import SOURCES
from harness.design.kinds import KINDS
from harness.runs.identity import Role, role_in_id
from harness.since import SINCE
from harness.study.schema import StudyFile
from tools.docs.sources import doc

_NOUNS = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null", Any: "anything"}
_LIMITS = {"gt": "above {:,.12g}", "ge": "at least {:,.12g}", "lt": "below {:,.12g}", "le": "at most {:,.12g}"}
_NAMED = {"data.source": tuple(SOURCES), "design.kind": tuple(KINDS)}
"""Settings whose values are the names of a registry."""
_ROLES: Mapping[Role, str] = {
    "always": "yes",
    "where read": "for runs that read it",
    "by content": "by the content that it leads to, wherever that lies",
    "by terms": "by the loss terms that are on",
    "never": "no",
}
_BEGIN = """\
# Settings

Every key of a study file, and of `--set KEY=VALUE`. `harness plan -v` prints them with the values of a study.

**In the run id** says whether another value makes another run: a run's id is a hash of all that decides its result.
What is in no id can be changed at any time, and finished runs are found again. A setting that *came later* leaves the
ids of earlier runs alone at the value that is named.
"""


@dataclass(frozen=True)
class Setting:
    """One key that holds a value."""

    path: str
    default: Any
    allowed: str
    text: str


@dataclass(frozen=True)
class Section:
    """A key that holds further keys; the first one is the file itself."""

    path: str
    text: str
    settings: tuple[Setting, ...]


def sections(kind: type = StudyFile, path: str = "") -> Iterator[Section]:
    """Those of a class of settings, each before what lies below it."""
    hints = typing.get_type_hints(kind, include_extras=True)
    below = {each.name: hints[each.name] for each in fields(kind) if is_dataclass(hints[each.name])}
    values = [each for each in fields(kind) if each.name not in below]
    values.sort(key=lambda each: each.name not in kind.__annotations__)  # what it inherits comes last
    text = doc(kind) if path else "Keys at the outermost level of a study file."
    yield Section(path, text, tuple(_setting(kind, each, path, hints[each.name]) for each in values))
    for name, inner in below.items():
        yield from sections(inner, f"{path}{name}.")


def _setting(kind: type, field: Field[Any], path: str, hint: Any) -> Setting:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    full = path + field.name
    names = _NAMED.get(full)
    allowed = _nouns(Literal[names]) if names else _nouns(hint)  # type: ignore[valid-type]
    return Setting(full, default, allowed, doc(kind, field.name))


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_BEGIN, *(_section(each) for each in sections())])


def _section(section: Section) -> str:
    title = f"`{section.path.removesuffix('.')}`" if section.path else "The file itself"
    return "\n".join([f"## {title}\n", f"{section.text}\n", *map(_entry, section.settings)])


def _entry(setting: Setting) -> str:
    facts = [f"Default: {_default(setting)}", f"allowed: {setting.allowed}"]
    facts.append(f"in the run id: {_ROLES[role_in_id(setting.path)]}")
    if setting.path in SINCE:
        facts.append(f"came later, earlier runs count as {_code(SINCE[setting.path])}")
    text = re.sub(r"docs/([\w-]+\.md)", r"[docs/\1](../docs/\1)", setting.text)
    return f"### `{setting.path}` {{ #{setting.path} }}\n\n{text}\n\n{' · '.join(facts)}\n{{ .facts }}\n"


def _default(setting: Setting) -> str:
    if setting.path == "loss.weights":
        return "those of the [loss terms](objective.md#loss-terms)"
    return _code(setting.default)


def _code(value: Any) -> str:
    """A value as YAML has it."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _nouns(hint: Any) -> str:
    """In words what a type allows."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Annotated:
        return f"{_nouns(inner[0])} {_limits(inner[1:])}"
    if kind is Literal:
        return "one of " + ", ".join(map(_code, inner)) if len(inner) > 1 else _code(inner[0])
    if kind in (typing.Union, types.UnionType):
        return " or ".join(map(_nouns, inner))
    if kind is tuple:
        return f"{'list' if inner[1:] == (...,) else 'pair'} of {_nouns(inner[0])}"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        values = _nouns(inner[1])
        return "mapping" if values in ("mapping", _NOUNS[Any]) else f"mapping of name to {values}"
    return "mapping" if is_dataclass(hint) else _NOUNS[hint]


def _limits(marks: tuple[Any, ...]) -> str:
    bounds = {name: value for mark in marks for name in _LIMITS if (value := getattr(mark, name, None)) is not None}
    return " and ".join(_LIMITS[name].format(value) for name, value in bounds.items())
