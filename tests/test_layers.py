"""Layers by their definitions: sizes at the start, learning rates, styles, minibatch standard deviation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from harness.models.build import draw
from harness.models.config import GeneratorConfig
from harness.models.discriminator import Conv, minibatch_std
from harness.models.generator import ConcatStyle, Mapping, SynthesisLayer, TransformStyle
from harness.models.ops import Linear
from tiny import FixedStyle, drawn, exact, leaky, stream


def initialised(module: nn.Module) -> nn.Module:
    """First weights as the networks draw them."""
    draw(module, "layer", stream(0))
    return module


@pytest.mark.parametrize(
    "module",
    [
        Linear(256, 128),
        Linear(256, 128, lr_multiplier=0.01),
        Linear(256, 128, activate=True),
        Mapping(256, 512, layers=2),
        Conv(32, 64, 3),
        Conv(32, 64, 1, activate=False),
    ],
    ids=lambda module: type(module).__name__,
)
def test_outputs_have_unit_size_at_first(module: nn.Module) -> None:
    x = exact(*((8, 32, 16, 16) if isinstance(module, Conv) else (512, 256)), seed=99).float()
    got = initialised(module)(x)[..., 1:-1]
    assert 0.85 < got.square().mean().item() < 1.2


@pytest.mark.parametrize("up", [False, True])
def test_synthesis_layer_keeps_unit_size_whatever_the_style(up: bool) -> None:
    x = exact(4, 32, 16, 16, seed=99).float()
    for scale in (1.0, 10.0):
        style = scale * (1 + 0.5 * exact(4, 32, seed=98).float())
        got = initialised(SynthesisLayer(32, 64, FixedStyle(style), up, noise=False))(x, x, x, None)[..., 2:-2, 2:-2]
        assert (0.15 if up else 0.85) < got.square().mean().item() < 1.2


def test_learning_rate_multiplier_slows_weight_and_bias_alike() -> None:
    x = exact(4, 8)
    steps = []
    for multiplier in (1.0, 0.01):
        layer = initialised(Linear(8, 3, lr_multiplier=multiplier)).double()
        before = layer(x)
        for parameter in layer.parameters():
            parameter.data += 1e-3
        steps.append(layer(x) - before)
    torch.testing.assert_close(steps[1], 0.01 * steps[0])


# styles ------------------------------------------------------------------------------------------------------------


def dense(layer: Linear, x: Tensor) -> Tensor:
    """A linear layer without activation and without a learning rate multiplier."""
    return x @ layer.weight.T / math.sqrt(x.shape[1]) + layer.bias


def test_concat_style_is_affine_of_w_and_an_mlp_of_h() -> None:
    style = drawn(ConcatStyle(GeneratorConfig(w_dim=6), 4, 5))
    w, h = exact(3, 6), exact(3, 4, seed=1)
    hidden = torch.from_numpy(leaky(dense(style.m[0], h * 2).detach().numpy()))
    torch.testing.assert_close(style(w, h), dense(style.affine, torch.cat([w, dense(style.m[1], hidden)], dim=1)))


def test_transform_style_scales_and_shifts_w() -> None:
    style = drawn(TransformStyle(GeneratorConfig(w_dim=6), 4, 5))
    w, h = exact(3, 6), exact(3, 4, seed=1)
    transformed = dense(style.transform_scale, h * 2) * w + dense(style.transform_shift, h * 2)
    torch.testing.assert_close(style(w, h), dense(style.affine, transformed))


def test_mapping_normalises_the_latent_first() -> None:
    mapping = initialised(Mapping(6, 5, layers=2)).double()
    z = exact(3, 6)
    torch.testing.assert_close(mapping(z * 7), mapping(z))
    unit = z / z.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(mapping(z), mapping.layers(unit))


@pytest.mark.parametrize("kind", [ConcatStyle, TransformStyle])
def test_styles_start_around_one(kind: type[nn.Module]) -> None:
    h = torch.nn.functional.normalize(exact(256, 32).float())
    got = initialised(kind(GeneratorConfig(w_dim=64), 32, 128))(exact(256, 64, seed=1).float(), h)
    assert got.mean().item() == pytest.approx(1, abs=0.1)
    assert 0.5 < got.std().item() < 2.5


# minibatch standard deviation --------------------------------------------------------------------------------------


def test_minibatch_std_by_loops() -> None:
    x = exact(6, 4, 3, 3)
    got = minibatch_std(x, 3, 3)
    assert got.shape == (6, 5, 3, 3)
    assert torch.equal(got[:, :4], x)
    for first in (0, 3):
        group = x[first : first + 3]
        places = itertools.product(range(4), range(3), range(3))
        expected = torch.stack([group[:, c, i, j].std(correction=0) for c, i, j in places]).mean().expand(3, 3, 3)
        torch.testing.assert_close(got[first : first + 3, 4], expected, atol=1e-6, rtol=1e-6)


def test_minibatch_std_refuses_a_batch_it_cannot_group() -> None:
    with pytest.raises(ValueError, match="5"):
        minibatch_std(exact(5, 2, 4, 4), 4, 4)
