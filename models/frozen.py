"""Frozen encoders as networks: images in [-1,1] of any size in, features out, gradients to the images only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from models.encoders import Encoder, near

Tokenize = Callable[[list[str]], Tensor]
_TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class Preparation:
    """How an encoder's own authors prepare images."""

    size: int
    """Pixels per side."""
    mean: Sequence[float]
    """Per channel, in [0,1]."""
    std: Sequence[float]
    interpolation: str = "bilinear"
    """"bilinear" or "bicubic"; always with antialiasing."""


class _Frozen(nn.Module):
    """Prepares images for a network that never changes."""

    network: Any
    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preparation: Preparation, dim: int, fingerprint: str) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.size, self.dim, self.fingerprint = preparation.size, dim, fingerprint
        self._mode = preparation.interpolation
        mean, std = (torch.tensor(list(values)).view(1, 3, 1, 1) for values in (preparation.mean, preparation.std))
        # ((x + 1) / 2 - mean) / std in one multiplication and addition.
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> _Frozen:
        """Stays in eval mode: batch statistics must never depend on generated images."""
        return super().train(False)

    def _prepared(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            found = f"{images.dtype} {list(images.shape)}"
            raise ValueError(f"an encoder takes floating-point images [N,3,R,R] in [-1,1], not {found}")
        target = (self.size, self.size)
        if images.shape[2:] != target:
            images = F.interpolate(images, size=target, mode=self._mode, antialias=True, align_corners=False)
        return (images * self.scale + self.shift).contiguous(memory_format=torch.channels_last)


class Clip(_Frozen):
    """A frozen CLIP. `dim` is F, `size` the pixels per side that it works on, `fingerprint` identifies its weights."""

    def __init__(self, network: nn.Module, preparation: Preparation, tokenize: Tokenize, fingerprint: str) -> None:
        super().__init__(network, preparation, 0, fingerprint)
        self._tokenize = tokenize
        self.dim = self.text([""]).shape[1]

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1], any R -> [N,F] of unit norm, differentiable with respect to the images."""
        return F.normalize(self.network.encode_image(self._prepared(images)), dim=-1)

    @torch.no_grad()
    def text(self, texts: list[str]) -> Tensor:
        """N texts -> [N,F] of unit norm, without gradient. A text longer than the context is cut off."""
        device = self.scale.device
        parts = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
        features = [self.network.encode_text(self._tokenize(part).to(device)) for part in parts]
        return F.normalize(torch.cat(features), dim=-1) if features else self.scale.new_zeros(0, self.dim)


class Resnet(_Frozen):
    """A frozen image network without its classifier. `dim` is F_res, `size` the pixels per side that it works on."""

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1], any R -> [N,F_res], pooled and not normalised, differentiable as Clip.image is."""
        features: Tensor = self.network(self._prepared(images))
        return features


def clip(encoder: Encoder, fingerprint: str) -> Clip:
    """Loads a CLIP; the name has been checked."""
    if encoder.family == "embedded":
        from models import embedded

        network, tokenize, config = embedded.load_clip(encoder.model)
        return Clip(network, Preparation(config["size"], config["mean"], config["std"]), tokenize, fingerprint)
    import open_clip

    cfg = _open_clip_cfg(encoder)
    source = str(encoder.file) if encoder.file else encoder.tag
    try:
        network = open_clip.create_model(encoder.model, source, force_quick_gelu=bool(cfg.get("quick_gelu")))
    except _FAILURES as error:
        raise _unusable(encoder, error) from error
    size = network.visual.image_size
    pixels = size if isinstance(size, int) else size[0]
    preparation = Preparation(pixels, cfg["mean"], cfg["std"], cfg["interpolation"])
    return Clip(network, preparation, open_clip.get_tokenizer(encoder.model), fingerprint)


def resnet(encoder: Encoder, fingerprint: str) -> Resnet:
    """Loads an image network; the name has been checked."""
    if encoder.family == "embedded":
        from models import embedded

        network, config = embedded.load_resnet(encoder.model)
        preparation = Preparation(config["size"], config["mean"], config["std"])
        return Resnet(network, preparation, network.num_features, fingerprint)
    import timm

    if not timm.is_model(encoder.model.split(".")[0]):
        hint = near(encoder.model, timm.list_models())
        raise ValueError(f"timm has no model {encoder.model!r}{hint}; `timm.list_models()` lists them")
    try:
        network = timm.create_model(encoder.model, pretrained=encoder.file is None, num_classes=0)
        if encoder.file:
            _fill(network, encoder)
    except _FAILURES as error:
        raise _unusable(encoder, error) from error
    own = timm.data.resolve_data_config(model=network)
    preparation = Preparation(own["input_size"][-1], own["mean"], own["std"], own["interpolation"])
    return Resnet(network, preparation, network.num_features, fingerprint)


_FAILURES = (RuntimeError, OSError, SafetensorError, UnpicklingError)


def _unusable(encoder: Encoder, error: Exception) -> ValueError:
    where = f"{encoder.family} {encoder.model} from {encoder.file or encoder.tag or 'its published weights'}"
    if isinstance(error, UnpicklingError) or "pickle" in str(error):  # timm raises its own RuntimeError
        return ValueError(f"cannot load {where}: it holds pickled code, which is never run; convert it to safetensors")
    advice = "give a file made for this model" if encoder.file else "without network, give a local file: NAME@FILE"
    return ValueError(f"cannot load {where}: {error}; {advice}")


def _open_clip_cfg(encoder: Encoder) -> dict[str, Any]:
    """Mean, std, interpolation and activation that the weights were trained with."""
    from open_clip import list_models, pretrained

    if encoder.model not in list_models():
        hint = near(encoder.model, list_models())
        raise ValueError(f"open_clip has no architecture {encoder.model!r}{hint}; `open_clip.list_models()` lists them")
    tags = pretrained.list_pretrained_tags_by_model(encoder.model)
    if encoder.tag and encoder.tag not in tags:
        allowed = ", ".join(tags)
        raise ValueError(f"open_clip has no weights {encoder.tag!r} for {encoder.model!r}: allowed is {allowed}")
    keys = ("mean", "std", "interpolation", "quick_gelu")
    known = [pretrained.get_pretrained_cfg(encoder.model, tag) for tag in ([encoder.tag] if encoder.tag else tags)]
    kinds = {tuple(cfg.get(key) for key in keys) for cfg in known}
    if len(kinds) != 1:
        raise ValueError(
            f"open_clip {encoder.model!r}: its published weights differ in how images are prepared; "
            f"say which yours follow: open_clip:{encoder.model}/TAG@FILE with TAG one of {', '.join(tags)}"
        )
    return dict(zip(keys, kinds.pop(), strict=True))


def _fill(network: nn.Module, encoder: Encoder) -> None:
    """Loads local weights; a classifier in the file is ignored, anything missing is an error."""
    from timm.models import load_state_dict

    state = load_state_dict(str(encoder.file), weights_only=True)
    missing = network.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise RuntimeError(f"{len(missing)} weights are missing, such as {missing[0]}")
