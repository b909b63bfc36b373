"""What a picture may look like when a generator has made it: shifted, small, blurred, noisy, partly missing.

Everything works on images in [-1,1], draws from an explicit generator and treats white (1) as empty.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = (12, 16, 16, 20, 24)
"""Resolutions in pixels that part of each batch is reduced to: studies start at 16 px."""
_LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """[count,1,1,1], uniform in [low, high)."""
    return torch.rand(count, 1, 1, 1, generator=generator) * (high - low) + low


def augment(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """[N,3,R,R] -> [N,3,size,size], each image changed at random, all in [-1,1]."""
    moved = _move(images, generator)
    shown = _resample(moved, size, generator)
    coloured = _colour(shown, generator)
    blurred = _sometimes(0.2, coloured, F.avg_pool2d(F.pad(coloured, (1, 1, 1, 1), value=1.0), 3, 1), generator)
    cut = _cut(blurred, generator)
    strength = uniform(len(cut), -0.12, 0.18, generator).clamp_min(0)
    return (cut + strength * torch.randn(cut.shape, generator=generator)).clamp(-1, 1)


def _move(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotates by up to 10 degrees, scales by 0.8 to 1.25, shifts by up to an eighth."""
    count = len(images)
    angle, zoom = uniform(count, -0.17, 0.17, generator).view(-1), uniform(count, 0.8, 1.25, generator).view(-1)
    shift = torch.rand(count, 2, generator=generator) * 0.5 - 0.25
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2) * zoom.view(-1, 1, 1)
    grid = F.affine_grid(torch.cat([turn, shift.unsqueeze(2)], 2), list(images.shape), align_corners=False)
    return 1 - F.grid_sample(1 - images, grid, align_corners=False)


def _resample(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """The first half straight to `size`, the second by way of one of SMALL."""
    half = len(images) // 2
    via = SMALL[int(torch.randint(len(SMALL), (1,), generator=generator))]
    direct = F.interpolate(images[:half], size=(size, size), mode="bilinear", antialias=True)
    small = F.interpolate(images[half:], size=(via, via), mode="bilinear", antialias=True)
    return torch.cat([direct, F.interpolate(small, size=(size, size), mode="bilinear")])


def _colour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mild saturation, contrast and brightness; never hue, which captions name."""
    count = len(images)
    grey = (images * _LUMA).sum(1, keepdim=True)
    saturated = grey + uniform(count, 0.7, 1.3, generator) * (images - grey)
    contrast, brightness = uniform(count, 0.8, 1.15, generator), uniform(count, -0.12, 0.08, generator)
    return (saturated * contrast + brightness).clamp(-1, 1)


def _cut(images: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle of up to 0.4 of the side is white or grey in a quarter of the images."""
    count, size = len(images), images.shape[-1]
    place = torch.arange(size) / size
    rows, columns = (_span(place, count, generator) for _ in range(2))
    hole = rows.view(count, 1, size, 1) & columns.view(count, 1, 1, size)
    return _sometimes(0.25, images, images.masked_fill(hole, 1.0), generator)


def _span(place: Tensor, count: int, generator: torch.Generator) -> Tensor:
    start = torch.rand(count, 1, generator=generator)
    return (place >= start) & (place < start + 0.4 * torch.rand(count, 1, generator=generator))


def _sometimes(share: float, usual: Tensor, changed: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(len(usual), 1, 1, 1, generator=generator) < share, changed, usual)


def junk(images: Tensor, generator: torch.Generator) -> Tensor:
    """As many pictures of nothing, same shape: images with shuffled tiles, blended with noise of some coarseness."""
    count, size = len(images), images.shape[-1]
    tiles = F.unfold(images, size // 4, stride=size // 4)
    order = torch.rand(count, tiles.shape[-1], generator=generator).argsort(1)
    shuffled = F.fold(tiles.gather(2, order.unsqueeze(1).expand_as(tiles)), size, size // 4, stride=size // 4)
    grain = (2, 4, 8, 16, size)[int(torch.randint(5, (1,), generator=generator))]
    noise = torch.randn(count, 3, grain, grain, generator=generator)
    noise = F.interpolate(noise, size=(size, size), mode="bilinear").tanh()
    share = uniform(count, -0.5, 1.5, generator).clamp(0, 1)
    return share * noise + (1 - share) * shuffled
