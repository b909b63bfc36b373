"""The weights that a search found, written into the study file as a new profile.

What the user wrote keeps every byte: the profile is put between two lines, and before the file is replaced the new text
is loaded and compared with what was asked for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from harness.errors import HarnessError, SpecError
from harness.files import replacing
from harness.settings import Settings, as_tree
from harness.study.load import load_text, parse_override
from harness.study.schema import Study, StudyFile, Tuned, apply_toggles, cell_toggles
from harness.study.yaml import parse_file, read_text

LINE = 120
"""Characters of a line, where the values allow it."""
STEP = 2
"""Columns of indentation in a file that shows none of its own."""
_LONGEST_NAME = 64
"""Characters of a profile's name."""
_MOST_DIFFERENCES = 3
"""Settings that differ, in the message of a refusal."""
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_OF_THE_CALL = ("study", "tuned", "resources", "tracking")
"""Sections whose overrides concern the call that they were given to, and not what is studied."""
_KEY = "profiles"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
"""Text that one version of YAML or another reads as something else."""

Tree = dict[str, Any]


@dataclass(frozen=True)
class _Profile:
    """A profile to write."""

    name: str
    tree: Tree
    """What it holds."""
    comment: str
    """One line, without #."""

    def block(self, column: int, step: int) -> list[str]:
        """Its lines, the name at this column and what it holds further in by `step`."""
        own = [f"# {self.comment}", *block_lines({self.name: self.tree}, step, LINE - column)]
        return [" " * column + line for line in own]

    @property
    def flow(self) -> str:
        """It in one line, as it stands between braces."""
        return f"{self.name}: {_flow(self.tree)}"


class _NoPlace(SpecError):
    """The file is written so that nothing can be put into it without changing what is there."""

    def __init__(self, reason: str, paste: str) -> None:
        super().__init__(reason)
        self.paste = paste
        """What the user can put there by hand."""


def write_profile(study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]) -> str:
    """Add a profile to the study file under which `study` has these weights; its name.

    It holds all that the profile of `study` holds, the overrides of `study` that say what is studied, the weights, and
    which searches they come from. A profile that holds the same already is named again. The file is read anew.

    weights: dotted setting -> value; tuned: cell -> its search.
    Raises SpecError, with the text to paste, where the file cannot take it as it is written or no longer fits the
    search, and HarnessError where it cannot be written.
    """
    old = read_text(study.path)
    base = load_text(old, study.path, study.profile, study.overrides)
    there: Tree = parse_file(old, study.path).plain().get(_KEY) or {}
    tree = _tree(there.get(study.profile or "", {}), study, weights, {**base.tuned, **tuned})
    name = next(name for name in _names(study, tuned) if there.get(name, tree) == tree)
    if name not in there:
        profile = _Profile(name, tree, _comment(tuned))
        try:
            at, added = _insertion(old, profile)
        except _NoPlace as error:
            raise _refusal(study.path, str(error), error.paste) from None
        new, paste = old[:at] + added + old[at:], added.strip("\r\n")
        if wrong := _what_is_wrong(old, new, profile, study, weights, tuned):
            raise _refusal(study.path, wrong, paste)
        _replace(study.path, old, new, paste)
    return name


def _refusal(path: Path, reason: str, paste: str) -> SpecError:
    return SpecError(f"{path}: the weights cannot be written into the file: {reason}\nTo paste:\n{paste}")


# What the profile holds.


def _tree(base: Tree, study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]) -> Tree:
    tree = dict(base)
    overrides = (_of_the_study(parse_override(text).plain()) for text in study.overrides)
    for patch in (*overrides, as_tree({name: float(value) for name, value in weights.items()})):
        tree = _merged(tree, patch, StudyFile().as_dict())
    return {**tree, "tuned": {cell: asdict(search) for cell, search in tuned.items()}}


def _of_the_study(patch: Tree) -> Tree:
    """The part of an override that says what is studied."""
    kept = {key: value for key, value in patch.items() if key not in _OF_THE_CALL}
    if isinstance(kept.get("tune"), dict):  # where trials are stored concerns this machine only
        kept["tune"] = {key: value for key, value in kept["tune"].items() if key != "storage"}
    return kept


def _merged(tree: Tree, patch: Tree, defaults: Mapping[str, Any]) -> Tree:
    """`tree` with `patch` over it, as the study file's overlays: sections key by key, everything else whole."""
    merged = dict(tree)
    for key, value in patch.items():
        section = defaults.get(key)
        if not isinstance(section, dict) or not section:
            merged[key] = value
        elif value:
            merged[key] = _merged(merged.get(key) or {}, value, section)
    return merged


def _names(study: Study, tuned: Mapping[str, Tuned]) -> Iterator[str]:
    """Names for the profile, the best first."""
    words = [*([study.profile] if study.profile else []), "tuned", *tuned]
    name = re.sub(r"[^a-z0-9_-]+", "-", "-".join(words).lower())
    yield name[:_LONGEST_NAME]
    for number in count(2):
        yield f"{name[: _LONGEST_NAME - len(f'-{number}')]}-{number}"


def _comment(tuned: Mapping[str, Tuned]) -> str:
    """One line, whatever the objectives are called."""
    searches = (
        f"cell {cell}, {search.trials} trial{'' if search.trials == 1 else 's'}, objective {search.objective}"
        for cell, search in tuned.items()
    )
    text = f"written by harness tune: {'; '.join(searches)}"
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


# Whether the new text says what is wanted.


def _what_is_wrong(
    old: str, new: str, profile: _Profile, study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]
) -> str:
    """Empty if the new text says what the old one does and, under the new profile, what is wanted."""
    wanted = parse_file(old, study.path).plain()
    wanted[_KEY] = {**(wanted.get(_KEY) or {}), profile.name: profile.tree}
    try:
        loaded = load_text(new, study.path, profile.name)
    except SpecError as error:
        return f"with it the file could not be read: {error}"
    # As JSON, which tells 1, 1.0 and true apart.
    if json.dumps(parse_file(new, study.path).plain(), sort_keys=True) != json.dumps(wanted, sort_keys=True):
        return "put into it, it would change what the file says elsewhere"
    if different := _differences(loaded.settings, study.settings.with_values(weights)):
        return f"the file is not that of the search any more: {different}"
    for cell in tuned:
        after, before = (apply_toggles(each, cell_toggles(each, cell)) for each in (loaded, study))
        if different := _differences(after, before.with_values(weights)):
            return f"what its toggles set is written there: in the cell {cell} {different}"
    return ""


def _differences(settings: Settings, wanted: Settings) -> str:
    """The first settings that are not as wanted, in words."""
    wrong = [
        f"{name} would be {settings.flat.get(name)}, not {wanted.flat.get(name)}"
        for name in dict.fromkeys([*wanted.flat, *settings.flat])
        if settings.flat.get(name) != wanted.flat.get(name)
    ]
    return ", ".join(wrong[:_MOST_DIFFERENCES])


def _replace(path: Path, old: str, new: str, paste: str) -> None:
    """Replace the file that `path` leads to as a whole; its mode stays. Raises HarnessError."""
    try:
        target = path.resolve(strict=True)
        # The mode is asked too, because root may write what the user has made read-only.
        if not target.stat().st_mode & _WRITABLE or not os.access(target, os.W_OK):
            raise HarnessError(f"{path}: is read-only; make it writable, or paste this profile:\n{paste}")
        with replacing(target, durable=True) as temporary:
            temporary.write_bytes(new.encode())
            shutil.copymode(target, temporary)
            if target.read_bytes() != old.encode():
                raise HarnessError(f"{path}: was changed at this very moment; nothing is written, ask again")
    except OSError as error:
        raise HarnessError(f"{path}: cannot be written ({error}); paste this profile:\n{paste}") from error


# Where in the text the profile goes. Nothing that is there is changed.


def _insertion(text: str, profile: _Profile) -> tuple[int, str]:
    """Where in the text of a study file, and what is put there for the profile. Raises _NoPlace."""
    root = YAML(typ="safe", pure=True).compose(text)
    if root.flow_style:
        raise _NoPlace("the file is written between braces", profile.flow)
    keys = [key for key, _ in root.value]
    step = next(_steps(root), STEP)
    column = keys[0].start_mark.column
    place = next((place for place, key in enumerate(keys) if key.value == _KEY), None)
    if place is None:
        lines = ["", " " * column + f"{_KEY}:", *profile.block(column + step, step)]
        return _put(text, root.end_mark.index, lines)
    key, value = root.value[place]
    if not _is_block(key, value):
        raise _no_place(key, value, profile, step)
    below = keys[place + 1 :]
    begin, end = _line_start(key), _line_start(below[0]) if below else root.end_mark.index
    region = text[begin:end].splitlines(keepends=True)
    at = begin + len("".join(region[: _own_lines(region, column, is_last=not below)]))
    step = next(_steps(value), step)
    return _put(text, at, ["", *profile.block(value.value[0][0].start_mark.column, step)])


def _put(text: str, at: int, lines: Sequence[str]) -> tuple[int, str]:
    """The lines as text for this place, with the line ends of what is before it."""
    breaks = re.findall(r"\r\n|\r|\n", text[:at]) or re.findall(r"\r\n|\r|\n", text)
    end = breaks[-1] if breaks else "\n"
    body = end.join(lines)
    return at, body + end if text[:at].endswith(("\n", "\r")) else end + body


def _own_lines(region: Sequence[str], column: int, is_last: bool) -> int:
    """How many of the lines from `profiles:` to the next key are its own.

    Comments further in than the key are, and those right below the block unless they stand right above the next key.
    """
    inside = [place for place, line in enumerate(region) if line.strip() and not _is_outer_comment(line, column)]
    own = inside[-1] + 1
    below = len(list(takewhile(lambda line: line.strip(), region[own:])))
    return own + below if is_last or own + below < len(region) else own


def _is_outer_comment(line: str, column: int) -> bool:
    bare = line.lstrip(" \t\ufeff")
    return bare.startswith("#") and len(line) - len(bare) <= column


def _line_start(key: Node) -> int:
    return int(key.start_mark.index - key.start_mark.column)


def _is_alias(key: Node, value: Node) -> bool:
    # The node of an alias is the one of its anchor, which stands further up.
    return bool(value.start_mark.index < key.start_mark.index)


def _is_block(key: Node, value: Node) -> bool:
    return isinstance(value, MappingNode) and not value.flow_style and not _is_alias(key, value)


def _no_place(key: Node, value: Node, profile: _Profile, step: int) -> _NoPlace:
    block = "\n".join([f"{_KEY}:", *profile.block(step, step)])
    if _is_alias(key, value):
        return _NoPlace(f"`{_KEY}` is an alias of another mapping", block)
    return _NoPlace(f"`{_KEY}` is written between braces", profile.flow if value.value else block)


def _steps(mapping: MappingNode) -> Iterator[int]:
    """By how many columns every block of a block is further in than its key."""
    for key, value in mapping.value:
        if _is_block(key, value) and value.value:
            yield value.value[0][0].start_mark.column - key.start_mark.column
            yield from _steps(value)


# How it is written.


def block_lines(tree: Mapping[str, Any], step: int, room: int) -> Iterator[str]:
    """A mapping in block style; a value that is easily read and fits into `room` characters is on one line."""
    for key, value in tree.items():
        line = f"{_flow(key)}: {_flow(value)}"
        if not value or not isinstance(value, dict | list) or (_is_simple(value) and len(line) <= room):
            yield line
            continue
        yield f"{_flow(key)}:"
        items = (f"- {_flow(each)}" for each in value)
        inner = block_lines(value, step, room - step) if isinstance(value, dict) else items
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
