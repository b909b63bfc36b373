"""The generator: StyleGAN2's skip architecture (arXiv 1912.04958, Sec. 4.1), conditioned on a text feature.

Shapes: N samples, Z latent, W intermediate latent, F text feature, L layers, R x R pixels, I and O channels in and out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from harness.models.channelwise import activated, clamped
from harness.models.config import GeneratorConfig
from harness.models.ops import (
    SQRT2,
    Equalised,
    Linear,
    demodulation,
    modulated_colours,
    modulated_conv,
)
from harness.models.own_layers import OwnLayer, OwnLayers
from harness.models.resampling import upsample

Draw = Callable[..., Tensor]
"""Draws from N(0, 1): `draw(size, device=, dtype=)`, such as `partial(torch.randn, generator=rng)`."""
MakeStyle = Callable[[int], nn.Module]
"""Channels C -> a module that makes styles [N,C] of w [N,W] and h [N,F]."""


class Mapping(nn.Module):
    """z [N,Z] -> w [N,W]: normalised z through fully connected layers (StyleGAN2, App. B)."""

    def __init__(self, z_dim: int, w_dim: int, layers: int) -> None:
        super().__init__()
        widths = [z_dim] + [w_dim] * layers
        # A hundredth of the learning rate keeps so deep a stack stable (StyleGAN, arXiv 1812.04948, App. C).
        self.layers = nn.Sequential(*(Linear(i, o, activate=True, lr_multiplier=0.01) for i, o in pairwise(widths)))

    def forward(self, z: Tensor) -> Tensor:
        w: Tensor = self.layers(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        return w


class Style(nn.Module):
    """w [N,W], h [N,F] -> styles [N,C]."""

    affine: Linear  # A

    def __init__(self, config: GeneratorConfig, text_dim: int) -> None:
        super().__init__()
        self.text_dim = text_dim
        # A unit vector to mean square 1, the size that equalised layers expect.
        self.text_gain = math.sqrt(text_dim) if config.text_input == "scaled" else 1.0

    def reading_text(self) -> list[Linear]:
        """The layers that h itself is given to."""
        raise NotImplementedError

    @staticmethod
    def text_layers(config: GeneratorConfig, text_dim: int, both_active: bool) -> tuple[Linear, Linear]:
        """The two layers that read h: [N,F] -> [N, width of m]."""
        width, multiplier = config.text_width or text_dim, config.text_lr_multiplier
        hidden = (text_dim + width) // 2
        return (
            Linear(text_dim, hidden, activate=True, lr_multiplier=multiplier),
            Linear(hidden, width, activate=both_active, lr_multiplier=multiplier),
        )


class ConcatStyle(Style):
    """The origin's style: A([w, m(h)]), m a 2-layer MLP (LAFITE, arXiv 2111.13792, Sec. 3.2)."""

    def __init__(self, config: GeneratorConfig, text_dim: int, channels: int) -> None:
        super().__init__(config, text_dim)
        self.m = nn.Sequential(*self.text_layers(config, text_dim, config.text_activation == "both"))
        self.affine = Linear(config.w_dim + (config.text_width or text_dim), channels, bias_init=1.0)

    def reading_text(self) -> list[Linear]:
        return [cast(Linear, self.m[0])]

    def forward(self, w: Tensor, h: Tensor) -> Tensor:
        style: Tensor = self.affine(torch.cat([w, self.m(h * self.text_gain)], dim=1))
        return style


class TransformStyle(Style):
    """transform_w: the condition transforms w itself, w~ = scale(h) * w + shift(h), style = A(w~).

    scale starts at 1 + noise and shift at noise, of the same size as the text enters `ConcatStyle`.
    """

    def __init__(self, config: GeneratorConfig, text_dim: int, channels: int) -> None:
        super().__init__(config, text_dim)
        self.transform_scale = Linear(text_dim, config.w_dim, bias_init=1.0)
        self.transform_shift = Linear(text_dim, config.w_dim)
        self.affine = Linear(config.w_dim, channels, bias_init=1.0)

    def reading_text(self) -> list[Linear]:
        return [self.transform_scale, self.transform_shift]

    def forward(self, w: Tensor, h: Tensor) -> Tensor:
        h = h * self.text_gain
        style: Tensor = self.affine(self.transform_scale(h) * w + self.transform_shift(h))
        return style


class ModulateStyle(Style):
    """The second variant of LAFITE's code: A(w) * scale(h) + shift(h), both 3-layer MLPs whose last layer is linear."""

    def __init__(self, config: GeneratorConfig, text_dim: int, channels: int) -> None:
        super().__init__(config, text_dim)
        width = config.text_width or text_dim

        def of_text() -> nn.Sequential:
            return nn.Sequential(*self.text_layers(config, text_dim, both_active=True), Linear(width, channels))

        self.modulate_scale, self.modulate_shift = of_text(), of_text()
        self.affine = Linear(config.w_dim, channels, bias_init=1.0)

    def reading_text(self) -> list[Linear]:
        return [cast(Linear, self.modulate_scale[0]), cast(Linear, self.modulate_shift[0])]

    def forward(self, w: Tensor, h: Tensor) -> Tensor:
        h = h * self.text_gain
        style: Tensor = self.affine(w) * self.modulate_scale(h) + self.modulate_shift(h)
        return style


def style_at(size: int, config: GeneratorConfig, text_dim: int) -> MakeStyle:
    """What makes the styles of the layers at one resolution."""
    if config.conditioning == "modulate" and size < config.modulate_from:
        return partial(ConcatStyle, config, text_dim)
    kinds = {"concat": ConcatStyle, "transform": TransformStyle, "modulate": ModulateStyle}
    return partial(kinds[config.conditioning], config, text_dim)


class SynthesisLayer(Equalised):
    """Modulated 3x3 convolution, pixel noise, bias, leaky ReLU: [N,I,H,W] -> [N,O,H,W], twice the size with `up`."""

    def __init__(
        self,
        inputs: int,         # I
        outputs: int,        # O
        style: nn.Module,    # w, h -> [N,I]
        up: bool,            # double the size
        noise: bool,         # add pixel noise of a learned strength
        clamp: float = 0.0,  # limit of the activations; 0: none
    ) -> None:  # fmt: skip
        super().__init__(outputs, inputs, 3, 3)
        self.style = style
        self.noise_strength = nn.Parameter(torch.zeros(())) if noise else None
        self.scale = 1.0 / math.sqrt(inputs * 9)
        self.up, self.clamp = up, clamp

    def forward(self, x: Tensor, w: Tensor, h: Tensor, draw: Draw | None) -> Tensor:
        # Modulated convolution. The weight's scale is put on the style, which is smaller.
        style = self.style(w, h) * self.scale
        x = modulated_conv(x, self.weight, style, self.up)

        # Pixel noise. Leaky ReLU lets its gain of sqrt 2 through: it is put on what is small.
        noise = None
        if self.noise_strength is not None and draw is not None:
            noise = draw((x.shape[0], 1, *x.shape[2:]), device=x.device, dtype=x.dtype)
            noise = noise * (self.noise_strength * SQRT2).to(x.dtype)

        # Demodulation, bias, noise, leaky ReLU.
        return activated(x, demodulation(self.weight, style) * SQRT2, self.bias * SQRT2, noise, self.clamp)


class ToRGB(Equalised):
    """Modulated 1x1 convolution to colour, without demodulation: [N,I,H,W] -> [N,3,H,W]."""

    def __init__(self, inputs: int, style: nn.Module, clamp: float = 0.0) -> None:
        super().__init__(3, inputs, 1, 1)
        self.style, self.clamp = style, clamp
        self.scale = 1.0 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor, h: Tensor) -> Tensor:
        return clamped(modulated_colours(x, self.weight, self.style(w, h) * self.scale, self.bias), self.clamp)


class SynthesisBlock(nn.Module):
    """One resolution: its convolutions, and its colours on top of the image so far."""

    def __init__(
        self,
        inputs: int,            # I; 0 for the first block, which starts from the constant
        outputs: int,           # O
        make_style: MakeStyle,
        config: GeneratorConfig,
        text_dim: int,          # F
        own: Sequence[OwnLayer] = (),  # between the convolutions and the colours
    ) -> None:  # fmt: skip
        super().__init__()
        noise, clamp = config.noise, config.clamp
        first = [SynthesisLayer(inputs, outputs, make_style(inputs), True, noise, clamp)] if inputs else []
        second = SynthesisLayer(outputs, outputs, make_style(outputs), False, noise, clamp)
        self.convs = nn.ModuleList([*first, second])
        self.own = OwnLayers(own, channels=outputs, text_dim=text_dim, w_dim=config.w_dim)
        self.to_rgb = ToRGB(outputs, make_style(outputs), clamp)

    def forward(
        self,
        x: Tensor,               # [N,I,H/2,W/2]; of the first block [N,O,4,4]
        image: Tensor | None,    # of the blocks so far
        ws: Sequence[Tensor],
        h: Tensor,
        draw: Draw | None,       # pixel noise; None: there is none
        tokens: Tensor | None,   # of the captions [N,T,F], for own layers that read them
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        *of_convs, of_rgb = ws
        for conv, w in zip(self.convs, of_convs, strict=True):
            x = conv(x, w, h, draw)
        if self.own:
            x = self.own(x, {"h": h, "w": of_rgb, "h_tokens": tokens}, h.dtype)
        rgb = self.to_rgb(x, of_rgb, h).to(of_rgb.dtype)
        return x, rgb if image is None else upsample(image) + rgb


class Generator(nn.Module):
    """(z [N,Z], h [N,F]) -> image [N,3,R,R], in [-1,1] once trained."""

    def __init__(
        self,
        config: GeneratorConfig,
        resolution: int,  # R, a power of two, at least 8
        text_dim: int,    # F
        own: Sequence[OwnLayer] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = [4 * 2**i for i in range(int(math.log2(resolution)) - 1)]  # 4, 8, ..., R
        channels = [min(config.channel_base // size, config.channel_max) for size in sizes]

        self.mapping = Mapping(config.z_dim, config.w_dim, config.mapping_layers)
        self.constant = nn.Parameter(torch.empty(1, channels[0], 4, 4))
        self.blocks = nn.ModuleList(
            SynthesisBlock(
                i, o, style_at(size, config, text_dim), config, text_dim, [each for each in own if each.at == size]
            )
            for (i, o), size in zip(pairwise([0, *channels]), sizes, strict=True)
        )
        self.z_dim, self.text_dim, self.resolution = config.z_dim, text_dim, resolution
        self.layers = 2 * len(sizes)  # L, see `split`
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the constant; the layers draw their own."""
        self.constant.copy_(torch.randn(self.constant.shape))

    def forward(self, z: Tensor, h: Tensor, draw: Draw | None = None, tokens: Tensor | None = None) -> Tensor:
        """One w for all layers; `draw` gives the pixel noise, without it there is none."""
        return self.synthesis(self.mapping(z)[:, None].expand(-1, self.layers, -1), h, draw, tokens=tokens)

    def synthesis(
        self,
        ws: Tensor,                           # [N,L,W]
        h: Tensor,                            # [N,F]
        draw: Draw | None = None,             # pixel noise; None: there is none
        compute: torch.dtype | None = None,   # of the convolutions; styles and image keep the dtype of ws
        tokens: Tensor | None = None,         # of the captions [N,T,F], for own layers that read them
    ) -> Tensor:  # fmt: skip
        """The image [N,3,R,R]."""
        x = self.constant.to(compute or ws.dtype).expand(ws.shape[0], -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        for block, w in zip(self.blocks, self.split(ws), strict=True):
            x, image = block(x, image, w, h, draw, tokens)
        assert image is not None  # there is at least one block
        return image

    def split(self, ws: Tensor) -> Iterator[Sequence[Tensor]]:
        """[N,L,W] -> the w [N,W] of each block's layers, convolutions first.

        A block's colours share their w with the next block's first convolution, as in NVIDIA's code: L counts
        the convolutions and the last colours.
        """
        each, first = ws.unbind(1), 0
        for block in cast(Iterable[SynthesisBlock], self.blocks):
            last = first + len(block.convs)
            yield each[first : last + 1]
            first = last
