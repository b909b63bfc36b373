"""The first weights of a run that starts from those of another: what `init` names, given to every network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.errors import DataError
from harness.models.build import Networks
from harness.models.config import GeneratorConfig
from harness.models.discriminator import Discriminator
from harness.models.generator import Generator
from harness.models.inherit import Inherited, Samples, inherit
from harness.rng import torch_generator
from harness.runs import initial
from harness.runs.initial import Source
from harness.runs.record import Run
from harness.text import shortened
from harness.training.checkpoint import GENERATOR, Damaged, read_tensors
from harness.training.trainer import Trainer

_SAMPLES = 4096
"""Latents and conditions that styles are fitted on: several times W + F."""


def begin(trainer: Trainer, run: Run) -> list[str]:
    """Give the trainer's networks, at step 0, the weights that the run's `init` names; what became of the layers.

    The same on every device. Raises DataError where they are not there, or are not those that the run was planned with.
    """
    found = initial.of_run(run)
    if not found:
        return []
    networks, device = trainer.networks, trainer.device
    samples = _samples(trainer, run.seed)
    for network in vars(networks).values():
        network.cpu()
    report: list[str] = []
    outcomes = {
        name: _inherit(getattr(networks, name), name, source, run.settings.generator, samples)
        for name, source in found.items()
    }
    _refuse_unfit(found, outcomes)
    for name, source in found.items():
        outcome = outcomes[name]
        report += [f"{name}: {line}" for line in (f"starts from {source.path}", *initial.layer_lines(asdict(outcome)))]
    if "generator" in found and "averaged" not in found:
        networks.averaged.load_state_dict(networks.generator.state_dict())
    for network in vars(networks).values():
        network.to(device)
    return report


def compare(networks: Networks, run: Run) -> dict[str, Inherited]:
    """Network -> what would become of its layers. Nothing is changed, and the networks may be on "meta"."""
    found, ours = initial.of_run(run), run.settings.generator
    outcomes = {name: _inherit(getattr(networks, name), name, source, ours, None) for name, source in found.items()}
    _refuse_unfit(found, outcomes)
    return outcomes


def _inherit(
    network: Generator | Discriminator, name: str, source: Source, ours: GeneratorConfig, samples: Samples | None
) -> Inherited:
    """`ours`: the configuration of the other generator, where neither its file nor its run says it."""
    try:
        if source.is_hashed:
            tensors, meta = read_tensors(source.path)
        else:  # of another program, whose metadata may be anything
            tensors, meta = load_file(source.path), {}
    except (Damaged, SafetensorError) as error:
        raise DataError(f"init.{name}: {source.path}: {error}") from error
    held = name if name in source.networks else next(iter(source.networks - {"discriminator"}))
    prefix = f"{held}/" if any("/" in key for key in tensors) else ""
    # What ships is in half precision, and copied into the networks' own; a count in a buffer stays a whole number.
    weights = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if source.settings is not None:
        ours = source.settings.generator
    elif GENERATOR in meta:
        ours = _settings_of(meta[GENERATOR], f"init.{name}: {source.path}")
    return inherit(network, weights, ours, samples)


def _settings_of(text: str, place: str) -> GeneratorConfig:
    """The settings of a generator as its file notes them. Raises DataError where they are not of this version."""
    try:
        noted = dict(json.loads(text))
    except (TypeError, ValueError):
        raise DataError(f"{place}: what it notes of its generator cannot be read; make the file anew") from None
    if unknown := sorted(noted.keys() - vars(GeneratorConfig()).keys()):
        problem = f"its generator has settings that this version does not know: {shortened(unknown)}"
        raise DataError(f"{place}: {problem}; use the version that wrote it, or name another file")
    return GeneratorConfig(**noted)


def _refuse_unfit(found: Mapping[str, Source], outcomes: Mapping[str, Inherited]) -> None:
    """Raises DataError for a file of which no network takes anything: runs would only be said to start from it."""
    for path in dict.fromkeys(source.path for source in found.values()):
        its = {name: outcomes[name] for name, source in found.items() if source.path == path}
        if not any(outcome.taken or outcome.adapted for outcome in its.values()):
            unused = sorted({layer for outcome in its.values() for layer in outcome.unused})
            holds = f"its layers are {shortened(unused)}" if unused else "it holds no weights"
            fix = "name the weights of such a network, or leave it out"
            raise DataError(f"init: {path}: nothing of it fits the {' or the '.join(its)}: {holds}; {fix}")


def _samples(trainer: Trainer, seed: int) -> Samples:
    """Conditions as training draws them, at steps that it does not reach."""
    config, batch = trainer.settings, trainer.settings.train.batch
    steps = range(config.total_steps, config.total_steps + -(-_SAMPLES // batch))
    h = torch.cat([trainer.corpus.conditions(config.condition, seed, step, batch)[0] for step in steps])
    z = torch.randn(len(h), config.generator.z_dim, generator=torch_generator(seed, "warm start"))
    return Samples(z, h)
