"""Settings that came after runs were made: their old values, for ids and for reading what an earlier version wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.models.objective import PLAYERS, TERMS

SINCE: dict[str, Any] = {
    "init.generator": "",
    "init.discriminator": "",
    "init.averaged": "",
    "generator.modulate_from": 4,
    "generator.text_width": 0,
    "generator.text_activation": "hidden",
    "generator.text_lr_multiplier": 1.0,
    "generator.text_input": "scaled",
    "generator.clamp": 0.0,
    "discriminator.head_layers": 2,
    "discriminator.clamp": 0.0,
    "discriminator.minibatch_std_layout": "neighbours",
    "loss.tau_place": "factor",
    "loss.logit": "per_sample",
    "loss.group": 0,
    "condition.shared_noise": False,
    "condition.noise_per": "step",
    "data.uncaptioned": "bad",
    "encoders.view": "shift",
    "encoders.crop_from": 0.5,
    "metrics.captions": "",
    "train.pl_mean_gradient": False,
    "train.first": "discriminator",
    "train.graphs": "auto",
    "ideas": {},
    "command.run": (),
    "command.args": {},
    "command.code": (),
    "command.snapshots": 1,
    "command.guides": (),
    "command.hours": 0.0,
}
"""Dotted setting that came after runs were made -> its value under which they computed what they would today.

It is left out of ids at this value, and filled in where a run does not have it. A setting never leaves this table.
"""


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run.json with what an earlier version did not write.

    Later settings have their value in SINCE, later terms no weight.
    """
    filled = dict(settings)
    for path, value in SINCE.items():
        _fill(filled, path.split("."), value)
    loss = filled.get("loss")
    if isinstance(loss, Mapping) and isinstance(weights := loss.get("weights"), Mapping):
        whole = dict(weights)
        for player in PLAYERS:
            if isinstance(written := weights.get(player, {}), Mapping):
                whole[player] = {term.name: 0.0 for term in TERMS if term.player == player} | {**written}
        filled["loss"] = {**loss, "weights": whole}
    return filled


def _fill(tree: dict[str, Any], path: list[str], value: Any) -> None:
    name, *rest = path
    if not rest:
        tree.setdefault(name, value)
    elif isinstance(section := tree.get(name, {}), Mapping):
        tree[name] = dict(section)
        _fill(tree[name], rest, value)
