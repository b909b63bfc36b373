"""What a run's id is made of: everything that decides its result, and nothing else.

So that the same result is found again, whatever else is in its settings: a value that nothing reads, or an option that
came later and stands where it changes nothing, makes no new run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness.models.objective import FROZEN, PLAYERS, PSEUDO, TERM_SWITCHES, Player, Term, active, features_needed
from harness.settings import IN_FINGERPRINT, SINCE, Settings

ALGORITHM = 3
"""Part of every id: raised only when ids are made in another way. A changed formula is told by the engine of a run."""


_STOOD_FOR = {"data": IN_FINGERPRINT, "encoders": ("clip", "resnet"), "metrics": ("clip", "resnet", "more")}
"""Settings that a fingerprint stands for; where data and weights lie and how they are packed changes no result."""

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
    unread_here, switches = unread(settings), {f"loss.{name}" for name in TERM_SWITCHES}
    options = {
        path: value
        for path, value in _as_before(settings.flat).items()
        if path not in unread_here and path not in switches and not _is_weight(path) and not _is_stood_for(path)
    }
    terms = {
        f"loss.terms.{player}.{term.name}: {term.equation}": settings.loss.weights[player][term.name]
        for player, its in _active(settings).items()
        for term in its
    }
    return options | terms


def measuring(settings: Settings) -> Flat:
    """What of the settings decides how real images are measured, and what the numbers are called."""
    return {path: value for path, value in _as_before(settings.flat).items() if path.startswith("metrics.")}


def relocated(settings: Settings, now: Settings) -> Settings:
    """`settings` with what a fingerprint stands for, such as where data and weights lie, as it is `now`."""
    return settings.with_values({path: value for path, value in now.flat.items() if _is_stood_for(path)})


def unread(settings: Settings) -> frozenset[str]:
    """Dotted settings that nothing reads which these settings switch on."""
    terms = _active(settings)
    weights = {path for path in settings.flat if _is_weight(path)}
    weights -= {term.setting for its in terms.values() for term in its}
    return frozenset({*weights, *(path for path, is_read in _READ.items() if not is_read(settings, terms))})


def differences(old: Settings, new: Settings) -> Iterator[tuple[str, Any, Any]]:
    """(dotted setting, old value, new value) of all that differs and that one of the two reads.

    What a fingerprint stands for is left out.
    """
    unread_in_both = unread(old) & unread(new)
    for path in dict.fromkeys((*new.flat, *old.flat)):
        before, after = old.flat.get(path), new.flat.get(path)
        if before != after and path not in unread_in_both and not _is_stood_for(path):
            yield path, before, after


def _as_before(flat: Mapping[str, Any]) -> Flat:
    """Without what came later and changes nothing."""
    return {path: value for path, value in flat.items() if path not in SINCE or value != SINCE[path]}


def _active(settings: Settings) -> Terms:
    return {player: active(settings.loss, player) for player in PLAYERS}


def _is_stood_for(path: str) -> bool:
    part, name, *_ = (*path.split("."), "")
    return name in _STOOD_FOR.get(part, ())


def _is_weight(path: str) -> bool:
    return path.startswith("loss.weights.")


# What is read only while something else holds. A setting that is not here always counts.


def _contrasts(settings: Settings, terms: Terms) -> bool:
    return any(terms.values())


def _guided(settings: Settings, terms: Terms) -> bool:
    """Whether a frozen network looks at generated images."""
    return any(each.kind in FROZEN and each.is_fake for each in features_needed(terms["generator"]))


def _pseudo(settings: Settings, terms: Terms) -> bool:
    """Whether h' takes part: as a condition or in a term."""
    loss, condition = settings.loss, settings.condition
    contrasted = any(PSEUDO in features_needed(rows) for rows in terms.values())
    return contrasted or loss.paired_contrast or loss.mix_logits or condition.pseudo_probability > 0


_READ: dict[str, Callable[[Settings, Terms], bool]] = {
    "loss.mix_lambda": lambda settings, terms: settings.loss.mix_logits,
    "loss.tau": _contrasts,
    "loss.similarity": _contrasts,
    "condition.pseudo_noise": _pseudo,
    "condition.text_noise": lambda settings, terms: settings.condition.pseudo_probability != 1,
    "encoders.crop": _guided,
    "encoders.pixel_noise": _guided,
    "encoders.precision": _guided,
    "train.r1_interval": lambda settings, terms: settings.train.r1_gamma > 0,
    "train.pl_interval": lambda settings, terms: settings.train.pl_weight > 0,
    "train.pl_decay": lambda settings, terms: settings.train.pl_weight > 0,
    "train.pl_batch_shrink": lambda settings, terms: settings.train.pl_weight > 0,
    "train.ema_rampup": lambda settings, terms: settings.train.ema_kimg > 0,
}


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
