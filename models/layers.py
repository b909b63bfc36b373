"""Layers with equalised learning rate (Karras 2018, Sec. 4.1) and the two ways a condition makes a style.

Weights are drawn from N(0, 1) and scaled at run time by 1 / sqrt(fan-in). `build` draws them, each from a
stream of its own, so that two networks share every layer they have in common.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.ops import SQRT2, blur, downsample, leaky


class Linear(nn.Module):
    """x [N,I] -> [N,O], with leaky ReLU if `activate`."""

    def __init__(
        self,
        inputs: int,  # I
        outputs: int,  # O
        activate: bool = False,
        lr_multiplier: float = 1.0,  # of the network's learning rate
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.weight_std, self.bias_init = 1.0 / lr_multiplier, bias_init / lr_multiplier
        self.scale, self.bias_scale = lr_multiplier / math.sqrt(inputs), lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        gain = SQRT2 if self.activate else 1.0
        x = F.linear(x, self.weight * (self.scale * gain), self.bias * (self.bias_scale * gain))
        return F.leaky_relu(x, 0.2) if self.activate else x


class Conv(nn.Module):
    """x [N,I,H,W] -> [N,O,H,W], or half the size with `down`; leaky ReLU if `activate`, else no bias either."""

    weight_std, bias_init = 1.0, 0.0

    def __init__(
        self,
        inputs: int,  # I
        outputs: int,  # O
        size: int,  # of the kernel
        down: bool = False,
        activate: bool = True,
        gain: float = 1.0,  # of the output
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.empty(outputs)) if activate else None
        # Leaky ReLU lets a positive factor through, so that its gain is put on the weights.
        self.bias_scale = gain * (SQRT2 if activate else 1.0)
        self.scale = self.bias_scale / math.sqrt(inputs * size**2)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.scale).to(x.dtype)
        if self.bias is None:
            return self._convolve(x, weight, None)
        return leaky(self._convolve(x, weight, (self.bias * self.bias_scale).to(x.dtype)))

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        size = weight.shape[-1]
        if not self.down:
            return F.conv2d(x, weight, bias, padding=size // 2)
        if size == 1:
            return F.conv2d(downsample(x), weight, bias)
        return F.conv2d(blur(x, padding=2), weight, bias, stride=2)


class Mapping(nn.Module):
    """z [N,Z] -> w [N,W]: normalised z through fully connected layers (StyleGAN2, App. B; lr multiplier 0.01)."""

    def __init__(self, z_dim: int, w_dim: int, layers: int) -> None:
        super().__init__()
        widths = [z_dim] + [w_dim] * layers
        self.layers = nn.Sequential(*(Linear(i, o, activate=True, lr_multiplier=0.01) for i, o in pairwise(widths)))

    def forward(self, z: Tensor) -> Tensor:
        w: Tensor = self.layers(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        return w


class ConcatStyle(nn.Module):
    """The origin's style: A([w, m(h)]), m a 2-layer MLP (LAFITE, Sec. 3.2). w [N,W], h [N,F] -> [N,C]."""

    def __init__(self, w_dim: int, text_dim: int, channels: int) -> None:
        super().__init__()
        self.m = nn.Sequential(Linear(text_dim, text_dim, activate=True), Linear(text_dim, text_dim))
        self.affine = Linear(w_dim + text_dim, channels, bias_init=1.0)

    def forward(self, w: Tensor, h: Tensor) -> Tensor:
        style: Tensor = self.affine(torch.cat([w, self.m(_unit_variance(h))], dim=1))
        return style


class TransformStyle(nn.Module):
    """transform_w: the condition transforms w itself, w~ = scale(h) * w + shift(h), style = A(w~).

    scale starts at 1 + noise and shift at noise, of the same size as the text enters `ConcatStyle`.
    """

    def __init__(self, w_dim: int, text_dim: int, channels: int) -> None:
        super().__init__()
        self.transform_scale = Linear(text_dim, w_dim, bias_init=1.0)
        self.transform_shift = Linear(text_dim, w_dim)
        self.affine = Linear(w_dim, channels, bias_init=1.0)

    def forward(self, w: Tensor, h: Tensor) -> Tensor:
        h = _unit_variance(h)
        style: Tensor = self.affine(self.transform_scale(h) * w + self.transform_shift(h))
        return style


STYLES: dict[str, type[ConcatStyle] | type[TransformStyle]] = {"concat": ConcatStyle, "transform": TransformStyle}


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """Append one channel: the mean standard deviation within groups of `group` neighbours (Karras 2018, Sec. 3).

    x [N,C,H,W] -> [N,C+1,H,W]; N must be a multiple of `group`. Groups are runs of neighbours, so batches that are
    concatenated keep their statistics to themselves.
    """
    n, _, height, width = x.shape
    if n % group:
        raise ValueError(f"minibatch_std_group {group} does not divide a batch of {n}")
    grouped = x.contiguous().view(n // group, group, *x.shape[1:])
    std = (grouped.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    channel = std.repeat_interleave(group).view(n, 1, 1, 1).expand(n, 1, height, width)
    return torch.cat([x, channel], dim=1)


def _unit_variance(h: Tensor) -> Tensor:
    """A unit vector of F numbers scaled to mean square 1, the size equalised layers expect."""
    return h * math.sqrt(h.shape[1])
