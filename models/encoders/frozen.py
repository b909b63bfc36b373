"""Frozen encoders as networks: images in [-1,1] of any size in, features out, gradients to the images only.

Shapes: N images or texts, R pixels per side, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tokenize = Callable[[list[str]], Tensor]
_TEXT_BATCH = 256


@dataclass(frozen=True)
class Preparation:
    """How an encoder's own authors prepare images.

    The shorter side is resized, and of an oblong image the centre is taken, as CLIP's authors do. What authors cut off
    at the border of a square to score better on ImageNet stays on: an encoder is given the whole of it.
    """

    size: int
    """Pixels per side."""
    mean: Sequence[float]
    """Per channel, in [0,1]."""
    std: Sequence[float]
    interpolation: str = "bilinear"
    """"bilinear" or "bicubic", always with antialiasing; any other kernel counts as bicubic."""


class Frozen(nn.Module):
    """Prepares images for a network that never changes."""

    network: Any
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        preparation: Preparation,
        dim: int,          # F
        fingerprint: str,  # identifies the weights
    ) -> None:  # fmt: skip
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.size, self.dim, self.fingerprint = preparation.size, dim, fingerprint
        self._mode = "bilinear" if preparation.interpolation == "bilinear" else "bicubic"
        mean, std = (torch.tensor(list(values)).view(1, 3, 1, 1) for values in (preparation.mean, preparation.std))
        # ((x + 1) / 2 - mean) / std in one multiplication and addition.
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stays in eval mode: batch statistics must never depend on generated images."""
        return super().train(False)

    def _prepared(self, images: Tensor) -> Tensor:
        check_images(images)
        height, width = images.shape[2:]
        short = min(height, width)
        target = (height * self.size // short, width * self.size // short)
        if (height, width) != target:
            images = resized(images, target, self._mode)
        top, left = (round((side - self.size) / 2) for side in target)
        images = images[:, :, top : top + self.size, left : left + self.size]
        return (images * self.scale + self.shift).contiguous(memory_format=torch.channels_last)


def resized(images: Tensor, target: tuple[int, int], mode: str) -> Tensor:
    """[N,C,H,W] -> [N,C,*target], antialiased. `mode`: "bilinear" or "bicubic"."""
    sides, device = images.shape[2:], images.device
    if device.type == "cpu" and any(new < old for new, old in zip(target, sides, strict=True)):
        return F.interpolate(images, size=target, mode=mode, antialias=True, align_corners=False)
    # Two small products, which on a processor enlarge many times faster. On a GPU the gradient of F.interpolate adds up
    # in another order each time, so that no run would come out twice.
    with torch.autocast(device.type, enabled=False):
        rows, columns = (_resizing(*pair, mode, images.dtype, device) for pair in zip(sides, target, strict=True))
        return rows @ (images @ columns.T)


@lru_cache
def _resizing(side: int, target: int, mode: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[target,side]: what F.interpolate makes of each pixel of a line."""
    with torch.inference_mode(False):
        pixels = torch.eye(side, dtype=torch.float64)[None, None]
        lines = F.interpolate(pixels, size=(target, side), mode=mode, antialias=True, align_corners=False)
        return lines[0, 0].to(device, dtype)


class Clip(Frozen):
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
        parts = [texts[start : start + _TEXT_BATCH] for start in range(0, len(texts), _TEXT_BATCH)]
        features = [self.network.encode_text(self._tokenize(part).to(device)) for part in parts]
        return F.normalize(torch.cat(features), dim=-1) if features else self.scale.new_zeros(0, self.dim)

    @property
    def context(self) -> int:
        """T, the most tokens of a text that it reads, with the marks of its start and end."""
        of_tokenizer = getattr(self._tokenize, "context_length", None) or getattr(self._tokenize, "context", None)
        return int(of_tokenizer or self._text_tower.context_length)

    def token_counts(self, texts: list[str]) -> Tensor:
        """N texts -> [N]: tokens of each up to the one that `text` reads, which is the end of the text."""
        return self._ends(self._tokenize(texts)) + 1

    @torch.no_grad()
    def tokens(self, texts: list[str]) -> Tensor:
        """N texts -> [N,T,F], without gradient: every token through the last norm and the projection of `text`.

        The last one of each, brought to unit norm, is its `text`; behind it are zeros. Raises ValueError for a text
        network that reads texts in another way than CLIP's.
        """
        device, parts = self.scale.device, []
        for start in range(0, len(texts), _TEXT_BATCH):
            ids = self._tokenize(texts[start : start + _TEXT_BATCH]).to(device)
            ends, hidden = self._ends(ids), self._hidden(ids)
            projection = self._text_tower.text_projection
            if projection is not None:
                hidden = projection(hidden) if isinstance(projection, nn.Module) else hidden @ projection
            hidden = _at_least_single(hidden) * (torch.arange(ids.shape[1], device=device) <= ends[:, None])[:, :, None]
            parts.append(F.pad(hidden, (0, 0, 0, self.context - ids.shape[1])))
        return torch.cat(parts) if parts else self.scale.new_zeros(0, self.context, self.dim)

    @property
    def _text_tower(self) -> Any:
        return getattr(self.network, "text", self.network)

    def _ends(self, ids: Tensor) -> Tensor:
        """[N]: the place of the token that open_clip takes for the whole text."""
        tower = self._text_tower
        pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", ""))
        end = getattr(tower, "eos_id", getattr(tower, "text_eos_id", None))
        if pool == "argmax":
            return ids.argmax(1)
        if pool == "eos" and end is not None:
            is_end: Tensor = ids == end
            return is_end.int().argmax(1)
        raise ValueError("does not mark the end of a text by a token, as CLIP does")

    def _hidden(self, ids: Tensor) -> Tensor:
        """[N,L,W]: what the last norm gives of every token."""
        outputs: list[Tensor] = []
        norm = getattr(self._text_tower, "ln_final", None)
        if norm is not None:
            hook = norm.register_forward_hook(lambda module, inputs, output: outputs.append(output))
            try:
                self.network.encode_text(ids)
            finally:
                hook.remove()
        if len(outputs) != 1 or outputs[0].shape[:2] != ids.shape:
            raise ValueError("has a text network that gives no features of single tokens")
        return outputs[0]


class Resnet(Frozen):
    """A frozen image network without its classifier. `dim` is F, `size` the pixels per side that it works on."""

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1], any R -> [N,F], pooled and not normalised, differentiable as Clip.image is."""
        return _at_least_single(self.network(self._prepared(images)))


class Inception(Resnet):
    """torch-fidelity's Inception, by which the Frechet Inception distance is defined; for measuring only.

    Its own code resizes and normalises images: that belongs to the definition.
    """

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1], any R -> [N,2048] of the images as 8-bit files hold them; without gradient.

        Raises ValueError where a gradient is asked for: rounding to 8 bits has none, so it would silently be zero.
        """
        check_images(images)
        if images.requires_grad and torch.is_grad_enabled():
            raise ValueError("this Inception sees 8-bit images and gives no gradient: it measures, it cannot guide")
        pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        with torch.no_grad():
            features: Tensor = self.network(pixels)[0]
        return features


def check_images(images: Tensor) -> None:
    """Raises ValueError for what is no batch of colour images."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        given = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"an encoder takes floating-point images [N,3,H,W] in [-1,1], not {given}")


def _at_least_single(features: Tensor) -> Tensor:
    """Features of a network that computed in half precision as float32; float32 and float64 as they are."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
