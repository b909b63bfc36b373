"""Trains one small ResNet to name the subgroup and the skin tone of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.batches import batch_ids
from harness.models.encoders import embedded
from harness.rng import torch_generator
from tools.weights.augment import augment
from tools.weights.corpus import TONES, Corpus
from tools.weights.training import HALF, Recipe, attack, features, fit

CONFIGS: dict[str, dict[str, Any]] = {
    "resnet-guide": {
        "size": 32,
        "tower": {
            "block": "basic",
            "layers": [1, 1, 1, 1],
            "stem": 24,
            "channels": [28, 56, 96, 160],
            "act_layer": "gelu",
        },
    },
    "resnet-measure": {
        "size": 32,
        "tower": {
            "block": "bottleneck",
            "layers": [1, 2, 2, 1],
            "stem": 40,
            "channels": [24, 40, 64, 64],
            "act_layer": "relu",
        },
    },
}


def train(recipe: Recipe, corpus: Corpus, log: Callable[[str], None]) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """The configuration and the trained weights of the ResNet that `recipe` names; the classifier is among them."""
    config = {"kind": "resnet", **CONFIGS[recipe.name], **corpus.statistics(), "classes": corpus.classes}
    torch.manual_seed(recipe.seed)  # networks draw their first weights from torch's global generator
    network = embedded.build_tower(config["tower"], len(corpus.classes) + TONES)
    network = network.train().to(memory_format=torch.channels_last)

    def step_loss(step: int) -> Tensor:
        ids = torch.from_numpy(batch_ids(corpus.data, recipe.seed, step, recipe.batch)[0])
        draws = torch_generator(recipe.seed, "augment", step)
        images = augment(corpus.pixels(ids), config["size"], draws)

        def loss(pixels: Tensor, ids: Tensor) -> Tensor:
            return _loss(features(network, (pixels + 1) / 2, config), corpus, ids)

        images[HALF] = attack(images[HALF], lambda moved: loss(moved, ids[HALF]), recipe.epsilon, draws)
        return loss(images, ids)

    return config, fit(network, recipe, step_loss, log).state_dict()


def _loss(logits: Tensor, corpus: Corpus, ids: Tensor) -> Tensor:
    groups, tones = logits[:, :-TONES], logits[:, -TONES:]
    named = F.cross_entropy(groups, corpus.labels[ids], ignore_index=-1, label_smoothing=0.05)
    return named + 0.3 * F.cross_entropy(tones, corpus.tones[ids])
