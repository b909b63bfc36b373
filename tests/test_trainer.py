"""The training step: what it computes, what it leaves alone, and that nothing is computed which nobody asked for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity, softplus

import oracle
from harness.errors import Diverged
from harness.models.toggles import TOGGLES
from harness.training.ranks import Draws
from harness.training.trainer import Trainer
from runs import BASE, settings, trainer, weights

SUBSETS = [c for size in range(len(TOGGLES) + 1) for c in itertools.combinations(TOGGLES, size)]


def passes(subject: Trainer) -> dict[str, list[int]]:
    """Images that each network is shown during one main step, call by call."""
    seen: dict[str, list[int]] = {"discriminator": []}
    judge = subject.networks.discriminator
    judge.register_forward_pre_hook(lambda _, inputs: seen["discriminator"].append(len(inputs[0])))
    batch = subject.batch(1)
    subject.d_step(batch, 1)
    subject.g_step(batch, 1)
    return seen | {name: encoder.seen for name, encoder in subject.guides.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_no_network_sees_an_image_that_no_active_term_needs(subset: tuple[str, ...]) -> None:
    seen = passes(trainer(settings(*subset)))
    n, paired = BASE.train.batch, "paired_contrast" in subset
    generated = 2 * n if paired else n
    real_again = [n] if "img_img_loss" in subset else []
    assert seen["discriminator"] == [generated + n, generated, *real_again]
    assert seen["f_c"] == [2 * n if paired and "img_img_loss" in subset else n]
    assert seen["f_res"] == ([generated] if "resnet_guided" in subset else [])


def test_a_weight_of_zero_spares_the_pass() -> None:
    origin = settings()
    silent = {**origin.loss.weights, "generator": {**origin.loss.weights["generator"], "itc": 0.0}}
    seen = passes(trainer(replace(origin, loss=replace(origin.loss, weights=silent))))
    assert seen["f_c"] == []


@pytest.mark.parametrize("subset", [(), tuple(TOGGLES)])
def test_every_active_term_is_reported_unweighted(subset: tuple[str, ...]) -> None:
    losses = trainer(settings(*subset)).step(0)
    expected = {"discriminator/r1", "generator/path_length"}
    for player in ("generator", "discriminator"):
        names = {row.name for row in oracle.active(player, frozenset(subset))}
        expected |= {f"{player}/{name}" for name in names | {"adversarial", "total"}}
    assert set(losses) == expected
    assert all(value.ndim == 0 and not value.requires_grad for value in losses.values())


def test_the_discriminator_step_is_plain_adam_on_the_written_loss() -> None:
    subject, twin = trainer(settings(r1_gamma=0.0)), trainer(settings(r1_gamma=0.0))
    batch = subject.batch(0)
    with torch.no_grad():
        x = subject.imagine(batch, 0, "discriminator")["x"]
    judge = twin.networks.discriminator
    fake, real = judge(x), judge(batch.real)
    cos = cosine_similarity(fake.f_txt[:, None], batch.h[None], dim=2)
    itd = -0.5 * torch.log_softmax(torch.exp(cos / 0.5), dim=0).diagonal().mean()
    logits = [it.b + (it.f_txt * batch.h).sum(1) for it in (fake, real)]
    loss = softplus(logits[0]).mean() + softplus(-logits[1]).mean() + 5 * itd
    gradients = torch.autograd.grad(loss, list(judge.parameters()))

    before = weights(subject.networks.discriminator)
    losses = subject.d_step(batch, 0)
    assert losses["discriminator/total"].item() == pytest.approx(loss.item(), rel=1e-5)
    moved = weights(subject.networks.discriminator) - before
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    step = -BASE.train.lr * flat / (flat.abs() + 1e-8)  # Adam's first step
    clear = flat.abs() > 1e-5
    torch.testing.assert_close(moved[clear], step[clear], rtol=1e-2, atol=1e-6)


def test_each_step_moves_its_own_player_only() -> None:
    subject = trainer(settings(*TOGGLES))
    batch, networks = subject.batch(0), subject.networks
    for work, moves in (
        (subject.d_step, "discriminator"),
        (subject.r1_step, "discriminator"),
        (subject.g_step, "generator"),
        (subject.path_step, "generator"),
    ):
        before = {name: weights(network) for name, network in vars(networks).items()}
        work(batch, 0)
        changed = {name for name, network in vars(networks).items() if not weights(network).equal(before[name])}
        assert changed == {moves}
        assert all(parameter.requires_grad for parameter in networks.discriminator.parameters())


def test_regularisers_come_at_their_intervals() -> None:
    subject = trainer(settings(r1_interval=3, pl_interval=2))
    found = [set(subject.step(step)) for step in range(7)]
    assert [step for step, names in enumerate(found) if "discriminator/r1" in names] == [0, 3, 6]
    assert [step for step, names in enumerate(found) if "generator/path_length" in names] == [0, 2, 4, 6]


def test_adam_is_corrected_for_lazy_regularisers() -> None:
    rates = {player: adam.param_groups[0] for player, adam in trainer(settings()).optimizers.items()}
    for player, ratio in (("generator", 4 / 5), ("discriminator", 16 / 17)):
        assert rates[player]["lr"] == pytest.approx(0.0025 * ratio)
        assert rates[player]["betas"] == pytest.approx((0.0, 0.99**ratio))
    plain = trainer(settings(r1_gamma=0.0, pl_weight=0.0)).optimizers
    assert all(adam.param_groups[0]["lr"] == 0.0025 for adam in plain.values())


def test_the_average_has_the_half_life_in_images() -> None:
    subject = trainer(settings(ema_kimg=0.008, ema_rampup=0.0))  # 8 images: two batches of 4
    networks = subject.networks
    start = weights(networks.averaged)
    with torch.no_grad():
        for parameter in networks.generator.parameters():
            parameter.add_(1.0)
    for step in range(2):
        subject.average(step)
    torch.testing.assert_close(weights(networks.averaged) - start, torch.full_like(start, 0.5))


def test_the_young_average_follows_faster() -> None:
    subject = trainer(settings(ema_kimg=1000.0, ema_rampup=0.5))
    start = weights(subject.networks.averaged)
    with torch.no_grad():
        for parameter in subject.networks.generator.parameters():
            parameter.add_(1.0)
    subject.average(0)  # 4 images seen, half-life 2: two half-lives
    torch.testing.assert_close(weights(subject.networks.averaged) - start, torch.full_like(start, 0.75))


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_broken_loss_stops_before_it_spoils_the_weights(player: str) -> None:
    subject = trainer(settings())
    network = getattr(subject.networks, player)
    before = weights(network)
    adam = subject.optimizers[player]  # type: ignore[index]
    leaf = next(network.parameters())
    with pytest.raises(Diverged, match=f"step 7: the {player}'s loss is nan"):
        subject.update(player, 7, leaf.sum() * float("nan"))  # type: ignore[arg-type]
    assert weights(network).equal(before) and not adam.state


def test_an_infinite_gradient_of_a_finite_loss_is_divergence_too() -> None:
    subject = trainer(settings())
    leaf = next(subject.networks.generator.parameters())
    with pytest.raises(Diverged, match="gradient norm"):
        subject.update("generator", 0, (leaf - leaf.detach()).abs().sqrt().sum())


def test_style_mixing_switches_some_layers_of_some_samples() -> None:
    subject = trainer(settings(style_mixing=0.5))
    ws = subject.mixed_ws(200, Draws(torch.Generator().manual_seed(0)))
    switched = (ws != ws[:, :1]).any(2)
    assert not switched[:, 0].any()
    assert 0.35 < switched.any(1).float().mean() < 0.65
    depths = switched.long().argmax(1)[switched.any(1)]
    assert set(depths.tolist()) == set(range(1, ws.shape[1])), "any layer but the first may be where w changes"
    later = switched.long().diff(dim=1)
    assert (later >= 0).all(), "once switched, the deeper layers stay switched"
    unmixed = trainer(settings(style_mixing=0.0)).mixed_ws(8, Draws(torch.Generator().manual_seed(0)))
    assert (unmixed == unmixed[:, :1]).all()


def test_the_seed_and_the_step_decide_everything() -> None:
    runs = [trainer(settings(), seed=seed) for seed in (0, 0, 1)]
    for subject in runs:
        for step in range(3):
            subject.step(step)
    first, again, other = (weights(subject.networks.averaged) for subject in runs)
    assert first.equal(again) and not first.equal(other)


def test_cells_share_weights_data_and_latents() -> None:
    origin, full = trainer(settings()), trainer(settings(*TOGGLES))
    ours, theirs = (dict(subject.networks.generator.named_parameters()) for subject in (origin, full))
    common = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    assert {name for name in ours if ".style." not in name} <= set(common)
    assert all(ours[name].equal(theirs[name]) for name in common)
    one, other = origin.batch(5), full.batch(5)
    assert one.real.equal(other.real) and one.h.equal(other.h) and one.pseudo.equal(other.pseudo)


def test_bf16_trains_close_to_fp32() -> None:
    exact, rough = (trainer(settings(precision=precision)) for precision in ("fp32", "bf16"))
    losses = [subject.step(0) for subject in (exact, rough)]
    assert weights(rough.networks.generator).dtype == torch.float32
    for name, value in losses[0].items():
        assert losses[1][name].item() == pytest.approx(value.item(), rel=0.1, abs=0.05), name
    assert losses[0]["generator/adversarial"] != losses[1]["generator/adversarial"]
