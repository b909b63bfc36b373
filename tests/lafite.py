"""LAFITE's networks and losses once more, from their equations: float64, plain tensors by their published names.

Nothing of `models` is used. Weights are a dictionary of published names; every layer multiplies them by its own
1 / sqrt(fan-in) and learning rate multiplier. Shapes as in `harness.models`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]
TEXT = 512  # width of what a layer's text MLP gives
LIMIT = 256.0


def widths(base: int, most: int, resolution: int) -> dict[int, int]:
    """Feature maps of each resolution from 4."""
    return {2**i: min(base // 2**i, most) for i in range(2, int(math.log2(resolution)) + 1)}


# Which weights there are.


def dense_shapes(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def style_shapes(name: str, w: int, f: int, channels: int, modulated: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = (f + TEXT) // 2
    if not modulated:
        yield from dense_shapes(f"{name}.pre_0", f, hidden)
        yield from dense_shapes(f"{name}.pre_1", hidden, TEXT)
        yield from dense_shapes(f"{name}.affine_0", TEXT + w, channels)
        return
    yield from dense_shapes(f"{name}.affine", w, channels)
    for part in ("scale", "bias"):
        yield from dense_shapes(f"{name}.{part}_layer_0", f, hidden)
        yield from dense_shapes(f"{name}.{part}_layer_1", hidden, TEXT)
        yield from dense_shapes(f"{name}.{part}_layer_2", TEXT, channels)


def generator_shapes(
    z: int, w: int, f: int, layers: int, channels: Mapping[int, int], modulate_from: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for layer in range(layers):
        yield from dense_shapes(f"mapping.fc{layer}", w if layer else z, w)
    before = 0
    for size, width in channels.items():
        name, modulated = f"synthesis.b{size}", size >= modulate_from
        if size == 4:
            yield f"{name}.const", (width, 4, 4)
        for conv, inputs in (("conv0", before), ("conv1", width)):
            if inputs:
                yield f"{name}.{conv}.weight", (width, inputs, 3, 3)
                yield f"{name}.{conv}.bias", (width,)
                yield f"{name}.{conv}.noise_strength", ()
                yield from style_shapes(f"{name}.{conv}", w, f, inputs, modulated)
        yield f"{name}.torgb.weight", (3, width, 1, 1)
        yield f"{name}.torgb.bias", (3,)
        yield from style_shapes(f"{name}.torgb", w, f, width, modulated)
        before = width


def discriminator_shapes(f: int, channels: Mapping[int, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    largest = max(channels)
    yield f"b{largest}.fromrgb.weight", (channels[largest], 3, 1, 1)
    yield f"b{largest}.fromrgb.bias", (channels[largest],)
    for size in sorted(channels, reverse=True)[:-1]:
        own, next_ = channels[size], channels[size // 2]
        yield f"b{size}.conv0.weight", (own, own, 3, 3)
        yield f"b{size}.conv0.bias", (own,)
        yield f"b{size}.conv1.weight", (next_, own, 3, 3)
        yield f"b{size}.conv1.bias", (next_,)
        yield f"b{size}.skip.weight", (next_, own, 1, 1)
    last = channels[4]
    yield "b4.conv.weight", (last, last + 1, 3, 3)
    yield "b4.conv.bias", (last,)
    yield from dense_shapes("b4.fc", last * 16, last)
    yield from dense_shapes("b4.fts", last, f)
    yield from dense_shapes("b4.out", last, 1)


# Operations.


def active(x: Tensor) -> Tensor:
    return math.sqrt(2) * torch.where(x > 0, x, 0.2 * x)


def limited(x: Tensor, limit: float = LIMIT) -> Tensor:
    return torch.minimum(torch.maximum(x, torch.full_like(x, -limit)), torch.full_like(x, limit))


def dense(weights: Weights, name: str, x: Tensor, multiplier: float = 1.0) -> Tensor:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return multiplier * (x @ weight.T / math.sqrt(weight.shape[1]) + bias)


def filtered(x: Tensor, before: int, after: int, gain: float = 1.0) -> Tensor:
    """Zeros around, then the weighted mean of 4 x 4 pixels by [1,3,3,1] in both directions."""
    x = F.pad(x, [before, after, before, after])
    taps = [1 / 8, 3 / 8, 3 / 8, 1 / 8]
    height, width = x.shape[2] - 3, x.shape[3] - 3
    rows = sum(tap * x[:, :, i : i + height] for i, tap in enumerate(taps))
    return gain * sum(tap * rows[:, :, :, i : i + width] for i, tap in enumerate(taps))  # type: ignore[index]


def with_zeros(x: Tensor) -> Tensor:
    """A zero after every pixel, in both directions: [N,C,H,W] -> [N,C,2H,2W]."""
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[:, :, ::2, ::2] = x
    return wide


def doubled(image: Tensor) -> Tensor:
    return filtered(with_zeros(image), 2, 1, gain=4.0)


def modulated(x: Tensor, weight: Tensor, style: Tensor, up: bool, epsilon: float | None) -> Tensor:
    """Each sample by a kernel of its own, demodulated unless `epsilon` is None."""
    images = []
    for one, scales in zip(x, style, strict=True):
        kernel = weight * scales[:, None, None]
        if epsilon is not None:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + epsilon).sqrt()
        if up:  # a convolution of the image with zeros between its pixels: the kernel is turned round
            spread = with_zeros(one[None])[:, :, :-1, :-1]
            image = filtered(F.conv2d(spread, kernel.flip(2, 3), padding=2), 1, 1, gain=4.0)
        else:
            image = F.conv2d(one[None], kernel, padding=kernel.shape[-1] // 2)
        images.append(image)
    return torch.cat(images)


# Generator.


def mapped(weights: Weights, z: Tensor, layers: int) -> Tensor:
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in range(layers):
        x = active(dense(weights, f"mapping.fc{layer}", x, 0.01))
    return x


def style_of(weights: Weights, name: str, w: Tensor, h: Tensor) -> Tensor:
    def of_text(first: str, second: str) -> Tensor:
        return active(dense(weights, f"{name}.{second}", active(dense(weights, f"{name}.{first}", h, 0.01)), 0.01))

    if f"{name}.affine_0.weight" in weights:
        return dense(weights, f"{name}.affine_0", torch.cat([of_text("pre_0", "pre_1"), w], dim=1))
    scale = dense(weights, f"{name}.scale_layer_2", of_text("scale_layer_0", "scale_layer_1"))
    bias = dense(weights, f"{name}.bias_layer_2", of_text("bias_layer_0", "bias_layer_1"))
    return dense(weights, f"{name}.affine", w) * scale + bias


def synthesised(
    weights: Weights, ws: Tensor, h: Tensor, noise: Sequence[Tensor], published_epsilon: bool = True
) -> Tensor:
    """ws [N,L,W], one pixel noise [N,1,R,R] for each convolution -> image.

    The published epsilon of demodulation stands beside the squares of weights as stored, ours beside those of weights
    divided by sqrt(fan-in), which is the published one times the fan-in.
    """
    noises, layer = iter(noise), 0
    x = weights["synthesis.b4.const"].expand(len(ws), -1, -1, -1)
    image = torch.zeros(())
    sizes = sorted(int(name.split(".")[1][1:]) for name in weights if name.endswith("torgb.bias"))
    for size in sizes:
        block = f"synthesis.b{size}"
        for conv in ("conv0", "conv1"):
            name = f"{block}.{conv}"
            if f"{name}.weight" not in weights:
                continue
            weight, style = weights[f"{name}.weight"], style_of(weights, name, ws[:, layer], h)
            epsilon = 1e-8 * (1 if published_epsilon else weight[0].numel())
            x = modulated(x, weight, style, conv == "conv0", epsilon)
            x = x + weights[f"{name}.noise_strength"] * next(noises) + weights[f"{name}.bias"][:, None, None]
            x = limited(active(x))
            layer += 1
        name = f"{block}.torgb"
        weight = weights[f"{name}.weight"]
        style = style_of(weights, name, ws[:, layer], h) / math.sqrt(weight.shape[1])
        colours = limited(modulated(x, weight, style, False, None) + weights[f"{name}.bias"][:, None, None])
        image = colours if size == 4 else doubled(image) + colours
    return image


# Discriminator.


def convolved(weights: Weights, name: str, x: Tensor, stride: int = 1, padding: int = 0, gain: float = 1.0) -> Tensor:
    weight = weights[f"{name}.weight"]
    x = F.conv2d(x, weight / math.sqrt(weight[0].numel()), stride=stride, padding=padding)
    if f"{name}.bias" not in weights:
        return gain * x
    return limited(gain * active(x + weights[f"{name}.bias"][:, None, None]), gain * LIMIT)


def with_deviation(x: Tensor, group: int) -> Tensor:
    """One channel more: of sample i, the mean deviation among samples i, i + N / group, i + 2 N / group, ..."""
    step = len(x) // min(group, len(x))
    channel = []
    for i in range(len(x)):
        members = x[i % step :: step]
        variance = (members - members.mean(0)).square().mean(0)
        channel.append((variance + 1e-8).sqrt().mean().expand(1, *x.shape[2:]))
    return torch.cat([x, torch.stack(channel)], dim=1)


def judged(weights: Weights, images: Tensor, group: int = 4) -> tuple[Tensor, Tensor]:
    """b [N] and the features [N,F] of one batch."""
    half = math.sqrt(0.5)
    x = convolved(weights, f"b{images.shape[-1]}.fromrgb", images)
    size = images.shape[-1]
    while size > 4:
        skip = convolved(weights, f"b{size}.skip", filtered(x, 1, 1)[:, :, ::2, ::2], gain=half)
        x = convolved(weights, f"b{size}.conv0", x, padding=1)
        x = skip + convolved(weights, f"b{size}.conv1", filtered(x, 2, 2), stride=2, gain=half)
        size //= 2
    x = convolved(weights, "b4.conv", with_deviation(x, group), padding=1)
    x = active(dense(weights, "b4.fc", x.reshape(len(x), -1)))
    return dense(weights, "b4.out", x)[:, 0], dense(weights, "b4.fts", x)


def logits(b: Tensor, features: Tensor, h: Tensor) -> Tensor:
    return b + (features * h).sum()


# Losses.


def contrast(u: Tensor, v: Tensor, tau: float) -> Tensor:
    """-mean_i log( tau * exp(e_ii) / sum_j exp(e_ji) ), e_ji = exp( cos(u_j, v_i) / tau )."""
    terms = []
    for i in range(len(v)):
        cosines = torch.stack([(one @ v[i]) / (one.norm() * v[i].norm()) for one in u])
        powers = torch.exp(torch.exp(cosines / tau))
        terms.append(-torch.log(tau * powers[i] / powers.sum()))
    return torch.stack(terms).mean()


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-x.abs())) + torch.clamp(x, min=0)


def bicubic(inputs: int, outputs: int) -> Tensor:
    """[outputs, inputs]: interpolation by cubic convolution with a = -0.75, pixels as areas, borders repeated."""

    def share(distance: float, a: float = -0.75) -> float:
        d = abs(distance)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    matrix = torch.zeros(outputs, inputs, dtype=torch.float64)
    for out in range(outputs):
        place = (out + 0.5) * inputs / outputs - 0.5
        for near in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[out, min(max(near, 0), inputs - 1)] += share(place - near)
    return matrix


def enlarged(images: Tensor, size: int) -> Tensor:
    matrix = bicubic(images.shape[-1], size)
    return matrix @ images @ matrix.T
