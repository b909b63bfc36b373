"""The frozen networks that guide the generator, and the view of a generated image that they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.settings import EncoderConfig

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Guides:
    """Image encoders by the symbol of their feature: "f_c" and, only when an active term asks for it, "f_res"."""

    encoders: dict[str, Encode]
    config: EncoderConfig

    def features(self, kind: str, images: Tensor, rng: torch.Generator) -> Tensor:
        """f_c or f_res of generated images [N,3,R,R] in [-1,1], with gradient: [N,F] in fp32 at either precision."""
        seen = view(images, self.config, rng)
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.encoders[kind](seen)


def view(images: Tensor, config: EncoderConfig, rng: torch.Generator) -> Tensor:
    """A random shift on white and a little noise, so that no encoder can be pleased by a fixed pattern of pixels."""
    if config.crop > 0:
        images = _shift(images, round(config.crop * images.shape[-1]), rng)
    if config.pixel_noise > 0:
        noise = torch.randn(images.shape, generator=rng).to(images.device)
        images = images + config.pixel_noise * noise
    return images


def _shift(images: Tensor, reach: int, rng: torch.Generator) -> Tensor:
    size = images.shape[-1]
    padded = F.pad(images, (reach,) * 4, value=1.0)
    corners = torch.randint(0, 2 * reach + 1, (len(images), 2), generator=rng).tolist()
    return torch.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(padded, corners, strict=True)])
