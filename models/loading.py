"""Encoders from where their weights are: the package itself, open_clip, timm, torchvision, torch-fidelity."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from harness.models import encoders, weight_files
from harness.models.encoders import Encoder, near
from harness.models.frozen import Clip, Preparation, Resnet

__all__ = ["Clip", "Resnet", "clip", "resnet"]


def clip(encoder: Encoder, fingerprint: str) -> Clip:
    """Loads a CLIP; the name has been checked. Raises ValueError for weights that cannot be had or do not fit."""
    weight_files.check_kind(encoder)
    if encoder.family == "embedded":
        from harness.models import embedded

        network, tokenize, config = embedded.load_clip(encoder.model)
        return Clip(network, Preparation(config["size"], config["mean"], config["std"]), tokenize, fingerprint)
    return (_hub_clip if encoder.repository else _open_clip)(encoder, fingerprint)


def resnet(encoder: Encoder, fingerprint: str) -> Resnet:
    """Loads an image network; the name has been checked. Raises ValueError as `clip` does."""
    weight_files.check_kind(encoder)
    if encoder.family == "torch_fidelity":
        from harness.models import inception

        return inception.load(encoder, fingerprint)
    load: dict[str, Callable[[Encoder, str], Resnet]]
    load = {"embedded": _embedded, "timm": _timm, "torchvision": _torchvision}
    return load[encoder.family](encoder, fingerprint)


def _open_clip(encoder: Encoder, fingerprint: str) -> Clip:
    """An architecture that open_clip knows, prepared as the named weights are, from these weights or a local file."""
    import open_clip

    cfg = _open_clip_cfg(encoder)
    source = str(encoder.file) if encoder.file else encoder.tag
    try:
        network = open_clip.create_model(encoder.model, source, force_quick_gelu=bool(cfg.get("quick_gelu")))
        tokenize = open_clip.get_tokenizer(encoder.model)
    except weight_files.FAILURES as error:
        raise weight_files.unusable(encoder, error) from error
    preparation = _preparation(encoder, {**cfg, "size": network.visual.image_size})
    return Clip(_sequence_first(network), preparation, tokenize, fingerprint)


def _hub_clip(encoder: Encoder, fingerprint: str) -> Clip:
    """A model whose repository describes network, tokenizer and preparation; from the hub or from a local copy."""
    import open_clip
    from open_clip.model import get_model_preprocess_cfg

    source = f"local-dir:{encoder.file}" if encoder.file else encoder.model
    try:
        network = open_clip.create_model(source, require_pretrained=True)
        tokenize = open_clip.get_tokenizer(source)
    except weight_files.FAILURES as error:
        raise weight_files.unusable(encoder, error) from error
    if encoder.file:
        _check_described(encoder.file / "open_clip_config.json")
    preparation = _preparation(encoder, get_model_preprocess_cfg(network))
    return Clip(_sequence_first(network), preparation, tokenize, fingerprint)


def _sequence_first(network: nn.Module) -> nn.Module:
    """Has open_clip's transformers work on [L,N,D], in place: the same result, on a processor in less time.

    torch's attention turns [N,L,D] into a view that no matrix product takes as it is: it copies, most of all in bf16.
    """
    from open_clip.transformer import Transformer

    for stack in (module for module in network.modules() if type(module) is Transformer):
        attentions: list[Any] = [getattr(block, "attn", None) for block in stack.get_submodule("resblocks").children()]
        if all(isinstance(attention, nn.MultiheadAttention) for attention in attentions):
            for part in (*attentions, stack):
                part.batch_first = False
    return network


def _check_described(config: Path) -> None:
    """open_clip would take OpenAI's mean and std for a model that does not say its own."""
    said = json.loads(config.read_text(encoding="utf-8")).get("preprocess_cfg", {})
    missing = [key for key in ("mean", "std") if key not in said]
    if missing:
        example = '"preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}'
        raise ValueError(f"{config} does not say how images are prepared: add {' and '.join(missing)}, as in {example}")


def _preparation(encoder: Encoder, cfg: dict[str, Any]) -> Preparation:
    """Preparation by the keys that open_clip uses. Raises ValueError for a network whose input is not square."""
    size = cfg["size"] if isinstance(cfg["size"], int) else cfg["size"][0]
    if cfg["size"] not in (size, (size, size), [size, size]):
        raise ValueError(f"{encoder.family} {encoder.model} takes images of {cfg['size']} pixels; only squares fit")
    return Preparation(size, cfg["mean"], cfg["std"], cfg["interpolation"])


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


def _embedded(encoder: Encoder, fingerprint: str) -> Resnet:
    from harness.models import embedded

    network, config = embedded.load_resnet(encoder.model)
    preparation = Preparation(config["size"], config["mean"], config["std"])
    return Resnet(network, preparation, network.num_features, fingerprint)


def _timm(encoder: Encoder, fingerprint: str) -> Resnet:
    import timm

    if not encoder.repository and not timm.is_model(encoder.model.split(".")[0]):
        hint = near(encoder.model, timm.list_models())
        raise ValueError(f"timm has no model {encoder.model!r}{hint}; `timm.list_models()` lists them")
    copy = encoder.repository and encoder.file
    file = encoders.weights_in(copy) if copy else encoder.file
    try:
        network = timm.create_model(
            f"local-dir:{copy}" if copy else encoder.model, pretrained=file is None, num_classes=0
        )
        if file:
            _fill(network, file)
    except weight_files.FAILURES as error:
        raise weight_files.unusable(encoder, error) from error
    own = timm.data.resolve_data_config(model=network)
    preparation = _preparation(encoder, {**own, "size": own["input_size"][1:]})
    return Resnet(network, preparation, network.num_features, fingerprint)


def _torchvision(encoder: Encoder, fingerprint: str) -> Resnet:
    from torchvision import models as zoo  # type: ignore[import-untyped]

    published = weight_files.published(encoder)
    own = zoo.get_model_weights(encoder.model).DEFAULT.transforms()
    # The published weights of these two follow TensorFlow's mean and std, which the networks convert to themselves.
    options = {"transform_input": True, "init_weights": False} if encoder.model in ("googlenet", "inception_v3") else {}
    network = zoo.get_model(encoder.model, weights=None, **options)
    width = _drop_classifier(network)
    try:
        _fill(network, encoder.file or weight_files.fetched(published))
    except weight_files.FAILURES as error:
        raise weight_files.unusable(encoder, error) from error
    preparation = Preparation(own.crop_size[0], own.mean, own.std, own.interpolation.value)
    return Resnet(network, preparation, width, fingerprint)


def _drop_classifier(network: nn.Module) -> int:
    """Puts an identity in the place of the last layer with weights; the width of what it was given."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    name, last = layers[-1]
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return last.in_features if isinstance(last, nn.Linear) else last.in_channels


def _fill(network: nn.Module, path: Path) -> None:
    """Loads local weights; a classifier in the file is ignored, anything missing is an error."""
    state = weight_files.read(path)
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert:  # how timm reads what this model's own authors publish
        state = convert(state, network)
    state = _in_order(state, network)
    missing = network.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise RuntimeError(f"{len(missing)} weights are missing, such as {missing[0]}")


def _in_order(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The file's weights by the network's names, for a file of the same network written by another library.

    Only where file and network list weights of the same kind (weight, bias, running mean) and shape in the same order,
    no name of the network stands at another place, and the file goes on with a classifier at most. Else as they are.
    """
    wanted, found = _counted(network.state_dict()), _counted(state)
    same = all(
        key == name or (key not in wanted and _kind(key) == _kind(name) and found[key].shape == wanted[name].shape)
        for name, key in zip(wanted, found, strict=False)
    )
    if not same or not 0 <= len(found) - len(wanted) <= 2:
        return state
    return dict(zip(wanted, found.values(), strict=False))


def _counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the counters of batch norms, which old files lack and inference does not read."""
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _kind(name: str) -> str:
    return name.rpartition(".")[2]
