"""Frozen encoders as networks: images in [-1,1] of any size in, features out, gradients to the images only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tokenize = Callable[[list[str]], Tensor]
_TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class Preparation:
    """How an encoder's own authors prepare images.

    The shorter side is resized and of an oblong image the centre is seen, as CLIP's authors do. What authors cut off at
    the border of a square to score better on ImageNet stays on: an encoder sees the whole of it.
    """

    size: int
    """Pixels per side."""
    mean: Sequence[float]
    """Per channel, in [0,1]."""
    std: Sequence[float]
    interpolation: str = "bilinear"
    """"bilinear" or "bicubic", always with antialiasing; any other kernel counts as bicubic."""


class _Frozen(nn.Module):
    """Prepares images for a network that never changes."""

    network: Any
    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preparation: Preparation, dim: int, fingerprint: str) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.size, self.dim, self.fingerprint = preparation.size, dim, fingerprint
        self._mode = "bilinear" if preparation.interpolation == "bilinear" else "bicubic"
        mean, std = (torch.tensor(list(values)).view(1, 3, 1, 1) for values in (preparation.mean, preparation.std))
        # ((x + 1) / 2 - mean) / std in one multiplication and addition.
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> _Frozen:
        """Stays in eval mode: batch statistics must never depend on generated images."""
        return super().train(False)

    def _prepared(self, images: Tensor) -> Tensor:
        check_images(images)
        target = scaled(images.shape[2], images.shape[3], self.size)
        if images.shape[2:] != target:
            images = F.interpolate(images, size=target, mode=self._mode, antialias=True, align_corners=False)
        top, left = (round((side - self.size) / 2) for side in target)
        images = images[:, :, top : top + self.size, left : left + self.size]
        return (images * self.scale + self.shift).contiguous(memory_format=torch.channels_last)


class Clip(_Frozen):
    """A frozen CLIP. `dim` is F, `size` the pixels per side that it works on, `fingerprint` identifies its weights."""

    def __init__(self, network: nn.Module, preparation: Preparation, tokenize: Tokenize, fingerprint: str) -> None:
        super().__init__(network, preparation, 0, fingerprint)
        self._tokenize = tokenize
        self.dim = self.text([""]).shape[1]

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1], any R -> [N,F] of unit norm, differentiable with respect to the images."""
        return F.normalize(_at_least_single(self.network.encode_image(self._prepared(images))), dim=-1)

    @torch.no_grad()
    def text(self, texts: list[str]) -> Tensor:
        """N texts -> [N,F] of unit norm, without gradient. A text longer than the context is cut off."""
        device = self.scale.device
        parts = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
        features = [self.network.encode_text(self._tokenize(part).to(device)) for part in parts]
        return F.normalize(torch.cat(features), dim=-1) if features else self.scale.new_zeros(0, self.dim)


class Resnet(_Frozen):
    """A frozen image network without its classifier. `dim` is F_res, `size` the pixels per side that it works on."""

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1], any R -> [N,F_res], pooled and not normalised, differentiable as Clip.image is."""
        return _at_least_single(self.network(self._prepared(images)))


def scaled(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width after resizing the shorter side to `size`; the longer one is rounded down."""
    short = min(height, width)
    return height * size // short, width * size // short


def check_images(images: Tensor) -> None:
    """Raises ValueError for what is no batch of colour images."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        found = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"an encoder takes floating-point images [N,3,H,W] in [-1,1], not {found}")


def _at_least_single(features: Tensor) -> Tensor:
    """Features of a network that computed in half precision as float32; float32 and float64 as they are."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
