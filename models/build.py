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
"""Name -> a generator on the CPU that is a function of the name (and of the run's seed)."""


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
    """Networks on the CPU whose first weights are a function of `stream`; torch's global generator is left as it was.

    Raises ValueError for a resolution that is no power of two or under 8.
    """
    if shapes.resolution < 8 or shapes.resolution & (shapes.resolution - 1):
        raise ValueError(f"resolution {shapes.resolution}: allowed are powers of two from 8")
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(stream("generator").get_state())
        generator = Generator(config.generator, shapes.resolution, shapes.text_dim)
        torch.set_rng_state(stream("discriminator").get_state())
        discriminator = Discriminator(config.discriminator, shapes.resolution, shapes.text_dim)
    draw(generator, "generator", stream)
    draw(discriminator, "discriminator", stream)
    averaged = copy.deepcopy(generator).requires_grad_(False).eval()
    return Networks(generator, discriminator, averaged)


def draw(network: nn.Module, name: str, stream: Stream) -> None:
    """Has every layer draw its weights once more, each from a stream named after its place in the network.

    So two configurations give every layer they share by place and shape the same first weights, whatever else they
    have. A layer draws by its own `reset_parameters()`, which ours and those of torch.nn have alike. One that has none
    belongs into a `Foreign`: without, it keeps what its constructor drew from the network's stream, which depends on
    the layers before it. What a constructor made constant stays so, such as a last layer that starts at zero. Other
    changes to the layers within a layer belong into its `reset_parameters()`, which comes after theirs.
    """
    constant = {
        own: weights.detach().clone()
        for own, weights in network.named_parameters()
        if weights.numel() > 1 and bool((weights == weights.flatten()[0]).all())
    }
    with torch.random.fork_rng(devices=[]):
        for place, layer in reversed(list(network.named_modules())):
            if hasattr(layer, "reset_parameters"):
                first = next((own for own, _ in layer.named_parameters(recurse=False)), "")
                torch.set_rng_state(stream(f"{name}.{place}.{first}").get_state())
                layer.reset_parameters()
    with torch.no_grad():
        for own, weights in constant.items():
            network.get_parameter(own).copy_(weights)
