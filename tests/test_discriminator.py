"""The discriminator: samples judged apart, its heads, and R1 by differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.models.discriminator import Discriminator
from harness.models.losses import condition_logit, r1_penalties
from harness.models.toggles import apply
from tiny import TINY, N, check_parameter_gradient, differences, networks, normal, units


def judge(discriminator: Discriminator, image: Tensor) -> Tensor:
    """All outputs side by side: [N, 1 + 2F]."""
    b, f_img, f_txt = discriminator(image)
    return torch.cat([b[:, None], f_img, f_txt], dim=1)


@pytest.mark.parametrize(("group", "touched"), [(0, [1]), (2, [0, 1]), (4, [0, 1, 2, 3])])
def test_a_judgement_depends_on_its_own_group_alone(group: int, touched: list[int]) -> None:
    discriminator = networks("separate_features", group=group).discriminator.double()
    image = normal(N, 3, 8, 8).double()
    other = image.clone()
    other[1] += normal(3, 8, 8, seed=9)
    with torch.no_grad():
        moved = (judge(discriminator, other) - judge(discriminator, image)).abs()
    assert [index for index in range(N) if moved[index].max() > 1e-12] == touched


@pytest.mark.parametrize("group", [0, 2, 4])
def test_one_pass_over_two_batches_is_two_passes(group: int) -> None:
    discriminator = networks(group=group).discriminator.double()
    one, other = normal(N, 3, 8, 8).double(), normal(N, 3, 8, 8, seed=9).double()
    with torch.no_grad():
        together = judge(discriminator, torch.cat([one, other]))
        torch.testing.assert_close(together, torch.cat([judge(discriminator, image) for image in (one, other)]))


def test_shared_head_is_one_feature() -> None:
    judgement = networks().discriminator(normal(N, 3, 8, 8))
    assert judgement.f_img is judgement.f_txt


@pytest.mark.parametrize(("head", "moved"), [("head_img", "f_img"), ("head_txt", "f_txt")])
def test_separate_heads_have_layers_of_their_own(head: str, moved: str) -> None:
    discriminator = networks("separate_features").discriminator
    image = normal(N, 3, 8, 8)
    before = discriminator(image)
    assert not torch.allclose(before.f_img, before.f_txt)
    for parameter in getattr(discriminator, head).parameters():
        parameter.data.add_(1.0)
    after = discriminator(image)
    changed = [name for name in before._fields if not torch.equal(getattr(before, name), getattr(after, name))]
    assert changed == [moved]


@pytest.mark.parametrize("toggles", [[], ["mix_logits"]], ids=["unmixed", "mixed"])
def test_r1_is_that_of_finite_differences(toggles: list[str]) -> None:
    """mean |d logit / d image|^2 by moving every pixel, and its derivative by moving a weight."""
    discriminator = networks(group=0).discriminator.double()
    loss = apply(TINY, toggles).loss
    image, h, pseudo = normal(2, 3, 8, 8).double(), units(2).double(), units(2, seed=2).double()

    def logits(image: Tensor) -> Tensor:
        judged = discriminator(image)
        return condition_logit(loss, (judged.b, judged.f_txt), "r", h, pseudo)

    gradient = differences(lambda image: logits(image).sum(), image)
    image.requires_grad_()
    expected = gradient.square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(r1_penalties(logits(image), image).mean(), expected, rtol=1e-5, atol=1e-8)
    check_parameter_gradient(lambda: r1_penalties(logits(image), image).mean(), discriminator.from_rgb.weight)
