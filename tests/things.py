"""A small data set of noise, and stand-ins for the frozen encoders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from harness.data.dataset import Dataset
from harness.settings import EncoderConfig, MetricConfig, Settings

SIDE = 8


class FakeEncoder:
    """A fixed random projection of the pixels, and texts hashed to directions."""

    calls = 0

    def __init__(self, name: str, dim: int = 12) -> None:
        self.dim = dim
        self.matrix = torch.randn(3 * SIDE * SIDE, dim, generator=torch.Generator().manual_seed(len(name)))

    def image(self, images: torch.Tensor) -> torch.Tensor:
        type(self).calls += 1
        return torch.nn.functional.normalize(images.flatten(1) @ self.matrix)

    def text(self, texts: list[str]) -> torch.Tensor:
        rows = [np.random.default_rng(list(text.encode())).normal(size=self.dim) for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.array(rows), dtype=torch.float32))


def things() -> Dataset:
    """60 images of noise, every sixth held out, each second one with an alias."""
    rng = np.random.default_rng(0)
    captions = tuple((f"thing {i // 2}", f"alias {i}")[: 1 + i % 2] for i in range(60))
    held_out = np.arange(0, 60, 6)
    return Dataset(
        name="things",
        images=rng.integers(0, 256, size=(60, 3, SIDE, SIDE), dtype=np.uint8),
        captions=captions,
        train=np.setdiff1d(np.arange(60), held_out),
        held_out=held_out,
        fingerprint="0123456789abcdef",
        attribution="nobody",
    )


def measured_settings() -> Settings:
    return Settings(
        encoders=EncoderConfig(clip="embedded:clip-guide", resnet="embedded:resnet-guide"),
        metrics=MetricConfig(clip="embedded:clip-measure", resnet="embedded:resnet-measure", samples=130),
    )


def with_metrics(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, metrics=replace(settings.metrics, **changes))
