"""The generator: conditioning, layers, noise, and path length by differences."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from harness.models.build import Shapes, build
from harness.models.generator import ConcatStyle, TransformStyle
from harness.models.losses import path_lengths
from harness.models.resampling import upsample
from tiny import TINY, F, N, Z, check_parameter_gradient, differences, networks, noise, normal, stream, units


@pytest.mark.parametrize("toggles", [[], ["transform_w"]], ids=["concat", "transform"])
def test_image_depends_on_latent_and_condition_of_its_own_sample(toggles: list[str]) -> None:
    generator = networks(*toggles).generator.double()
    z, h = normal(N, Z).double(), units().double()
    image = generator(z, h)
    for part in (z, h):
        kept = part.clone()
        part[1] = part[1].roll(1)
        changed = (generator(z, h) - image).flatten(1).abs().amax(1)
        part.copy_(kept)
        assert changed[1] > 1e-3
        assert changed[[0, 2, 3]].max() < 1e-12


@pytest.mark.parametrize(("toggles", "kind"), [([], ConcatStyle), (["transform_w"], TransformStyle)])
def test_condition_enters_every_layer(toggles: list[str], kind: type[torch.nn.Module]) -> None:
    generator = networks(*toggles, resolution=16).generator
    styles = [module for module in generator.modules() if isinstance(module, ConcatStyle | TransformStyle)]
    assert len(styles) == 8, "five convolutions and three colours"
    w = normal(N, Z)
    for style in styles:
        assert type(style) is kind
        assert not torch.allclose(style(w, units(seed=1)), style(w, units(seed=2)))


def test_every_layer_has_a_w_of_its_own() -> None:
    generator = networks(resolution=16).generator
    ws = normal(1, generator.layers, Z)
    image = generator.synthesis(ws, units(1))
    for layer in range(generator.layers):
        other = ws.clone()
        other[:, layer] += 1
        assert not torch.equal(generator.synthesis(other, units(1)), image), layer


def test_image_is_the_sum_of_upsampled_colours() -> None:
    """Without the last resolution's colours, a generator is the next smaller one, upsampled."""
    small, large = (networks(resolution=resolution).generator for resolution in (8, 16))
    for parameter in (large.blocks[-1].to_rgb.weight, large.blocks[-1].to_rgb.bias):
        parameter.data.zero_()
    z, h = normal(N, Z), units()
    torch.testing.assert_close(large(z, h), upsample(small(z, h)))


def test_one_latent_serves_all_layers() -> None:
    generator = networks().generator
    z, h = normal(N, Z), units()
    ws = generator.mapping(z)[:, None].expand(-1, generator.layers, -1)
    assert torch.equal(generator(z, h), generator.synthesis(ws, h))


def test_noise_comes_from_the_given_generator_only() -> None:
    generator = networks().generator
    z, h = normal(N, Z), units()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)

    def image(seed: int | None) -> Tensor:
        return generator(z, h, None if seed is None else noise(seed))

    assert torch.equal(image(None), image(None))
    assert torch.equal(image(1), image(1))
    assert not torch.equal(image(1), image(2))
    assert not torch.equal(image(1), image(None))


def test_without_noise_there_is_no_noise_parameter() -> None:
    config = dataclasses.replace(TINY, generator=dataclasses.replace(TINY.generator, noise=False))
    generator = build(config, Shapes(8, F), stream(0)).generator
    z, h = normal(N, Z), units()
    assert not [name for name, _ in generator.named_parameters() if "noise" in name]
    assert torch.equal(generator(z, h, noise(1)), generator(z, h))


def test_path_length_is_that_of_finite_differences() -> None:
    """|J^T y| by moving every w, and the derivative of the penalty by moving a weight."""
    generator = networks().generator.double()
    ws, h, noise = normal(2, generator.layers, Z).double(), units(2).double(), normal(2, 3, 8, 8, seed=8).double()

    def projected(ws: Tensor) -> Tensor:
        return (generator.synthesis(ws, h) * noise).sum() / 8

    gradient = differences(projected, ws)
    ws.requires_grad_()
    lengths = path_lengths(generator.synthesis(ws, h), ws, noise)
    torch.testing.assert_close(lengths, gradient.square().sum(2).mean(1).sqrt(), rtol=1e-5, atol=1e-8)
    weight = generator.blocks[0].convs[0].weight
    check_parameter_gradient(lambda: path_lengths(generator.synthesis(ws, h), ws, noise).square().mean(), weight)
