"""First weights from another network: taken where alike, else so that the function changes as little as it can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.models.config import GeneratorConfig
from harness.models.discriminator import Discriminator
from harness.models.generator import Generator
from harness.models.inherit import Inherited, Samples, inherit
from harness.models.own_layers import OwnLayer
from harness.training.ranks import Draws
from tiny import TINY

R, F, W, Z = 16, 6, TINY.generator.w_dim, TINY.generator.z_dim
CONCAT, D_CONFIG = TINY.generator, TINY.discriminator


def generator(seed: int = 0, **changes: Any) -> Generator:
    torch.manual_seed(seed)
    network = Generator(replace(CONCAT, **changes), R, F)
    with torch.no_grad():  # as after training: no value is special
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return network


def discriminator(seed: int = 0, **changes: Any) -> Discriminator:
    torch.manual_seed(seed)
    return Discriminator(replace(D_CONFIG, **changes), R, F)


def samples(n: int = 400) -> Samples:
    torch.manual_seed(5)
    return Samples(torch.randn(n, Z), nn.functional.normalize(torch.randn(n, F), dim=1))


def start(network: Any, other: nn.Module, config: GeneratorConfig = CONCAT) -> Inherited:
    return inherit(network, other.state_dict(), config, samples())


def styles(network: Generator) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in network.named_modules() if name.endswith(".style")]


def test_an_equal_network_takes_every_layer() -> None:
    old, new = generator(0), generator(1)
    outcome = start(new, old)
    assert not (outcome.adapted or outcome.new or outcome.unused)
    assert all(torch.equal(each, new.state_dict()[name]) for name, each in old.state_dict().items())
    assert {"mapping", "constant", "blocks.1.convs.0", "blocks.1.convs.0.style"} <= {*outcome.taken}


@pytest.mark.parametrize("conditioning", ["concat", "transform", "modulate"])
@pytest.mark.parametrize("text_input", ["scaled", "unit"])
@pytest.mark.parametrize("multiplier", [0.01, 1.0])
def test_weights_stored_at_another_size_compute_the_same(conditioning: str, multiplier: float, text_input: str) -> None:
    published = {"conditioning": conditioning, "text_lr_multiplier": 0.01, "text_input": "unit"}
    old, seen = generator(0, **published), samples()
    new = generator(1, conditioning=conditioning, text_lr_multiplier=multiplier, text_input=text_input)
    outcome = start(new, old, replace(CONCAT, **published))  # type: ignore[arg-type]
    assert not (outcome.adapted or outcome.new or outcome.unused)
    for (_, before), (_, after) in zip(styles(old), styles(new), strict=True):
        w = torch.randn(len(seen.h), W)
        torch.testing.assert_close(after(w, seen.h), before(w, seen.h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("old_size", "new_size"), [(16, 32), (32, 8), (16, 64)])
def test_blocks_of_one_resolution_are_alike(old_size: int, new_size: int) -> None:
    """The generator counts its blocks from 4 px up, the discriminator from its images down; widths are all alike."""
    config = replace(
        TINY, generator=replace(CONCAT, channel_base=2**20), discriminator=replace(D_CONFIG, channel_base=2**20)
    )
    torch.manual_seed(0)
    old_d = Discriminator(config.discriminator, old_size, F)
    torch.manual_seed(1)
    new_d = Discriminator(config.discriminator, new_size, F)
    outcome = start(new_d, old_d)
    shared = min(len(old_d.blocks), len(new_d.blocks))
    for back in range(1, shared + 1):  # from 8 px up
        for name, value in old_d.blocks[-back].state_dict().items():
            assert torch.equal(new_d.blocks[-back].state_dict()[name], value), (back, name)
    fresh = len(new_d.blocks) - shared
    assert {name for name in outcome.new} == {
        f"blocks.{i}.{n}" for i in range(fresh) for n in ("conv0", "conv1", "skip")
    }
    left = len(old_d.blocks) - shared
    assert {*outcome.unused} == {f"blocks.{i}.{n}" for i in range(left) for n in ("conv0", "conv1", "skip")}
    old_g, new_g = Generator(config.generator, old_size, F), Generator(config.generator, new_size, F)
    start(new_g, old_g)
    for before, after in zip(old_g.blocks, new_g.blocks, strict=False):
        assert all(torch.equal(after.state_dict()[name], value) for name, value in before.state_dict().items())


def test_the_constant_has_a_name() -> None:
    outcome = start(generator(1, channel_max=2 * CONCAT.channel_max), generator(0))
    assert "constant" in outcome.new and "" not in {*outcome.new, *outcome.taken}


def test_a_second_head_starts_as_the_first() -> None:
    old, new = discriminator(0), discriminator(1, heads="separate")
    outcome = start(new, old)
    assert list(outcome.adapted) == ["head_img"] and not outcome.new
    images = torch.randn(4, 3, R, R)
    before, after = old(images), new(images)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.equal(after.f_img, after.f_txt)
    assert new.head_img is not None and new.head_img.layers[0].weight is not new.head_txt.layers[0].weight


def test_a_head_that_is_no_longer_there_is_named() -> None:
    outcome = start(discriminator(1), discriminator(0, heads="separate"))
    assert not outcome.new and {name.partition(".")[0] for name in outcome.unused} == {"head_img"}


def test_heads_of_other_depth_share_no_layer() -> None:
    """Where C = F the only layer of one has the shape of the first layer of the other, and another meaning."""
    torch.manual_seed(0)
    old = Discriminator(replace(D_CONFIG, head_layers=1), R, D_CONFIG.channel_max)
    new = Discriminator(D_CONFIG, R, D_CONFIG.channel_max)
    first = new.head_txt.layers[0].weight.clone()
    assert inherit(new, old.state_dict(), CONCAT, samples()).new == ["head_txt"]
    assert torch.equal(new.head_txt.layers[0].weight, first)


def least_squares(x: Tensor, y: Tensor) -> np.ndarray:
    """The fit of y by the columns of x and a constant, by NumPy."""
    columns = np.column_stack([x.detach().double().numpy(), np.ones(len(x))])
    solution = np.linalg.lstsq(columns, y.detach().double().numpy(), rcond=None)[0]
    return np.asarray(columns @ solution)


@pytest.mark.parametrize("kind", ["transform", "modulate"])
def test_styles_made_in_another_way_are_the_least_squares_fit(kind: str) -> None:
    old, new = generator(0), generator(1, conditioning=kind)
    hidden = {name: style for name, style in styles(new)}
    outcome = start(new, old)
    assert outcome.adapted.keys() == hidden.keys() and not outcome.new
    w, h = old.mapping(samples().z), samples().h
    for (_, before), (name, after) in zip(styles(old), styles(new), strict=True):
        wanted = before(w, h)
        text = h if kind == "transform" else after.modulate_shift[:-1](h * after.text_gain)
        fitted = least_squares(torch.cat([w, text], 1), wanted)
        assert len(wanted.T) <= W  # so that A has full rank, and the shift of w can be any shift of the style
        assert np.allclose(after(w, h).detach().numpy(), fitted, atol=2e-4), name


@pytest.mark.parametrize("kind", ["transform", "modulate"])
def test_images_change_far_less_than_with_new_styles(kind: str) -> None:
    old, fitted, fresh = generator(0), generator(1, conditioning=kind), generator(1, conditioning=kind)
    start(fitted, old)
    alike = {name: each for name, each in old.state_dict().items() if ".style." not in name}
    fresh.load_state_dict(alike, strict=False)
    z, h = torch.randn(32, Z), nn.functional.normalize(torch.randn(32, F), dim=1)
    change = [float((network(z, h) - old(z, h)).square().mean().detach()) for network in (fitted, fresh)]
    assert change[0] < 0.2 * change[1]


def test_a_generator_that_knows_no_text_keeps_its_function() -> None:
    """StyleGAN2's own styles, A(w): whatever the text, the images are those of the unconditional network."""
    old = generator(0)
    weights = {name: each for name, each in old.state_dict().items() if ".style." not in name}
    plain = {}
    for name, style in styles(old):
        torch.manual_seed(len(plain))
        plain[name] = torch.randn(len(style.affine.bias), W), torch.randn(len(style.affine.bias))
        weights |= {f"{name}.affine.weight": plain[name][0], f"{name}.affine.bias": plain[name][1]}
    new = generator(1)
    outcome = inherit(new, weights, CONCAT, samples())
    assert outcome.adapted.keys() == plain.keys() and not outcome.new and not outcome.unused
    w = old.mapping(torch.randn(8, Z))
    for name, style in styles(new):
        weight, bias = plain[name]
        wanted = w @ weight.T / np.sqrt(W) + bias
        for h in (torch.zeros(8, F), nn.functional.normalize(torch.randn(8, F), dim=1)):
            assert torch.allclose(style(w, h), wanted, atol=1e-4)


def test_noise_that_is_new_starts_without_effect() -> None:
    old, new = generator(0, noise=False), generator(1, noise=True)
    for name, parameter in new.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.zero_()  # as it is drawn
    outcome = start(new, old)
    assert not (outcome.new or outcome.adapted)
    z, h = torch.randn(2, Z), nn.functional.normalize(torch.randn(2, F), dim=1)
    assert torch.equal(new(z, h, Draws(torch.Generator().manual_seed(0)).normal), old(z, h))


def test_without_samples_nothing_changes_and_the_outcome_is_the_same() -> None:
    old = generator(0)
    for changes in ({}, {"conditioning": "transform"}, {"channel_max": 4}, {"mapping_layers": 3}):
        new, told = generator(1, **changes), generator(1, **changes)
        before = {name: each.clone() for name, each in told.state_dict().items()}
        dry = inherit(told, old.state_dict(), CONCAT, None)
        assert all(torch.equal(each, before[name]) for name, each in told.state_dict().items())
        done = start(new, old)
        assert (dry.taken, list(dry.adapted), dry.new, dry.unused) == (
            done.taken, list(done.adapted), done.new, done.unused,
        )  # fmt: skip


def test_on_meta_the_outcome_is_the_same_too() -> None:
    with torch.device("meta"):
        new = Generator(replace(CONCAT, conditioning="transform"), R, F)
    dry = inherit(new, generator(0).state_dict(), CONCAT, None)
    assert dry.adapted.keys() == {name for name, _ in styles(new)}


def test_layers_of_another_width_are_new_and_named() -> None:
    outcome = start(generator(1, channel_max=4), generator(0))
    assert "mapping" in outcome.taken
    assert "blocks.0.convs.0" in outcome.new and "blocks.0.convs.0" in outcome.unused


class Counting(nn.Module):
    """What lasts from step to step lies in buffers alone; one of them is not to last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scratch", torch.zeros(channels), persistent=False)


def with_own_layers(network: Any, seed: int) -> Any:
    """A generator or discriminator with a batch norm and a layer without parameters, as a study's own code has them."""
    kind, player = (Generator, "generator") if network is CONCAT else (Discriminator, "discriminator")
    made = (("norm", nn.BatchNorm2d), ("count", Counting))
    torch.manual_seed(seed)
    return kind(network, R, F, [OwnLayer(name, player, 8, make) for name, make in made])  # type: ignore[arg-type]


@pytest.mark.parametrize("network", [CONCAT, D_CONFIG])
def test_buffers_of_own_layers_are_taken_with_their_parameters(network: Any) -> None:
    """It once took parameters alone: a batch norm kept the running mean and variance of no images at all."""
    old, new = with_own_layers(network, 0), with_own_layers(network, 1)
    held = old.state_dict()
    for name, value in held.items():
        if name.endswith(("seen", "num_batches_tracked")):
            value.fill_(2**24 + 1)  # the first whole number that 32-bit floats do not hold
        elif "running" in name:
            value.uniform_(2, 3)
    outcome = start(new, old)
    assert not (outcome.adapted or outcome.new or outcome.unused)
    assert {"norm", "count"} <= {part for name in outcome.taken for part in name.split(".")}
    assert sum("running" in name or name.endswith("seen") for name in held) == 3
    assert all(torch.equal(value, held[name]) for name, value in new.state_dict().items())


def test_a_layer_is_taken_with_all_its_buffers_or_not_at_all() -> None:
    old, new = with_own_layers(CONCAT, 0), with_own_layers(CONCAT, 1)
    held = {name: value for name, value in old.state_dict().items() if not name.endswith("running_var")}
    held = {name: value + 1 if "norm" in name else value for name, value in held.items()}
    outcome = inherit(new, held, CONCAT, samples())
    (norm,) = outcome.new
    assert norm.endswith("norm.module") and outcome.unused == [norm]
    fresh = with_own_layers(CONCAT, 1).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in new.state_dict().items() if name.startswith(norm))
