"""Resampling and convolution against naive float64 versions: SciPy's filters, weights of each sample's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d, upfirdn
from torch import Tensor

from harness.models.discriminator import Conv
from harness.models.generator import SynthesisLayer, ToRGB
from harness.models.ops import demodulation, modulated_conv
from harness.models.resampling import blur, downsample, upsample
from harness.training.ranks import Draws
from tiny import FixedStyle, drawn, exact, leaky

TAPS = np.array([1.0, 3.0, 3.0, 1.0]) / 8
Array = np.ndarray


def resample(x: Array, up: int, down: int, gain: float) -> Array:
    """`x` through [1,3,3,1] along both axes, borders zero and nothing cropped."""
    return upfirdn(TAPS * gain, upfirdn(TAPS * gain, x, up, down, axis=-1), up, down, axis=-2)


# resampling --------------------------------------------------------------------------------------------------------


def test_upsample_is_scipys() -> None:
    x = exact(2, 3, 6, 6)
    expected = resample(x.numpy(), up=2, down=1, gain=2)[..., 1:13, 1:13]
    np.testing.assert_allclose(upsample(x).numpy(), expected, atol=1e-12)


def test_downsample_is_scipys() -> None:
    x = exact(2, 3, 8, 8)
    expected = resample(x.numpy(), up=1, down=1, gain=1)[..., 2:9:2, 2:9:2]
    np.testing.assert_allclose(downsample(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_blur_is_scipys(padding: int) -> None:
    x = exact(2, 3, 7, 7)
    crop = slice(3 - padding, 7 + padding)
    expected = 4 * resample(x.numpy(), up=1, down=1, gain=1)[..., crop, crop]
    np.testing.assert_allclose(blur(x, padding, gain=4.0).numpy(), expected, atol=1e-12)


def test_resampling_keeps_a_constant() -> None:
    x = torch.full((1, 2, 8, 8), 3.0)
    for resampled in (upsample(x), downsample(x)):
        torch.testing.assert_close(resampled[..., 2:-2, 2:-2], torch.full_like(resampled[..., 2:-2, 2:-2], 3.0))


@pytest.mark.parametrize("operation", [upsample, downsample, lambda x: blur(x, 1), lambda x: blur(x, 2)])
def test_resampling_can_be_differentiated_twice(operation: Callable[[Tensor], Tensor]) -> None:
    for size in (4, 5):
        x = exact(1, 2, size, size).requires_grad_()
        assert torch.autograd.gradcheck(operation, x, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x: operation(x).square(), x, fast_mode=True)


# convolution -------------------------------------------------------------------------------------------------------


def convolved(x: Array, weight: Array, one: Callable[[Array, Array], Array]) -> Array:
    """Sum over input channels, for each output channel: x [I,H,W], weight [O,I,K,K]."""
    return np.stack([sum(one(plane, kernel) for plane, kernel in zip(x, w, strict=True)) for w in weight])


def naive_plain(x: Array, weight: Array) -> Array:
    return convolved(x, weight, lambda plane, kernel: correlate2d(plane, kernel, mode="same"))


def naive_up(x: Array, weight: Array) -> Array:
    """Insert zeros, convolve, filter with the gain of the inserted zeros."""
    size = 2 * x.shape[-1]
    sparse = np.zeros((x.shape[0], size - 1, size - 1))
    sparse[:, ::2, ::2] = x
    full = convolved(sparse, weight, lambda plane, kernel: convolve2d(plane, kernel, mode="full"))
    return resample(full, 1, 1, gain=2)[:, 2 : 2 + size, 2 : 2 + size]


def naive_down(x: Array, weight: Array) -> Array:
    """Filter, then keep every second place of the convolution."""
    size, kernel = x.shape[-1], weight.shape[-1]
    start = 1 if kernel == 3 else 2
    smooth = resample(x, 1, 1, gain=1)[:, start : start + size + kernel - 2, start : start + size + kernel - 2]
    return convolved(smooth, weight, lambda plane, kernel: correlate2d(plane, kernel, mode="valid"))[:, ::2, ::2]


def per_sample_weights(weight: Array, style: Array, demodulate: bool) -> Array:
    """w'_oiyx = s_i w_oiyx, divided by its norm over i, y, x (StyleGAN2, Eq. 1 and 3)."""
    scaled = weight * style[None, :, None, None]
    if demodulate:
        scaled = scaled / np.sqrt(np.sum(scaled**2, axis=(1, 2, 3), keepdims=True) + 1e-8)
    return scaled


@pytest.mark.parametrize(("kernel", "up"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_is_the_textbooks(kernel: int, up: bool, demodulate: bool) -> None:
    x, weight, style = exact(3, 4, 6, 6), exact(5, 4, kernel, kernel, seed=1), exact(3, 4, seed=2)
    got = modulated_conv(x, weight, style, up)
    if demodulate:
        got = got * demodulation(weight, style)[:, :, None, None]
    naive = naive_up if up else naive_plain
    expected = [
        naive(sample, per_sample_weights(weight.numpy(), s, demodulate))
        for sample, s in zip(x.numpy(), style.numpy(), strict=True)
    ]
    np.testing.assert_allclose(got.numpy(), np.stack(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("up", [False, True])
def test_synthesis_layer_is_the_textbooks(up: bool) -> None:
    style = exact(2, 4, seed=5)
    layer = drawn(SynthesisLayer(4, 3, FixedStyle(style), up, noise=True))
    x = exact(2, 4, 5, 5, seed=6)
    got = layer(x, x, x, Draws(torch.Generator().manual_seed(7)).normal)
    noise = torch.randn((2, 1, *got.shape[2:]), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    weight, strength, bias = (p.detach().numpy() for p in (layer.weight, layer.noise_strength, layer.bias))
    for index in range(2):
        own = per_sample_weights(weight / 6, style[index].numpy(), demodulate=True)
        plain = (naive_up if up else naive_plain)(x[index].numpy(), own)
        expected = leaky(plain + strength * noise[index].numpy() + bias[:, None, None])
        np.testing.assert_allclose(got[index].detach().numpy(), expected, rtol=1e-10, atol=1e-10)


def test_colour_is_not_demodulated() -> None:
    style = exact(2, 4, seed=5)
    layer = drawn(ToRGB(4, FixedStyle(style)))
    x = exact(2, 4, 5, 5, seed=6)
    weight = layer.weight.detach()[:, :, 0, 0] / 2
    expected = torch.einsum("oi,ni,nihw->nohw", weight, style, x) + layer.bias.detach()[:, None, None]
    torch.testing.assert_close(layer(x, x, x).detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "down", "activate"), [(3, False, True), (3, True, True), (1, True, False)])
def test_convolution_is_the_textbooks(size: int, down: bool, activate: bool) -> None:
    layer = drawn(Conv(4, 3, size, down=down, activate=activate))
    x = exact(2, 4, 8, 8, seed=6)
    got = layer(x).detach().numpy()
    weight = layer.weight.detach().numpy() / math.sqrt(4 * size**2)
    for index in range(2):
        expected = (naive_down if down else naive_plain)(x[index].numpy(), weight)
        if activate:
            expected = leaky(expected + layer.bias.detach().numpy()[:, None, None])
        np.testing.assert_allclose(got[index], expected, rtol=1e-10, atol=1e-10)
