"""Weights that a search found, written back into the study file as a new profile. No torch here.

What the user wrote keeps every byte: the profile is put between two lines, and before the file is replaced the new text
is loaded and compared with what was asked for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, SpecError
from harness.files import replacing
from harness.settings import Settings, as_tree
from harness.study.load import load_text, parse_override
from harness.study.schema import Study, StudyFile, Tuned, apply_toggles, cell_toggles
from harness.study.yaml import parse_file, read_text
from harness.tuning.placing import Entry, NoPlaceError, insertion

LONGEST = 64
"""Characters of a profile's name."""
MOST_NAMED = 3
"""Settings that differ, in a refusal."""
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_OF_THE_CALL = ("study", "tuned", "resources", "tracking")
"""What an override says of the call that it was given to, and not of what is studied."""

Tree = dict[str, Any]


@dataclass(frozen=True)
class _Change:
    """A profile and where it goes."""

    study: Study
    weights: Mapping[str, float]
    entry: Entry
    old: str
    """The file's text."""
    at: int
    """Where in it."""
    added: str

    @property
    def new(self) -> str:
        return self.old[: self.at] + self.added + self.old[self.at :]

    @property
    def paste(self) -> str:
        """For the user's own hand."""
        return self.added.strip("\r\n")


def write_profile(study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]) -> str:
    """Add a profile to the study file under which `study` has these weights; its name.

    It holds all that the profile of `study` holds, the overrides of `study` that say what is studied, the weights, and
    which searches they come from. A profile that says the same is left, and named again. The file is as it is now.

    weights: dotted setting -> value; tuned: cell -> its search.
    Raises SpecError, with the text to paste, where the file cannot take it as it is written or no longer fits the
    search, and HarnessError where it cannot be written.
    """
    text = read_text(study.path)
    base = load_text(text, study.path, study.profile, study.overrides)
    profiles = _plain(text, study.path).get("profiles") or {}
    tree = _profile(profiles.get(study.profile, {}), study, weights, {**base.tuned, **tuned})
    name = next(name for name in _names(study, tuned) if profiles.get(name, tree) == tree)
    if name not in profiles:
        entry = Entry(name, tree, _comment(tuned))
        try:
            change = _Change(study, weights, entry, text, *insertion(text, entry))
        except NoPlaceError as error:
            raise _refusal(study.path, str(error), error.paste) from None
        _check(change, tuned)
        _replace(change)
    return name


def _profile(base: Tree, study: Study, weights: Mapping[str, float], tuned: Mapping[str, Tuned]) -> Tree:
    """What the new profile holds."""
    tree = dict(base)
    overrides = (_of_the_study(parse_override(text).plain()) for text in study.overrides)
    for patch in (*overrides, as_tree({name: float(value) for name, value in weights.items()})):
        tree = _merged(tree, patch, StudyFile().as_dict())
    return {**tree, "tuned": {cell: asdict(search) for cell, search in tuned.items()}}


def _of_the_study(patch: Tree) -> Tree:
    """The part of an override that says what is studied. Where trials are kept is this machine's business."""
    kept = {key: value for key, value in patch.items() if key not in _OF_THE_CALL}
    if isinstance(kept.get("tune"), dict):
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
    yield name[:LONGEST]
    for number in count(2):
        yield f"{name[: LONGEST - len(f'-{number}')]}-{number}"


def _comment(tuned: Mapping[str, Tuned]) -> str:
    """One line, whatever the objectives are called."""
    told = "; ".join(f"cell {cell}, {_trials(search)}, objective {search.objective}" for cell, search in tuned.items())
    return " ".join("".join(each if each.isprintable() else " " for each in f"written by harness tune: {told}").split())


def _trials(search: Tuned) -> str:
    return "1 trial" if search.trials == 1 else f"{search.trials} trials"


def _plain(text: str, path: Path) -> Tree:
    """The file's content, aliases and merges followed."""
    plain: Tree = parse_file(text, path).plain()
    return plain


def _check(change: _Change, tuned: Mapping[str, Tuned]) -> None:
    """Raise SpecError unless the new text says what the old one does and, under the new profile, what is wanted."""
    study, entry = change.study, change.entry
    wanted = _plain(change.old, study.path)
    wanted["profiles"] = {**(wanted.get("profiles") or {}), entry.name: entry.tree}
    try:
        loaded = load_text(change.new, study.path, entry.name)
    except SpecError as error:
        raise _refusal(study.path, f"with it the file could not be read: {error}", change.paste) from None
    if _as_json(_plain(change.new, study.path)) != _as_json(wanted):
        raise _refusal(study.path, "put into it, it would change what the file says elsewhere", change.paste)
    if wrong := _differences(loaded.settings, study.settings, change.weights):
        raise _refusal(study.path, f"the file is not that of the search any more: {wrong}", change.paste)
    for cell in tuned:
        there, here = (apply_toggles(each, cell_toggles(each, cell)) for each in (loaded, study))
        if wrong := _differences(there, here, change.weights):
            told = f"what its toggles set is written there: in the cell {cell} {wrong}"
            raise _refusal(study.path, told, change.paste)


def _differences(found: Settings, before: Settings, weights: Mapping[str, float]) -> str:
    """Which settings are not as before with the weights changed, in words."""
    there, wanted = found.flat, {**before.flat, **weights}
    wrong = [
        f"{name} would be {there.get(name)}, not {wanted.get(name)}"
        for name in dict.fromkeys([*wanted, *there])
        if there.get(name) != wanted.get(name)
    ]
    return ", ".join(wrong[:MOST_NAMED])


def _as_json(tree: Tree) -> str:
    """Text that tells 1, 1.0 and true apart."""
    return json.dumps(tree, sort_keys=True)


def _refusal(path: Path, reason: str, paste: str) -> SpecError:
    return SpecError(f"{path}: the weights cannot be written into the file: {reason}\nTo paste:\n{paste}")


def _replace(change: _Change) -> None:
    """The file that the study's path leads to, whole, with the mode that it has. Raises HarnessError."""
    path = change.study.path
    try:
        target = path.resolve(strict=True)
        if not target.stat().st_mode & _WRITABLE or not os.access(target, os.W_OK):
            raise HarnessError(f"{path}: is read-only; make it writable, or paste this profile:\n{change.paste}")
        with replacing(target, durable=True) as temporary:
            temporary.write_bytes(change.new.encode())
            shutil.copymode(target, temporary)
            if target.read_bytes() != change.old.encode():
                raise HarnessError(f"{path}: was changed at this very moment; nothing is written, ask again")
    except OSError as error:
        raise HarnessError(f"{path}: cannot be written ({error}); paste this profile:\n{change.paste}") from error
