"""A study file to a `Study`: defaults, then the file, then a profile, then overrides; all of it checked first.

The mistakes are one SpecError with a line for each: place, dotted path, the value, what is allowed, the nearest match.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.data.sources import SOURCES
from harness.design.kinds import FULL, ORIGIN, DesignConfig, canonical_name, expand, with_level_names
from harness.errors import SpecError, choices, nearest
from harness.models.encoders import with_path_in
from harness.models.objective import LossConfig
from harness.models.toggles import TOGGLES
from harness.runs.initial import NETWORKS
from harness.settings import Settings
from harness.study.checks import check_design, check_settings
from harness.study.factors import factors_of
from harness.study.overlay import ARGUMENTS, ConfigTree, Keys, dotted, nested, shown, value_at
from harness.study.schema import Study, StudyFile, StudyToggle
from harness.study.yaml import Node, parse, parse_file, read_text

MAX_SEEDS = 1000
MAX_PROFILES = 64
"""Each is checked against the whole file."""
MAX_TOGGLES = 64
"""Each is compared with every other."""
MAX_PROBLEMS = 40
"""In one message."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TOGGLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UNUSABLE: dict[str, Any] = {"loss.tau": LossConfig().tau}
"""The patch of a toggle that cannot be used: it changes nothing, and the study that has it is refused."""
_WEIGHTS = ("encoders.clip", "encoders.resnet", "metrics.clip", "metrics.resnet", "metrics.more")
_PATHS = (
    *("data.path", "data.images", "data.held_out.path", "data.held_out.images"),
    *_WEIGHTS,
    *(f"init.{name}" for name in NETWORKS),
    "metrics.captions",
)
"""Settings that can name files."""


def load_study(path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """The study at `path` under a profile (none: the file's own) and overrides such as `train.kimg=2`, the last wins.

    Raises SpecError. Unknown keys and wrong types are found in every profile, asked for or not.
    """
    return load_text(read_text(path), path, profile, overrides)


def profiles_of(path: Path) -> tuple[str, ...]:
    """The names of the profiles of the study file at `path`. Raises SpecError."""
    return tuple(_profiles(_root(read_text(path), path)))


def load_text(text: str, path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """As `load_study`, were `text` the content of the file."""
    # The file as a tree whose values know their places, with the profile and the overrides laid over it.
    root = _root(text, path)
    profiles = _profiles(root)
    profile = _choose_profile(root, profile)
    config = _config(root, profile, [parse_override(text) for text in overrides])
    for name, node in profiles.items():
        if not _NAME.fullmatch(str(name)):
            raise SpecError(f"{node.where}: profile {shown(name)}: up to 64 of a-z, 0-9, - and _ name a profile")
    # Each value by itself, in the profiles that were not asked for too.
    file = config.value()
    others = [_config(root, name) for name in profiles if name != profile]
    for other in others:
        other.value()
    # What the values say together.
    study = _study(config, file, path.absolute(), profile, tuple(overrides))
    has_cells = check_design(config, study)
    layout = study.layout if has_cells else expand(DesignConfig(), study.toggle_names, study.factors)
    check_settings(config, study, layout.cells)
    problems = list(dict.fromkeys(problem for each in (config, *others) for problem in each.problems))
    if problems:
        more = [f"and {len(problems) - MAX_PROBLEMS} more of the kind"] if len(problems) > MAX_PROBLEMS else []
        raise SpecError("\n".join([*problems[:MAX_PROBLEMS], *more]))
    return study


def _study(
    config: ConfigTree[StudyFile], file: StudyFile, path: Path, profile: str | None, overrides: tuple[str, ...]
) -> Study:
    places, folder = SOURCES[file.data.source].places if file.data.source in SOURCES else (), path.parent
    settings = Settings(**{field.name: getattr(file, field.name) for field in fields(Settings)})
    toggles = tuple(
        replace(toggle, patch=_located(toggle.patch, places, folder)) for toggle in _toggles(config, file, settings)
    )
    factors = tuple(
        replace(it, values=tuple(_located({it.setting: value}, places, folder)[it.setting] for value in it.values))
        for it in factors_of(config, file, settings, toggles)
    )
    design = with_level_names(file.design, factors)
    return Study(
        name=file.study,
        path=path,
        profile=profile,
        settings=settings.with_values(_located({name: settings.flat[name] for name in _PATHS}, places, folder)),
        toggles=toggles,
        factors=factors,
        design=design,
        baseline=canonical_name(file.baseline, tuple(toggle.name for toggle in toggles), design, factors),
        resources=file.resources,
        tracking=file.tracking,
        margins=file.margins,
        tune=file.tune,
        tuned=file.tuned,
        overrides=overrides,
    )


def _located(values: Mapping[str, Any], places: Sequence[str], folder: Path) -> dict[str, Any]:
    """The settings with the paths of data and weights as absolute ones; they are written relative to the study file.

    `places`: names of the settings that are paths for this source of data; others are where such a file exists.
    """

    def located(name: str, value: Any) -> Any:
        if name not in _PATHS:
            return value
        if isinstance(value, tuple):
            return tuple(with_path_in(each, folder) for each in value)
        if name in _WEIGHTS:
            return with_path_in(value, folder)
        there = folder / os.path.expanduser(value)
        is_file = name == "metrics.captions" or name.rpartition(".")[2] in places
        is_path = value and (is_file or os.path.exists(there))
        return str(there) if is_path else value

    return {name: located(name, value) for name, value in values.items()}


def parse_override(text: str) -> Node:
    """`a.b=c`, c being YAML, as the patch {a: {b: c}}. Raises SpecError."""
    where = f"--set {text}"
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise SpecError(f"{where}: must be KEY.PATH=VALUE, such as train.kimg=2")
    if path.split(".")[0] in ("profile", "profiles"):
        raise SpecError(f"{where}: a profile is chosen with --profile NAME")
    return nested(path, parse(value, lambda line, column: where))


def _root(text: str, path: Path) -> Node:
    root = parse_file(text, path)
    if root.value is None:
        raise SpecError(f"{path}: the file is empty; begin it with `study: NAME`, or let `harness init` write one")
    if not isinstance(root.value, dict):
        raise SpecError(
            f"{root.where}: a study file is a mapping that begins with `study: NAME`, not {shown(root.plain())}"
        )
    if len(_profiles(root)) > MAX_PROFILES:
        raise SpecError(f"{root.value['profiles'].where}: profiles: {len(_profiles(root))}; at most {MAX_PROFILES}")
    return root


def _profiles(root: Node) -> dict[str, Node]:
    node = root.value.get("profiles")
    return node.value if node and isinstance(node.value, dict) else {}


def _choose_profile(root: Node, asked: str | None) -> str | None:
    profiles = _profiles(root)
    written = root.value.get("profile")
    where = f"--profile {asked}" if asked else f"{written.where}: profile" if written else ""
    chosen = asked or (written.plain() if written else None)
    if chosen is None or (isinstance(chosen, str) and chosen in profiles):
        return chosen
    allowed = f"allowed: {', '.join(profiles)}" if profiles else "the file has no profiles"
    raise SpecError(f"{where}: no profile {shown(chosen)}{nearest(str(chosen), profiles) or ';'} {allowed}")


def _config(root: Node, profile: str | None, options: Sequence[Node] = ()) -> ConfigTree[StudyFile]:
    """Defaults, file, profile and options, with the seeds spelt out and the names checked."""
    config = ConfigTree(StudyFile, root)
    config.overlay(_with_init_spelt_out(root))
    config.declare(ARGUMENTS)
    patch = _profiles(root)[profile] if profile else root
    if profile and isinstance(patch.value, dict):
        for name in ("profile", "profiles"):
            if name in patch.value:
                config.refuse((name,), f"not allowed in the profile {profile!r}", patch.value[name].key_where)
        config.overlay(_with_init_spelt_out(patch))
    for option in options:
        config.overlay(_with_init_spelt_out(option))
    name = config.tree["study"]
    if name == "":
        config.refuse(("study",), "missing: begin the file with `study: NAME`")
    elif isinstance(name, str) and not _NAME.fullmatch(name):
        config.refuse(("study",), f"must be up to 64 of a-z, 0-9, - and _, a letter or digit first, not {shown(name)}")
    _spell_out_seeds(config.tree["design"], config)
    if config.tree["command"]["run"] and not any(path[0] == "toggles" for path in config.changed):
        config.tree["toggles"] = []  # the default ones are of the built-in trainer
    return config


def _with_init_spelt_out(patch: Node) -> Node:
    """`init: SOURCE` is short for that source of every network."""
    init = patch.value.get("init")
    if init is None or not isinstance(init.value, str):
        return patch
    return replace(patch, value={**patch.value, "init": replace(init, value=dict.fromkeys(NETWORKS, init))})


def _spell_out_seeds(design: dict[str, Any], config: ConfigTree[StudyFile]) -> None:
    """The number n becomes 0..n-1."""
    seeds = design["seeds"]
    if type(seeds) is int and 1 <= seeds <= MAX_SEEDS:
        design["seeds"] = list(range(seeds))
        return
    fit = isinstance(seeds, list | tuple) and 1 <= len(seeds) <= MAX_SEEDS
    if not fit or any(type(seed) is not int or seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        allowed = f"a number of seeds from 1 to {MAX_SEEDS} or a list of different whole numbers of at least 0"
        config.refuse(("design", "seeds"), f"must be {allowed}, not {shown(seeds)}")
        design["seeds"] = [0]


# The toggles of the study: built-in ones by name, its own as patches of settings.


def _toggles(config: ConfigTree[StudyFile], file: StudyFile, settings: Settings) -> tuple[StudyToggle, ...]:
    """The study's toggles in order; what is wrong with them is noted in `config`.

    One that cannot be used changes nothing, so that the rest of the study can be checked.
    """
    if len(file.toggles) > MAX_TOGGLES:
        config.refuse(("toggles",), f"{len(file.toggles)} toggles are too many; at most {MAX_TOGGLES}")
        return ()
    toggles: dict[str, StudyToggle] = {}
    before = len(config.problems)
    for place, entry in enumerate(file.toggles):
        path = ("toggles", place)
        name = entry if isinstance(entry, str) else next(iter(entry), "")
        patch: Mapping[str, Any] = {}
        if problem := _wrong_toggle(entry, name, toggles):
            config.refuse(path, problem)
            patch = _UNUSABLE
        elif not isinstance(entry, str):
            patch = _patch(config, (*path, name), settings)
        # One that cannot be used still has its name, which the design may hold.
        if isinstance(entry, str) or (_TOGGLE_NAME.fullmatch(name) and name not in TOGGLES):
            toggles.setdefault(name, StudyToggle(name, patch))
    if len(config.problems) == before and not any(path[:2] == ("design", "exclude") for path in config.faulty):
        _check_overlaps(config, file, tuple(toggles.values()))
    return tuple(toggles.values())


def _wrong_toggle(entry: str | dict[str, Any], name: str, earlier: Container[str]) -> str:
    """What is wrong with this entry of the list of toggles; empty if nothing is."""
    if name in earlier:
        return f"{shown(name)} is here twice"
    if isinstance(entry, str):
        own = f"a toggle of your own needs a patch: `- {name}: {{loss.similarity: cosine}}`"
        return "" if name in TOGGLES else f"unknown toggle {shown(name)}{choices(name, TOGGLES)}; {own}"
    if len(entry) != 1:
        return f"must be one name with its patch, not {shown(entry)}; begin each toggle with `- `"
    if name in TOGGLES:
        return f"{shown(name)} is a built-in toggle and takes no patch; name your own otherwise"
    if name in (ORIGIN, FULL) or not _TOGGLE_NAME.fullmatch(name):
        return f"a toggle's name is a letter, then a-z, 0-9 and _, and not origin or full; not {shown(name)}"
    return ""


def _patch(config: ConfigTree[StudyFile], path: Keys, settings: Settings) -> dict[str, Any]:
    """Dotted setting -> checked value of a toggle of the study's own; mistakes are noted in `config`."""
    node = config.node(path)
    patched = ConfigTree(Settings, node, settings.as_dict())
    for key, value in node.value.items():
        patched.overlay(nested(key, value))
    values = patched.value().as_dict()
    config.problems += patched.problems
    config.faulty |= {path} if patched.problems else set()
    if not patched.changed and not patched.problems:
        text = f"the toggle {shown(path[-1])} changes nothing: give it a patch such as {{loss.similarity: cosine}}"
        config.refuse(path[:-1], text)
    if not patched.changed or patched.problems:
        return _UNUSABLE
    return {dotted(changed): value_at(values, changed) for changed in patched.changed}


def _check_overlaps(config: ConfigTree[StudyFile], file: StudyFile, toggles: tuple[StudyToggle, ...]) -> None:
    excluded = {frozenset(pair) for pair in file.design.exclude}
    for first, second in combinations(toggles, 2):
        shared = set(first.settings) & set(second.settings)
        if shared and frozenset((first.name, second.name)) not in excluded:
            fix = f"add [{first.name}, {second.name}] to design.exclude"
            text = f"{first.name} and {second.name} both set {', '.join(sorted(shared))}; {fix}"
            config.refuse(("toggles", toggles.index(second)), text)
