"""DiffAugment and ADA of docs/ideas: ranges, distributions, gradients, and how p moves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gallery import StandIn, gallery, stream
from tiny import exact

# DiffAugment.


def colour_changes(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Brightness, saturation and contrast [n] that make `after` of `before`, whatever the places of the pixels."""
    parts = []
    for images in (before, after):
        grey = images.mean(1, keepdim=True)
        mean = images.mean((1, 2, 3), keepdim=True)
        parts.append((mean.flatten(), (grey - mean).square().mean((1, 2, 3)), (images - grey).square().mean((1, 2, 3))))
    (mean, of_grey, of_colour), (new_mean, new_grey, new_colour) = parts
    contrast = (new_grey / of_grey).sqrt()
    return new_mean - mean, (new_colour / of_colour).sqrt() / contrast, contrast


def test_the_colours_of_diff_augment_have_the_papers_ranges() -> None:
    images = exact(4000, 3, 4, 4)
    after = gallery("diff_augment").diff_augment(images, stream(), translate=0, cutout=0)
    limits = [(-0.5, 0.5), (0, 2), (0.5, 1.5)]
    for drawn_values, (low, high) in zip(colour_changes(images, after), limits, strict=True):
        ranks = (drawn_values.sort().values - low) / (high - low)
        assert ranks.min() >= -1e-9 and ranks.max() <= 1 + 1e-9
        even = (torch.arange(4000) + 0.5) / 4000
        assert (ranks - even).abs().max() < 1.63 / math.sqrt(4000)  # Kolmogorov-Smirnov, 1 %
    half = gallery("diff_augment").diff_augment(images, stream(), colour=0.5, translate=0, cutout=0)
    for whole, part, middle in zip(colour_changes(images, after), colour_changes(images, half), (0, 1, 1), strict=True):
        torch.testing.assert_close(part - middle, (whole - middle) / 2)


def test_translation_of_diff_augment() -> None:
    images = exact(1, 3, 16, 16).expand(3000, -1, -1, -1)
    after = gallery("diff_augment").diff_augment(images, stream(), colour=0, cutout=0)
    padded = np.pad(images[0].numpy(), ((0, 0), (2, 2), (2, 2)))
    counts = np.zeros((5, 5), int)
    for down in range(5):
        for right in range(5):
            window = torch.from_numpy(padded[:, down : down + 16, right : right + 16].copy())
            counts[down, right] = ((after - window).abs() < 1e-9).flatten(1).all(1).sum()
    assert counts.sum() == 3000
    assert ((counts - 120) ** 2 / 120).sum() < 43  # chi-squared of 24 degrees of freedom, 1 %


@pytest.mark.parametrize(("cutout", "size"), [(0.5, 8), (0.3, 5)])
def test_cutout_of_diff_augment(cutout: float, size: int) -> None:
    images = torch.ones(4000, 3, 16, 16)
    after = gallery("diff_augment").diff_augment(images, stream(), colour=0, translate=0, cutout=cutout)
    assert set(after.unique().tolist()) == {0, 1} and torch.equal(after[:, 0], after[:, 2])
    hole = after[:, 0] == 0
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None])  # a rectangle
    centres = 17 - size % 2  # of the square along a side, each as probable
    for sides in (rows, columns):
        lengths = sides.sum(1)
        assert lengths.max() == size
        for length in range(size - size // 2, size):  # over one edge or the other
            assert (lengths == length).float().mean() == pytest.approx(2 / centres, abs=0.025)


def test_diff_augment_lets_the_gradient_through_and_is_the_image_on_average() -> None:
    diff_augment = gallery("diff_augment").diff_augment
    images = exact(2, 3, 8, 8, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda images: diff_augment(images, stream()), images)
    assert torch.autograd.gradgradcheck(lambda images: diff_augment(images, stream()).pow(2), images)
    one = exact(1, 3, 4, 4).expand(20_000, -1, -1, -1)
    torch.testing.assert_close(diff_augment(one, stream(), translate=0, cutout=0).mean(0), one[0], atol=0.04, rtol=0)
    torch.testing.assert_close(diff_augment(one[:9], stream(), colour=0, translate=0, cutout=0), one[:9])
    assert torch.equal(diff_augment(one[:9], stream()), diff_augment(one[:9], stream()))


# Adaptive augmentation.


def test_ada_at_zero_changes_nothing() -> None:
    images = exact(50, 3, 8, 8)
    torch.testing.assert_close(gallery("ada").ada()(images, stream()), images, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 0.5])
def test_the_pixels_of_ada_are_flipped_turned_and_shifted(p: float) -> None:
    n, side = 2000, 16
    image = np.arange(side * side, dtype=float).reshape(side, side)
    after = gallery("ada").ada(start=p)(torch.from_numpy(image).expand(n, 3, side, side), stream())[:, 0]
    given = after.flatten(1)  # brightness and contrast are undone by the mean and the deviation
    given = (given - given.mean(1, keepdim=True)) / given.std(1, correction=0, keepdim=True)
    counts = np.zeros((2, 4, 5, 5), int)
    for flip, turn, down, right in np.ndindex(counts.shape):
        changed = np.rot90(image[:, ::-1] if flip else image, turn)
        changed = np.pad(changed, 2, mode="reflect")[down : down + side, right : right + side]
        wanted = torch.from_numpy((changed - changed.mean()) / changed.std()).flatten()
        counts[flip, turn, down, right] = ((given - wanted).abs().max(1).values < 1e-6).sum()
    assert counts.sum() == n
    shares = counts / n
    assert shares.sum((1, 2, 3))[1] == pytest.approx(p / 2, abs=0.04)
    assert shares.sum((0, 2, 3)) == pytest.approx([1 - 3 * p / 4, p / 4, p / 4, p / 4], abs=0.04)
    evenly = np.outer([1, 2, 2, 2, 1], [1, 2, 2, 2, 1]) / 64  # a uniform number of -2 to 2, rounded
    unmoved = np.zeros((5, 5))
    unmoved[2, 2] = 1
    assert shares.sum((0, 1)).ravel() == pytest.approx((p * evenly + (1 - p) * unmoved).ravel(), abs=0.04)


def test_the_colours_of_ada_have_the_papers_distributions() -> None:
    images = exact(1, 3, 4, 4).expand(4000, -1, -1, -1)  # so small that no pixel is shifted
    after = gallery("ada").ada(start=1.0)(images, stream())
    _, saturation, contrast = colour_changes(images, after)
    brightness = after.mean((1, 2, 3)) / contrast - images.mean((1, 2, 3))
    for values, width in ((brightness, 0.2), (contrast.log2(), 0.5), (saturation.log2(), 1.0)):
        assert values.mean().item() == pytest.approx(0, abs=0.08 * width)
        assert values.std().item() == pytest.approx(width, rel=0.05)


def test_ada_lets_the_gradient_through() -> None:
    ada, images = gallery("ada").ada(start=1.0), exact(2, 3, 8, 8, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda images: ada(images, stream()), images)


class Sure(StandIn):
    """A step whose logits of real images are positive with the share that gives their signs this mean."""

    def __init__(self, number: int, mean: float) -> None:
        super().__init__(number)
        self.mean = mean

    def logit(self, image: str | Tensor, h: Tensor | None = None) -> Tensor:
        assert image == "r"
        positive = round(500 * (1 + self.mean))
        return torch.cat([torch.ones(positive), -torch.ones(1000 - positive)])


def test_p_of_ada_moves_by_a_fixed_amount() -> None:
    ada = gallery("ada").ada(kimg=100, interval=4)
    values = []
    for number in range(12):
        ada.after(Sure(number, 0.9))
        values.append(ada.p.item())
    assert values == pytest.approx([0] * 3 + [0.04] * 4 + [0.08] * 4 + [0.12])
    for number in range(12, 40):
        ada.after(Sure(number, 0.5))
    assert ada.p.item() == 0  # never below
    assert set(ada.state_dict()) == {"p", "signs"}


def test_p_of_ada_stays_where_the_discriminator_is_as_sure_as_wanted() -> None:
    ada = gallery("ada").ada(kimg=100, interval=4, target=0.6)
    for number in range(400):
        ada.after(Sure(number, 1 - ada.p.item()))  # the more is changed the less sure
    assert ada.p.item() == pytest.approx(0.4, abs=0.041)
    ada = gallery("ada").ada(kimg=100, interval=4)
    for number in range(200):
        ada.after(Sure(number, 1.0))
    assert ada.p.item() == 1  # a probability
