"""A study file to a `Study`: defaults, then the file, then a profile, then overrides; all of it checked first.

Every mistake is a SpecError of one line a problem: place, dotted path, the value, what is allowed, the nearest match.
No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.design.kinds import DesignCell, DesignConfig, canonical_name, expand
from harness.errors import SpecError
from harness.study.checks import check_design, check_settings
from harness.study.overlay import Draft, nearest, shown, stop_at
from harness.study.own_toggles import base_settings, nested, read_toggles
from harness.study.places import located, located_patch
from harness.study.schema import Resources, Study, StudyFile, StudyToggle, Tracking, apply_toggles
from harness.study.yaml import Node, parse, parse_file, read_text

__all__ = ["DesignConfig", "Resources", "Study", "StudyToggle", "Tracking", "apply_toggles", "load_study", "load_text"]

MAX_SEEDS = 1000
MAX_PROFILES = 64
"""Each is checked against the whole file."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def load_study(path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """The study at `path` under a profile (none: the file's own) and overrides such as `train.kimg=2`, the last wins.

    Raises SpecError. Unknown keys and wrong types are found in every profile, asked for or not.
    """
    return load_text(read_text(path), path, profile, overrides)


def load_text(text: str, path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """As `load_study`, were `text` the content of the file."""
    root = _root(text, path)
    chosen = _choose_profile(root, profile)
    draft = _draft(root, chosen, [parse_override(text) for text in overrides])
    draft.value()
    file = draft.usable()
    for name, node in _profiles(root).items():
        if not _NAME.fullmatch(str(name)):
            raise SpecError(f"{node.where}: profile {shown(name)}: up to 64 of a-z, 0-9, - and _ name a profile")
    others = [_draft(root, name) for name in _profiles(root) if name != chosen]
    unfit = [other for other in others if other.value() is None]
    study = replace(_study(path, chosen, file, read_toggles(draft, file)), overrides=tuple(overrides))
    check_settings(draft, study, _cells(draft, study))
    stop_at([*draft.problems, *(problem for other in unfit for problem in other.problems)])
    return study


def _cells(draft: Draft[StudyFile], study: Study) -> Sequence[DesignCell]:
    """Those of the design; of one that is refused what all designs have, the toggles alone."""
    if check_design(draft, study):
        return expand(study.design, study.toggle_names).cells
    return expand(DesignConfig(), study.toggle_names).cells


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
    _check_name(draft)
    _spell_out_seeds(draft)
    return draft


def _check_name(draft: Draft[StudyFile]) -> None:
    name = draft.tree["study"]
    if name == "":
        draft.refuse(("study",), "missing: begin the file with `study: NAME`")
    elif isinstance(name, str) and not _NAME.fullmatch(name):
        draft.refuse(("study",), f"must be up to 64 of a-z, 0-9, - and _, a letter or digit first, not {shown(name)}")


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


def _study(path: Path, profile: str | None, file: StudyFile, toggles: tuple[StudyToggle, ...]) -> Study:
    names = tuple(toggle.name for toggle in toggles)
    return Study(
        name=file.study,
        path=path.absolute(),
        profile=profile,
        settings=located(base_settings(file), path.absolute().parent),
        toggles=tuple(located_patch(toggle, path.absolute().parent) for toggle in toggles),
        design=file.design,
        baseline=canonical_name(file.baseline, names, file.design),
        resources=file.resources,
        tracking=file.tracking,
        margins=file.margins,
        tune=file.tune,
        tuned=file.tuned,
    )
