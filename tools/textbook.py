"""The generator and discriminator as the papers write them, one operation per line of mathematics.

`make bench` times the product against this form and the tests hold the two equal: weights modulated per sample, zeros
inserted before every filter, bias, activation and gain one after the other, one discriminator pass per batch, fp32 in
PyTorch's own memory layout. It reads the parameters of the modules in `models` and nothing else of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.channelwise import clamped
from harness.models.discriminator import Conv, Discriminator, DiscriminatorBlock, Judgement, minibatch_std
from harness.models.generator import Draw, Generator, SynthesisBlock, SynthesisLayer, ToRGB
from harness.models.ops import SQRT2
from harness.training.trainer import Images, Trainer


@contextmanager
def textbook() -> Iterator[None]:
    """Inside the block every generator, discriminator and trainer works as written here."""
    with (
        patch.object(Generator, "synthesis", synthesis),
        patch.object(Discriminator, "forward", judgement),
        patch.object(Trainer, "judge", judge),
    ):
        yield


def synthesis(
    self: Generator,
    ws: Tensor,
    h: Tensor,
    draw: Draw | None = None,
    compute: torch.dtype | None = None,
    tokens: Tensor | None = None,
) -> Tensor:
    """ws [N,L,W], h [N,F] -> image [N,3,R,R] (StyleGAN2, arXiv 1912.04958, Fig. 2c and Fig. 7b); always in fp32."""
    x = self.constant.expand(len(ws), -1, -1, -1).contiguous()
    image, layer = x.new_zeros(len(ws), 3, 2, 2), 0
    for block in cast(Iterable[SynthesisBlock], self.blocks):
        for conv in cast(Iterable[SynthesisLayer], block.convs):
            x = _layer(conv, x, ws[:, layer], h, draw)
            layer += 1
        image = _resample(image, up=2, pad=(2, 1), gain=4.0) + _to_rgb(block.to_rgb, x, ws[:, layer], h)
    return image


def judgement(self: Discriminator, image: Tensor, compute: torch.dtype | None = None, run: int = 0) -> Judgement:
    """image [N,3,R,R] -> Judgement (StyleGAN2, Fig. 7c); always in fp32."""
    x = clamped(_conv(self.from_rgb, image), self.clamp)
    for block in cast(Iterable[DiscriminatorBlock], self.blocks):
        skip = _conv(block.skip, _resample(x, down=2, pad=(1, 1)))
        x = clamped(_conv(block.conv0, x), self.clamp)
        x = clamped(_conv(block.conv1, _resample(x, pad=(2, 2)), stride=2), self.clamp)
        x = (x + skip) / SQRT2
    if self.group:
        run = (run or len(x)) if self.strided else self.group
        x = minibatch_std(x, min(self.group, run), run)
    x = self.dense(clamped(_conv(self.conv, x), self.clamp).flatten(1))
    f_txt = self.head_txt(x)
    return Judgement(self.unconditional(x)[:, 0], self.head_img(x) if self.head_img else f_txt, f_txt)


def judge(self: Trainer, images: Images, step: int, purpose: str) -> dict[str, Judgement]:
    """One pass per batch."""
    run = self.settings.loss.group
    return {name: self.networks.discriminator(batch, run=run) for name, batch in images.items()}


def _layer(layer: SynthesisLayer, x: Tensor, w: Tensor, h: Tensor, draw: Draw | None) -> Tensor:
    weight, style = layer.weight / math.sqrt(layer.weight[0].numel()), layer.style(w, h)
    modulated = weight[None] * style[:, None, :, None, None]
    demodulation = (modulated.square().sum((2, 3, 4)) + 1e-8).rsqrt()
    x = x * style[:, :, None, None]
    if layer.up:
        x = _resample(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), pad=(1, 1), gain=4.0)
    else:
        x = F.conv2d(x, weight, padding=1)
    x = x * demodulation[:, :, None, None]
    if layer.noise_strength is not None and draw is not None:
        noise = draw((len(x), 1, *x.shape[2:]), device=x.device, dtype=x.dtype)
        x = x + noise * layer.noise_strength
    return clamped(F.leaky_relu(x + layer.bias[:, None, None], 0.2) * SQRT2, layer.clamp)


def _to_rgb(layer: ToRGB, x: Tensor, w: Tensor, h: Tensor) -> Tensor:
    weight = layer.weight / math.sqrt(layer.weight[0].numel())
    image = F.conv2d(x * layer.style(w, h)[:, :, None, None], weight) + layer.bias[:, None, None]
    return clamped(image, layer.clamp)


def _conv(layer: Conv, x: Tensor, stride: int = 1) -> Tensor:
    """`x` comes already filtered where the layer halves the size, and for the skip already halved."""
    weight = layer.weight / math.sqrt(layer.weight[0].numel())
    x = F.conv2d(x, weight, stride=stride, padding=0 if layer.down else weight.shape[-1] // 2)
    return x if layer.bias is None else F.leaky_relu(x + layer.bias[:, None, None], 0.2) * SQRT2


def _resample(x: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0), gain: float = 1.0) -> Tensor:
    """Insert zeros, pad, filter with the outer product of [1,3,3,1], keep every `down`-th pixel."""
    n, channels, height, width = x.shape
    x = F.pad(x.reshape(n, channels, height, 1, width, 1), [0, up - 1, 0, 0, 0, up - 1])
    x = F.pad(x.reshape(n, channels, height * up, width * up), [*pad, *pad])
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = torch.outer(taps, taps) / 64 * gain
    x = F.conv2d(x, kernel.repeat(channels, 1, 1, 1), groups=channels)
    return x[:, :, ::down, ::down]
