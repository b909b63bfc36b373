"""A run's networks on random images and features: as fast and as large as with real ones, which may not be here.

Random weights stand in for those that would have to be fetched, so nothing is downloaded or prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data.batches import Corpus
from harness.data.dataset import Dataset
from harness.data.features import CaptionFeatures
from harness.errors import MissingWeights
from harness.frozen_networks import FrozenNetwork, frozen_networks
from harness.models.build import OwnModules, Shapes, construct
from harness.models.encoders.frozen import Clip, Resnet
from harness.models.encoders.load import untrained
from harness.models.objective import Kind
from harness.settings import Settings
from harness.training.trainer import Trainer

Floats = NDArray[np.float32]


@cache
def frozen_network(name: str, size: int = 0) -> Clip | Resnet:
    """On the CPU, with random weights where its own are not here. Raises MissingWeights where its kind is unknown."""
    try:
        return untrained(name, size)
    except (ValueError, OSError) as error:
        raise MissingWeights(str(error)) from error


def guides_of(settings: Settings) -> dict[Kind, Clip | Resnet]:
    """The networks that guide a run, on the CPU. Raises MissingWeights as `frozen_network`."""
    named: Mapping[Kind, FrozenNetwork] = frozen_networks(settings)
    return {kind: frozen_network(it.name, it.size) for kind, it in named.items()}


def width_of(network: Clip | Resnet) -> int:
    """Of its features, by one image: timm's own number is that before a last layer, where a network has one."""
    if isinstance(network, Clip):
        return network.dim
    device = next(iter(network.buffers())).device
    with torch.inference_mode():
        return network.image(torch.zeros(1, 3, network.size, network.size, device=device)).shape[1]


def random_corpus(settings: Settings, widths: Mapping[Kind, int]) -> Corpus:
    """Two batches of random images, with random features of these widths."""
    draw, count, side = np.random.default_rng(0), 2 * settings.train.batch, settings.data.resolution
    images = draw.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    every = np.arange(count)
    dataset = Dataset("random", images, (("a picture",),) * count, every, every[:0], "", "")
    frozen = {kind: random_features(count, width) for kind, width in widths.items()}
    return Corpus(dataset, CaptionFeatures(frozen["f_c"], every), frozen)


def random_features(count: int, width: int) -> Floats:
    """[count,width], unit norm."""
    rows = np.random.default_rng(width).standard_normal((count, width), dtype=np.float32)
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def trainer_of(settings: Settings, corpus: Corpus, guides: Mapping[Kind, Clip | Resnet], device: str) -> Trainer:
    """At step 0; `guides` are on the device. First weights come from torch's global generator, not layer by layer."""
    with torch.device(device):
        networks = construct(settings, Shapes(settings.data.resolution, corpus.text_dim), OwnModules())
    return Trainer(settings, networks, corpus, guides, 0)
