"""Trains one small CLIP: captions against augmented, attacked pictures and against pictures of nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.model import CustomTextCLIP
from torch import Tensor

from harness.data.batches import batch_ids
from harness.models.encoders import embedded
from harness.rng import torch_generator
from tools.weights.augment import augment, junk
from tools.weights.corpus import Corpus
from tools.weights.training import HALF, Recipe, attack, features, fit

CONFIGS: dict[str, dict[str, Any]] = {
    "clip-guide": {
        "features": 128,
        "size": 32,
        "tower": {
            "block": "basic",
            "layers": [1, 1, 1, 1],
            "stem": 24,
            "channels": [28, 56, 104, 144],
            "act_layer": "silu",
        },
        "text": {"context_length": 48, "width": 128, "heads": 4, "layers": 2, "mlp_ratio": 2.0},
    },
    "clip-measure": {
        "features": 128,
        "size": 32,
        "tower": {
            "block": "basic",
            "layers": [1, 2, 2, 1],
            "stem": 48,
            "channels": [32, 64, 96, 192],
            "act_layer": "relu",
            "block_args": {"attn_layer": "se"},
        },
        "text": {"context_length": 48, "width": 160, "heads": 5, "layers": 2, "mlp_ratio": 2.0},
    },
}
WORD_COUNTS = {"clip-guide": 4, "clip-measure": 10}
"""A word is one token when that many captions have it."""


def clip_loss(pictures: Tensor, texts: Tensor, scale: Tensor, twins: Tensor) -> Tensor:
    """Symmetric cross-entropy of captions and pictures, a mean over the batch.

    pictures [N+J,F], texts [N,F], twins [N,N]. The J surplus pictures show nothing: wrong for every caption, and every
    caption is equally wrong for them.
    """
    count = len(texts)
    logits = scale * F.normalize(texts, dim=1) @ F.normalize(pictures, dim=1).T
    own = torch.eye(count, dtype=torch.bool)
    masked = logits[:, :count].masked_fill(twins & ~own, -1e4)
    target = torch.arange(count)
    by_text = F.cross_entropy(torch.cat([masked, logits[:, count:]], 1), target)
    by_picture = F.cross_entropy(masked.T, target)
    return (by_text + by_picture) / 2


def train(recipe: Recipe, corpus: Corpus, log: Callable[[str], None]) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """The configuration and the trained weights of the CLIP that `recipe` names."""
    words = corpus.frequent_words(WORD_COUNTS[recipe.name])
    config = {"kind": "clip", **CONFIGS[recipe.name], **corpus.statistics(), "words": words}
    torch.manual_seed(recipe.seed)  # networks draw their first weights from torch's global generator
    clip = embedded.build_clip(config).train().to(memory_format=torch.channels_last)
    tokenize = embedded.Tokenizer(config["words"], config["text"]["context_length"])

    def step_loss(step: int) -> Tensor:
        ids, captions = batch_ids(corpus.data, recipe.seed, step, recipe.batch)
        draws = torch_generator(recipe.seed, "augment", step)
        chosen = torch.from_numpy(ids)
        images = augment(corpus.pixels(chosen), config["size"], draws)
        images = torch.cat([images, junk(images[: recipe.junk], draws)])
        names = [corpus.data.captions[i][c] for i, c in zip(ids, captions, strict=True)]
        texts, scale, twins = _read(clip, tokenize, names), clip.logit_scale.exp().clamp(max=40), corpus.twins(chosen)

        def loss(pixels: Tensor, texts: Tensor, twins: Tensor, scale: Tensor) -> Tensor:
            return clip_loss(features(clip.visual, (pixels + 1) / 2, config), texts, scale, twins)

        fixed = texts[HALF].detach(), twins[HALF, HALF], scale.detach()
        images[HALF] = attack(images[HALF], lambda moved: loss(moved, *fixed), recipe.epsilon, draws)
        return loss(images, texts, twins, scale)

    return config, fit(clip, recipe, step_loss, log).state_dict()


def _read(clip: CustomTextCLIP, tokenize: embedded.Tokenizer, texts: list[str]) -> Tensor:
    """[N,F], short and long texts apart: a batch costs as much as its longest text times its size."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    parts = order[: len(order) // 2], order[len(order) // 2 :]
    read = torch.cat([clip.text(tokenize([texts[place] for place in part])) for part in parts])
    return read[torch.tensor(order).argsort()]
