"""The fixed sample grid of a run: the same held-out captions and latents at every snapshot of every run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from harness.data.dataset import Dataset
from harness.data.features import CaptionFeatures, to_unit_range
from harness.files import replacing, write_text
from harness.metrics.measure import quantise
from harness.rng import numpy_generator, torch_generator
from harness.settings import MetricConfig

COUNT = 16
Generate = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SampleGrid:
    """Which captions and latents the grid shows."""

    ids: NDArray[np.int64]  # [COUNT], held-out images
    captions: tuple[str, ...]
    conditions: Tensor  # [COUNT,F], guide CLIP text features
    latents: Tensor  # [COUNT,Z]
    real: Tensor  # [COUNT,3,R,R] in [-1,1]

    def write_real(self, folder: Path) -> None:
        """real.png and captions.json: what the columns of every grid stand for."""
        folder.mkdir(parents=True, exist_ok=True)
        save_row(self.real, folder / "real.png")
        rows = [{"caption": c, "image_id": int(i)} for c, i in zip(self.captions, self.ids, strict=True)]
        write_text(folder / "captions.json", json.dumps(rows, indent=1) + "\n")

    def write(self, generate: Generate, path: Path, device: str) -> None:
        """Draw the grid with a generator on `device`."""
        with torch.inference_mode():
            images = generate(self.latents.to(device), self.conditions.to(device))
            save_row(quantise(images), path)


def make_grid(dataset: Dataset, text: CaptionFeatures, config: MetricConfig, z_dim: int) -> SampleGrid:
    """A seeded choice of held-out images with their main captions."""
    chosen = numpy_generator(config.seed, "sample grid").permutation(dataset.held_out)[:COUNT]
    main = np.zeros_like(chosen)
    return SampleGrid(
        ids=chosen,
        captions=tuple(dataset.captions[image][0] for image in chosen),
        conditions=torch.from_numpy(text.of(chosen, main)),
        latents=torch.randn(len(chosen), z_dim, generator=torch_generator(config.seed, "sample latents")),
        real=to_unit_range(dataset.images[chosen], "cpu"),
    )


def save_row(images: Tensor, path: Path) -> None:
    """Images [N,3,R,R] in [-1,1] side by side as one PNG."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
    with replacing(path, durable=True) as temporary:
        Image.fromarray(pixels.permute(2, 0, 3, 1).flatten(1, 2).numpy()).save(temporary, format="PNG")
