"""How a frozen encoder sees generated images: never twice the same pixels at the same place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.settings import EncoderConfig
from harness.training.ranks import Draws


def view(images: Tensor, config: EncoderConfig, draws: Draws, size: int) -> Tensor:
    """Images [n,3,R,R] as a guide of `size` pixels sees them: moved at random, with a little noise.

    So that no encoder can be pleased by a fixed pattern of pixels.
    """
    if config.view == "crop":
        images = _cropped(images, config.crop_from, _on_host(draws.rng), size)
    elif config.crop > 0:
        size, reach = images.shape[-1], round(config.crop * images.shape[-1])
        padded = F.pad(images, (reach,) * 4, value=1.0)  # white
        images = _windows(padded, draws.integers(2 * reach + 1, (len(images), 2)), size)
    if config.pixel_noise > 0:
        images = images + config.pixel_noise * draws.normal(images.shape)
    return images


def _windows(images: Tensor, corners: Tensor, size: int) -> Tensor:
    """[n,3,S,S] -> [n,3,size,size]: of each image the window whose upper left corner is at its (y, x) of `corners`."""
    if images.device.type == "cpu" and size > 16:  # measured: copies are faster from there on
        pairs = zip(images, corners.tolist(), strict=True)
        return torch.stack([one[:, y : y + size, x : x + size] for one, (y, x) in pairs])
    y, x = (corners[:, axis, None] + torch.arange(size, device=images.device) for axis in (0, 1))
    n, channels, _, wide = images.shape
    rows = images.gather(2, y[:, None, :, None].expand(n, channels, size, wide))
    return rows.gather(3, x[:, None, None, :].expand(n, channels, size, size))


def _on_host(rng: torch.Generator) -> torch.Generator:
    """A stream on the CPU, where a number that becomes a shape has to be; the stream itself if it is there."""
    return rng if rng.device.type == "cpu" else torch.Generator().manual_seed(rng.initial_seed())


def _cropped(images: Tensor, smallest: float, rng: torch.Generator, size: int) -> Tensor:
    """[n,3,R,R] -> [n,3,size,size] as LAFITE's code has it: one square of `smallest` to all of the side, enlarged.

    Images of fewer than `size` pixels lie as they are at a random place on white.
    """

    def below(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=rng))

    pixels = images.shape[-1]
    if pixels < size:
        left, top = below(0, size - pixels), below(0, size - pixels)
        return F.pad(images, (left, size - pixels - left, top, size - pixels - top), value=1.0)  # white
    side = below(max(1, int(smallest * pixels)), pixels)
    left, top = below(0, pixels - side), below(0, pixels - side)
    square = images[:, :, top : top + side, left : left + side]
    return F.interpolate(square, (size, size), mode="bicubic", align_corners=False)
