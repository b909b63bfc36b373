"""Where a profile goes in the text of a study file, and how it is written there. No torch here.

Nothing of the text is ever changed: there is one place, and what is put there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import takewhile
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from harness.errors import SpecError

LINE = 120
"""Characters of a line, where the values allow it."""
STEP = 2
"""Columns by which a file is indented that does not show it."""
_KEY = "profiles"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
"""Text that one version of YAML or another reads as something else."""


@dataclass(frozen=True)
class Entry:
    """A profile to write."""

    name: str
    tree: Mapping[str, Any]
    """What it holds: plain data."""
    comment: str
    """One line, without #."""

    def block(self, column: int, step: int) -> list[str]:
        """Its lines, the name at this column and what it holds further in by `step`."""
        own = [f"# {self.comment}", *lines({self.name: dict(self.tree)}, step, LINE - column)]
        return [" " * column + line for line in own]

    @property
    def flow(self) -> str:
        """It in one line, as it stands between braces."""
        return f"{self.name}: {_flow(dict(self.tree))}"


class NoPlaceError(SpecError):
    """The file is written so that nothing can be put into it without a change to what is there."""

    def __init__(self, reason: str, paste: str) -> None:
        super().__init__(reason)
        self.paste = paste
        """What the user can put there."""


def insertion(text: str, entry: Entry) -> tuple[int, str]:
    """Where in the text of a study file, and what is put there for `entry`. Raises NoPlaceError."""
    root = YAML(typ="safe", pure=True).compose(text)
    if root.flow_style:
        raise NoPlaceError("the file is written between braces", entry.flow)
    keys = [key for key, _ in root.value]
    step = next(_steps(root), STEP)
    column = keys[0].start_mark.column
    place = next((place for place, key in enumerate(keys) if key.value == _KEY), None)
    if place is None:
        lines = ["", " " * column + f"{_KEY}:", *entry.block(column + step, step)]
        return _put(text, root.end_mark.index, lines)
    key, value = root.value[place]
    if not _is_block(key, value):
        raise _no_place(key, value, entry, step)
    below = keys[place + 1 :]
    begin, end = _line_start(key), _line_start(below[0]) if below else root.end_mark.index
    region = text[begin:end].splitlines(keepends=True)
    at = begin + len("".join(region[: _held(region, column, is_last=not below)]))
    step = next(_steps(value), step)
    return _put(text, at, ["", *entry.block(value.value[0][0].start_mark.column, step)])


def _put(text: str, at: int, lines: Sequence[str]) -> tuple[int, str]:
    """The lines as text for this place, with the line ends of what is before it."""
    breaks = re.findall(r"\r\n|\r|\n", text[:at]) or re.findall(r"\r\n|\r|\n", text)
    end = breaks[-1] if breaks else "\n"
    body = end.join(lines)
    return at, body + end if text[:at].endswith(("\n", "\r")) else end + body


def _held(region: Sequence[str], column: int, is_last: bool) -> int:
    """How many of the lines from `profiles:` to the next key are its own.

    Comments further in than the key are, and those right below the block unless they stand right above the next key.
    """
    own = [place for place, line in enumerate(region) if line.strip() and not _is_outer_comment(line, column)]
    held = own[-1] + 1
    below = len(list(takewhile(lambda line: line.strip(), region[held:])))
    return held + below if is_last or held + below < len(region) else held


def _is_outer_comment(line: str, column: int) -> bool:
    bare = line.lstrip(" \t\ufeff")
    return bare.startswith("#") and len(line) - len(bare) <= column


def _line_start(key: Node) -> int:
    return int(key.start_mark.index - key.start_mark.column)


def _is_alias(key: Node, value: Node) -> bool:
    return bool(value.start_mark.index < key.start_mark.index)


def _is_block(key: Node, value: Node) -> bool:
    return isinstance(value, MappingNode) and not value.flow_style and not _is_alias(key, value)


def _no_place(key: Node, value: Node, entry: Entry, step: int) -> NoPlaceError:
    block = "\n".join([f"{_KEY}:", *entry.block(step, step)])
    if _is_alias(key, value):
        return NoPlaceError(f"`{_KEY}` is an alias of another mapping", block)
    return NoPlaceError(f"`{_KEY}` is written between braces", entry.flow if value.value else block)


def _steps(mapping: MappingNode) -> Iterator[int]:
    """By how many columns every block of a block is further in than its key."""
    for key, value in mapping.value:
        if _is_block(key, value) and value.value:
            yield value.value[0][0].start_mark.column - key.start_mark.column
            yield from _steps(value)


def lines(tree: Mapping[str, Any], step: int, room: int) -> Iterator[str]:
    """A mapping in block style; a value that is easily read and fits into `room` characters is on one line."""
    for key, value in tree.items():
        line = f"{_flow(key)}: {_flow(value)}"
        if not value or not isinstance(value, dict | list) or (_is_simple(value) and len(line) <= room):
            yield line
            continue
        yield f"{_flow(key)}:"
        inner = lines(value, step, room - step) if isinstance(value, dict) else (f"- {_flow(each)}" for each in value)
        yield from (" " * step + line for line in inner)


def _is_simple(value: Mapping[str, Any] | Sequence[Any]) -> bool:
    return not isinstance(value, Mapping) or not any(isinstance(inner, Mapping) and inner for inner in value.values())


def _flow(value: Any) -> str:
    """A value in one line."""
    yaml, written = YAML(), StringIO()
    yaml.default_flow_style, yaml.width = True, 2**30
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.dump([_quoted(value)], written)
    return written.getvalue().rstrip("\n")[1:-1]


def _quoted(value: Any) -> Any:
    """The value with text in quotes, unless it is a word that means itself."""
    if isinstance(value, Mapping):
        return {_quoted(key): _quoted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_quoted(inner) for inner in value]
    if not isinstance(value, str) or (_PLAIN.fullmatch(value) and value.lower() not in _WORDS):
        return value
    return DoubleQuotedScalarString(value)
