"""The ideas of docs/ideas as modules, and what they read of a step, in float64."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from harness.models.losses import contrast
from tiny import drawn, exact

GALLERY = Path(__file__).parent.parent / "docs" / "ideas"
N, R, F = 4, 4, 3


def gallery(name: str) -> ModuleType:
    """One file of the gallery as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"gallery_{name}", GALLERY / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Judge(nn.Module):
    """A smooth discriminator: b and f_txt are two tanh layers of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.b, self.f_txt = nn.Linear(3 * R * R, 5), nn.Linear(5, 1), nn.Linear(5, F)

    def forward(self, images: Tensor, h: Tensor) -> Tensor:
        hidden = torch.tanh(self.hidden(images.flatten(1)) / 7)
        return self.b(hidden)[:, 0] + (torch.tanh(self.f_txt(hidden)) * h).sum(1)


class StandIn:
    """What the ideas of this gallery read of a step, in float64."""

    def __init__(self, number: int = 0, **images: Tensor) -> None:
        self.number, self.judge = number, drawn(Judge(), seed=20)
        self.real, self.h, self.pseudo = exact(N, 3, R, R, seed=1), exact(N, F, seed=2), exact(N, F, seed=3)
        self.images: Mapping[str, Tensor] = {"r": self.real, **images}
        self.features: dict[tuple[str, str], Tensor] = {}

    def logit(self, image: str | Tensor, h: Tensor | None = None, *, like: str = "r") -> Tensor:
        images, name = (image, like) if isinstance(image, Tensor) else (self.images[image], image)
        condition = self.pseudo if name == "x'" else self.h
        logits: Tensor = self.judge(images, condition if h is None else h)
        return logits

    def feature(self, kind: str, image: str) -> Tensor:
        return self.features[kind, image]

    def contrast(self, u: Tensor, v: Tensor) -> Tensor:
        return contrast(u, v, 0.5)

    @staticmethod
    def leaf(value: Tensor) -> Tensor:
        return value.detach().requires_grad_(True)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
