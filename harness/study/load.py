"""A study file to a `Study`: defaults, then the file, then a profile, then overrides; all of it checked first.

The mistakes are one SpecError with a line for each: place, dotted path, the value, what is allowed, the nearest match.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from harness.data.sources import SOURCES
from harness.design.kinds import (
    FIRST_LOOK,
    LARGEST_MOST,
    MOST_SEEDS,
    DesignConfig,
    canonical_name,
    expand,
    with_level_names,
)
from harness.errors import SpecError, nearest
from harness.ideas.read import Code
from harness.models.encoders import with_path_in
from harness.runs.initial import NETWORKS
from harness.settings import Settings
from harness.study import own
from harness.study.checks import check_design, check_overlaps, check_settings
from harness.study.factors import factors_of
from harness.study.overlay import ARGUMENTS, ConfigTree, dotted, nested, shown, with_init_spelt_out
from harness.study.schema import Study, StudyFile
from harness.study.site import read_site
from harness.study.toggles import toggles_of
from harness.study.yaml import Node, parse, parse_file, read_text
from harness.text import escaped, is_utf8, quantity
from harness.trees import plain_tree

PROFILE_VARIABLE = "HARNESS_PROFILE"
"""Of the environment: names the profile where no option does."""
MAX_SEEDS = 1000
LARGEST_SEED = 10**15 - 1000
"""The record of a run takes numbers up to 10^15, and up to 1000 seeds of the control come after the last."""
AUTO = "auto"
"""In place of the seeds: as many as it takes."""
MAX_PROFILES = 64
"""Each is checked against the whole file."""
MAX_PROBLEMS = 40
"""In one message."""
_LONGEST_EXPERIMENT = 200
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NAMED = "up to 64 of a-z, 0-9, - and _, a letter or digit first,"
_WEIGHTS = ("encoders.clip", "encoders.resnet", "metrics.clip", "metrics.resnet", "metrics.more")
_CODE_IS_FIXED = "a study has one list of code files, at the top of its file; all profiles and cells share it"
_PATHS = (
    *("data.path", "data.images", "data.held_out.path", "data.held_out.images"),
    *_WEIGHTS,
    *(f"init.{name}" for name in NETWORKS),
    "metrics.captions",
)
"""Settings that can name files."""
_PLACED = ("resources", "tracking", "tune")
"""Sections in which mistakes are found that no look at the file tells: the messages say where it is written."""


def load_study(path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """The study at `path` under a profile (none: the file's own) and overrides such as `train.kimg=2`, the last wins.

    Raises SpecError. Unknown keys and wrong types are found in every profile, asked for or not.
    """
    return load_text(read_text(path), path, profile, overrides)


def profiles_of(path: Path) -> tuple[str, ...]:
    """The names of the profiles of the study file at `path`. Raises SpecError."""
    return tuple(_profiles(_root(read_text(path), path)))


def texts_of_profiles(text: str, path: Path) -> dict[str, set[str]]:
    """Label of the folder of runs -> every value of the study file `text` that is text, with each profile and without.

    Nothing of a YAML file that is no study; what is wrong with one otherwise does not matter. Raises SpecError.
    """
    root = parse_file(text, path)
    if not isinstance(root.value, dict) or "study" not in root.value:
        return {}
    shared = {text for key, node in root.value.items() if key != "profiles" for text in _texts(node)}
    label = root.value["study"].plain()
    profiles = {f"{label}-{name}": shared.union(_texts(node)) for name, node in _profiles(root).items()}
    return {label: shared, **profiles}


def _texts(node: Node) -> Iterator[str]:
    """Every value below it that is text."""
    if isinstance(node.value, str):
        yield node.value
    elif isinstance(node.value, dict | list):
        for each in node.value.values() if isinstance(node.value, dict) else node.value:
            yield from _texts(each)


def load_text(
    text: str,
    path: Path,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    code_folder: Path | None = None,
) -> Study:
    """As `load_study`, were `text` the content of the file, and its files of ideas those in `code_folder`."""
    if not is_utf8(str(path.absolute())):  # it could not stand in the records of jobs and the addresses of databases
        raise SpecError(f"{escaped(str(path.absolute()))}: the name is not UTF-8; rename the folder or file")
    # The file as a tree whose values know their places, with the profile and the overrides laid over it.
    root = _root(text, path)
    code, site = own.read_own_code(root, code_folder or path.parent), read_site()
    profiles = _profiles(root)
    profile = _choose_profile(root, profile)
    schema = own.schema_of(StudyFile, code)
    config = _config(ConfigTree(schema, root), site, profile, [parse_override(text) for text in overrides])
    # Each value by itself, in the profiles that were not asked for too.
    file = config.value()
    others = [_config(ConfigTree(schema, root), site, name) for name in profiles if name != profile]
    for other in others:
        other.value()
    # What the values say together.
    study = _study(config, file, code, path.absolute(), profile, tuple(overrides))
    has_cells = check_design(config, study)
    layout = study.layout if has_cells else expand(DesignConfig(), study.toggle_names, study.factors)
    check_overlaps(config, study, layout.cells)
    check_settings(config, study, layout.cells)
    problems = list(dict.fromkeys(problem for each in (config, *others) for problem in each.problems))
    if problems:
        more = [f"and {quantity(len(problems) - MAX_PROBLEMS, 'more problem')}"] if len(problems) > MAX_PROBLEMS else []
        raise SpecError("\n".join([*problems[:MAX_PROBLEMS], *more]))
    return replace(study, text=text)


def _study(
    config: ConfigTree[StudyFile],
    file: StudyFile,
    code: Code,
    path: Path,
    profile: str | None,
    overrides: tuple[str, ...],
) -> Study:
    located = functools.partial(_located, places=_places(file, code), folder=path.parent)
    settings = Settings(**{f.name: getattr(file, f.name) for f in fields(Settings)} | {"ideas": plain_tree(file.ideas)})
    toggles = tuple(replace(it, patch=located(it.patch)) for it in toggles_of(config, file, settings, code))
    factors = tuple(
        replace(it, values=tuple(located({it.setting: value})[it.setting] for value in it.values))
        for it in factors_of(config, file, settings, toggles, own.schema_of(Settings, code))
    )
    placed = {name: value for name, value in settings.flat.items() if name in _PATHS or name.startswith("ideas.")}
    design = with_level_names(file.design, factors)
    return Study(
        name=file.study,
        path=path,
        profile=profile,
        settings=settings.with_values(located(placed)),
        code=code,
        toggles=toggles,
        factors=factors,
        design=design,
        baseline=canonical_name(file.baseline, tuple(toggle.name for toggle in toggles), design, factors),
        resources=file.resources,
        places={dotted(path): config.node(path).where for path in config.changed if path[0] in _PLACED},
        tracking=file.tracking,
        margins=file.margins,
        tune=file.tune,
        tuned=file.tuned,
        overrides=overrides,
    )


def _places(file: StudyFile, code: Code) -> tuple[str, ...]:
    """Names of settings that are paths for the study's source of data, and dotted ones of the networks of ideas."""
    of_source = SOURCES[file.data.source].places if file.data.source in SOURCES else ()
    return (*of_source, *(f"ideas.{name}.{key}" for name, idea in code.ideas.items() for key in idea.networks))


def _located(values: Mapping[str, Any], places: Sequence[str], folder: Path) -> dict[str, Any]:
    """The settings with the paths of data and weights as absolute ones; they are written relative to the study file.

    `places`: as `_places`; others are where such a file exists.
    """

    def located(name: str, value: Any) -> Any:
        if name not in _PATHS and name not in places:
            return value
        if isinstance(value, tuple):
            return tuple(with_path_in(each, folder) for each in value)
        if name in _WEIGHTS or name in places:
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
    if path.split(".")[0] == "code":
        raise SpecError(f"{where}: {_CODE_IS_FIXED}")
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
    for name, node in _profiles(root).items():
        if not _NAME.fullmatch(str(name)):
            raise SpecError(f"{node.where}: profile {shown(name)}: {_NAMED} name a profile")
    return root


def _profiles(root: Node) -> dict[str, Node]:
    node = root.value.get("profiles")
    return node.value if node and isinstance(node.value, dict) else {}


def _choose_profile(root: Node, asked: str | None) -> str | None:
    profiles = _profiles(root)
    written = root.value.get("profile")
    # An option that is empty is a slip of a script; a variable that is empty counts as not set.
    where = f"--profile {asked or repr(asked)}" if asked is not None else f"{written.where}: profile" if written else ""
    if asked is not None and asked == os.environ.get(PROFILE_VARIABLE):
        where = f"--profile {asked}, or {PROFILE_VARIABLE} in the environment"
    chosen = asked if asked is not None else (written.text or written.plain()) if written else None
    if chosen is None or (isinstance(chosen, str) and chosen in profiles):
        return chosen
    allowed = f"allowed: {', '.join(profiles)}" if profiles else "the file has no profiles"
    raise SpecError(f"{where}: no profile {shown(chosen)}{nearest(str(chosen), profiles) or ';'} {allowed}")


def _config(
    config: ConfigTree[StudyFile], site: Node, profile: str | None, options: Sequence[Node] = ()
) -> ConfigTree[StudyFile]:
    """Defaults, site, file, profile and options, with the seeds spelt out and the names checked."""
    root = config.node(())
    config.overlay(site)
    config.overlay(with_init_spelt_out(root))
    config.declare(ARGUMENTS)
    patch = _profiles(root)[profile] if profile else root
    if profile and isinstance(patch.value, dict):
        for name in ("profile", "profiles"):
            if name in patch.value:
                config.refuse((name,), f"not allowed in the profile {profile!r}", patch.value[name].key_where)
        if "code" in patch.value:
            config.refuse(
                ("code",), f"not allowed in the profile {profile!r}: {_CODE_IS_FIXED}", patch.value["code"].key_where
            )
        config.overlay(with_init_spelt_out(patch))
    for option in options:
        config.overlay(with_init_spelt_out(option))
    name = config.tree["study"]
    if name == "":
        config.refuse(("study",), "missing: begin the file with `study: NAME`")
    elif isinstance(name, str) and not _NAME.fullmatch(name):
        config.refuse(("study",), f"must be {_NAMED} not {shown(name)}")
    experiment = config.tree["tracking"]["experiment"]
    # A local store keeps its artefacts in a folder of this name, in which a slash is written %2F.
    if isinstance(experiment, str) and len(experiment.replace("/", "%2F").encode()) > _LONGEST_EXPERIMENT:
        text = f"must be up to {_LONGEST_EXPERIMENT} bytes, as a folder has its name, not {shown(experiment)}"
        config.refuse(("tracking", "experiment"), text)
    _spell_out_seeds(config.tree["design"], config)
    if config.tree["command"]["run"] and not any(path[0] == "toggles" for path in config.changed):
        config.tree["toggles"] = []  # the default ones are of the built-in trainer
    return config


def _spell_out_seeds(design: dict[str, Any], config: ConfigTree[StudyFile]) -> None:
    """The number n becomes 0..n-1, and auto as many as there may be; then, and only then, `max_seeds` is a number."""
    seeds, most = design["seeds"], design["max_seeds"]
    design["max_seeds"] = None
    if seeds == AUTO:
        most = MOST_SEEDS if most is None else most
        if type(most) is not int or not FIRST_LOOK <= most <= LARGEST_MOST:
            allowed = f"a whole number from {FIRST_LOOK}, the seeds of the first comparison, to {LARGEST_MOST}"
            config.refuse(("design", "max_seeds"), f"must be {allowed}, not {shown(most)}")
            most = MOST_SEEDS
        design |= {"seeds": list(range(most)), "max_seeds": most}
        return
    if most is not None:
        fix = "leave it out (max_seeds: null where another part of the file sets it), or write seeds: auto"
        config.refuse(("design", "max_seeds"), f"has a meaning only with seeds: auto, not {shown(seeds)}; {fix}")
    if type(seeds) is int and 1 <= seeds <= MAX_SEEDS:
        design["seeds"] = list(range(seeds))
        return
    fit = isinstance(seeds, list | tuple) and 1 <= len(seeds) <= MAX_SEEDS
    if (
        not fit
        or any(type(seed) is not int or not 0 <= seed <= LARGEST_SEED for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        numbers = f"a list of different whole numbers from 0 to {LARGEST_SEED:,}"
        allowed = f"a number of seeds from 1 to {MAX_SEEDS}, {numbers}, or auto"
        config.refuse(("design", "seeds"), f"must be {allowed}, not {shown(seeds)}")
        design["seeds"] = [0]
