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
from dataclasses import asdict, replace
from io import StringIO
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import StringMark
from ruamel.yaml.nodes import MappingNode, ScalarNode
from ruamel.yaml.nodes import Node as AnyNode
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from harness.errors import HarnessError, SpecError
from harness.files import replacing
from harness.study.load import load_text, parse_override
from harness.study.overlay import ARGUMENTS, ConfigTree, dotted, shown, value_at, with_init_spelt_out
from harness.study.own import schema_of
from harness.study.schema import Study, StudyFile, Tuned, apply_toggles, cell_toggles
from harness.study.yaml import Node, parse_file, read_text
from harness.text import quantity
from harness.trees import as_tree

LINE = 120
"""Characters of a line, where the values allow it."""
STEP = 2
"""Columns of indentation in a file that shows none of its own."""
_LONGEST_NAME = 64
"""Characters of a profile's name."""
_MOST_DIFFERENCES = 3
"""Settings that differ, in the message of a refusal."""
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_OF_THE_CALL = {"study", "tuned", "resources", "tracking", "tune.storage"}
"""Settings and sections whose overrides concern the call that they were given to, and not what is studied."""
_KEY = "profiles"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
"""Text that one version of YAML or another reads as something else."""

Tree = dict[str, Any]


def write_profile(study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]) -> str:
    """Add a profile to the study file under which `study` has these weights; its name.

    It holds all that the profile of `study` holds, the overrides of `study` that say what is studied, the weights, and
    which searches they come from. A profile that holds the same already is named again. The file is read anew.

    weights: dotted setting -> value; tuned: cell -> its search.
    Raises SpecError, with the text to paste, where the file cannot take it as it is written or no longer fits the
    search, and HarnessError where it cannot be written.
    """
    name, old, new, paste = _with_profile(study, weights, tuned)
    if new != old:
        _replace(study.path, old, new, paste)
    return name


def refuse_unfit(study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]) -> None:
    """Before a search begins that is to be written back: raises SpecError where `write_profile` could not.

    weights: values that the search may find, none of them as written.
    """
    try:
        _with_profile(study, weights, tuned)
    except SpecError as error:
        reason = str(error).partition("\nTo paste:")[0]
        raise SpecError(f"{reason}; change the file, or search without --apply") from error


def _with_profile(study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]) -> tuple[str, str, str, str]:
    """The profile's name, the file's text without and with it, and what is put in. Raises SpecError."""
    old = read_text(study.path)
    searches = {**load_text(old, study.path, study.profile, study.overrides).tuned, **tuned}
    root = parse_file(old, study.path)
    # Laid over the file as they are when it is read: `margins.kid=2` leaves the other margins of the file alone.
    config = ConfigTree(schema_of(StudyFile, study.code), root)
    config.overlay(with_init_spelt_out(root))
    config.declare(ARGUMENTS)
    base = _changes(config, root.value[_KEY].value[study.profile]) if study.profile else {}
    overrides = _changes(config, *map(parse_override, study.overrides))
    tree = as_tree(
        {
            **base,
            **{path: value for path, value in overrides.items() if not _is_of_the_call(path)},
            **{name: float(value) for name, value in weights.items()},
            "tuned": {cell: asdict(search) for cell, search in searches.items()},
        }
    )
    profiles: Tree = root.plain().get(_KEY) or {}
    name = next(name for name in _names(study, tuned) if profiles.get(name, tree) == tree)
    if name in profiles:
        return name, old, old, ""
    at, added = _insertion(old, study.path, {name: tree}, _comment(tuned))
    new, paste = old[:at] + added + old[at:], added.strip("\r\n")
    if wrong := _what_is_wrong(old, new, {name: tree}, study, weights, tuned):
        raise _refusal(study.path, wrong, paste)
    return name, old, new, paste


def _changes(config: ConfigTree[StudyFile], *patches: Node) -> Tree:
    """Lays these patches over the tree. Dotted setting -> value, for all that they set; the last wins."""
    before = len(config.changed)
    for patch in patches:
        config.overlay(with_init_spelt_out(patch))
    return {dotted(path): value_at(config.tree, path) for path in config.changed[before:]}


def _is_of_the_call(path: str) -> bool:
    return not _OF_THE_CALL.isdisjoint((path, path.split(".")[0]))


def _refusal(path: Path, reason: str, paste: str) -> SpecError:
    return SpecError(f"{path}: the weights cannot be written into the file: {reason}\nTo paste:\n{paste}")


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
        f"cell {cell}, {quantity(search.trials, 'trial')}, objective {search.objective}"
        for cell, search in tuned.items()
    )
    text = f"# written by harness tune: {'; '.join(searches)}"
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


# Whether the new text says what is wanted.


def _what_is_wrong(
    old: str, new: str, profile: Tree, study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]
) -> str:
    """Empty if the new text says what the old one does and, under the new profile, what is wanted."""
    wanted = parse_file(old, study.path).plain()
    wanted[_KEY] = {**(wanted.get(_KEY) or {}), **profile}
    try:
        loaded = load_text(new, study.path, next(iter(profile)))
    except SpecError as error:
        return f"with it the file could not be read: {error}"
    # As JSON, which tells 1, 1.0 and true apart.
    if json.dumps(parse_file(new, study.path).plain(), sort_keys=True) != json.dumps(wanted, sort_keys=True):
        return "put into it, it would change what the file says elsewhere"
    searched = replace(study, settings=study.settings.with_values(weights))
    if different := _differences(_studied(loaded), _studied(searched)):
        return f"the file is not that of the search any more: {different}"
    for cell in tuned:
        after, before = (apply_toggles(each, cell_toggles(each, cell)) for each in (loaded, study))
        if different := _differences(after.flat, before.with_values(weights).flat):
            return f"what its toggles set is written there: in the cell {cell} {different}; it belongs into the toggle"
    return ""


def _studied(study: Study) -> Tree:
    """Dotted setting or section -> value, for all of a study but what is of the call."""
    every = {
        **study.settings.flat,
        "baseline": study.baseline,
        "margins": study.margins,
        "toggles": [{toggle.name: toggle.patch} for toggle in study.toggles],
        "levels": {factor.setting: factor.values for factor in study.factors},
        **{f"design.{name}": value for name, value in vars(study.design).items()},
        **{f"tune.{name}": value for name, value in vars(study.tune).items()},
    }
    return {path: value for path, value in every.items() if not _is_of_the_call(path)}


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first settings that are not as wanted, in words."""
    wrong = [
        f"{name} would be {shown(found.get(name))}, not {shown(wanted.get(name))}"
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
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


def _insertion(text: str, path: Path, profile: Tree, comment: str) -> tuple[int, str]:
    """Where in the text of the study file at `path`, and what is put there for the profile. Raises SpecError."""

    def block(column: int, step: int) -> list[str]:
        return [" " * column + line for line in (comment, *block_lines(profile, step, LINE - column))]

    root = YAML(typ="safe", pure=True).compose(text)
    keys = [key for key, _ in root.value]
    column, step = keys[0].start_mark.column, _step(root, STEP)
    place = next((place for place, key in enumerate(keys) if key.value == _KEY), None)
    if root.flow_style:
        is_within = place is not None and isinstance(root.value[place][1], MappingNode)
        reason = "the file is written between braces" + (f"; this belongs into its `{_KEY}`" if is_within else "")
        raise _refusal(path, reason, _flow(profile if is_within else {_KEY: profile})[1:-1])
    if place is None:
        at, lines = root.end_mark.index, [" " * column + f"{_KEY}:", *block(column + step, step)]
    else:
        key, value = root.value[place]
        if not _is_block(key, value):
            is_alias = value.start_mark.index < key.start_mark.index
            is_flow = not is_alias and value.value
            paste = _flow(profile)[1:-1] if is_flow else "\n".join([f"{_KEY}:", *block(step, step)])
            reason = "is an alias of another mapping" if is_alias else "is written between braces"
            raise _refusal(path, f"`{_KEY}` {reason}", paste)
        at = _end_of_block(text, column, [each.start_mark for each in keys[place:]], root.end_mark.index)
        lines = block(value.value[0][0].start_mark.column, _step(value, step))
    # A blank line, then those of the profile, with the line ends of what is before them.
    breaks = re.findall(r"\r\n|\r|\n", text[:at]) or re.findall(r"\r\n|\r|\n", text) or ["\n"]
    body = breaks[-1].join(["", *lines])
    return at, body + breaks[-1] if text[:at].endswith(("\n", "\r")) else breaks[-1] + body


def _end_of_block(text: str, column: int, keys: Sequence[StringMark], end: int) -> int:
    """Where the block of the first of these keys, which are at this column, ends; `end`: where the file does.

    Its own are comments further in than the key, and those right below unless they stand right above the next key.
    """
    begin, *following = (int(key.index - key.column) for key in keys)
    lines = text[begin : following[0] if following else end].splitlines(keepends=True)
    outside = re.compile(rf"\s*$|[ \t\ufeff]{{0,{column}}}#")
    own = len(lines) - len(list(takewhile(outside.match, reversed(lines))))
    below = own + len(list(takewhile(str.strip, lines[own:])))
    return begin + len("".join(lines[: own if following and below == len(lines) else below]))


def _is_block(key: ScalarNode, value: AnyNode) -> bool:
    # The node of an alias is the one of its anchor, which stands further up.
    is_alias = value.start_mark.index < key.start_mark.index
    return isinstance(value, MappingNode) and not value.flow_style and not is_alias


def _step(mapping: MappingNode, default: int) -> int:
    """By how many columns the first block in this one is further in than its key."""
    steps: Iterator[int] = (
        value.value[0][0].start_mark.column - key.start_mark.column
        for key, value in mapping.value
        if _is_block(key, value) and value.value
    )
    return next(steps, default)


# How it is written.


def block_lines(tree: Mapping[str, Any], step: int, room: int) -> Iterator[str]:
    """A mapping in block style; a value that is easily read and fits into `room` characters is on one line."""
    for key, value in tree.items():
        line = f"{_flow(key)}: {_flow(value)}"
        is_deep = isinstance(value, dict) and any(isinstance(inner, dict) and inner for inner in value.values())
        if not value or not isinstance(value, dict | list) or (not is_deep and len(line) <= room):
            yield line
            continue
        yield f"{_flow(key)}:"
        items = (f"- {_flow(each)}" for each in value)
        inner = block_lines(value, step, room - step) if isinstance(value, dict) else items
        yield from (" " * step + line for line in inner)


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
