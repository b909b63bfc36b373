"""The operations StyleGAN2 is made of, in plain PyTorch: modulated convolution, equalised layers.

Shapes: N samples, I and O channels in and out, H x W pixels, K x K kernel, K odd. Everything can be differentiated
twice, as R1 and path length need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.channelwise import leaky, scaled
from harness.models.convolution import conv2d, conv_transpose2d
from harness.models.resampling import blur

SQRT2 = math.sqrt(2.0)
"""Gain of leaky ReLU with slope 0.2: nearly what keeps the variance, as StyleGAN2 has it."""


# Modulated convolution (StyleGAN2, arXiv 1912.04958, Sec. 2.2).


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, up: bool = False) -> Tensor:
    """Convolution whose input channels are scaled by `style` (Eq. 1), in x's dtype.

    x [N,I,H,W], weight [O,I,K,K], style [N,I] -> [N,O,H,W], or [N,O,2H,2W] with `up`.
    """
    # Scaling each sample's weights equals scaling its input: one ordinary convolution serves the whole batch.
    x = scaled(x, style)
    if not up:
        weight = weight.to(x.dtype, memory_format=torch.channels_last)  # once, not on the way there and back
        return conv2d(x, weight, padding=weight.shape[-1] // 2)
    weight = weight.to(x.dtype).transpose(0, 1)
    return blur(conv_transpose2d(x, weight, stride=2), padding=1, gain=4.0)


def modulated_colours(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor) -> Tensor:
    """`modulated_conv` of 1x1 kernels to so few channels that scaling the weights costs less, and a bias.

    x [N,I,H,W], weight [O,I,1,1], style [N,I], bias [O] -> [N,O,H,W].
    """
    if x.device.type != "cpu":
        return modulated_conv(x, weight, style) + bias.to(x.dtype).view(1, -1, 1, 1)
    n, inputs, height, width = x.shape
    each = (style[:, :, None] * weight[:, :, 0, 0].T).to(x.dtype)  # [N,I,O]
    pixels = x.permute(0, 2, 3, 1).reshape(n, height * width, inputs)
    colours = torch.baddbmm(bias.to(x.dtype), pixels, each)
    return colours.view(n, height, width, -1).permute(0, 3, 1, 2)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """1 / |s * W| for each sample and output channel (Eq. 3): [O,I,K,K], [N,I] -> [N,O]."""
    return (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()  # Eq. 3's epsilon, against 1 / 0


# Layers.


class Equalised(nn.Module):
    """A weight and a bias with equalised learning rate (Karras 2018, arXiv 1710.10196, Sec. 4.1).

    Weights are drawn from N(0, 1) and multiplied by 1 / sqrt(fan-in) in every forward pass: so Adam, whose steps have
    the same size for all parameters, moves all layers at the same relative speed.
    """

    bias: nn.Parameter

    def __init__(
        self,
        *shape: int,                    # of the weight: O, then what makes the fan-in
        bias_init: float | None = 0.0,  # first value of the bias; None: no bias
        lr_multiplier: float = 1.0,     # of the network's learning rate: both are stored divided by it
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.register_parameter("bias", None if bias_init is None else nn.Parameter(torch.empty(shape[0])))
        self.bias_init, self.lr_multiplier = bias_init, lr_multiplier
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weight from torch's global generator, as the layers of torch.nn do."""
        self.weight.copy_(torch.randn(self.weight.shape) * (1.0 / self.lr_multiplier))
        if self.bias_init is not None:
            self.bias.fill_(self.bias_init / self.lr_multiplier)


class Foreign(nn.Module):
    """A module that is not ours, with the first weights that its own constructor draws: `Foreign(lambda: Theirs(64))`.

    For modules without a `reset_parameters`, whose constructor would draw from its network's stream, so that its first
    weights would change with every layer before it. It is constructed once more for each draw.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.make, self.module = make, make()

    def reset_parameters(self) -> None:
        """Draws as the constructor does, from torch's global generator."""
        self.module.load_state_dict(self.make().state_dict())

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)


class Linear(Equalised):
    """x [N,I] -> [N,O]."""

    def __init__(
        self,
        inputs: int,                 # I
        outputs: int,                # O
        activate: bool = False,      # leaky ReLU
        bias_init: float = 0.0,      # first value of the bias
        lr_multiplier: float = 1.0,  # of the network's learning rate
    ) -> None:  # fmt: skip
        super().__init__(outputs, inputs, bias_init=bias_init, lr_multiplier=lr_multiplier)
        # Leaky ReLU lets a positive factor through, so that its gain is put on weight and bias.
        self.gain = SQRT2 if activate else 1.0
        self.scale, self.activate = lr_multiplier / math.sqrt(inputs), activate

    def forward(self, x: Tensor) -> Tensor:
        # The factors are the product's own, which spares a scaled copy of the weights and of their gradient.
        of_bias, of_weight = self.lr_multiplier * self.gain, self.scale * self.gain
        x = torch.addmm(self.bias, x, self.weight.T, beta=of_bias, alpha=of_weight)
        return leaky(x) if self.activate else x
