"""Losses, layers and discriminator of docs/ideas against independent float64 formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gallery import N, R, StandIn, gallery, stream
from harness.models.encoders.load import load_resnet
from harness.models.losses import contrast
from tiny import check_parameter_gradient, differences, drawn, exact


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


# Matching-aware discriminator.


@pytest.mark.parametrize("shift", [1, 3])
def test_a_real_image_under_the_text_of_another_is_a_fake(shift: int) -> None:
    step = StandIn()
    pairs = [step.judge(step.real[i : i + 1], step.h[(i - shift) % N][None]).item() for i in range(N)]
    mismatched = gallery("matching_aware").mismatched
    assert mismatched(step, shift=shift).item() == pytest.approx(sum(map(softplus, pairs)) / N, rel=1e-12)
    hinge = sum(max(0.0, 1 + each) for each in pairs) / N
    assert mismatched(step, shift=shift, loss="hinge").item() == pytest.approx(hinge, rel=1e-12)


@pytest.mark.parametrize("shift", [N, 2 * N])
def test_a_shift_that_gives_every_image_its_own_text_is_refused(shift: int) -> None:
    with pytest.raises(ValueError, match=f"shift {shift} gives every image of a batch of {N} its own text"):
        gallery("matching_aware").mismatched(StandIn(), shift=shift)


@pytest.mark.parametrize("power", [6.0, 2.0])
def test_the_matching_aware_penalty_is_that_of_gradients_by_differences(power: float) -> None:
    step = StandIn()
    norms = []
    for x, e in zip(step.real, step.h, strict=True):
        of_x = differences(lambda x, e=e: step.judge(x[None], e[None]).sum(), x).norm()
        of_e = differences(lambda e, x=x: step.judge(x[None], e[None]).sum(), e).norm()
        norms.append((of_x + of_e) ** power)
    ma_gp = gallery("matching_aware").ma_gp
    assert ma_gp(step, power=power).item() == pytest.approx(torch.stack(norms).mean().item(), rel=1e-6)
    check_parameter_gradient(lambda: ma_gp(step, power=power), step.judge.hidden.weight)
    check_parameter_gradient(lambda: ma_gp(step, power=power), step.judge.f_txt.weight)


# Adversarial losses.


def logits(*names: str) -> dict[str, Tensor]:
    return {name: 2 * exact(6, seed=30 + place) for place, name in enumerate(names)}


@pytest.mark.parametrize("names", [("r", "x"), ("r", "x", "x'")])
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_hinge(names: tuple[str, ...], margin: float) -> None:
    given, hinge = logits(*names), gallery("hinge").hinge
    mean = {name: value.numpy() for name, value in given.items()}
    fake = [mean[name] for name in names[1:]]
    wanted = np.maximum(0, margin - mean["r"]).mean() + sum(np.maximum(0, margin + each).mean() for each in fake)
    assert hinge("discriminator", given, margin=margin).item() == pytest.approx(wanted, rel=1e-12)
    del given["r"]  # not computed in the generator's step unless it is read
    assert hinge("generator", given, margin=margin).item() == pytest.approx(-sum(each.mean() for each in fake))


def test_hinge_learns_from_the_margin_inwards() -> None:
    real, fake = torch.tensor([2.0, 0.9, -3.0]).requires_grad_(), torch.tensor([-2.0, -0.9, 3.0]).requires_grad_()
    gallery("hinge").hinge("discriminator", {"r": real, "x": fake}).backward()
    assert real.grad is not None and fake.grad is not None
    torch.testing.assert_close(real.grad, torch.tensor([0, -1, -1]) / 3)
    torch.testing.assert_close(fake.grad, torch.tensor([0, 1, 1]) / 3)


@pytest.mark.parametrize("names", [("r", "x"), ("r", "x", "x'")])
def test_relativistic_pairing(names: tuple[str, ...]) -> None:
    given, relativistic = logits(*names), gallery("relativistic").relativistic
    for player, sign in (("discriminator", 1), ("generator", -1)):
        pairs = [
            softplus(sign * (fake - real).item())
            for name in names[1:]
            for fake, real in zip(given[name], given["r"], strict=True)
        ]
        value = relativistic(player, given)
        assert value.item() == pytest.approx(sum(pairs) / 6, rel=1e-12)
        moved = {name: each + 5 for name, each in given.items()}
        torch.testing.assert_close(relativistic(player, moved), value)  # only differences count


def test_r2_is_the_squared_gradient_at_generated_images() -> None:
    fake, step = {"x": exact(N, 3, R, R, seed=5), "x'": exact(N, 3, R, R, seed=6)}, StandIn()
    wanted = [
        differences(lambda x, h=h: step.judge(x, h).sum(), fake[name]).square().sum().item() / N
        for name, h in (("x", step.h), ("x'", step.pseudo))
    ]
    r2 = gallery("relativistic").r2
    assert r2(StandIn(x=fake["x"])).item() == pytest.approx(wanted[0], rel=1e-6)
    both = StandIn(**fake)
    assert r2(both).item() == pytest.approx(sum(wanted), rel=1e-6)
    check_parameter_gradient(lambda: r2(both), both.judge.hidden.weight)


def test_dino_contrasts_generated_images_with_their_real_ones() -> None:
    step = StandIn()
    step.features = {("f_dino", "x"): exact(N, 7, seed=8), ("f_dino", "r"): exact(N, 7, seed=9)}
    assert gallery("dino").dino(step).item() == contrast(*step.features.values(), 0.5).item()


# Layers.


@pytest.mark.parametrize("reduction", [2, 8])
def test_attention_is_the_papers_sum_over_places(reduction: int) -> None:
    layer: Any = drawn(gallery("attention").attention(4, reduction=reduction))
    x = exact(2, 4, 2, 3, seed=7)
    query, key, value, out = (
        part.weight.detach().numpy()[:, :, 0, 0] for part in (layer.query, layer.key, layer.value, layer.out)
    )
    assert query.shape == (max(1, 4 // reduction), 4)
    for image, y in zip(x.numpy().reshape(2, 4, 6), layer(x).detach().numpy().reshape(2, 4, 6), strict=True):
        for j in range(6):
            s = np.array([(query @ image[:, j]) @ (key @ image[:, i]) for i in range(6)])
            beta = np.exp(s) / np.exp(s).sum()
            o = out @ sum(beta[i] * (value @ image[:, i]) for i in range(6))
            np.testing.assert_allclose(y[:, j], image[:, j] + layer.gamma.item() * o, rtol=1e-10)


@pytest.mark.parametrize("name", ["attention", "word_attention"])
def test_attention_has_second_derivatives(name: str) -> None:
    module = gallery(name)
    words = [] if name == "attention" else [exact(1, 5, 3, seed=4)]
    layer: Any = drawn(module.attention(8) if not words else module.word_attention(8, 3))
    at = exact(1, 8, 2, 2, seed=3).requires_grad_()

    def slope() -> Tensor:
        (gradient,) = torch.autograd.grad(layer(at, *words).pow(2).sum(), at, create_graph=True)
        return gradient.square().sum()

    for weights in layer.parameters():
        check_parameter_gradient(slope, weights)


def test_attention_to_words_is_the_papers_sum_over_the_words_of_a_caption() -> None:
    layer: Any = drawn(gallery("word_attention").word_attention(4, 3))
    x, tokens = exact(3, 4, 2, 2, seed=7), exact(3, 5, 3, seed=8)
    lengths = (5, 2, 0)  # the third image has no caption
    for caption, length in zip(tokens, lengths, strict=True):
        caption[length:] = 0
    u = layer.words.weight.detach().numpy()
    y = layer(x, tokens).detach()
    for i, length in enumerate(lengths):
        for row, column in np.ndindex(2, 2):
            place, words = x[i, :, row, column].numpy(), [u @ e for e in tokens[i, :length].numpy()]
            scores = np.exp([place @ word for word in words])
            read = sum((s / scores.sum() * word for s, word in zip(scores, words, strict=True)), np.zeros(4))
            np.testing.assert_allclose(y[i, :, row, column], place + layer.gamma.item() * read, rtol=1e-10)
    assert torch.equal(y[2], x[2])


@pytest.mark.parametrize("name", ["attention", "word_attention"])
def test_an_attention_layer_begins_as_the_network_without_it(name: str) -> None:
    layer: Any = getattr(gallery(name), name)(*([8] if name == "attention" else [8, 512]))
    x = torch.randn(2, 8, 4, 4, generator=stream())
    assert torch.equal(layer(*([x] if name == "attention" else [x, torch.ones(2, 3, 512)])), x)


# Projected discriminator.


def projected(seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return gallery("projected").projected(16, 8, network=load_resnet("embedded:resnet-guide"), width=6)


def test_the_projected_discriminator_judges_each_image_by_itself() -> None:
    module, images = projected(), torch.randn(3, 3, 16, 16, generator=stream())
    whole = module(images)
    assert [tuple(each.shape) for each in whole] == [(3,), (3, 8), (3, 8)]
    for i in range(3):
        for one, every in zip(module(images[i : i + 1]), whole, strict=True):
            torch.testing.assert_close(one[0], every[i], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole[1], whole[2])


def test_what_the_projected_discriminator_has_frozen_stays_as_published() -> None:
    module, images = projected(), torch.randn(3, 3, 16, 16, generator=stream())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fixed = {name for name, value in module.named_parameters() if not value.requires_grad}
    assert {name.split(".")[0] for name in fixed} == {"frozen", "mix", "smooth"}
    assert {name.split(".")[0] for name, value in module.named_parameters() if value.requires_grad} == {
        *("heads", "b", "f_img", "f_txt")
    }
    published = load_resnet("embedded:resnet-guide").state_dict()
    for name, value in published.items():
        assert torch.equal(module.frozen.state_dict()[name], value)

    # A step with R1.
    adam = torch.optim.Adam(module.parameters(), 0.01)
    images.requires_grad_()
    module.train()
    b, f_img, f_txt = module(images)
    (slope,) = torch.autograd.grad(b.sum() + f_txt.sum(), images, create_graph=True)
    (slope.square().sum() + f_img.square().sum() + b.sum() + f_txt.sum()).backward()
    adam.step()
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, _ in module.named_parameters()} - fixed


def test_the_random_mixing_is_a_function_of_the_seed_and_mixes_all_scales() -> None:
    for one, same, other in zip(*(projected(seed).mix for seed in (0, 0, 1)), strict=True):
        assert torch.equal(one.weight, same.weight) and not torch.equal(one.weight, other.weight)
    module = projected()
    stages = [
        exact(1, *each.shape[1:], seed=40 + i).float()
        for i, each in enumerate(module.stages(torch.zeros(1, 3, 16, 16)))
    ]
    seen: list[Tensor] = []
    for head in module.heads:
        head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.stages = lambda images: stages
    module(torch.zeros(1, 3, 16, 16))
    first = list(seen)
    stages[-1] = stages[-1] + 1
    module(torch.zeros(1, 3, 16, 16))
    assert [tuple(each.shape[1:]) for each in first] == [(6, 16, 16), (6, 8, 8), (6, 4, 4), (6, 2, 2)]
    assert all(not torch.equal(a, b) for a, b in zip(first, seen[4:], strict=True))  # the smallest reaches all
