"""The page of the Python interface: every name of `harness.__all__`, from signatures and docstrings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe

import harness
from tools.docs.markdown import fenced
from tools.docs.sources import behind, package

_WIDTH = 88
_TITLES = {"parameters": "Arguments", "returns": "Returns", "raises": "Raises", "yields": "Yields"}


def names() -> list[str]:
    """What is public, functions first."""
    public = [name for name in harness.__all__ if not name.startswith("_")]
    return sorted(public, key=lambda name: (not _thing(name).is_function, name))


def page() -> str:
    """The page as Markdown."""
    begin = ["# Python", *_sections(package().docstring)]
    return "\n\n".join([*begin, *(part for name in names() for part in _entry(name))]) + "\n"


def _thing(name: str) -> griffe.Object:
    return behind(package()[name])


def _entry(name: str) -> Iterator[str]:
    thing = _thing(name)
    yield f"## harness.{name} {{ #{name} }}"
    if isinstance(thing, griffe.Function):
        yield fenced(_signature(thing), "python")
    elif isinstance(thing, griffe.Class):
        bases = ", ".join(map(str, thing.bases))
        yield fenced(f"class {name}" + (f"({bases})" if bases else ""), "python")
    yield from _sections(thing.docstring)
    if isinstance(thing, griffe.Class):
        yield from _members(thing)


def _members(kind: griffe.Class) -> Iterator[str]:
    """Attributes as a list, then methods."""
    public = [behind(each) for name, each in kind.members.items() if not name.startswith("_")]
    attributes = [each for each in public if isinstance(each, griffe.Attribute)]
    if attributes:
        yield "\n".join(map(_attribute, attributes))
    for method in public:
        if isinstance(method, griffe.Function):
            yield f"### {kind.name}.{method.name} {{ #{kind.name}.{method.name} }}"
            yield fenced(_signature(method), "python")
            yield from _sections(method.docstring)


def _attribute(it: griffe.Attribute) -> str:
    text = " ".join(it.docstring.value.split()) if it.docstring else ""
    kind = f" (`{it.annotation}`)" if it.annotation is not None else ""
    return f"- `{it.name}`{kind}" + (f": {text}" if text else "")


def _signature(function: griffe.Function) -> str:
    """On one line where it fits, else one line a parameter."""
    whole = str(function.signature())
    if len(whole) <= _WIDTH:
        return whole
    head, tail = f"{function.name}(", ")" + (f" -> {function.returns}" if function.returns else "")
    lines: list[str] = []
    for each in function.parameters:
        if each.kind is griffe.ParameterKind.keyword_only and "    *," not in lines:
            lines.append("    *,")
        star = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(each.kind, "")
        default = f" = {each.default}" if each.default is not None and not star else ""
        lines.append(f"    {star}{each.name}" + (f": {each.annotation}" if each.annotation else "") + default + ",")
    return "\n".join([head, *lines, tail])


def _sections(docstring: griffe.Docstring | None) -> Iterator[str]:
    for section in docstring.parse("google") if docstring else ():
        kind, value = section.kind.value, section.value
        if kind == "text":
            yield value
        elif kind == "admonition":
            yield f"{section.title}:"
            yield fenced(value.description, "python")
        elif kind == "examples":
            yield from (text if part.value == "text" else fenced(text, "python") for part, text in value)
        else:
            yield f"{_TITLES[kind]}:"
            yield "\n".join(_item(kind, each) for each in value)


def _item(kind: str, each: Any) -> str:
    text = " ".join(each.description.split())
    name = each.name if kind == "parameters" else str(each.annotation or "")
    return f"- `{name}`: {text}" if name else f"- {text}"
