"""How much room a run's files will take, known before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from harness.data import features
from harness.data.loading import load_clip, load_resnet
from harness.models.build import Networks
from harness.models.discriminator import Discriminator
from harness.models.generator import Generator
from harness.runs.record import Run
from harness.settings import encoders_read, from_dict
from harness.training.checkpoint import layout

_HEADER = len('"":{"dtype":"F32","shape":,"data_offsets":[1000000,1000000]},')
"""Bytes by which a tensor is announced, beside its name and its shape."""


def state_mb(run: Run) -> float:
    """One checkpoint and generator.safetensors together, in MiB, to about 1 %.

    Takes neither data nor a device. Encoders are loaded for the width of their features only while none are cached.
    """
    settings = from_dict(run.settings)
    text, resnet = _widths(run)
    with torch.device("meta"):
        networks = Networks(
            Generator(settings.generator, settings.data.resolution, text),
            Discriminator(settings.discriminator, settings.data.resolution, text),
            Generator(settings.generator, settings.data.resolution, text),
        )
        state = layout(networks)
        if resnet != text:
            state["projection"] = torch.empty(resnet, text, dtype=torch.float64)
    return (_bytes(state) + _bytes(networks.averaged.state_dict())) / 2**20


def _widths(run: Run) -> tuple[int, int]:
    """F of the guide CLIP and of the ResNet; where no active term reads a ResNet, F twice."""
    config, data = from_dict(run.settings).encoders, run.fingerprints["data"]
    text = features.width("clip-text", data, run.fingerprints["encoders.clip"]) or load_clip(config.clip, "cpu").dim
    if "encoders.resnet" not in encoders_read(from_dict(run.settings)):
        return text, text
    cached = features.width("resnet-image", data, run.fingerprints["encoders.resnet"])
    return text, cached or load_resnet(config.resnet, "cpu").dim


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    """Of a safetensors file with these."""
    header = sum(_HEADER + len(name) + len(str(list(tensor.shape))) for name, tensor in tensors.items())
    return header + sum(tensor.nbytes for tensor in tensors.values())
