"""One encoder from recipe to files."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.models.encoders import FOLDER
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
    save(recipe.name, {**config, "trained": trained}, state)


def save(name: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Writes the two files of an encoder; floating-point weights in half precision."""
    half = {key: (value.half() if value.is_floating_point() else value).contiguous() for key, value in state.items()}
    weights = FOLDER / f"{name}.safetensors"
    save_file(half, weights.with_suffix(".new"))
    weights.with_suffix(".new").replace(weights)
    weights.with_suffix(".json").write_text(json.dumps(config, indent=1) + "\n")
