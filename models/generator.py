"""The generator: StyleGAN2's skip architecture (arXiv 1912.04958, Sec. 4.1), conditioned on a text feature.

Shapes: N samples, Z latent, W intermediate latent, F text feature, L layers, R pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.models.config import GeneratorConfig
from harness.models.layers import STYLES, Mapping
from harness.models.ops import SQRT2, demodulation, leaky, modulated_conv, upsample

MakeStyle = Callable[[int], nn.Module]


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, pixel noise, bias, leaky ReLU: [N,I,H,W] -> [N,O,H,W], twice the size with `up`."""

    weight_std, bias_init = 1.0, 0.0

    def __init__(self, inputs: int, outputs: int, style: nn.Module, up: bool, noise: bool) -> None:
        super().__init__()
        self.style = style
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(())) if noise else None
        self.scale = 1.0 / math.sqrt(inputs * 9)
        self.up = up

    def forward(self, x: Tensor, w: Tensor, h: Tensor, rng: torch.Generator | None) -> Tensor:
        style, weight = self.style(w, h), self.weight * self.scale
        x = modulated_conv(x, weight, style, self.up)
        bias = (self.bias * SQRT2).to(x.dtype).view(1, -1, 1, 1)
        x = torch.addcmul(bias, x, (demodulation(weight, style) * SQRT2).to(x.dtype)[:, :, None, None])
        if self.noise_strength is not None and rng is not None:
            noise = torch.randn((x.shape[0], 1, *x.shape[2:]), generator=rng, device=x.device, dtype=x.dtype)
            x += noise * (self.noise_strength * SQRT2).to(x.dtype)
        return leaky(x)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to colour, without demodulation: [N,I,H,W] -> [N,3,H,W]."""

    weight_std, bias_init = 1.0, 0.0

    def __init__(self, inputs: int, style: nn.Module) -> None:
        super().__init__()
        self.style = style
        self.weight = nn.Parameter(torch.empty(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.empty(3))
        self.scale = 1.0 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor, h: Tensor) -> Tensor:
        rgb = modulated_conv(x, self.weight * self.scale, self.style(w, h))
        return rgb + self.bias.to(rgb.dtype).view(1, 3, 1, 1)


class SynthesisBlock(nn.Module):
    """One resolution: its convolutions and its contribution to the image. The first block starts from a constant."""

    def __init__(self, inputs: int, outputs: int, make_style: MakeStyle, noise: bool) -> None:
        super().__init__()
        shapes = [(inputs, outputs, True), (outputs, outputs, False)] if inputs else [(outputs, outputs, False)]
        self.convs = nn.ModuleList(SynthesisLayer(i, o, make_style(i), up, noise) for i, o, up in shapes)
        self.to_rgb = ToRGB(outputs, make_style(outputs))

    def forward(
        self, x: Tensor, image: Tensor | None, ws: Tensor, h: Tensor, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        for index, conv in enumerate(self.convs):
            x = conv(x, ws[:, index], h, rng)
        rgb = self.to_rgb(x, ws[:, len(self.convs)], h).to(ws.dtype)
        return x, rgb if image is None else upsample(image) + rgb


class Generator(nn.Module):
    """(z [N,Z], h [N,F]) -> image [N,3,R,R], in [-1,1] once trained.

    `compute`: dtype of the convolutions, None for that of the weights. Styles and the image keep the weights' dtype.
    """

    def __init__(self, config: GeneratorConfig, resolution: int, text_dim: int) -> None:
        super().__init__()
        sizes = [4 * 2**i for i in range(int(math.log2(resolution)) - 1)]
        channels = [min(config.channel_base // size, config.channel_max) for size in sizes]
        kind = STYLES[config.conditioning]

        def make_style(count: int) -> nn.Module:
            return kind(config.w_dim, text_dim, count)

        self.mapping = Mapping(config.z_dim, config.w_dim, config.mapping_layers)
        self.constant = nn.Parameter(torch.empty(1, channels[0], 4, 4))
        self.blocks = nn.ModuleList(
            SynthesisBlock(i, o, make_style, config.noise) for i, o in zip([0, *channels], channels, strict=False)
        )
        self.z_dim, self.text_dim, self.resolution = config.z_dim, text_dim, resolution
        self.layers = 2 * len(sizes)
        self.compute: torch.dtype | None = None

    def forward(self, z: Tensor, h: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """One w for all layers; `rng` draws the pixel noise, without it there is none."""
        return self.synthesis(self.mapping(z)[:, None].expand(-1, self.layers, -1), h, rng)

    def synthesis(self, ws: Tensor, h: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """ws [N,L,W], h [N,F] -> image [N,3,R,R]."""
        x = self.constant.to(self.compute or ws.dtype).expand(ws.shape[0], -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        first = 0
        for block in self.blocks:
            x, image = block(x, image, ws[:, first:], h, rng)
            first += 2 if first else 1
        assert image is not None  # there is at least one block
        return image
