"""Nested settings as trees: their leaves by dotted path, and copies with other values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any


def leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything in nested mappings; an empty mapping is a value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{above}{name}.")
        else:
            yield above + name, value


def as_tree(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested mappings that have these `leaves`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *above, last = path.split(".")
        section = tree
        for name in above:
            section = section.setdefault(name, {})
        section[last] = value
    return tree


def with_value(config: Any, path: list[str], value: Any) -> Any:
    """A copy of nested dataclasses and mappings with another value at `path`."""
    if not path:
        return value
    name, *rest = path
    if isinstance(config, Mapping):
        return {**config, name: with_value(config[name], rest, value)}
    return replace(config, **{name: with_value(getattr(config, name), rest, value)})


def plain_tree(value: Any) -> Any:
    """Nested dataclasses as mappings."""
    # dataclasses.asdict copies every number too: a plan of a thousand cells takes twice as long with it.
    names = getattr(type(value), "__dataclass_fields__", None)
    if names is None:
        if isinstance(value, dict):
            return {key: plain_tree(each) for key, each in value.items()}
        return type(value)(map(plain_tree, value)) if isinstance(value, list | tuple) else value
    return {name: plain_tree(getattr(value, name)) for name in names}
