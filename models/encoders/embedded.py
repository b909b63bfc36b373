"""The small encoders that ship with the package: their networks, their tokenizer and their files.

`weights/<name>.json` says what to build, `weights/<name>.safetensors` holds the weights in half precision. CLIPs are
open_clip's CustomTextCLIP around a narrow timm ResNet; all of them take 32 px images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from safetensors.torch import load_file
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from harness.models.encoders.frozen import Clip, Preparation, Resnet
from harness.models.encoders.names import FOLDER
from harness.models.encoders.tokens import FIRST_WORD, Words

_BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class Tokenizer(Words):
    """Token ids as a tensor."""

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Token ids int64 [N,L], L the longest text's length; what exceeds the context is cut off, as CLIP does."""
        rows = [self.row(text)[0] for text in texts]
        ids = torch.zeros(len(rows), max(map(len, rows), default=1), dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
        return ids


def build_tower(tower: Mapping[str, Any], outputs: int) -> ResNet:
    """timm's ResNet for 32 px: without max pooling its stages run at 16, 8, 4 and 2 px. [N,3,32,32] -> [N,outputs].

    With 0 outputs the pooled features of the last stage come out.
    """
    settings = dict(tower)
    block, stem = _BLOCKS[settings.pop("block")], settings.pop("stem")
    network = ResNet(block, avg_down=True, stem_type="deep", stem_width=stem // 2, num_classes=outputs, **settings)
    network.maxpool = nn.Identity()
    return network


def build_clip(config: Mapping[str, Any]) -> CustomTextCLIP:
    """An untrained CLIP as `config` describes it."""
    text = CLIPTextCfg(vocab_size=FIRST_WORD + len(config["words"]) + 1, no_causal_mask=True, **config["text"])
    placeholder = CLIPVisionCfg(layers=1, width=64, image_size=config["size"], patch_size=config["size"])
    clip = CustomTextCLIP(config["features"], placeholder, text)
    # open_clip's configuration has no such setting: without it every text would have to fill the whole context.
    clip.text.use_pad_mask = True
    # open_clip builds only towers that are registered by name; ours is described by the file.
    clip.visual = build_tower(config["tower"], config["features"])
    return clip


def load_clip(name: str, fingerprint: str) -> Clip:
    """The trained CLIP, batch norms folded away."""
    config = read_config(name)
    clip = build_clip(config)
    clip.load_state_dict(read_weights(name))
    fold_batch_norm(clip.eval().visual)
    tokenize = Tokenizer(config["words"], config["text"]["context_length"])
    return Clip(clip, Preparation(config["size"], config["mean"], config["std"]), tokenize, fingerprint)


def load_resnet(name: str, fingerprint: str) -> Resnet:
    """The trained ResNet without its classifier, batch norms folded away."""
    config = read_config(name)
    network = build_tower(config["tower"], 0)
    network.load_state_dict({key: value for key, value in read_weights(name).items() if not key.startswith("fc.")})
    fold_batch_norm(network.eval())
    preparation = Preparation(config["size"], config["mean"], config["std"])
    return Resnet(network, preparation, network.num_features, fingerprint)


def read_config(name: str) -> dict[str, Any]:
    """What `weights/<name>.json` says."""
    config: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return config


def read_weights(name: str) -> dict[str, torch.Tensor]:
    """All weights of `weights/<name>.safetensors` in single precision, a ResNet's classifier included."""
    half = load_file(FOLDER / f"{name}.safetensors")
    return {key: value.float() if value.is_floating_point() else value for key, value in half.items()}


def fold_batch_norm(network: nn.Module) -> None:
    """Folds every batch norm into the convolution defined right before it, in place; for a network in eval mode.

    The outputs stay the same up to rounding; a forward and backward pass takes a fifth less time.
    """
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    for (convolution_name, convolution), (norm_name, norm) in pairwise(leaves):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            network.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm))
            network.set_submodule(norm_name, nn.Identity())
