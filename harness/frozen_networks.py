"""Which frozen networks a run reads: those that guide it, by the symbol of their features, and those that measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, cast

from harness.models.objective import PLAYERS, Kind, Player, active, features_needed
from harness.settings import IdeaSetting, Settings

FROZEN: Mapping[Kind, str] = {"f_c": "encoders.clip", "f_res": "encoders.resnet"}
"""Symbol of what a frozen network gives of images -> the dotted setting of that network; ideas may add some."""
CLIPS = ("encoders.clip", "metrics.clip")
"""Dotted settings of networks that read texts too."""


def reads(settings: Settings, kind: Kind, players: Iterable[Player] = PLAYERS) -> bool:
    """Whether an active term of these players, or an idea that is on, reads a feature of that kind."""
    terms = (term for player in players for term in active(settings.loss, player))
    ideas: Iterable[Mapping[str, Any]] = settings.ideas.values()
    read_by_ideas = any(idea.get("on") and kind in idea.get("reads", ()) for idea in ideas)
    return read_by_ideas or any(feature.kind == kind for feature in features_needed(terms))


class FrozenNetwork(NamedTuple):
    """A frozen network that gives features of images."""

    setting: str
    """Dotted."""
    name: str
    size: int = 0
    """Side in pixels of the images that it gets; 0: its own."""


def frozen_networks(settings: Settings) -> dict[Kind, FrozenNetwork]:
    """Symbol -> network of all that guide a run: CLIP always, others if an active term or idea reads them.

    A script may train with others, which it says in `command.guides`.
    """
    if settings.command.run:
        return {}
    networks = {kind: FrozenNetwork(path, settings.flat[path]) for kind, path in FROZEN.items()}
    ideas: Mapping[str, Mapping[str, Any]] = settings.ideas
    for name, idea in ideas.items():
        if idea.get("kind") == "feature":
            networks[name] = FrozenNetwork(f"ideas.{name}.network", idea["network"], idea["size"])
    return {kind: network for kind, network in networks.items() if kind == "f_c" or reads(settings, kind)}


def given_to_ideas(ideas: Mapping[str, Mapping[str, IdeaSetting]]) -> list[str]:
    """Dotted settings of the frozen networks that constructors of ideas are given."""
    return [
        f"ideas.{name}.{key}"
        for name, idea in ideas.items()
        if idea.get("on")
        for key in cast(tuple[str, ...], idea.get("networks", ()))
    ]


def guides(settings: Settings) -> dict[str, str]:
    """Setting -> name of every encoder that guides a run."""
    if settings.command.run:
        return {f"command.guides.{place}": name for place, name in enumerate(settings.command.guides)}
    own = {path: settings.flat[path] for path in given_to_ideas(settings.ideas)}
    return {network.setting: network.name for network in frozen_networks(settings).values()} | own


def encoders_read(settings: Settings) -> dict[str, str]:
    """Setting -> name of every encoder that a run reads: those that guide it, then those that measure."""
    judges = {"metrics.clip": settings.metrics.clip, "metrics.resnet": settings.metrics.resnet}
    return guides(settings) | judges | {f"metrics.more.{n}": name for n, name in enumerate(settings.metrics.more)}


def network_kind(path: str) -> Literal["clip", "resnet"] | None:
    """What a dotted setting of `encoders_read` must name; None: any network that looks at images."""
    if path.startswith(("ideas.", "command.")):
        return None
    return "clip" if path in CLIPS else "resnet"
