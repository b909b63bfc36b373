"""The study's own code in its settings: the keys that its ideas add, and which of them a cell has."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import SpecError
from harness.ideas.read import Code, CodeError, read_code
from harness.settings import IdeaSetting, Settings
from harness.study.yaml import Node

Schema = TypeVar("Schema", bound=Settings)
_ALONE = {"adversarial": "adversarial loss", "discriminator": "discriminator"}
"""Kind of idea of which a cell has one at most -> what it takes the place of."""
Shape = tuple[tuple[str, tuple[tuple[str, Any, Any], ...]], ...]
"""(idea, its settings as (name, type, default))."""


def read_own_code(root: Node, folder: Path) -> Code:
    """What the file's `code` holds; `root`: the study file's content. Raises SpecError with places."""
    node = root.value.get("code")
    nodes = [] if node is None else node.value if isinstance(node.value, list) else [node]
    if not all(isinstance(each.value, str) for each in nodes):
        return Code()  # which the schema refuses
    try:
        return read_code([each.value for each in nodes], folder)
    except CodeError as error:
        of_names = (f"{nodes[place].where}: code: {text}" for place, text in error.of_names)
        raise SpecError("\n".join([*of_names, *error.problems])) from error


def schema_of(base: type[Schema], code: Code) -> type[Schema]:
    """`base` with the settings of these ideas as fields of `ideas`."""
    shape = tuple(
        (name, tuple((key, idea.types[key], default) for key, default in idea.settings.items()))
        for name, idea in code.ideas.items()
    )
    schema: Any = base  # a cache's argument is typed as hashable, which a type variable is not
    extended: type[Schema] = _extended(schema, shape) if shape else base
    return extended


@functools.lru_cache(maxsize=32)
def _extended(base: Any, shape: Shape) -> Any:
    ideas = [(name, made := _section(name, settings), field(default_factory=made)) for name, settings in shape]
    section = make_dataclass("Ideas", ideas, frozen=True, kw_only=True)
    whole = [("ideas", section, field(default_factory=section))]
    return make_dataclass(base.__name__, whole, bases=(base,), frozen=True, kw_only=True)


def _section(name: str, settings: tuple[tuple[str, Any, Any], ...]) -> type:
    return make_dataclass(name, [(key, kind, field(default=value)) for key, kind, value in settings], frozen=True)


def in_cell(settings: Settings, code: Code) -> Settings:
    """With the ideas alone that are on and the features that they read; a term or penalty without weight is off."""
    if not settings.ideas:
        return settings
    on = [name for name in switched_on(settings) if not _weightless(settings.ideas[name], code.ideas[name].kind)]
    read = {feature for name in on for feature in code.ideas[name].reads}
    ideas: dict[str, Mapping[str, IdeaSetting]] = {
        name: idea.in_run(settings.ideas[name])
        for name, idea in code.ideas.items()
        if name in on or (name in read and idea.kind == "feature")
    }
    return replace(settings, ideas=ideas)


def _weightless(idea: Mapping[str, IdeaSetting], kind: str) -> bool:
    return kind in ("term", "penalty") and idea["weight"] == 0


def switched_on(settings: Settings) -> list[str]:
    """The names of the ideas that are on."""
    return [name for name, idea in settings.ideas.items() if idea.get("on")]


def with_switches(patch: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """A toggle's patch that switches on every idea of which it sets something, unless it says otherwise."""
    touched = dict.fromkeys(path.split(".")[1] for path in patch if path.startswith("ideas."))
    off = [name for name in touched if settings.ideas[name].get("on") is False]
    return {**{f"ideas.{name}.on": True for name in off}, **patch}


def switched_by(patch: Mapping[str, Any]) -> frozenset[str]:
    """The ideas that a toggle's patch switches on."""
    return frozenset(
        path.split(".")[1]
        for path, value in patch.items()
        if path.startswith("ideas.") and value is True and path.endswith(".on")
    )


def switch_problems(toggle: str, patch: Mapping[str, Any], settings: Settings, code: Code) -> Iterator[str]:
    """What is wrong with the ideas that a toggle switches on, beside those that the study has on."""
    ahead = set(switched_on(settings))
    for name in switched_by(patch) & ahead:
        if len(patch) == 1:
            yield f"{toggle} changes nothing: ideas.{name}.on is true in the study; leave one of the two out"
    kept = {name for name in ahead if patch.get(f"ideas.{name}.on", True)}
    together = rivals(kept | switched_by(patch), code)
    if together and not rivals(kept, code):
        yield f"{toggle} cannot be switched on here, as {together}; switch one off: {{ideas.NAME.on: false}}"


def fingerprints(settings: Settings, code: Code) -> dict[str, str]:
    """`code.FILE` -> hash of its meaning, for the files behind a cell's ideas."""
    return {f"code.{file}": code.digest(file)[:16] for file in _files(settings, code)}


def source(settings: Settings, code: Code) -> dict[str, str]:
    """Relative path -> text of the files behind a cell's ideas and of all that they import."""
    return code.source_of(_files(settings, code))


def _files(settings: Settings, code: Code) -> list[str]:
    return list(dict.fromkeys(code.ideas[name].file for name in switched_on(settings)))


def rivals(names: Collection[str], code: Code) -> str:
    """Why these ideas cannot all be on at once; empty if they can."""
    ideas = [idea for name, idea in code.ideas.items() if name in {*names}]
    for kind, place in _ALONE.items():
        both = [idea.name for idea in ideas if idea.kind == kind]
        if len(both) > 1:
            return f"{both[0]} and {both[1]} both take the place of the {place}"
    return ""


def rows(settings: Settings, code: Code) -> list[dict[str, Any]]:
    """The ideas of a cell: {"name", "player", "weight", "u", "v", "equation", "kind", "file"}.

    `player` is empty and `weight` null for what is not of one player or has none; `equation` says what it is.
    """
    made = []
    for name, entry in settings.ideas.items():
        idea = code.ideas[name]
        every = f", every {entry['every']} steps" if idea.kind == "penalty" and entry["every"] != 1 else ""
        place = f" at {entry['at']}" if idea.kind == "layer" else ""
        what = f"{idea.kind}{every}{place}"
        about = entry["network"] if idea.kind == "feature" else idea.doc
        row = {
            "name": name,
            "player": idea.player or "",
            "weight": entry["weight"] if idea.kind in ("term", "penalty") else None,
        }
        row |= {"u": None, "v": None, "equation": f"{what}: {about}" if about else what}
        made.append(row | {"kind": idea.kind, "file": idea.file})
    return made


def layer_problems(settings: Settings, code: Code) -> Iterator[tuple[tuple[str, ...], str]]:
    """Layers of a cell that stand nowhere: keys, and what is wrong there with the fix."""
    sizes = [2**power for power in range(2, settings.data.resolution.bit_length())]
    for name, idea in settings.ideas.items():
        if idea["kind"] == "layer" and idea["at"] not in sizes:
            text = f"{idea['at']} is no size of the network at data.resolution = {settings.data.resolution}"
            allowed = f"one of {', '.join(map(str, sizes))}"
            yield ("ideas", name, "at"), f"{text}: {allowed}; the layer is defined at {code.ideas[name].where}"
