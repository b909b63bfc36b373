"""The `levels` section of a study file: settings with several values, checked as the patches of toggles are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from harness.design.factors import Factor, level_name, written
from harness.design.kinds import DesignCell
from harness.settings import Settings
from harness.study.names import taken_names
from harness.study.overlay import ConfigTree, Keys, dotted, nested, shown, value_at
from harness.study.schema import Study, StudyFile, StudyToggle, apply_toggles
from harness.study.yaml import Node

MAX_FACTORS = 16
MAX_LEVELS = 64
"""Of one factor."""


def factors_of(
    config: ConfigTree[StudyFile],
    file: StudyFile,
    settings: Settings,
    toggles: Sequence[StudyToggle],
    schema: type[Settings],
) -> tuple[Factor, ...]:
    """The study's factors in order; what is wrong with them is noted in `config`, and such a one is left out.

    `schema`: of the settings, those of ideas included.
    """
    if not file.levels:
        return ()
    entries = list(_entries(config.node(("levels",)).value))
    if len(entries) > MAX_FACTORS:
        config.refuse(("levels",), f"{len(entries)} factors are too many; at most {MAX_FACTORS}")
        return ()
    keys = [dotted(key) for key, _ in entries]
    for setting in sorted({key for key in keys if keys.count(key) > 1}):
        config.refuse(("levels",), f"{setting} is here twice; keep one of the two lists")
        return ()
    factors, sound = [], () if any(path[0] == "toggles" for path in config.faulty if path) else toggles
    for key, node in entries:
        setting = dotted(key)
        values = _values(config, key, node, settings, schema)
        if values is not None and (problem := _problem(setting, values, settings, sound)):
            config.refuse(("levels", *key), problem, node.where)
        elif values is not None:
            name = short_name(setting, keys, [*(toggle.name for toggle in toggles), *taken_names(settings)])
            levels = tuple(level_name(name, value) for value in values)
            if twice := sorted({level for level in levels if levels.count(level) > 1}):
                text = f"two values would both be called {shown(twice[0])}; keep one of them"
                config.refuse(("levels", *key), text, node.where)
                continue
            reference = levels[values.index(settings.flat[setting])]
            factors.append(Factor(name, levels, reference, values, setting))
    return tuple(factors)


def idle_levels(study: Study, cells: Sequence[DesignCell]) -> Iterator[tuple[Keys, str]]:
    """Factors of an idea that is off in every cell of another level, where they change nothing: keys, what is wrong."""
    for factor in study.factors:
        section, name, *_ = factor.setting.split(".")
        if section != "ideas" or study.settings.ideas[name].get("on", True):
            continue
        with_levels = (cell.toggles for cell in cells if {*factor.levels} & {*cell.toggles})
        if not any(name in apply_toggles(study, toggles).ideas for toggles in with_levels):
            text = f"the idea {name} is off in every cell of these levels, so they change nothing"
            fix = f"write ideas: {{{name}: {{on: true}}}}, or leave them out"
            yield ("levels", *factor.setting.split(".")), f"{text}; {fix}"


def short_name(setting: str, settings: Sequence[str], taken: Collection[str]) -> str:
    """The last part of a dotted setting, or as many from the end as no other factor has and are not `taken`."""

    def ending(path: str, parts: int) -> str:
        return ".".join(path.split(".")[-parts:])

    others = [other for other in settings if other != setting]
    for parts in range(1, setting.count(".") + 1):
        name = ending(setting, parts)
        if name not in taken and all(ending(other, parts) != name for other in others):
            return name
    return setting


def _entries(section: Mapping[str, Node], above: Keys = ()) -> Iterator[tuple[Keys, Node]]:
    """Every setting and its node; `loss: {tau: ...}` is the same as `loss.tau: ...`."""
    for name, node in section.items():
        key = (*above, *name.split("."))
        if isinstance(node.value, dict) and node.value:
            yield from _entries(node.value, key)
        else:
            yield key, node


def _values(
    config: ConfigTree[StudyFile], key: Keys, node: Node, settings: Settings, schema: type[Settings]
) -> tuple[Any, ...] | None:
    """The checked values of a setting; None where one cannot be used, which is noted in `config`."""
    setting = dotted(key)
    if not isinstance(node.value, list) or not 2 <= len(node.value) <= MAX_LEVELS:
        if setting in settings.flat:
            example = f"[{written(settings.flat[setting])}, ...]"
            text = f"must be a list of 2 to {MAX_LEVELS} values, the study's own among them: {example}"
            config.refuse(("levels", *key), f"{text}, not {shown(node.plain())}", node.where)
            return None
        items = [node]
    else:
        items = node.value
    values, problems = [], list[str]()
    for item in items:
        patched = ConfigTree(schema, item, settings.as_dict(), inside=("levels",))
        patched.overlay(nested(setting, item))
        tree = patched.value().as_dict()
        problems += [problem for problem in patched.problems if problem not in problems]
        if patched.problems and setting not in settings.flat:
            break  # no setting: once is enough
        if not patched.problems:
            value = value_at(tree, key)
            values.append(tuple(value) if isinstance(value, list) else value)
    if not problems and setting not in settings.flat:
        names = ", ".join(value_at(settings.as_dict(), key))
        config.refuse(("levels", *key), f"is a section; list the values of one of its settings: {names}", node.where)
        return None
    config.problems += problems
    config.faulty |= {("levels", *key)} if problems else set()
    return None if problems else tuple(values)


def _problem(setting: str, values: tuple[Any, ...], settings: Settings, toggles: Sequence[StudyToggle]) -> str:
    """What is wrong with a setting all of whose values are allowed; empty if nothing is.

    `toggles`: those that are sound.
    """
    for place, value in enumerate(values):
        if value in values[:place]:
            return f"{written(value)} is here twice; leave one out"
    own = settings.flat[setting]
    if owners := [toggle.name for toggle in toggles if setting in toggle.settings]:
        return f"is set by the toggle {owners[0]} too; leave it out of one of the two"
    if own not in values:
        named = ", ".join(map(written, values))
        lacks = f"lacks {written(own)}, the study's own value, which is the reference level"
        return f"{lacks}: add {written(own)} to the list, or set {setting} to one of {named}"
    return ""
