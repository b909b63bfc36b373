"""The toggles of a study file: built-in ones and ideas by name, others as patches of settings."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

from harness.design.kinds import FULL, ORIGIN
from harness.errors import choices
from harness.ideas.read import Code
from harness.metrics.names import SEEN
from harness.models.objective import LossConfig
from harness.models.toggles import TOGGLES
from harness.runs.record import COST
from harness.settings import Settings
from harness.study import own
from harness.study.names import is_taken, taken_names
from harness.study.overlay import ConfigTree, Keys, dotted, nested, shown, value_at, with_init_spelt_out
from harness.study.schema import StudyFile, StudyToggle

MAX_TOGGLES = 64
"""Each is compared with every other."""
_TOGGLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UNUSABLE: dict[str, Any] = {"loss.tau": LossConfig().tau}
"""The patch of a toggle that cannot be used: it changes nothing, and the study that has it is refused."""


def toggles_of(
    config: ConfigTree[StudyFile], file: StudyFile, settings: Settings, code: Code
) -> tuple[StudyToggle, ...]:
    """The study's toggles in order; what is wrong with them is noted in `config`.

    One that cannot be used changes nothing, so that the rest of the study can be checked.
    """
    if len(file.toggles) > MAX_TOGGLES:
        config.refuse(("toggles",), f"{len(file.toggles)} toggles are too many; at most {MAX_TOGGLES}")
        return ()
    toggles: dict[str, StudyToggle] = {}
    for place, entry in enumerate(file.toggles):
        path = ("toggles", place)
        name = entry if isinstance(entry, str) else next(iter(entry), "")
        patch: Mapping[str, Any] = {}
        if problem := _wrong_toggle(entry, name, toggles, code) or _taken(name, settings):
            config.refuse(path, problem)
            patch = _UNUSABLE
        elif name in code.ideas:
            patch = {f"ideas.{name}.on": True}
        elif not isinstance(entry, str):
            patch = _patch(config, (*path, name), settings, code)
        for problem in own.switch_problems(name, patch, settings, code):
            config.refuse(path, problem)
        # One that cannot be used still has its name, which the design may hold.
        if isinstance(entry, str) or (_TOGGLE_NAME.fullmatch(name) and name not in TOGGLES):
            toggles.setdefault(name, StudyToggle(name, patch))
    return tuple(toggles.values())


def _wrong_toggle(entry: str | dict[str, Any], name: str, earlier: Container[str], code: Code) -> str:
    """What is wrong with this entry of the list of toggles; empty if nothing is."""
    if name in earlier:
        return f"{shown(name)} is here twice"
    idea = code.ideas.get(name)
    if idea and idea.kind == "feature":
        return f"{shown(name)} is a feature, which changes nothing by itself; name an idea that reads it"
    if isinstance(entry, str) and name in code.unmarked and name not in TOGGLES:
        problem = f"{shown(name)} is no idea, as at {code.unmarked[name]} no mark of harness.ideas stands above it"
        return f"{problem}: write from harness.ideas import term, and above it @term(PLAYER) or another mark"
    if isinstance(entry, str):
        patch = f"a toggle of your own needs a patch: `- {name}: {{loss.similarity: cosine}}`"
        allowed = [*TOGGLES, *(each for each, it in code.ideas.items() if it.kind != "feature")]
        return "" if name in allowed else f"unknown toggle {shown(name)}{choices(name, allowed)}; {patch}"
    if len(entry) != 1:
        return f"must be one name with its patch, not {shown(entry)}; begin each toggle with `- `"
    if idea:
        return f"{shown(name)} is an idea of {idea.file} and takes no patch; name your own otherwise"
    if name in TOGGLES:
        return f"{shown(name)} is a built-in toggle and takes no patch; name your own otherwise"
    if name in (ORIGIN, FULL) or not _TOGGLE_NAME.fullmatch(name):
        return f"a toggle's name is a letter, then a-z, 0-9 and _, and not origin or full; not {shown(name)}"
    return ""


def _taken(name: str, settings: Settings) -> str:
    """Why a toggle cannot be called that, if so."""
    if not is_taken(name, settings):
        return ""
    taken = f"{', '.join(taken_names(settings))}, a metric's with {SEEN}, and all that begin with {COST}"
    return f"{shown(name)} is another column of the table of runs; choose another name; taken: {taken}"


def _patch(config: ConfigTree[StudyFile], path: Keys, settings: Settings, code: Code) -> dict[str, Any]:
    """Dotted setting -> checked value of a toggle of the study's own; mistakes are noted in `config`."""
    node = config.node(path)
    patched = ConfigTree(own.schema_of(Settings, code), node, settings.as_dict(), inside=path)
    for key, value in node.value.items():
        patched.overlay(with_init_spelt_out(nested(key, value)))
    # `loss.tau` and `loss: {tau: ...}` are two keys of YAML and one setting.
    for setting in dict.fromkeys(each for each in patched.changed if patched.changed.count(each) > 1):
        patched.refuse(setting, "is here twice; keep one of the two")
    values = patched.value().as_dict()
    config.problems += patched.problems
    config.faulty |= {path} if patched.problems else set()
    if not patched.changed and not patched.problems:
        text = f"the toggle {shown(path[-1])} changes nothing: give it a patch such as {{loss.similarity: cosine}}"
        config.refuse(path[:-1], text)
    if not patched.changed or patched.problems:
        return _UNUSABLE
    patch = {dotted(changed): value_at(values, changed) for changed in patched.changed}
    return own.with_switches(patch, settings)
