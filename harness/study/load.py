"""A study file to a `Study`: defaults, then the file, then a profile, then overrides; all of it checked first.

The mistakes are one SpecError with a line for each: place, dotted path, the value, what is allowed, the nearest match.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.data.sources import SOURCES
from harness.design.kinds import FULL, ORIGIN, DesignConfig, canonical_name, expand
from harness.errors import SpecError, choices, nearest
from harness.models.encoders import with_path_in
from harness.models.objective import LossConfig
from harness.models.toggles import TOGGLES
from harness.settings import Settings
from harness.study.checks import check_design, check_settings
from harness.study.overlay import Draft, Keys, dotted, shown, stop_at, value_at
from harness.study.schema import Study, StudyFile, StudyToggle
from harness.study.yaml import Node, parse, parse_file, read_text

MAX_SEEDS = 1000
MAX_PROFILES = 64
"""Each is checked against the whole file."""
MAX_TOGGLES = 64
"""Each is compared with every other."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TOGGLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UNUSABLE: dict[str, Any] = {"loss.tau": LossConfig().tau}
"""The patch of a toggle that cannot be used: it changes nothing, and the study that has it is refused."""


def load_study(path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """The study at `path` under a profile (none: the file's own) and overrides such as `train.kimg=2`, the last wins.

    Raises SpecError. Unknown keys and wrong types are found in every profile, asked for or not.
    """
    return load_text(read_text(path), path, profile, overrides)


def load_text(text: str, path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """As `load_study`, were `text` the content of the file."""
    # The file as a tree whose values know their places, with the profile and the overrides laid over it.
    root = _root(text, path)
    profiles = _profiles(root)
    chosen = _choose_profile(root, profile)
    draft = _draft(root, chosen, [parse_override(text) for text in overrides])
    for name, node in profiles.items():
        if not _NAME.fullmatch(str(name)):
            raise SpecError(f"{node.where}: profile {shown(name)}: up to 64 of a-z, 0-9, - and _ name a profile")
    # Each value by itself, in the profiles that were not asked for too. Defaults then replace what cannot be used, so
    # that one call names all mistakes.
    file = draft.value() or draft.usable()
    others = [other for name in profiles if name != chosen and (other := _draft(root, name)).value() is None]
    # What the values say together.
    study = _study(draft, file, path.absolute(), chosen, tuple(overrides))
    has_cells = check_design(draft, study)
    check_settings(draft, study, expand(study.design if has_cells else DesignConfig(), study.toggle_names).cells)
    stop_at([*draft.problems, *(problem for other in others for problem in other.problems)])
    return study


def _study(
    draft: Draft[StudyFile], file: StudyFile, path: Path, profile: str | None, overrides: tuple[str, ...]
) -> Study:
    toggles = _read_toggles(draft, file)
    return Study(
        name=file.study,
        path=path,
        profile=profile,
        settings=_located(_base_settings(file), path.parent),
        toggles=tuple(replace(toggle, patch=_located_patch(toggle.patch, path.parent)) for toggle in toggles),
        design=file.design,
        baseline=canonical_name(file.baseline, tuple(toggle.name for toggle in toggles), file.design),
        resources=file.resources,
        tracking=file.tracking,
        margins=file.margins,
        tune=file.tune,
        tuned=file.tuned,
        overrides=overrides,
    )


def _base_settings(file: StudyFile) -> Settings:
    """The settings among the study file's values."""
    return Settings(**{field.name: getattr(file, field.name) for field in fields(Settings)})


def parse_override(text: str) -> Node:
    """`a.b=c`, c being YAML, as the patch {a: {b: c}}. Raises SpecError."""
    where = f"--set {text}"
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise SpecError(f"{where}: must be KEY.PATH=VALUE, such as train.kimg=2")
    if path.split(".")[0] in ("profile", "profiles"):
        raise SpecError(f"{where}: a profile is chosen with --profile NAME")
    return _nested(path, parse(value, lambda line, column: where))


def _nested(path: str, node: Node) -> Node:
    """`node` below a dotted path: a patch of the whole tree."""
    for key in reversed(path.split(".")):
        node = Node({key: node}, node.where, node.key_where)
    return node


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


def _draft(root: Node, profile: str | None, options: Sequence[Node] = ()) -> Draft[StudyFile]:
    """Defaults, file, profile and options, with the seeds spelt out and the names checked."""
    draft = Draft(StudyFile)
    draft.set_root(root)
    draft.overlay(root)
    patch = _profiles(root)[profile] if profile else root
    if profile and isinstance(patch.value, dict):
        draft.forbid(patch, ("profile", "profiles"), f"not allowed in the profile {profile!r}")
        draft.overlay(patch)
    for option in options:
        draft.overlay(option)
    name = draft.tree["study"]
    if name == "":
        draft.refuse(("study",), "missing: begin the file with `study: NAME`")
    elif isinstance(name, str) and not _NAME.fullmatch(name):
        draft.refuse(("study",), f"must be up to 64 of a-z, 0-9, - and _, a letter or digit first, not {shown(name)}")
    _spell_out_seeds(draft)
    return draft


def _spell_out_seeds(draft: Draft[StudyFile]) -> None:
    """The number n becomes 0..n-1."""
    design, path = draft.tree["design"], ("design", "seeds")
    seeds = design["seeds"]
    if type(seeds) is int and 1 <= seeds <= MAX_SEEDS:
        draft.tree["design"] = {**design, "seeds": list(range(seeds))}
        return
    fit = isinstance(seeds, list | tuple) and 1 <= len(seeds) <= MAX_SEEDS
    if not fit or any(type(seed) is not int or seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        allowed = f"a number of seeds from 1 to {MAX_SEEDS} or a list of different whole numbers of at least 0"
        draft.refuse(path, f"must be {allowed}, not {shown(seeds)}")
        draft.tree["design"] = {**design, "seeds": [0]}


# The toggles of the study: built-in ones by name, its own as patches of settings.


def _read_toggles(draft: Draft[StudyFile], file: StudyFile) -> tuple[StudyToggle, ...]:
    """The study's toggles in order; what is wrong with them is noted in `draft`.

    One that cannot be used changes nothing, so that the rest of the study can be checked.
    """
    if len(file.toggles) > MAX_TOGGLES:
        draft.refuse(("toggles",), f"{len(file.toggles)} toggles are too many; at most {MAX_TOGGLES}")
        return ()
    settings = _base_settings(file).as_dict()
    toggles: dict[str, StudyToggle] = {}
    before = len(draft.problems)
    for place, entry in enumerate(file.toggles):
        path = ("toggles", place)
        name = entry if isinstance(entry, str) else next(iter(entry), "")
        if name in toggles:
            draft.refuse(path, f"{shown(name)} is here twice")
        elif isinstance(entry, str) and entry in TOGGLES:
            toggles[name] = StudyToggle(name)
        elif isinstance(entry, str):
            own = f"a toggle of your own needs a patch: `- {name}: {{loss.similarity: cosine}}`"
            draft.refuse(path, f"unknown toggle {shown(name)}{choices(name, TOGGLES)}; {own}")
            toggles[name] = StudyToggle(name, _UNUSABLE)
        elif _check_own(draft, path, entry):
            toggles[name] = StudyToggle(name, _patch(draft, (*path, name), settings) or _UNUSABLE)
        elif _TOGGLE_NAME.fullmatch(name) and name not in TOGGLES:
            toggles[name] = StudyToggle(name, _UNUSABLE)
    if len(draft.problems) == before and not any(path[:2] == ("design", "exclude") for path in draft.faulty):
        _check_overlaps(draft, file, tuple(toggles.values()))
    return tuple(toggles.values())


def _check_own(draft: Draft[StudyFile], path: Keys, entry: dict[str, dict[str, Any]]) -> bool:
    name = next(iter(entry), "")
    if len(entry) != 1:
        draft.refuse(path, f"must be one name with its patch, not {shown(entry)}; begin each toggle with `- `")
    elif name in TOGGLES:
        draft.refuse(path, f"{shown(name)} is a built-in toggle and takes no patch; name your own otherwise")
    elif name in (ORIGIN, FULL) or not _TOGGLE_NAME.fullmatch(name):
        draft.refuse(
            path, f"a toggle's name is a letter, then a-z, 0-9 and _, and not origin or full; not {shown(name)}"
        )
    else:
        return True
    return False


def _patch(draft: Draft[StudyFile], path: Keys, settings: dict[str, Any]) -> dict[str, Any]:
    """Dotted setting -> checked value; mistakes are noted in `draft`."""
    node = draft.node(path)
    trial = Draft(Settings, settings)
    trial.set_root(node)
    for key, value in node.value.items():
        trial.overlay(_nested(key, value))
    outcome = trial.value()
    draft.problems += trial.problems
    if not trial.changed and not trial.problems:
        text = f"the toggle {shown(path[-1])} changes nothing: give it a patch such as {{loss.similarity: cosine}}"
        draft.refuse(path[:-1], text)
    if not outcome:
        return _UNUSABLE
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


# Paths in a study file are relative to it.


def _located(settings: Settings, folder: Path) -> Settings:
    """Paths of data and weights as absolute ones; they are written relative to the study file."""
    data, held_out = settings.data, settings.data.held_out
    places = SOURCES[data.source].places if data.source in SOURCES else ()

    def place(name: str, written: str) -> str:
        there = folder / os.path.expanduser(written)
        return str(there) if written and (name in places or os.path.exists(there)) else written

    held_out = replace(held_out, path=place("path", held_out.path), images=place("images", held_out.images))
    located = replace(data, path=place("path", data.path), images=place("images", data.images), held_out=held_out)
    guides, metrics = settings.encoders, settings.metrics
    return replace(
        settings,
        data=located,
        encoders=replace(guides, clip=with_path_in(guides.clip, folder), resnet=with_path_in(guides.resnet, folder)),
        metrics=replace(
            metrics,
            clip=with_path_in(metrics.clip, folder),
            resnet=with_path_in(metrics.resnet, folder),
            more=tuple(with_path_in(name, folder) for name in metrics.more),
        ),
    )


def _located_patch(patch: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The patch of a toggle with the paths of weights as absolute ones."""
    names = ("encoders.clip", "encoders.resnet")
    return {key: with_path_in(value, folder) if key in names else value for key, value in patch.items()}
