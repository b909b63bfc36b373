"""What LAFITE's published networks call the weights that ours have too.

Its files hold two modules, G (and its average) and D. Every weight of theirs is one of ours, of the same scale and
orientation, as both store equalised layers alike and flip no kernel; two differ in layout, see `Place`. Not among them
are what no training step reads: the filters, the mean w, and the constant noise of their sample images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from harness.models.config import ModelConfig

Layout = Literal["same", "leading axis", "text last"]


class Place(NamedTuple):
    """One of our weights, and what makes the published one of it."""

    name: str
    """In the `state_dict` of `Generator` or `Discriminator`."""
    layout: Layout = "same"
    """"leading axis": theirs lacks our first axis, of length 1. "text last": their columns are [m(h), w], ours
    [w, m(h)], which is theirs moved round by W: `numpy.roll(theirs, W, axis=1)`, `torch.roll(theirs, W, 1)`."""


def published_names(config: ModelConfig, resolution: int, with_text: bool = True) -> dict[str, dict[str, Place]]:
    """ "generator", "discriminator" -> published name -> our place, of all weights that networks of `config` share.

    Left out are layers that a setting replaces: with `generator.conditioning: transform` the styles, with
    `discriminator.head_layers: 2` the feature head. Shapes agree where the widths in `config` are the published ones.
    Without text: the names of StyleGAN2-ADA, whose styles are A(w) and whose discriminator has no feature head.
    """
    sizes = [4 * 2**i for i in range(resolution.bit_length() - 2)]  # 4, 8, ..., R
    return {
        "generator": dict(_generator(config, sizes, with_text)),
        "discriminator": dict(_discriminator(config, sizes, with_text)),
    }


def _generator(config: ModelConfig, sizes: list[int], with_text: bool) -> Iterator[tuple[str, Place]]:
    for layer in range(config.generator.mapping_layers):
        yield from _both(f"mapping.fc{layer}", f"mapping.layers.{layer}")
    yield "synthesis.b4.const", Place("constant", "leading axis")
    for block, size in enumerate(sizes):
        convs = ["conv0", "conv1"] if block else ["conv1"]
        places = {name: f"convs.{place}" for place, name in enumerate(convs)} | {"torgb": "to_rgb"}
        for name, place in places.items():
            theirs, ours = f"synthesis.b{size}.{name}", f"blocks.{block}.{place}"
            yield from _both(theirs, ours)
            if config.generator.noise and name != "torgb":
                yield f"{theirs}.noise_strength", Place(f"{ours}.noise_strength")
            if with_text:
                yield from _style(config, size, theirs, f"{ours}.style")
            else:
                yield from _both(f"{theirs}.affine", f"{ours}.style.affine")


def _style(config: ModelConfig, size: int, theirs: str, ours: str) -> Iterator[tuple[str, Place]]:
    generator = config.generator
    if generator.conditioning == "modulate" and size >= generator.modulate_from:
        yield from _both(f"{theirs}.affine", f"{ours}.affine")
        for layer in range(3):
            yield from _both(f"{theirs}.scale_layer_{layer}", f"{ours}.modulate_scale.{layer}")
            yield from _both(f"{theirs}.bias_layer_{layer}", f"{ours}.modulate_shift.{layer}")
    elif generator.conditioning != "transform":
        yield f"{theirs}.affine_0.weight", Place(f"{ours}.affine.weight", "text last")
        yield f"{theirs}.affine_0.bias", Place(f"{ours}.affine.bias")
        for layer in range(2):
            yield from _both(f"{theirs}.pre_{layer}", f"{ours}.m.{layer}")


def _discriminator(config: ModelConfig, sizes: list[int], with_text: bool) -> Iterator[tuple[str, Place]]:
    yield from _both(f"b{sizes[-1]}.fromrgb", "from_rgb")
    for block, size in enumerate(reversed(sizes[1:])):
        yield from _both(f"b{size}.conv0", f"blocks.{block}.conv0")
        yield from _both(f"b{size}.conv1", f"blocks.{block}.conv1")
        yield f"b{size}.skip.weight", Place(f"blocks.{block}.skip.weight")
    yield from _both("b4.conv", "conv")
    yield from _both("b4.fc", "dense")
    yield from _both("b4.out", "unconditional")
    if with_text and config.discriminator.head_layers == 1:
        yield from _both("b4.fts", "head_txt.layers.0")


def _both(theirs: str, ours: str) -> Iterator[tuple[str, Place]]:
    for part in ("weight", "bias"):
        yield f"{theirs}.{part}", Place(f"{ours}.{part}")
