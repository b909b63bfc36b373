"""The discriminator: StyleGAN2's residual architecture with feature heads. It never sees a condition.

The condition enters by the logit b(y) + f_txt(y).c, see `harness.models.losses.condition_logit`.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.models.config import DiscriminatorConfig
from harness.models.layers import Conv, Linear, minibatch_std


class Judgement(NamedTuple):
    """What the discriminator says of images y."""

    b: Tensor  # [N], the unconditional part of the logit
    f_img: Tensor  # [N,F], the feature contrasted with images
    f_txt: Tensor  # [N,F], the feature contrasted with text; the same tensor with one shared head


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions and a 1x1 skip, halving the size (StyleGAN2, Sec. 4.1): [N,I,H,W] -> [N,O,H/2,W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, inputs, 3)
        half = math.sqrt(0.5)  # two branches of equal variance add up to that of one
        self.conv1 = Conv(inputs, outputs, 3, down=True, gain=half)
        self.skip = Conv(inputs, outputs, 1, down=True, activate=False, gain=half)

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = self.skip(x)
        merged += self.conv1(self.conv0(x))
        return merged


class Head(nn.Module):
    """[N,C] -> [N,F] through two linear layers."""

    def __init__(self, channels: int, text_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Linear(channels, channels, activate=True), Linear(channels, text_dim))

    def forward(self, x: Tensor) -> Tensor:
        feature: Tensor = self.layers(x)
        return feature


class Discriminator(nn.Module):
    """image [N,3,R,R] in [-1,1] -> Judgement.

    `compute`: dtype of the blocks, None for that of the image. The last layers and the heads keep the image's dtype.
    """

    def __init__(self, config: DiscriminatorConfig, resolution: int, text_dim: int) -> None:
        super().__init__()
        sizes = [resolution // 2**i for i in range(int(math.log2(resolution)) - 1)]
        channels = [min(config.channel_base // size, config.channel_max) for size in sizes]
        last = channels[-1]
        self.from_rgb = Conv(3, channels[0], 1)
        self.blocks = nn.Sequential(*(DiscriminatorBlock(i, o) for i, o in pairwise(channels)))
        self.group = config.minibatch_std_group
        self.compute: torch.dtype | None = None
        self.conv = Conv(last + (self.group > 0), last, 3)
        self.dense = Linear(last * 16, last, activate=True)
        self.unconditional = Linear(last, 1)
        self.head_txt = Head(last, text_dim)
        self.head_img = Head(last, text_dim) if config.heads == "separate" else None

    def forward(self, image: Tensor) -> Judgement:
        x = image.to(self.compute or image.dtype, memory_format=torch.channels_last)
        x = self.blocks(self.from_rgb(x)).to(image.dtype)
        if self.group:
            x = minibatch_std(x, self.group)
        x = self.dense(self.conv(x).flatten(1))
        f_txt = self.head_txt(x)
        return Judgement(self.unconditional(x)[:, 0], self.head_img(x) if self.head_img else f_txt, f_txt)
