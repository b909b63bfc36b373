"""The discriminator: StyleGAN2's residual architecture (arXiv 1912.04958, Sec. 4.1) with feature heads.

It is given images alone. The condition enters by the logit b(y) + f_txt(y).c, see `harness.models.losses`.

Shapes: N samples, R x R pixels, I and O channels in and out, F text feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.models.channelwise import activated, clamped, leaky
from harness.models.config import DiscriminatorConfig
from harness.models.convolution import conv2d
from harness.models.kernels import kernels_for
from harness.models.ops import SQRT2, Equalised, Foreign, Linear
from harness.models.own_layers import OwnLayer, OwnLayers, WrongReturn, calling, described
from harness.models.resampling import blur, downsample


class Judgement(NamedTuple):
    """What the discriminator says of images y."""

    b: Tensor  # [N], the unconditional part of the logit
    f_img: Tensor  # [N,F], the feature contrasted with images
    f_txt: Tensor  # [N,F], the feature contrasted with text; the same tensor with one shared head


class Conv(Equalised):
    """x [N,I,H,W] -> [N,O,H,W], or [N,O,H/2,W/2] with `down`."""

    def __init__(
        self,
        inputs: int,            # I
        outputs: int,           # O
        size: int,              # of the kernel: 1 or 3
        down: bool = False,     # filter and halve the size
        activate: bool = True,  # leaky ReLU; without it no bias either
        gain: float = 1.0,      # of the output
    ) -> None:  # fmt: skip
        super().__init__(outputs, inputs, size, size, bias_init=0.0 if activate else None)
        # Leaky ReLU lets a positive factor through, so that its gain is put on weight and bias.
        self.bias_scale = gain * (SQRT2 if activate else 1.0)
        self.scale = self.bias_scale / math.sqrt(inputs * size**2)
        self.size, self.down, self.activate = size, down, activate

    def forward(self, x: Tensor) -> Tensor:
        # In the order of memory that the images are in, once and not on the way there and back.
        weight = (self.weight * self.scale).to(x.dtype, memory_format=torch.channels_last)
        bias = self.bias * self.bias_scale if self.activate else None
        is_beside = kernels_for(x) is not None  # on a GPU it is added where leaky ReLU is taken
        inside = None if bias is None or is_beside else bias.to(x.dtype)
        if not self.down:
            x = conv2d(x, weight, inside, padding=self.size // 2)
        elif self.size == 1:  # one pixel of four is read: only those are filtered
            x = conv2d(downsample(x), weight, inside)
        else:
            x = conv2d(blur(x, padding=2), weight, inside, stride=2)
        if bias is None:
            return x
        return activated(x, None, bias) if is_beside else leaky(x)


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions and a 1x1 skip, halving the size: [N,I,H,W] -> [N,O,H/2,W/2]."""

    def __init__(self, inputs: int, outputs: int, clamp: float = 0.0) -> None:
        super().__init__()
        half = math.sqrt(0.5)  # two branches of equal variance add up to that of one
        self.clamp0, self.clamp1 = clamp, clamp * half  # the limit is of the activation before the gain
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3, down=True, gain=half)
        self.skip = Conv(inputs, outputs, 1, down=True, activate=False, gain=half)

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = self.skip(x)
        x = clamped(self.conv1(clamped(self.conv0(x), self.clamp0)), self.clamp1)
        merged += x  # in place: the skip has no activation whose gradient would need it
        return merged


def minibatch_std(x: Tensor, group: int, run: int) -> Tensor:
    """Append one channel: the mean standard deviation within groups of `group` samples (Karras 2018, Sec. 3).

    [N,C,H,W] -> [N,C+1,H,W]; N must be a multiple of `run`, and `run` of `group`. Each run of neighbours has groups of
    its own, evenly spread over it, so batches that are concatenated keep their statistics to themselves.
    """
    n, _, height, width = x.shape
    if n % run or run % group:
        raise ValueError(f"minibatch_std_group {group} does not divide a batch of {run if run % group else n}")
    grouped = x.contiguous().view(n // run, group, run // group, *x.shape[1:])
    # In two passes: PyTorch's own `var` over a dimension that is not the last is forty times slower on a CPU.
    variance = (grouped - grouped.mean(1, keepdim=True)).square().mean(1).flatten(0, 1)
    std = (variance + 1e-8).sqrt().mean((1, 2, 3))  # the root has no gradient at 0
    channel = std.view(-1, 1, run // group).expand(-1, group, -1).reshape(n, 1, 1, 1).expand(n, 1, height, width)
    return torch.cat([x, channel], dim=1)


class Head(nn.Module):
    """[N,C] -> [N,F] through one linear layer or two."""

    def __init__(self, channels: int, text_dim: int, layers: int = 2) -> None:
        super().__init__()
        hidden = [Linear(channels, channels, activate=True) for _ in range(layers - 1)]
        self.layers = nn.Sequential(*hidden, Linear(channels, text_dim))

    def forward(self, x: Tensor) -> Tensor:
        feature: Tensor = self.layers(x)
        return feature


class Discriminator(nn.Module):
    """image [N,3,R,R] in [-1,1] -> Judgement."""

    def __init__(
        self,
        config: DiscriminatorConfig,
        resolution: int,  # R, a power of two, at least 8
        text_dim: int,    # F
        own: Sequence[OwnLayer] = (),  # each before the block of its size, that of 4 before the last layers
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = [resolution // 2**i for i in range(int(math.log2(resolution)) - 1)]  # R, R/2, ..., 4
        channels = [min(config.channel_base // size, config.channel_max) for size in sizes]
        last = channels[-1]
        self.from_rgb = Conv(3, channels[0], 1)
        self.blocks = nn.Sequential(*(DiscriminatorBlock(i, o, config.clamp) for i, o in pairwise(channels)))
        self.own = nn.ModuleList(
            OwnLayers([each for each in own if each.at == size], channels=c)
            for size, c in zip(sizes, channels, strict=True)
        )
        self.group, self.strided = config.minibatch_std_group, config.minibatch_std_layout == "strided"
        self.clamp = config.clamp
        self.conv = Conv(last + (self.group > 0), last, 3)
        self.dense = Linear(last * 4 * 4, last, activate=True)
        self.unconditional = Linear(last, 1)
        self.head_txt = Head(last, text_dim, config.head_layers)
        self.head_img = Head(last, text_dim, config.head_layers) if config.heads == "separate" else None

    def forward(self, image: Tensor, compute: torch.dtype | None = None, run: int = 0) -> Judgement:
        """`compute`: dtype of the blocks; the last layers and the heads keep the image's.

        `run`: samples of each of the batches that are concatenated; 0: there is one.
        """
        # Convolutions.
        x = image.to(compute or image.dtype, memory_format=torch.channels_last)
        x = clamped(self.from_rgb(x), self.clamp)
        for own, block in zip(self.own, self.blocks, strict=False):
            x = block(own(x, {}, image.dtype, run) if own else x)
        last = self.own[-1]
        x = (last(x, {}, image.dtype, run) if last else x).to(image.dtype)  # [N,C,4,4]

        # Last layers.
        if self.group:
            run = (run or len(x)) if self.strided else self.group
            x = minibatch_std(x, min(self.group, run), run)
        x = self.dense(clamped(self.conv(x), self.clamp).flatten(1))  # [N,C]

        # Logit, features.
        f_txt = self.head_txt(x)
        return Judgement(self.unconditional(x)[:, 0], self.head_img(x) if self.head_img else f_txt, f_txt)


class OwnDiscriminator(nn.Module):
    """A discriminator of a study's own code, in place of the built-in one: image [N,3,R,R] -> Judgement."""

    def __init__(
        self,
        name: str,
        make: Callable[[int, int], nn.Module],  # R, F -> the module: image -> b [N], f_img [N,F], f_txt [N,F]
        resolution: int,
        text_dim: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.name, self.text_dim = name, text_dim
        self.module = Foreign(lambda: make(resolution, text_dim))
        if not any(each.requires_grad for each in self.module.parameters()):
            raise WrongReturn(name, "has no weights that are trained; nn.Parameter makes them")

    def forward(self, image: Tensor, compute: torch.dtype | None = None, run: int = 0) -> Judgement:
        """`run`: samples of each of the batches that are concatenated: what it computes over a batch stays in each."""
        with calling(self.name):
            parts = [self._checked(self.module(part), len(part)) for part in torch.split(image, run or len(image))]
        return Judgement(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def _checked(self, output: object, n: int) -> Judgement:
        wanted = [(n,), (n, self.text_dim), (n, self.text_dim)]
        outputs: list[Any] = list(output) if isinstance(output, tuple | list) else [output]
        if [getattr(each, "shape", None) for each in outputs] != wanted:
            gave, shapes = ", ".join(map(described, outputs)), ", ".join(str(list(shape)) for shape in wanted)
            raise WrongReturn(self.name, f"gave {gave}; a discriminator gives b, f_img, f_txt of shapes {shapes}")
        return Judgement(*outputs)
