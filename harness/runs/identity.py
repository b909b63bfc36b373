"""What a run's id is made of: everything that decides its result, and nothing else.

So that the same result is found again, whatever else is in its settings: a value that nothing reads, or an option that
came later and stands where it changes nothing, makes no new run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from harness.frozen_networks import FROZEN, given_to_ideas
from harness.models.objective import PLAYERS, PSEUDO, TERM_SWITCHES, Term, active, features_needed
from harness.settings import IN_FINGERPRINT, Settings
from harness.since import SINCE
from harness.trees import leaves

ALGORITHM = 3
"""Part of every id: raised only when ids are made in another way. A changed formula is told by the engine of a run."""
_IN_FINGERPRINTS = {
    "data": IN_FINGERPRINT,
    "encoders": ("clip", "resnet"),
    "metrics": ("clip", "resnet", "more", "captions"),
    "init": ("generator", "discriminator", "averaged"),
    "command": ("code", "guides"),
}
"""Settings that a fingerprint stands for; where data and weights lie and how they are packed changes no result."""
_STOOD_FOR = frozenset(
    path
    for section, names in _IN_FINGERPRINTS.items()
    for path, _ in leaves({section: {name: Settings().as_dict()[section][name] for name in names}})
)
"""The same as dotted settings."""
_WITHOUT_RESULT = frozenset({"command.hours", "train.graphs"})
"""Settings that say how a run is executed, and nothing of what it computes."""
_OF_TRAINER = frozenset(("init", "generator", "discriminator", "loss", "condition", "encoders", "train", "ideas"))
"""Sections that only the built-in trainer reads."""
_SWITCHES = frozenset(f"loss.{name}" for name in TERM_SWITCHES)

Flat = dict[str, Any]
"""Dotted setting -> value."""
Role = Literal["always", "where read", "by content", "by terms", "never"]
"""How a setting takes part in ids."""


def run_id(settings: Settings, seed: int, fingerprints: Mapping[str, str]) -> str:
    """12 hex digits that name a result: equal where the same is computed from the same content under the same seed."""
    return run_ids(settings, (seed,), fingerprints)[0]


def run_ids(settings: Settings, seeds: Iterable[int], fingerprints: Mapping[str, str]) -> list[str]:
    """The id of each seed: SHA-256 of {"algorithm", "fingerprints", "seed", "settings"} as canonical JSON."""
    shared = {"algorithm": ALGORITHM, "fingerprints": dict(fingerprints), "settings": decisive(settings)}
    contents = ({**shared, "seed": seed} for seed in seeds)
    texts = (json.dumps(each, sort_keys=True, separators=(",", ":"), allow_nan=False) for each in contents)
    return [hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts]


def decisive(settings: Settings) -> Flat:
    """What of the settings enters an id.

    The active terms, each as what it contrasts with its weight, stand for all weights and for the switches that only
    the table of terms reads. So a term that is off is in no id.
    """
    left_out = unread(settings) | _weights(settings) | _SWITCHES | _stood_for(settings)
    options = {path: value for path, value in _as_before(settings.flat).items() if path not in left_out}
    terms = {
        f"loss.terms.{term.player}.{term.name}: {term.equation}": settings.loss.weights[term.player][term.name]
        for term in _active(settings)
    }
    return options | terms


def measuring(settings: Settings) -> Flat:
    """What of the settings decides how real images are measured, and what the numbers are called."""
    metrics = {name: value for name, value in settings.as_dict()["metrics"].items() if name != "captions"}
    return _as_before(dict(leaves({"metrics": metrics})))


def relocated(settings: Settings, now: Settings) -> Settings:
    """`settings` with what changes no result, such as where data and weights lie, as it is `now`."""
    elsewhere = (_stood_for(now) | _WITHOUT_RESULT) & {*settings.flat}
    return settings.with_values({path: value for path, value in now.flat.items() if path in elsewhere})


def unread(settings: Settings) -> frozenset[str]:
    """Dotted settings that nothing reads which these settings switch on, or that change no result."""
    terms = _active(settings)
    idle = _WITHOUT_RESULT | (_weights(settings) - {term.setting for term in terms})
    idle |= {path for path in settings.flat if not read_by_trainer_or_script(path, settings)}
    if settings.ideas:  # which may read anything
        return idle
    return idle.union(path for path, is_read in _READ.items() if not is_read(settings, terms))


def role_in_id(path: str) -> Role:
    """How another value of a dotted setting of a study file changes the ids of runs of the built-in trainer."""
    if path in _WITHOUT_RESULT or path.partition(".")[0] not in {each.name for each in fields(Settings)}:
        return "never"
    if path in _STOOD_FOR:
        return "by content"
    if path in _SWITCHES or path.startswith("loss.weights"):
        return "by terms"
    return "where read" if path in _READ or path.startswith("command.") else "always"


def read_by_trainer_or_script(path: str, settings: Settings) -> bool:
    """Whether the one of the two that trains under these settings may read this dotted setting."""
    section = path.partition(".")[0]
    if settings.command.run:
        return section not in _OF_TRAINER and path != "data.mirror"
    return section != "command" or path == "command.run"


def read_by_who_trains(settings: Settings) -> Flat:
    """The settings for a reader: those of the trainer, or of the script that takes its place."""
    left_out = _of_marks(settings) | (frozenset() if settings.command.run else {"command.run"})
    return {
        path: value
        for path, value in settings.flat.items()
        if path not in left_out and read_by_trainer_or_script(path, settings)
    }


def differences(old: Settings, new: Settings) -> Iterator[tuple[str, Any, Any]]:
    """(dotted setting, old value, new value) of all that differs and that one of the two reads.

    What a fingerprint stands for is left out.
    """
    left_out = (unread(old) & unread(new)) | _stood_for(old) | _stood_for(new)
    for path in dict.fromkeys((*new.flat, *old.flat)):
        before, after = old.flat.get(path), new.flat.get(path)
        if before != after and path not in left_out:
            yield path, before, after


def _stood_for(settings: Settings) -> frozenset[str]:
    """Dotted settings that a fingerprint stands for: that of the code says what an idea is and what it reads."""
    features = {f"ideas.{name}.network" for name, idea in settings.ideas.items() if idea.get("kind") == "feature"}
    return _STOOD_FOR | _of_marks(settings) | features | {*given_to_ideas(settings.ideas)}


def _of_marks(settings: Settings) -> frozenset[str]:
    """What a cell's ideas have beside their settings: it is written in the code and cannot be set."""
    return frozenset(f"ideas.{name}.{key}" for name in settings.ideas for key in ("kind", "reads", "networks"))


def _as_before(flat: Mapping[str, Any]) -> Flat:
    """Without what came later and changes nothing."""
    return {path: value for path, value in flat.items() if path not in SINCE or value != SINCE[path]}


def _active(settings: Settings) -> list[Term]:
    if settings.command.run:
        return []
    return [term for player in PLAYERS for term in active(settings.loss, player)]


def _weights(settings: Settings) -> frozenset[str]:
    """The dotted settings of all weights, also of terms that are off."""
    return frozenset(path for path, _ in leaves({"loss": {"weights": settings.loss.weights}}))


def _guided(settings: Settings, terms: Sequence[Term]) -> bool:
    """Whether a frozen network looks at generated images."""
    features = features_needed(term for term in terms if term.player == "generator")
    return any(each.kind in FROZEN and each.is_fake for each in features)


def _pseudo(settings: Settings, terms: Sequence[Term]) -> bool:
    """Whether h' takes part: as a condition or in a term."""
    loss, drawn = settings.loss, settings.condition.pseudo_probability > 0 or settings.data.uncaptioned == "keep"
    return drawn or loss.paired_contrast or loss.mix_logits or PSEUDO in features_needed(terms)


def _has_text_mlp(settings: Settings, terms: Sequence[Term]) -> bool:
    return settings.generator.conditioning != "transform"


def _has_concat(settings: Settings, terms: Sequence[Term]) -> bool:
    generator = settings.generator
    return generator.conditioning == "concat" or (generator.conditioning == "modulate" and generator.modulate_from > 4)


def _groups(settings: Settings, terms: Sequence[Term]) -> bool:
    """Whether anything is computed over the samples of a batch that `loss.group` divides."""
    strided = settings.discriminator.minibatch_std_layout == "strided" and settings.discriminator.minibatch_std_group
    return bool(terms) or settings.loss.logit == "batch_sum" or bool(strided)


_READ: dict[str, Callable[[Settings, Sequence[Term]], bool]] = {
    "generator.modulate_from": lambda settings, terms: settings.generator.conditioning == "modulate",
    "generator.text_width": _has_text_mlp,
    "generator.text_lr_multiplier": _has_text_mlp,
    "generator.text_activation": _has_concat,
    "discriminator.minibatch_std_layout": lambda settings, terms: settings.discriminator.minibatch_std_group > 0,
    "loss.mix_lambda": lambda settings, terms: settings.loss.mix_logits,
    "loss.tau": lambda settings, terms: bool(terms),
    "loss.similarity": lambda settings, terms: bool(terms),
    "loss.tau_place": lambda settings, terms: bool(terms),
    "loss.group": _groups,
    "condition.pseudo_noise": _pseudo,
    "condition.shared_noise": _pseudo,
    "condition.text_noise": lambda settings, terms: settings.condition.pseudo_probability != 1,
    "encoders.view": _guided,
    "encoders.crop": lambda settings, terms: _guided(settings, terms) and settings.encoders.view == "shift",
    "encoders.crop_from": lambda settings, terms: _guided(settings, terms) and settings.encoders.view == "crop",
    "encoders.pixel_noise": _guided,
    "encoders.precision": _guided,
    "train.r1_interval": lambda settings, terms: settings.train.r1_gamma > 0,
    "train.pl_interval": lambda settings, terms: settings.train.pl_weight > 0,
    "train.pl_decay": lambda settings, terms: settings.train.pl_weight > 0,
    "train.pl_mean_gradient": lambda settings, terms: settings.train.pl_weight > 0,
    "train.pl_batch_shrink": lambda settings, terms: settings.train.pl_weight > 0,
    "train.ema_rampup": lambda settings, terms: settings.train.ema_kimg > 0,
}
"""What is read only while something else holds, given the active terms. A setting that is not here always counts."""
