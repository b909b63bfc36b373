"""Frozen encoders from where their weights are: the package itself, open_clip, timm, torchvision, torch-fidelity.

Libraries are imported where they are used: each takes seconds, and a run needs one or two of them.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.encoders import files
from harness.models.encoders.frozen import Clip, Inception, Preparation, Resnet
from harness.models.encoders.names import Encoder, check, fingerprint, kind_of, near, parse


def load_clip(name: str, device: str = "cpu", size: int = 0) -> Clip:
    """The frozen CLIP of that name, for images of `size` pixels; 0: of its own size.

    Raises as `check` does, and ValueError for weights that do not fit and for a size that it cannot work on.
    """
    check(name, "clip")
    encoder = parse(name)
    files.check_kind(encoder)
    load: Callable[[Encoder, str, int], Clip] = _hub_clip if encoder.repository else _open_clip
    if encoder.family == "embedded":
        load = _embedded_clip
    with _libraries(name):
        clip = load(encoder, fingerprint(name), size)
    _set_size(clip, name, size)
    return clip.to(device)


def load_resnet(name: str, device: str = "cpu", size: int = 0) -> Resnet:
    """The frozen ResNet of that name, for images of `size` pixels; 0: of its own size. Raises as `load_clip` does."""
    check(name, "resnet")
    encoder = parse(name)
    files.check_kind(encoder)
    load: dict[str, Callable[[Encoder, str], Resnet]] = {
        "embedded": _embedded_resnet,
        "timm": _timm,
        "torchvision": _torchvision,
        "torch_fidelity": _inception,
    }
    with _libraries(name):
        resnet = load[encoder.family](encoder, fingerprint(name))
    _set_size(resnet, name, size)
    return resnet.to(device)


def untrained(name: str, size: int = 0) -> Clip | Resnet:
    """The network of that name on the CPU, with random weights where its own are no files here; nothing is fetched.

    It takes the time and memory that the trained one takes. Raises as `load_clip`, ValueError also for a network that
    only a repository of the hub describes.
    """
    check(name)
    encoder = parse(name)
    if encoder.files:
        return load_clip(name, size=size) if kind_of(name) == "clip" else load_resnet(name, size=size)
    if encoder.repository:
        raise ValueError(f"encoder {name!r}: what network it is stands in {encoder.repository}, which is not here")
    build: dict[str, Callable[[], Clip | Resnet]] = {
        "open_clip": partial(_open_clip, encoder, "", size, untrained=True),
        "timm": partial(_timm, encoder, "", untrained=True),
        "torchvision": partial(_torchvision, encoder, "", untrained=True),
        "torch_fidelity": partial(_torchvision, Encoder("torchvision", "inception_v3"), "", untrained=True),
    }
    with _libraries(name):
        network = build[encoder.family]()
    _set_size(network, name, size)
    return network


def _set_size(network: Clip | Resnet, name: str, size: int) -> None:
    """Has it work on images of `size` pixels. Raises ValueError where it cannot."""
    if not size:
        return
    if isinstance(network, Inception):
        raise ValueError(f"encoder {name!r} resizes images to 299 x 299 itself; set size to 0")
    network.size = size
    try:
        if hasattr(network.network, "set_input_size"):  # timm's transformers, whose positions are interpolated
            network.network.set_input_size(img_size=(size, size))
        with torch.inference_mode():
            network.image(torch.zeros(1, 3, size, size))
    except Exception as error:  # whatever a library raises for it
        problem = f"cannot look at images of {size} x {size} pixels ({error})"
        raise ValueError(f"encoder {name!r} {problem}; give another size, or 0 for its own") from error


@contextlib.contextmanager
def _libraries(name: str) -> Iterator[None]:
    """Around what imports a library. Raises ValueError where that is not installed, as of weights that are missing."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == __package__.partition(".")[0]:
            raise  # a mistake of ours
        text = f"encoder {name!r} needs a library that cannot be imported here ({error})"
        raise ValueError(f"{text}; install the package again: it brings the libraries") from error


def _embedded_clip(encoder: Encoder, fingerprint: str, size: int) -> Clip:
    from harness.models.encoders import embedded

    return embedded.load_clip(encoder.model, fingerprint)


def _embedded_resnet(encoder: Encoder, fingerprint: str) -> Resnet:
    from harness.models.encoders import embedded

    return embedded.load_resnet(encoder.model, fingerprint)


# open_clip.


def _open_clip(encoder: Encoder, fingerprint: str, size: int, untrained: bool = False) -> Clip:
    """An architecture that open_clip knows, prepared as the named weights are, from these weights or a local file.

    `untrained` fetches neither weights nor a tokenizer: it takes every text for an empty one.
    """
    import open_clip

    cfg = _open_clip_cfg(encoder)
    source = None if untrained else str(encoder.file) if encoder.file else encoder.tag
    with files.failures_explained(encoder):
        options = {"force_quick_gelu": bool(cfg.get("quick_gelu")), "force_image_size": size or None}
        network = open_clip.create_model(encoder.model, source, **options)
        tokenize = partial(_no_tokens, network) if untrained else open_clip.get_tokenizer(encoder.model)
    preparation = _preparation(encoder, {**cfg, "size": network.visual.image_size})
    return Clip(_sequence_first(network), preparation, tokenize, fingerprint)


def _no_tokens(network: Any, texts: Sequence[str]) -> Tensor:
    return torch.zeros(len(texts), getattr(network, "text", network).context_length, dtype=torch.long)


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
    published = [pretrained.get_pretrained_cfg(encoder.model, tag) for tag in ([encoder.tag] if encoder.tag else tags)]
    kinds = {tuple(cfg.get(key) for key in keys) for cfg in published}
    if len(kinds) != 1:
        raise ValueError(
            f"open_clip {encoder.model!r}: its published weights differ in how images are prepared; "
            f"say which yours follow: open_clip:{encoder.model}/TAG@FILE with TAG one of {', '.join(tags)}"
        )
    return dict(zip(keys, kinds.pop(), strict=True))


def _hub_clip(encoder: Encoder, fingerprint: str, size: int) -> Clip:
    """A model whose repository describes network, tokenizer and preparation; from the hub or from a local copy."""
    import open_clip
    from open_clip.model import get_model_preprocess_cfg

    source = f"local-dir:{encoder.file}" if encoder.file else encoder.model
    with files.failures_explained(encoder):
        network = open_clip.create_model(source, require_pretrained=True, force_image_size=size or None)
        tokenize = open_clip.get_tokenizer(source)
    if encoder.file:  # open_clip would take OpenAI's mean and std for a model that does not say its own
        config = encoder.file / "open_clip_config.json"
        given = json.loads(config.read_text(encoding="utf-8")).get("preprocess_cfg", {})
        missing = [key for key in ("mean", "std") if key not in given]
        if missing:
            example = '"preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}'
            fix = f"add {' and '.join(missing)}, as in {example}"
            raise ValueError(f"{config} does not say how images are prepared: {fix}")
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


def _preparation(encoder: Encoder, cfg: dict[str, Any]) -> Preparation:
    """Preparation by the keys that open_clip uses. Raises ValueError for a network whose input is not square."""
    size = cfg["size"] if isinstance(cfg["size"], int) else cfg["size"][0]
    if cfg["size"] not in (size, (size, size), [size, size]):
        raise ValueError(f"{encoder.family} {encoder.model} takes images of {cfg['size']} pixels; only squares fit")
    return Preparation(size, cfg["mean"], cfg["std"], cfg["interpolation"])


# timm, torchvision, torch-fidelity.


def _timm(encoder: Encoder, fingerprint: str, untrained: bool = False) -> Resnet:
    import timm

    if not encoder.repository and not timm.is_model(encoder.model.split(".")[0]):
        hint = near(encoder.model, timm.list_models())
        raise ValueError(f"timm has no model {encoder.model!r}{hint}; `timm.list_models()` lists them")
    source = f"local-dir:{encoder.file}" if encoder.repository and encoder.file else encoder.model
    with files.failures_explained(encoder):
        network = timm.create_model(source, pretrained=encoder.file is None and not untrained, num_classes=0)
        if encoder.weights:
            _fill(network, encoder.weights)
    own = timm.data.resolve_data_config(model=network)
    preparation = _preparation(encoder, {**own, "size": own["input_size"][1:]})
    return Resnet(network, preparation, network.num_features, fingerprint)


def _torchvision(encoder: Encoder, fingerprint: str, untrained: bool = False) -> Resnet:
    from torchvision import models as zoo  # type: ignore[import-untyped]

    published = files.published(encoder)
    own = zoo.get_model_weights(encoder.model).DEFAULT.transforms()
    # The published weights of these two follow TensorFlow's mean and std, which the networks convert to themselves.
    options = {"transform_input": True, "init_weights": False} if encoder.model in ("googlenet", "inception_v3") else {}
    network = zoo.get_model(encoder.model, weights=None, **options)

    # The classifier is the last layer with weights: an identity takes its place.
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    name, last = layers[-1]
    network.set_submodule(name, nn.Identity())
    width = last.in_features if isinstance(last, nn.Linear) else last.in_channels

    if not untrained:
        with files.failures_explained(encoder):
            _fill(network, encoder.file or files.fetched(published))
    preparation = Preparation(own.crop_size[0], own.mean, own.std, own.interpolation.value)
    return Resnet(network, preparation, width, fingerprint)


def _inception(encoder: Encoder, fingerprint: str) -> Inception:
    """torch-fidelity's network with the published weights or a local file's."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from harness.models.encoders.embedded import fold_batch_norm

    published = files.published(encoder)
    with files.failures_explained(encoder):
        path = encoder.file or files.fetched(published)
        if path.name == published.path.name:
            files.check_content(path)
        # The network can only be built from a file that it unpickles: it gets one that was written here.
        pickled = io.BytesIO()
        torch.save(files.read(path), pickled)
        pickled.seek(0)
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=pickled)
        fold_batch_norm(network)
        preparation = Preparation(network.INPUT_IMAGE_SIZE, (0.5,) * 3, (0.5,) * 3)
        return Inception(network, preparation, 2048, fingerprint)


def _fill(network: nn.Module, path: Path) -> None:
    """Loads local weights; a classifier in the file is ignored, anything missing is an error."""
    state = files.read(path)
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
    # Old files lack the counters of batch norms, which inference does not read.
    wanted, given = (
        {name: value for name, value in each.items() if not name.endswith("num_batches_tracked")}
        for each in (network.state_dict(), state)
    )
    same = all(
        theirs == ours
        or (
            theirs not in wanted
            and theirs.rpartition(".")[2] == ours.rpartition(".")[2]
            and given[theirs].shape == wanted[ours].shape
        )
        for ours, theirs in zip(wanted, given, strict=False)
    )
    if not same or not 0 <= len(given) - len(wanted) <= 2:
        return state
    return dict(zip(wanted, given.values(), strict=False))
