"""Both networks: one contract over all 64 subsets, shapes, first weights, precision."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import oracle
from harness.models.build import Networks, Shapes, build, draw
from harness.models.config import GeneratorConfig, ModelConfig
from harness.models.discriminator import Discriminator
from harness.models.generator import Generator
from harness.models.losses import condition_logit, objective
from harness.models.objective import PLAYERS, PSEUDO, Feature, H, Player, active, features_needed
from harness.models.ops import Foreign, Linear
from harness.models.toggles import apply
from tiny import TINY, F, N, Z, networks, noise, normal, stream, units


def step(player: Player, config: ModelConfig, nets: Networks) -> dict[str, Tensor]:
    """One player's losses with its gradients taken; the frozen encoders are fixed random projections of the pixels."""
    h, pseudo, z = units(seed=1), units(seed=2), normal(N, Z, seed=3)
    draw = noise(4)
    images = {"x": nets.generator(z, h, draw), "x'": nets.generator(z, pseudo, draw), "r": normal(N, 3, 8, 8, seed=5)}
    judged = {y: nets.discriminator(image) for y, image in images.items()}
    features = {H: h, PSEUDO: pseudo}
    for y, image in images.items():
        features |= {Feature("f_img", y): judged[y].f_img, Feature("f_txt", y): judged[y].f_txt}
        features |= {Feature("f_c", y): image.flatten(1) @ normal(192, F, seed=6)}
        features |= {Feature("f_res", y): image.flatten(1) @ normal(192, 12, seed=7)}
    logits = {y: condition_logit(config.loss, (it.b, it.f_txt), y, h, pseudo) for y, it in judged.items()}
    losses = objective(player, config.loss, features, logits)
    losses["total"].backward()
    return losses


@pytest.mark.parametrize("subset", oracle.SUBSETS, ids=lambda s: "+".join(sorted(s)) or "origin")
def test_every_subset_takes_a_finite_step(subset: frozenset[str]) -> None:
    config = apply(TINY, subset)
    for player in PLAYERS:
        nets = build(config, Shapes(8, F), stream(0))
        losses = step(player, config, nets)
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in nets.discriminator.parameters())
        missing = [name for name, p in nets.generator.named_parameters() if p.grad is None or not p.grad.any()]
        assert missing == [], "without a gradient"
        read = features_needed(active(config.loss, player))
        untrained = {name.split(".")[0] for name, p in nets.discriminator.named_parameters() if p.grad is None}
        apart = "separate_features" in subset and not any(each.kind == "f_img" for each in read)
        assert untrained == ({"head_img"} if apart else set())


@pytest.mark.parametrize("conditioning", [[], ["transform_w"]])
@pytest.mark.parametrize("heads", [[], ["separate_features"]])
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_shapes(resolution: int, heads: list[str], conditioning: list[str]) -> None:
    nets = networks(*heads, *conditioning, resolution=resolution)
    image = nets.generator(normal(N, Z), units())
    assert image.shape == (N, 3, resolution, resolution)
    b, f_img, f_txt = nets.discriminator(image)
    assert (b.shape, f_img.shape, f_txt.shape) == ((N,), (N, F), (N, F))
    assert nets.generator.mapping(normal(N, Z)).shape == (N, Z)
    assert nets.averaged.layers == nets.generator.layers == 2 * (resolution.bit_length() - 2)


@pytest.mark.parametrize("resolution", [0, 4, 12, 33])
def test_impossible_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"{resolution}.*power"):
        networks(resolution=resolution)


def test_channels_follow_base_and_limit() -> None:
    config = GeneratorConfig(channel_base=128, channel_max=16)
    nets = build(ModelConfig(generator=config), Shapes(16, F), stream(0))
    widths = [block.to_rgb.weight.shape[1] for block in nets.generator.blocks]
    assert widths == [16, 16, 8]


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    one, same, other = networks(seed=0), networks(seed=0), networks(seed=1)
    for player in PLAYERS:
        weights, again, different = (getattr(nets, player).state_dict() for nets in (one, same, other))
        assert all(torch.equal(weights[name], again[name]) for name in weights)
        drawn = [name for name in weights if name.endswith(("weight", "constant"))]
        assert not any(torch.equal(weights[name], different[name]) for name in drawn)
        assert not any(torch.equal(weights[a], weights[b]) for a, b in itertools.combinations(drawn, 2))


def test_first_biases_are_one_for_styles_and_zero_elsewhere() -> None:
    for toggles in ([], list(oracle.TOGGLES)):
        nets = networks(*toggles)
        for name, bias in [*nets.generator.named_parameters(), *nets.discriminator.named_parameters()]:
            if name.endswith("bias"):
                one = name.endswith(("affine.bias", "transform_scale.bias"))
                assert torch.equal(bias, torch.full_like(bias, float(one))), name


def test_variants_share_the_first_weights_they_have_in_common() -> None:
    origin, full = networks(), networks(*oracle.TOGGLES)
    shared = 0
    for player in PLAYERS:
        one, other = getattr(origin, player).state_dict(), getattr(full, player).state_dict()
        common = [name for name in one if name in other and one[name].shape == other[name].shape]
        assert all(torch.equal(one[name], other[name]) for name in common)
        shared += len(common)
    assert shared > 30


def test_a_network_as_constructed_works() -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(TINY.generator, 8, F), Discriminator(TINY.discriminator, 8, F)
    image = generator(normal(N, Z), units(), noise(1))
    assert all(torch.isfinite(part).all() for part in (image, *discriminator(image))) and image.std() > 0.1
    torch.manual_seed(0)
    again = Generator(TINY.generator, 8, F)
    assert all(torch.equal(one, other) for one, other in zip(generator.parameters(), again.parameters(), strict=True))


class Block(nn.Module):
    """A block of somebody's own: one layer starts at zero, another smaller than torch.nn has it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.small, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.randn(3))
        nn.init.zeros_(self.last.weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.small.weight, -0.01, 0.01)


def test_layers_that_are_not_ours_keep_their_own_initialisation() -> None:
    def made(*extra: nn.Module) -> nn.Sequential:
        torch.manual_seed(0)
        whole = nn.Sequential(nn.Linear(6, 200), Linear(200, 6), Block(), nn.LayerNorm(6), *extra)
        draw(whole, "network", stream(0))
        return whole

    one, other = made(), made(nn.Linear(3, 3))
    assert one[0].weight.abs().max() <= 1 / math.sqrt(6) < one[1].weight.abs().max(), "uniform; normal"
    assert one[2].last.weight.eq(0).all() and one[2].first.weight.any() and one[3].weight.eq(1).all()
    assert 0 < one[2].small.weight.abs().max() <= 0.01 < one[2].first.weight.abs().max()
    assert not torch.equal(one[2].first.weight, one[0].weight[:6])
    common = other.state_dict()
    assert all(torch.equal(value, common[name]) for name, value in one.state_dict().items())


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    networks()
    assert torch.equal(before, torch.get_rng_state())


def test_average_starts_as_an_untrained_copy() -> None:
    nets = networks()
    for one, other in zip(nets.generator.parameters(), nets.averaged.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.data_ptr() != other.data_ptr()
        assert one.requires_grad and not other.requires_grad


@pytest.mark.parametrize("toggles", [[], list(oracle.TOGGLES)], ids=["origin", "full"])
def test_bf16_keeps_the_interfaces_in_the_weights_dtype(toggles: list[str]) -> None:
    nets, bf16 = networks(*toggles), torch.bfloat16
    ws = nets.generator.mapping(normal(N, Z))[:, None].expand(-1, nets.generator.layers, -1)
    exact, image = nets.generator.synthesis(ws, units()), nets.generator.synthesis(ws, units(), compute=bf16)
    b, rough = nets.discriminator(exact).b, nets.discriminator(exact, bf16).b
    assert image.dtype == nets.discriminator(image, bf16).b.dtype == torch.float32
    torch.testing.assert_close(image, exact, rtol=0.1, atol=0.1)
    torch.testing.assert_close(rough, b, rtol=0.1, atol=0.1)
    assert not torch.equal(image, exact) and not torch.equal(rough, b)


class Theirs(nn.Module):
    """A module without `reset_parameters`, whose constructor draws."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4) * 0.01)
        self.first, self.second = nn.Linear(4, 4), nn.Parameter(torch.zeros(4))
        nn.init.orthogonal_(self.first.weight)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        return self.first(x @ self.weight) * scale + self.second


def test_a_foreign_module_has_first_weights_by_its_own_name() -> None:
    def made(*before: nn.Module) -> Foreign:
        torch.manual_seed(0)
        network = nn.ModuleDict({"before": nn.Sequential(*before), "theirs": Foreign(Theirs)})
        draw(network, "network", stream(0))
        return network["theirs"]

    one, other = made(), made(nn.Linear(3, 3), Theirs())
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    module = one.module
    torch.testing.assert_close(module.first.weight @ module.first.weight.T, torch.eye(4))
    assert 0 < module.weight.abs().max() < 0.1 and module.second.eq(0).all()
    assert torch.equal(one(torch.ones(2, 4), 2.0), module(torch.ones(2, 4), 2.0))
