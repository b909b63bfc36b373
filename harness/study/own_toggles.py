"""The `toggles` section of a study file: built-in toggles by name, a study's own as patches of settings. No torch."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import combinations
from typing import Any

from harness.design.kinds import FULL, ORIGIN
from harness.models.objective import LossConfig
from harness.models.toggles import TOGGLES
from harness.settings import Settings
from harness.study.overlay import Draft, dotted, nearest, shown, value_at
from harness.study.schema import StudyFile, StudyToggle
from harness.study.yaml import Node

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_TOGGLES = 64
"""Each is compared with every other."""
Place = tuple[str | int, ...]
_NOTHING: dict[str, Any] = {"loss.tau": LossConfig().tau}
"""The patch of a toggle that cannot be used: the study that has it is refused."""


def read_toggles(draft: Draft[StudyFile], file: StudyFile) -> tuple[StudyToggle, ...]:
    """The study's toggles in order; what is wrong with them is noted in `draft`.

    One that cannot be used changes nothing, so that the rest of the study can be checked.
    """
    if len(file.toggles) > MAX_TOGGLES:
        draft.refuse(("toggles",), f"{len(file.toggles)} toggles are too many; at most {MAX_TOGGLES}")
        return ()
    settings = base_settings(file).as_dict()
    toggles: dict[str, StudyToggle] = {}
    before = len(draft.problems)
    for place, entry in enumerate(file.toggles):
        path: Place = ("toggles", place)
        name = entry if isinstance(entry, str) else next(iter(entry), "")
        if name in toggles:
            draft.refuse(path, f"{shown(name)} is here twice")
        elif isinstance(entry, str):
            is_known = _check_builtin(draft, path, name)
            toggles[name] = StudyToggle(name, {} if is_known else _NOTHING)
        elif _check_own(draft, path, entry):
            toggles[name] = StudyToggle(name, _patch(draft, (*path, name), settings) or _NOTHING)
        elif _NAME.fullmatch(name) and name not in TOGGLES:
            toggles[name] = StudyToggle(name, _NOTHING)
    if len(draft.problems) == before and not any(path[:2] == ("design", "exclude") for path in draft.faulty):
        _check_overlaps(draft, file, tuple(toggles.values()))
    return tuple(toggles.values())


def base_settings(file: StudyFile) -> Settings:
    """The settings among the study file's values."""
    return Settings(**{field.name: getattr(file, field.name) for field in fields(Settings)})


def nested(path: str, node: Node) -> Node:
    """`node` below a dotted path: a patch of the whole tree."""
    for key in reversed(path.split(".")):
        node = Node({key: node}, node.where, node.key_where)
    return node


def _check_builtin(draft: Draft[StudyFile], path: Place, name: str) -> bool:
    if name not in TOGGLES:
        own = f"a toggle of your own needs a patch: `- {name}: {{loss.similarity: cosine}}`"
        text = f"unknown toggle {shown(name)}{nearest(name, TOGGLES) or ';'} allowed: {', '.join(TOGGLES)}; {own}"
        draft.refuse(path, text)
    return name in TOGGLES


def _check_own(draft: Draft[StudyFile], path: Place, entry: dict[str, dict[str, Any]]) -> bool:
    name = next(iter(entry), "")
    if len(entry) != 1:
        draft.refuse(path, f"must be one name with its patch, not {shown(entry)}; begin each toggle with `- `")
    elif name in TOGGLES:
        draft.refuse(path, f"{shown(name)} is a built-in toggle and takes no patch; name your own otherwise")
    elif name in (ORIGIN, FULL) or not _NAME.fullmatch(name):
        draft.refuse(
            path, f"a toggle's name is a letter, then a-z, 0-9 and _, and not origin or full; not {shown(name)}"
        )
    else:
        return True
    return False


def _patch(draft: Draft[StudyFile], path: Place, settings: dict[str, Any]) -> dict[str, Any]:
    """Dotted setting -> checked value; mistakes are noted in `draft`."""
    node = draft.node(path)
    trial = Draft(Settings, settings)
    trial.set_root(node)
    for key, value in node.value.items():
        trial.overlay(nested(key, value))
    outcome = trial.value()
    draft.problems += trial.problems
    if not trial.changed and not trial.problems:
        text = f"the toggle {shown(path[-1])} changes nothing: give it a patch such as {{loss.similarity: cosine}}"
        draft.refuse(path[:-1], text)
    if not outcome:
        return _NOTHING
    values = outcome.as_dict()
    return {dotted(changed): value_at(values, changed) for changed in trial.changed}


def _check_overlaps(draft: Draft[StudyFile], file: StudyFile, toggles: tuple[StudyToggle, ...]) -> None:
    excluded = {frozenset(pair) for pair in file.design.exclude}
    for first, second in combinations(toggles, 2):
        shared = set(first.settings) & set(second.settings)
        if shared and frozenset((first.name, second.name)) not in excluded:
            fix = f"add [{first.name}, {second.name}] to design.exclude"
            text = f"{first.name} and {second.name} both set {', '.join(sorted(shared))}; {fix}"
            draft.refuse(("toggles", toggles.index(second)), text)
