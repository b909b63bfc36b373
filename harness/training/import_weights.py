"""Published networks as files that `init` can name: LAFITE's and StyleGAN2-ADA's pickles under our names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.models.config import DiscriminatorConfig, GeneratorConfig, ModelConfig
from harness.models.discriminator import Discriminator
from harness.models.generator import Generator
from harness.models.pickles import read_networks
from harness.models.published import Place, published_names
from harness.training.checkpoint import of_generator, write_tensors

_UNUSED = re.compile(r".*\.(resample_filter|noise_const)|mapping\.w_avg")
"""What no training step reads: filters, the noise of their sample images, and the mean of w."""


@dataclass(frozen=True)
class Imported:
    """What was found in a network pickle."""

    kind: str
    """LAFITE or StyleGAN2-ADA, which knows no text."""
    networks: tuple[str, ...]
    """Those of generator, discriminator and averaged that it holds."""
    settings: Mapping[str, Any]
    """Dotted setting -> value, of all that a study needs so that every layer fits."""
    left_out: tuple[str, ...]
    """Tensors that have no counterpart, by their published names; those that no training step reads are not listed."""
    out: Path


def convert(path: Path, out: Path) -> Imported:
    """Write the networks of a pickle to `out`, a safetensors file. Raises HarnessError, and OSError."""
    try:
        published = read_networks(path)
        tensors: dict[str, Tensor] = {}
        settings: dict[str, Any] = {}
        left_out: list[str] = []
        kind = ""
        for network, weights in published.items():
            described = _discriminator(weights) if network == "discriminator" else _generator(weights)
            renamed, unknown = _renamed(network, weights, described)
            tensors |= {f"{network}/{name}": tensor for name, tensor in renamed.items()}
            left_out += [f"{network}: {name}" for name in unknown]
            settings |= described.settings
            kind = described.kind if network != "discriminator" else kind
    except ValueError as error:
        raise HarnessError(f"{path}: {error}") from error
    meta = {"source": _sha256(path), "settings": json.dumps(settings, sort_keys=True)}
    generator = GeneratorConfig(**_below("generator", settings))
    write_tensors(out, tensors, meta | of_generator(generator))
    return Imported(kind or "D alone", tuple(published), settings, tuple(left_out), out)


@dataclass(frozen=True)
class _Described:
    """What the shapes of a network's weights say of it."""

    kind: str
    resolution: int
    settings: dict[str, Any]
    text_dim: int = 0
    """F; 0 for one that knows no text."""


def _generator(weights: Mapping[str, Tensor]) -> _Described:
    if "mapping.embed.weight" in weights:
        raise ValueError("was trained on classes, which no generator here knows; nothing was converted")
    resolution = _largest(weights, r"synthesis\.b(\d+)\.conv1\.weight")
    sizes = [4 * 2**i for i in range(resolution.bit_length() - 2)]
    layers = [name for name in weights if re.fullmatch(r"mapping\.fc\d+\.weight", name)]
    modulated = [size for size in sizes if f"synthesis.b{size}.conv1.scale_layer_0.weight" in weights]
    text = next((name for name in weights if re.search(r"\.(pre_1|scale_layer_1)\.weight$", name)), "")
    settings: dict[str, Any] = {
        "data.resolution": resolution,
        "generator.z_dim": _shape(weights, "mapping.fc0.weight")[1],
        "generator.w_dim": _shape(weights, f"mapping.fc{len(layers) - 1}.weight")[0],
        "generator.mapping_layers": len(layers),
        "generator.noise": "synthesis.b4.conv1.noise_strength" in weights,
        **_channels("generator", {size: _shape(weights, f"synthesis.b{size}.conv1.weight")[0] for size in sizes}),
    }
    if not text:
        return _Described("StyleGAN2-ADA", resolution, settings)
    settings |= {
        "generator.text_width": _shape(weights, text)[0],
        "generator.text_activation": "both",
        "generator.text_lr_multiplier": 0.01,
        "generator.text_input": "unit",
    }
    if modulated:
        settings |= {"generator.conditioning": "modulate", "generator.modulate_from": min(modulated)}
    first = re.sub(r"_1\.weight$", "_0.weight", text)
    return _Described("LAFITE", resolution, settings, _shape(weights, first)[1])


def _discriminator(weights: Mapping[str, Tensor]) -> _Described:
    resolution = _largest(weights, r"b(\d+)\.fromrgb\.weight")
    sizes = [4 * 2**i for i in range(resolution.bit_length() - 2)]
    channels = {size: _shape(weights, f"b{size}.conv0.weight")[0] for size in sizes[1:]}
    channels[4] = _shape(weights, "b4.conv.weight")[0]
    settings = {"data.resolution": resolution, **_channels("discriminator", channels)}
    if "b4.fts.weight" not in weights:
        return _Described("StyleGAN2-ADA", resolution, settings)
    settings["discriminator.head_layers"] = 1
    return _Described("LAFITE", resolution, settings, _shape(weights, "b4.fts.weight")[0])


def _channels(network: str, channels: Mapping[int, int]) -> dict[str, int]:
    """`channel_base` and `channel_max` under which every resolution has so many feature maps."""
    most, largest = max(channels.values()), max(channels)
    base = max(size * count for size, count in channels.items() if count < most or size == largest)
    if any(min(base // size, most) != count for size, count in channels.items()):
        counts = ", ".join(f"{count} at {size} px" for size, count in sorted(channels.items()))
        raise ValueError(f"its {network} has feature maps {counts}, which is not min(channel_base / R, channel_max)")
    return {f"{network}.channel_base": base, f"{network}.channel_max": most}


def _renamed(network: str, weights: Mapping[str, Tensor], described: _Described) -> tuple[dict[str, Tensor], list[str]]:
    """Our name -> tensor, and the published names that have no counterpart. Raises ValueError for another layer."""
    config = ModelConfig(
        generator=GeneratorConfig(**_below("generator", described.settings)),
        discriminator=DiscriminatorConfig(**_below("discriminator", described.settings)),
    )
    names = published_names(config, described.resolution, with_text=described.kind == "LAFITE")
    places = names["discriminator" if network == "discriminator" else "generator"]
    if missing := [name for name in places if name not in weights]:
        raise ValueError(f"its {network} has no {missing[0]}: it is of neither LAFITE nor StyleGAN2-ADA as published")
    w_dim = described.settings.get("generator.w_dim", 0)
    renamed = {place.name: _as_ours(weights[name], place, w_dim) for name, place in places.items()}

    with torch.device("meta"):
        if network == "discriminator":
            ours = Discriminator(config.discriminator, described.resolution, described.text_dim or 1).state_dict()
        else:
            ours = Generator(config.generator, described.resolution, described.text_dim or 1).state_dict()
    for name, place in places.items():
        is_narrower = not described.text_dim and place.name.endswith("style.affine.weight")  # knows no text
        if renamed[place.name].shape != ours[place.name].shape and not is_narrower:
            shapes = f"{list(renamed[place.name].shape)} in place of {list(ours[place.name].shape)}"
            raise ValueError(f"its {network} has {name} of shape {shapes}, which is not as published")
    return renamed, sorted(name for name in weights if name not in places and not _UNUSED.fullmatch(name))


def _below(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in settings.items() if name.startswith(f"{section}.")}


def _as_ours(tensor: Tensor, place: Place, w_dim: int) -> Tensor:
    if place.layout == "leading axis":
        tensor = tensor[None]
    elif place.layout == "text last":
        tensor = torch.roll(tensor, w_dim, 1)
    return tensor.float().contiguous().clone()  # G and G_ema of a pickle may be one object


def _largest(weights: Mapping[str, Tensor], pattern: str) -> int:
    sizes = [int(match[1]) for name in weights if (match := re.fullmatch(pattern, name))]
    if not sizes or max(sizes) < 8 or max(sizes) & (max(sizes) - 1) or max(sizes) > 1024:
        raise ValueError("holds no network of LAFITE or StyleGAN2-ADA")
    return max(sizes)


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in weights or weights[name].dim() < 2 or not weights[name].numel():
        raise ValueError(f"lacks {name}: it is of neither LAFITE nor StyleGAN2-ADA as published")
    return tuple(weights[name].shape)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
