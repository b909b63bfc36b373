"""First weights from another network: what is alike is taken, and what is new starts so that little changes.

A layer without a counterpart keeps the first weights that it has drawn, except where the function of the network can be
kept: a second feature head starts as a copy of the first, and styles that are made in another way are fitted to those
of the other network.

Shapes: n samples, W intermediate latent, F text feature, C channels, K numbers that a style is linear in.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.config import GeneratorConfig
from harness.models.discriminator import Discriminator, Head
from harness.models.generator import ConcatStyle, Generator, ModulateStyle, Style, TransformStyle
from harness.models.generator import Mapping as MappingNetwork
from harness.models.ops import Linear

_WHOLE = (MappingNetwork, Style, Head)
"""Modules whose layers have a meaning only together: all of them are taken, or none."""
Weights = Mapping[str, Tensor]


@dataclass
class Inherited:
    """What became of every layer, by its dotted name."""

    taken: list[str] = field(default_factory=list)
    """Of the same weights as the other network's, scaled where they are stored at another size."""
    adapted: dict[str, str] = field(default_factory=dict)
    """Layer -> how it starts from what the other network has."""
    new: list[str] = field(default_factory=list)
    """With first weights of their own."""
    unused: list[str] = field(default_factory=list)
    """Of the other network alone."""


@dataclass(frozen=True)
class Samples:
    """What styles are fitted on; there should be several times as many as W + F."""

    z: Tensor
    """[n,Z], from which the mapping, which is taken first, makes w."""
    h: Tensor
    """[n,F], unit norm."""


@torch.no_grad()
def inherit(
    network: Generator | Discriminator,  # with its own first weights
    weights: Weights,                    # the other network's, by name
    config: GeneratorConfig,             # of the other generator
    samples: Samples | None,             # None: nothing is changed, but what would be is returned
) -> Inherited:  # fmt: skip
    """Give every layer of `network` the weights that another of its kind has, and its buffers with them.

    Blocks of one resolution are alike, also where the networks are of different ones.
    """
    outcome, used = Inherited(), set[str]()
    theirs = {name: name for name in weights}
    if isinstance(network, Discriminator):
        theirs = _by_resolution(weights, len(network.blocks))
        weights = {name: weights[other] for name, other in theirs.items()}
    for place, layer, own in _layers(network):
        values: Weights = {}
        if values := _alike(own, weights, f"{place}." if isinstance(layer, _WHOLE) else ""):
            outcome.taken.append(place or "constant")
            used |= values.keys()
        elif place == "head_img" and (values := _first_head(own, weights)):
            outcome.adapted[place] = "a copy of head_txt, so that f_img = f_txt"
        elif isinstance(layer, Style) and (style := _style(layer, place, weights, config)):
            assert isinstance(network, Generator)
            fit = f": {_fit(layer, style, network.mapping(samples.z), samples.h)}" if samples else ""
            outcome.adapted[place] = f"fitted to the styles{fit}"
            used |= {name for name in weights if name.startswith(f"{place}.")}
        else:
            outcome.new.append(place or "constant")  # all that a network itself holds
        if samples:
            for name, value in values.items():
                own[name].copy_(value)
            if values and isinstance(layer, Style):
                _rescale(layer, config)
    unused = {theirs[name] for name in weights.keys() - used}
    outcome.unused += sorted({name.rpartition(".")[0] or name for name in unused})
    return outcome


def _by_resolution(weights: Weights, blocks: int) -> dict[str, str]:
    """What each of a discriminator's weights is called in one of `blocks` blocks -> its own name.

    The last block is of 8 px in both. Blocks of the other network alone have negative numbers.
    """
    numbers = {name: int(name.split(".")[1]) for name in weights if re.match(r"blocks\.\d+\.", name)}
    more = blocks - 1 - max(numbers.values(), default=blocks - 1)

    def renamed(name: str) -> str:
        return re.sub(r"\d+", str(numbers[name] + more), name, count=1) if name in numbers else name

    return {renamed(name): name for name in weights}


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module, Weights]]:
    """(dotted name, module, what it holds) of all that hold anything; of those in _WHOLE not the layers within."""
    within = ""
    for place, layer in network.named_modules():
        if within and place.startswith(within):
            continue
        within = f"{place}." if isinstance(layer, _WHOLE) else ""
        if held := _held(layer, place):
            yield place, layer, held


def _held(layer: nn.Module, place: str) -> Weights:
    """Dotted name -> parameter or buffer of the layer, as checkpoints hold them; of those in _WHOLE with all within."""
    prefix, is_whole = f"{place}." if place else "", isinstance(layer, _WHOLE)
    lasting = layer.state_dict(keep_vars=True)  # without buffers that are not to last
    return {f"{prefix}{name}": value for name, value in lasting.items() if is_whole or "." not in name}


def _alike(own: Weights, weights: Weights, prefix: str) -> Weights:
    """What the other network has of these names, if it has all in the same shapes and none below `prefix` is left.

    The strength of pixel noise may be missing: it starts at 0, which changes nothing.
    """
    theirs = {name: weights[name] for name in own if name in weights}
    lacking = {name.rpartition(".")[2] for name in own.keys() - theirs.keys()} - {"noise_strength"}
    further = {name for name in weights if prefix and name.startswith(prefix)} - own.keys()
    if lacking or further or any(own[name].shape != each.shape for name, each in theirs.items()):
        return {}
    return theirs


def _rescale(layer: Style, config: GeneratorConfig) -> None:
    """Weights as the other network stores them to those of the same function with this layer's settings of the text."""
    kind: Callable[[GeneratorConfig, int, int], Style] = type(layer)
    with torch.device("meta"):
        other = kind(config, layer.text_dim, len(layer.affine.bias))
    for ours, theirs in zip(layer.modules(), other.modules(), strict=True):
        if isinstance(ours, Linear) and isinstance(theirs, Linear):
            for parameter in ours.parameters():
                parameter.mul_(theirs.lr_multiplier / ours.lr_multiplier)
    for first in layer.reading_text():
        first.weight.mul_(other.text_gain / layer.text_gain)


def _first_head(own: Weights, weights: Weights) -> Weights:
    """The weights of the head for text as those of a head for images, where the other network has no such head."""
    first = {name: name.replace("head_img.", "head_txt.") for name in own}
    if any(name in weights or other not in weights for name, other in first.items()):
        return {}
    return _alike(own, {name: weights[other] for name, other in first.items()}, "")


# Styles that are made in another way.


def _style(layer: Style, place: str, weights: Weights, config: GeneratorConfig) -> nn.Module | None:
    """The other network's module (w, h) -> style of as many channels as `layer` has, or None."""
    theirs = {name.removeprefix(f"{place}."): each for name, each in weights.items() if name.startswith(f"{place}.")}
    channels = len(layer.affine.bias)
    if len(theirs.get("affine.bias", ())) != channels:
        return None
    if theirs.keys() == {"affine.weight", "affine.bias"}:
        return _Unconditional(theirs["affine.weight"], theirs["affine.bias"])
    for kind in (ConcatStyle, TransformStyle, ModulateStyle):
        style = kind(config, layer.text_dim, channels)
        shapes = {name: each.shape for name, each in style.state_dict().items()}
        if shapes == {name: each.shape for name, each in theirs.items()}:
            style.load_state_dict(dict(theirs))
            return style
    return None


class _Unconditional(nn.Module):
    """The style of StyleGAN2, A(w), which knows no text."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.affine = Linear(weight.shape[1], len(bias))
        self.affine.load_state_dict({"weight": weight, "bias": bias})

    def forward(self, w: Tensor, h: Tensor) -> Tensor:
        style: Tensor = self.affine(w)
        return style


def _fit(layer: Style, style: nn.Module, w: Tensor, h: Tensor) -> str:
    """Set `layer` to the least-squares fit of `style`, and say how well it fits.

    What reads the text is kept as it was drawn, up to its last layer, in which, as in w, the style is linear.
    """
    w, h = w.double(), h.double()
    wanted = copy.deepcopy(style).double()(w, h)  # [n,C]
    x = F.pad(_linear_in(copy.deepcopy(layer).double(), w, h), (0, 1), value=1.0)  # [n,K+1], the last for the bias
    solution = torch.linalg.lstsq(x, wanted, driver="gelsd").solution  # [K+1,C]; of least norm where x has no full rank
    _set(layer, solution[:-1].T, solution[-1], w.shape[1])
    missed = copy.deepcopy(layer).double()(w, h) - wanted
    return f"{1 - float(missed.var(0).sum() / wanted.var(0).sum()):.2%} of their variance is kept"


def _linear_in(layer: Style, w: Tensor, h: Tensor) -> Tensor:
    """[n,K]: w, and what the layer makes of the text."""
    h = h * layer.text_gain
    if isinstance(layer, ConcatStyle):
        h = layer.m(h)
    elif isinstance(layer, ModulateStyle):
        h = layer.modulate_shift[:-1](h)
    return torch.cat([w, h], dim=1)


def _set(layer: Style, weight: Tensor, bias: Tensor, w_dim: int) -> None:
    """Make `layer` the linear function `weight` [C,K], `bias` [C] of `_linear_in`: its scale of w or of A(w) is 1."""
    of_w, of_text = weight[:, :w_dim], weight[:, w_dim:]
    if isinstance(layer, ConcatStyle):
        _set_linear(layer.affine, weight, bias)
        return
    _set_linear(layer.affine, of_w, bias)
    if isinstance(layer, TransformStyle):
        scale, shift = layer.transform_scale, layer.transform_shift
        of_text = torch.linalg.pinv(of_w) @ of_text  # A is applied after the shift
    else:
        assert isinstance(layer, ModulateStyle)
        scale, shift = cast(Linear, layer.modulate_scale[-1]), cast(Linear, layer.modulate_shift[-1])
    _set_linear(scale, torch.zeros_like(scale.weight), torch.ones_like(scale.bias))
    _set_linear(shift, of_text, torch.zeros_like(shift.bias))


def _set_linear(layer: Linear, weight: Tensor, bias: Tensor) -> None:
    """Make an equalised layer without activation the function weight x + bias."""
    layer.weight.copy_(weight / layer.scale)
    layer.bias.copy_(bias / layer.lr_multiplier)
