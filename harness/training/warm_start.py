"""The first weights of a run that starts from those of another: what `init` names, given to every network."""

from __future__ import annotations

import json
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
    for name, source in found.items():
        outcome = _inherit(getattr(networks, name), name, source, run.settings.generator, samples)
        report += [f"{name}: {line}" for line in (f"starts from {source.path}", *initial.layer_lines(asdict(outcome)))]
    if "generator" in found and "averaged" not in found:
        networks.averaged.load_state_dict(networks.generator.state_dict())
    for network in vars(networks).values():
        network.to(device)
    return report


def compare(networks: Networks, run: Run) -> dict[str, Inherited]:
    """Network -> what would become of its layers. Nothing is changed, and the networks may be on "meta"."""
    found, ours = initial.of_run(run), run.settings.generator
    return {name: _inherit(getattr(networks, name), name, source, ours, None) for name, source in found.items()}


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
        ours = GeneratorConfig(**json.loads(meta[GENERATOR]))
    return inherit(network, weights, ours, samples)


def _samples(trainer: Trainer, seed: int) -> Samples:
    """Conditions as training draws them, at steps that it does not reach."""
    config, batch = trainer.settings, trainer.settings.train.batch
    steps = range(config.total_steps, config.total_steps + -(-_SAMPLES // batch))
    h = torch.cat([trainer.corpus.conditions(config.condition, seed, step, batch)[0] for step in steps])
    z = torch.randn(len(h), config.generator.z_dim, generator=torch_generator(seed, "warm start"))
    return Samples(z, h)
