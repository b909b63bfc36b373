"""YAML in which every key and value knows its place, so that a mistake can be pointed at.

Only plain data comes out: mappings with text keys, lists, text, numbers, true, false and null. Tags are refused, so no
object is ever built from a file; so are duplicate keys. Anchors and merge keys work, within bounds; `<<` merges key by
key at every depth, as profiles do, rather than dropping what a section of its own does not repeat.
"""

from __future__ import annotations

import math
import os
import re
import stat
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from harness.errors import SpecError, nearest
from harness.text import is_utf8, shortened

MAX_CHARACTERS = 250_000
"""Of the file, and of all its values after every alias has been followed."""
MAX_NODES = 10_000
"""Values after every alias has been followed: a study has a few hundred, an alias bomb millions."""
MAX_DEPTH = 32
MAX_BRACKETS = 200
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}

_FIXES = {
    **{sign: f'if {sign} is to be a quotation mark, write "' for sign in "“”„"},
    "\N{NO-BREAK SPACE}": "a blank is a no-break space, U+00A0: write an ordinary one",
    r"'\t' that cannot start": "use spaces in place of tabs",
    "cannot start any token": "put the text into quotation marks",
    "found another document": "a study file is one document: leave out the line ---",
    "mapping values are not allowed": "write a blank after the colon of each key, in the line above "
    "too; put keys in one column, and a text with a colon into quotation marks",
    "undefined alias": "no anchor of that name stands above it; put a text that begins with * into quotation marks",
    "unexpected end of stream": "a quotation mark is missing",
    "'<stream end>'": "a bracket is not closed",
    "expected ',' or": "a bracket is not closed, a comma is missing, or a text needs quotation marks",
    "found '<scalar>'": "put the whole text into quotation marks",
    "found '}'": "no bracket is open here",
    "found ']'": "no bracket is open here",
    "expected <block end>": "keys of one section stand in one column, and so do the dashes of one list",
    "could not find expected ':'": "write a colon and a blank after each key, in the line above too",
}
"""Part of what the library says, or of the line that it stops in and the one above, whose end may be what is wrong
-> what to do about it; the first that fits."""

Place = Callable[[int, int], str]
"""Line and column, both from 0, to the words that begin an error message."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TEXT = frozenset(f"{_TAG}{name}" for name in ("str", "timestamp", "value", "merge"))
_TAGS = {
    ScalarNode: _TEXT | {f"{_TAG}{name}" for name in ("int", "float", "bool", "null")},
    MappingNode: {f"{_TAG}map"},
    SequenceNode: {f"{_TAG}seq"},
}
"""Tags that a study file may have."""


@dataclass(frozen=True)
class Node:
    """A value and where it stands."""

    value: Any
    """A dict of text to Node, a list of Node, or text, int, float, bool or None."""
    where: str
    """Place of the value, such as `ablations.yaml:12:5`."""
    key_where: str
    """Place of the key that it belongs to; its own place if it has none."""
    is_path: bool = False
    """Of a mapping: it only leads to a value below it, `a.b=c`, and says nothing of other keys."""
    text: str = ""
    """Of a number, true or false: as it is written, such as 1e-3 or 0x10."""

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value


def read_text(path: Path) -> str:
    """The text of the file at `path`, line ends and all. Raises SpecError."""
    try:
        # A pipe is not waited for, a device not read, and no more is read than shows that it is too much.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SpecError(f"{path}: is no file that can be read again, such as a pipe; name a study file")
            return file.read(4 * MAX_CHARACTERS + 4).decode()
    except FileNotFoundError:
        folder = path.parent
        found = (entry for pattern in ("*.yaml", "*.yml") for entry in folder.glob(pattern))
        others = sorted(entry.name for entry in found if entry.name != path.name)  # a link that leads nowhere
        holds = (
            f"the folder {folder} holds {', '.join(others[:8]) or 'no YAML file'}; `harness init` writes a study file"
        )
        if not folder.is_dir():
            is_yaml = path.suffix in (".yaml", ".yml")
            fix = "check the path" if is_yaml else f"the study file comes before names of runs: STUDY.yaml {path}"
            holds = f"there is no folder {folder}; {fix}"
        raise SpecError(f"{path}: no such file{nearest(path.name, others) or ';'} {holds}") from None
    except IsADirectoryError:
        there = sorted(entry.name for pattern in ("*.yaml", "*.yml") for entry in path.glob(pattern))
        holds = f"it holds {shortened(there, 8) or 'no YAML file'}"
        raise SpecError(f"{path}: is a folder; name a study file in it: {holds}") from None
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is no UTF-8 text; save the file as UTF-8, or name the study file"
        raise SpecError(f"{path}: cannot be read as text: {why}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); check the path, and who may read it") from None
    except ValueError as error:
        raise SpecError(f"{path}: cannot be read as text ({error})") from error


def parse_file(text: str, path: Path) -> Node:
    """`text` as the content of the YAML file at `path`. Raises SpecError, which names line and column."""
    return parse(text, lambda line, column: f"{path}:{line + 1}:{column + 1}")


def parse(text: str, place: Place) -> Node:
    """The one YAML document in `text`; null if it is empty. Raises SpecError that begins with `place(line, column)`."""
    if len(text) > MAX_CHARACTERS:
        raise SpecError(f"{place(0, 0)}: more than {MAX_CHARACTERS:,} characters; a study file is a page long")
    # The library takes time that grows with the square of the open brackets before it gives up.
    if max(accumulate(_STEPS.get(character, 0) for character in text), default=0) > MAX_BRACKETS:
        raise SpecError(f"{place(0, 0)}: more than {MAX_BRACKETS} brackets are open at once")
    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ReusedAnchorWarning)
            root = yaml.compose(text)
    except ReusedAnchorWarning as warning:
        raise SpecError(_second_anchor(str(warning), place)) from None
    except ReaderError as error:
        line, column = text.count("\n", 0, error.position), error.position - 1 - text.rfind("\n", 0, error.position)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise SpecError(f"{place(line, column)}: the character U+{code:04X} is not allowed; leave it out") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context).removeprefix("but ")
        lines = "\n".join(text.splitlines()[max(mark.line - 1, 0) : mark.line + 1])
        fix = next((f"; {fix}" for part, fix in _FIXES.items() if part in f"{problem}\n{lines}"), "")
        raise SpecError(f"{place(mark.line, mark.column)}: not valid YAML: {problem}{fix}") from None
    except (YAMLError, ValueError, LookupError, RecursionError) as error:
        raise SpecError(f"{place(0, 0)}: not valid YAML: {error}") from None
    return Node(None, place(0, 0), place(0, 0)) if root is None else _Reader(yaml, place).read(root, 0)


def _second_anchor(warning: str, place: Place) -> str:
    """What the library warns of, with the places in the study file."""
    name = re.search(r"anchor '(.*)'", warning)
    first, second = (
        place(int(line) - 1, int(column) - 1) for line, column in re.findall(r"line (\d+), column (\d+)", warning)[:2]
    )
    return f"{second}: the anchor &{name[1] if name else ''} is here twice, first at {first}; give one another name"


def _is_empty(node: Any) -> bool:
    """Whether nothing is written there; a written null is something."""
    return isinstance(node, ScalarNode) and not node.value and str(node.tag) == f"{_TAG}null"


def _overlaid(below: Mapping[str, Node], above: Mapping[str, Node]) -> dict[str, Node]:
    """Mappings merged key by key at every depth, as a profile is laid over the file; all else is taken from above."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        under, over = below[key].value, above[key].value
        if isinstance(under, dict) and isinstance(over, dict):
            merged[key] = replace(above[key], value=_overlaid(under, over))
    return merged


class _Reader:
    """Turns ruamel's node graph into Nodes and holds the bounds."""

    def __init__(self, yaml: YAML, place: Place) -> None:
        self._constructor = yaml.constructor
        self._place = place
        self._left = MAX_NODES
        self._characters = MAX_CHARACTERS

    def read(self, node: Any, depth: int, key: Any = None) -> Node:
        self._left -= 1
        if self._left < 0:
            raise self._refusal(node, f"more than {MAX_NODES:,} values once its aliases are followed")
        if depth > MAX_DEPTH:
            raise self._refusal(node, f"nested deeper than {MAX_DEPTH} levels, or an anchor that holds itself")
        if (tag := str(node.tag)) not in _TAGS[type(node)]:
            text = f"the tag {tag.replace(_TAG, '!!')[:80]!r} is not allowed: a study file holds plain data"
            raise self._refusal(node, text)
        value: Any
        if isinstance(node, MappingNode):
            value = self._mapping(node, depth)
        elif isinstance(node, SequenceNode):
            value = [self.read(item, depth + 1) for item in node.value]
        else:
            value = self._text(node) if tag in _TEXT else self._number(node)
        # What is not there has the place of the next key, lines further down.
        there = key if key and _is_empty(node) else node
        text = str(node.value) if isinstance(value, bool | int | float) else ""
        return Node(value, self._where(there), self._where(key or node), text=text)

    def _mapping(self, node: Any, depth: int) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self._refusal(key, "a key must be text")
            if str(key.tag) == _MERGE:
                merged = _overlaid(self._merged(value, depth), merged)
            elif key.value in own:
                raise self._refusal(key, f"the key {key.value!r} is here twice; first at {own[key.value].key_where}")
            else:
                own[self._text(key)] = self.read(value, depth + 1, key)
        # A section with nothing under it takes nothing away, as in a profile; a written null does.
        for key, value in node.value:
            if _is_empty(value) and key.value in merged and isinstance(merged[key.value].value, dict):
                del own[key.value]
        return _overlaid(merged, own)

    def _merged(self, node: Any, depth: int) -> dict[str, Node]:
        read = self.read(node, depth + 1)
        merged: dict[str, Node] = {}
        for part in read.value if isinstance(read.value, list) else [read]:
            if not isinstance(part.value, dict):
                raise self._refusal(node, "'<<' merges a mapping or a list of mappings")
            merged = _overlaid(part.value, merged)
        return merged

    def _number(self, node: Any) -> int | float | bool | None:
        try:
            value: int | float | bool | None = self._constructor.construct_object(node)
        except (ValueError, LookupError, YAMLError):
            raise self._refusal(node, f"{node.value[:40]!r} is not of the type that it is tagged with") from None
        # What JSON cannot hold could not enter a run's identity.
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refusal(node, f"{node.value!r} is not a finite number")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise self._refusal(node, f"the number {node.value[:20]}... is too large")
        return value

    def _text(self, node: Any) -> str:
        text = str(node.value)
        self._characters -= len(text)
        if self._characters < 0:
            raise self._refusal(node, f"more than {MAX_CHARACTERS:,} characters once its aliases are followed")
        if not is_utf8(text):
            raise self._refusal(node, f"{text!r} is not valid Unicode text")
        return text

    def _where(self, node: Any) -> str:
        return self._place(node.start_mark.line, node.start_mark.column)

    def _refusal(self, node: Any, text: str) -> SpecError:
        return SpecError(f"{self._where(node)}: {text}")
