"""What a run's id is made of: everything that decides its result, and nothing else. No torch here.

So that the same result is found again, whatever else is in its settings: a value that nothing reads, or an option that
came later and stands where it changes nothing, makes no new run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

from harness.models.config import LossConfig
from harness.models.terms import OF_TERMS, PLAYERS, Player, Term, active, features_needed
from harness.settings import IN_FINGERPRINT, SINCE, complete, weight_of

ALGORITHM = 3
"""Part of every id: raised only when ids are made in another way. A changed formula is told by the engine of a run."""


_STOOD_FOR = {"data": IN_FINGERPRINT, "encoders": ("clip", "resnet"), "metrics": ("clip", "resnet", "more")}
"""Settings that a fingerprint stands for; where data and weights lie and how they are packed changes no result."""

Settings = Mapping[str, Any]
"""As `Settings.as_dict()` writes them, perhaps by an earlier version."""
Flat = dict[str, Any]
"""Dotted setting -> value."""
Terms = Mapping[Player, tuple[Term, ...]]


def run_id(settings: Settings, seed: int, fingerprints: Mapping[str, str]) -> str:
    """12 hex digits that name a result: equal where the same is computed from the same content under the same seed."""
    return run_ids(settings, (seed,), fingerprints)[0]


def run_ids(settings: Settings, seeds: Iterable[int], fingerprints: Mapping[str, str]) -> list[str]:
    """SHA-256 of {"algorithm", "fingerprints", "seed", "settings"} as canonical JSON; what all seeds share once."""
    head = _canonical({"algorithm": ALGORITHM, "fingerprints": dict(fingerprints)}).removesuffix("}")
    tail = _canonical({"settings": decisive(settings)}).removeprefix("{")
    return [hashlib.sha256(f'{head},"seed":{seed},{tail}'.encode()).hexdigest()[:12] for seed in seeds]


def decisive(settings: Settings) -> Flat:
    """What of the settings enters an id.

    The active terms, each as what it contrasts with its weight, stand for all weights and for the switches that only
    the table of terms reads. So a term that is off is in no id.
    """
    flat, terms = _flat(settings), _terms(settings)
    idle = _idle(flat, terms)
    found = _as_before({path: value for path, value in flat.items() if path not in idle and not _is_stood_for(path)})
    if terms is None:
        return found
    switches = {f"loss.{name}" for name in OF_TERMS}
    return {path: value for path, value in found.items() if path not in switches and not _is_weight(path)} | {
        f"loss.terms.{player}.{term.name}: {term.equation}": flat[weight_of(term)]
        for player in PLAYERS
        for term in terms[player]
    }


def measuring(settings: Settings) -> Flat:
    """What of the settings decides how real images are measured, and what the numbers are called."""
    return _as_before({path: value for path, value in _flat(settings).items() if path.startswith("metrics.")})


def relocated(settings: Settings, now: Settings) -> dict[str, Any]:
    """`settings` with what a fingerprint stands for, such as where data and weights lie, as it is `now`."""
    return {
        part: {**values, **{name: now[part][name] for name in _STOOD_FOR[part] if name in now.get(part, {})}}
        if part in _STOOD_FOR
        else values
        for part, values in settings.items()
    }


def unread(settings: Settings) -> frozenset[str]:
    """Dotted settings that nothing reads which these settings switch on."""
    return _idle(_flat(settings), _terms(settings))


def differences(old: Settings, new: Settings) -> Iterator[tuple[str, Any, Any]]:
    """(dotted setting, old value, new value) of all that differs and that one of the two reads.

    What a fingerprint stands for is left out.
    """
    idle = unread(old) & unread(new)
    before, after = _flat(old), _flat(new)
    for path in dict.fromkeys((*after, *before)):
        if not _is_stood_for(path) and path not in idle and before.get(path) != after.get(path):
            yield path, before.get(path), after.get(path)


def _flat(settings: Settings) -> Flat:
    return dict(_leaves(complete(settings)))


def _as_before(flat: Flat) -> Flat:
    """Without what came later and changes nothing."""
    return {path: value for path, value in flat.items() if path not in SINCE or value != SINCE[path]}


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield above + name, list(value) if isinstance(value, tuple) else value


def _terms(settings: Settings) -> Terms | None:
    """The active terms; None where the settings are not ones that can be trained."""
    try:
        loss = cast(LossConfig, SimpleNamespace(**complete(settings)["loss"]))
        return {player: active(loss, player) for player in PLAYERS}
    except (AttributeError, KeyError, TypeError):
        return None


def _is_stood_for(path: str) -> bool:
    part, *rest = path.split(".")
    return bool(rest) and rest[0] in _STOOD_FOR.get(part, ())


def _is_weight(path: str) -> bool:
    return path.startswith("loss.weights.")


# What is read only while something else holds. A setting that is not here always counts.


def _idle(flat: Flat, terms: Terms | None) -> frozenset[str]:
    if terms is None:
        return frozenset()
    weights = {path for path in flat if _is_weight(path)} - {
        weight_of(term) for each in terms.values() for term in each
    }
    return frozenset({*weights, *(path for path in flat if path in _READ and not _READ[path](flat, terms))})


def _contrasts(flat: Flat, terms: Terms) -> bool:
    return any(terms.values())


def _guided(flat: Flat, terms: Terms) -> bool:
    """Whether a frozen network looks at generated images."""
    return any(symbol.startswith(("f_c(x", "f_res(x")) for symbol in features_needed(terms["generator"]))


def _pseudo(flat: Flat, terms: Terms) -> bool:
    """Whether h' takes part: as a condition or in a term."""
    symbols = features_needed((*terms["generator"], *terms["discriminator"]))
    conditions = ("loss.paired_contrast", "loss.mix_logits", "condition.pseudo_probability")
    return any(flat.get(path, True) for path in conditions) or "h'" in symbols


def _while(path: str) -> Callable[[Flat, Terms], bool]:
    return lambda flat, terms: bool(flat.get(path, True))


_READ: dict[str, Callable[[Flat, Terms], bool]] = {
    "loss.mix_lambda": _while("loss.mix_logits"),
    "loss.tau": _contrasts,
    "loss.similarity": _contrasts,
    "condition.pseudo_noise": _pseudo,
    "condition.text_noise": lambda flat, terms: flat.get("condition.pseudo_probability") != 1,
    "encoders.crop": _guided,
    "encoders.pixel_noise": _guided,
    "encoders.precision": _guided,
    "train.r1_interval": _while("train.r1_gamma"),
    "train.pl_interval": _while("train.pl_weight"),
    "train.pl_decay": _while("train.pl_weight"),
    "train.pl_batch_shrink": _while("train.pl_weight"),
    "train.ema_rampup": _while("train.ema_kimg"),
}


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
