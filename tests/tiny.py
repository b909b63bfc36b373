"""Networks small enough for tests, fixed random inputs, and derivatives by differences."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.models.build import Networks, Shapes, Stream, build
from harness.models.config import DiscriminatorConfig, GeneratorConfig, ModelConfig
from harness.models.generator import Draw
from harness.models.toggles import apply

N, F, Z = 4, 8, 16
TINY = ModelConfig(
    generator=GeneratorConfig(z_dim=Z, w_dim=Z, mapping_layers=2, channel_base=128, channel_max=8),
    discriminator=DiscriminatorConfig(channel_base=128, channel_max=8, minibatch_std_group=2),
)


def stream(seed: int) -> Stream:
    def one(name: str) -> torch.Generator:
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    return one


def networks(*toggles: str, resolution: int = 8, group: int = 2, seed: int = 0) -> Networks:
    config = apply(TINY, toggles)
    tiny = dataclasses.replace(config.discriminator, minibatch_std_group=group)
    return build(dataclasses.replace(config, discriminator=tiny), Shapes(resolution, F), stream(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise(seed: int) -> Draw:
    """Numbers from N(0, 1) of one stream."""
    return partial(torch.randn, generator=torch.Generator().manual_seed(seed))


def units(n: int = N, seed: int = 1) -> Tensor:
    return torch.nn.functional.normalize(normal(n, F, seed=seed))


def exact(*shape: int, seed: int = 0) -> Tensor:
    """Numbers from N(0, 1) in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with every parameter drawn from N(0, 1)."""
    module = module.double()
    for index, parameter in enumerate(module.parameters()):
        parameter.data = exact(*parameter.shape, seed=seed + index)
    return module


def leaky(x: np.ndarray) -> np.ndarray:
    return math.sqrt(2) * np.where(x > 0, x, 0.2 * x)


class FixedStyle(nn.Module):
    """Styles independent of their inputs."""

    def __init__(self, style: Tensor) -> None:
        super().__init__()
        self.style = style

    def forward(self, w: Tensor, h: Tensor) -> Tensor:
        return self.style


def differences(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-5) -> Tensor:
    """Gradient of a scalar function by central differences."""
    moves = step * torch.eye(at.numel(), dtype=at.dtype).view(-1, *at.shape)
    with torch.no_grad():
        return torch.stack([function(at + move) - function(at - move) for move in moves]).view(at.shape) / (2 * step)


def check_parameter_gradient(penalty: Callable[[], Tensor], parameter: Tensor) -> None:
    """The penalty's gradient along one random direction of a parameter: the second derivative of a network."""
    direction, step = normal(*parameter.shape, seed=11).double(), 1e-5
    (gradient,) = torch.autograd.grad(penalty(), parameter)
    values = []
    for sign in (1, -1):
        parameter.data.add_(sign * step * direction)
        values.append(penalty().item())
        parameter.data.sub_(sign * step * direction)
    assert (gradient * direction).sum().item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)
