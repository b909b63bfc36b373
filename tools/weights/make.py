"""One encoder from recipe to files."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch

from harness.models import embedded
from tools.weights import clip, resnet
from tools.weights.corpus import Corpus
from tools.weights.training import Recipe, keep_memory

RECIPES = {
    "clip-guide": Recipe("clip-guide", seed=11, steps=2600, epsilon=0.1, junk=32),
    "clip-measure": Recipe("clip-measure", seed=23, steps=1800, epsilon=0.03, junk=16, learning_rate=1.5e-3),
    "resnet-guide": Recipe("resnet-guide", seed=37, steps=1400, epsilon=0.06),
    "resnet-measure": Recipe("resnet-measure", seed=41, steps=1000, epsilon=0.03, learning_rate=1.5e-3),
}


def make(recipe: Recipe, cache: Path, share: float) -> None:
    """Trains one encoder and writes its files."""
    keep_memory()
    torch.set_num_threads(1)
    started = time.process_time()
    shortened = dataclasses.replace(recipe, steps=max(int(recipe.steps * share), 1))
    kind = clip if recipe.name.startswith("clip") else resnet
    config, state = kind.train(shortened, Corpus(cache), lambda line: print(line, flush=True))
    trained = {"seed": recipe.seed, "steps": shortened.steps, "seconds": round(time.process_time() - started)}
    embedded.save(recipe.name, {**config, "trained": trained}, state)
