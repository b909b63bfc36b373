"""From a configuration to networks with their first weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from harness.models.config import ModelConfig
from harness.models.discriminator import Discriminator
from harness.models.generator import Generator

Stream = Callable[[str], torch.Generator]


@dataclass(frozen=True)
class Shapes:
    """What the data set and the encoders decide."""

    resolution: int
    """Pixels per side, a power of two, at least 8."""
    text_dim: int
    """F, the width of the CLIP's features and of the discriminator's."""


@dataclass(frozen=True)
class Networks:
    """The trained pair and the averaged generator that is measured and shipped."""

    generator: Generator
    discriminator: Discriminator
    averaged: Generator


def build(config: ModelConfig, shapes: Shapes, stream: Stream) -> Networks:
    """Networks on the CPU with weights drawn from `stream(name)`, one generator per parameter's name.

    So two configurations give every parameter they share by name and shape the same first weights.
    Raises ValueError for a resolution that is no power of two or under 8.
    """
    if shapes.resolution < 8 or shapes.resolution & (shapes.resolution - 1):
        raise ValueError(f"resolution {shapes.resolution}: allowed are powers of two from 8")
    generator = Generator(config.generator, shapes.resolution, shapes.text_dim)
    discriminator = Discriminator(config.discriminator, shapes.resolution, shapes.text_dim)
    _draw(generator, "generator", stream)
    _draw(discriminator, "discriminator", stream)
    averaged = copy.deepcopy(generator).requires_grad_(False).eval()
    return Networks(generator, discriminator, averaged)


@torch.no_grad()
def _draw(network: nn.Module, prefix: str, stream: Stream) -> None:
    """Weights and the generator's constant from N(0, weight_std), biases at their constant, noise strengths at 0."""
    for owner, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{owner}.{name}"
            if name == "bias":
                parameter.fill_(module.bias_init)  # type: ignore[arg-type]
            elif name in ("weight", "constant"):
                std = getattr(module, "weight_std", 1.0)
                parameter.copy_(torch.randn(parameter.shape, generator=stream(full)) * std)
