"""Ideas that fall into the known traps, if nothing is done about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.ideas.load import load_ideas
from harness.models.build import Networks
from harness.runs.record import Run
from harness.training.trainer import Trainer
from own_code import networks_of, run_with, trainer_of
from runs import settings

TRAPS = """
import random
import numpy
from harness.models.encoders.load import load_resnet

class Plain(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.narrow = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.drawn = nn.Parameter(torch.randn(3, channels))
        self.of_numpy = nn.Parameter(torch.tensor(numpy.random.rand(4)))
        self.of_python = nn.Parameter(torch.tensor([random.random() for _ in range(4)]))
        self.gamma = nn.Parameter(torch.full((), 0.25))

    def forward(self, x):
        y = self.narrow(self.conv(x))
        places = self.norm(y.flatten(2).transpose(1, 2))
        places, _ = self.attention(places, places, places)
        return x + self.gamma * places.transpose(1, 2).unflatten(2, x.shape[2:]) + self.drawn.sum()

@layer("generator", at=4)
class first(Plain):
    def __init__(self, channels: int):
        super().__init__(channels)

@layer("generator", at=8)
class second(Plain):
    def __init__(self, channels: int):
        super().__init__(channels)

@layer("generator", at=8)
class fast(Plain):
    def __init__(self, channels: int):
        super().__init__(channels)
    def forward(self, x):
        places = x.flatten(2).transpose(1, 2)
        read, _ = self.attention(places, places, places, need_weights=False)
        return x + read.transpose(1, 2).unflatten(2, x.shape[2:])

@layer("discriminator", at=8)
class in_d(Plain):
    def __init__(self, channels: int):
        super().__init__(channels)

@term("generator", weight=0.1)
class head(Plain):
    def __init__(self):
        super().__init__(4)
    def forward(self, step):
        return self.conv.weight.square().sum() + step.images["x"].square().mean()

class Pretrained(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.network = load_resnet("embedded:resnet-guide")  # frozen by itself
        self.projection = nn.Conv2d(160, channels, 1)
        self.projection.weight.requires_grad_(False)  # random and frozen
        self.conv = nn.Conv2d(channels, channels, 1)
        self.conv.load_state_dict({"weight": torch.arange(channels * channels).view(channels, channels, 1, 1) / 64,
                                   "bias": torch.arange(channels) / 8})
    def forward(self, x):
        seen = self.network.image(x[:, :3])[:, :, None, None]
        return x + 0.01 * self.conv(x + self.projection(seen))

@layer("generator", at=4)
class pretrained(Pretrained):
    def __init__(self, channels: int):
        super().__init__(channels)

@layer("discriminator", at=8)
class frozen_d(Pretrained):
    def __init__(self, channels: int):
        super().__init__(channels)

@layer("generator", at=8)
class noisy(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm2d(channels)
    def forward(self, x):
        return self.norm(self.dropout(x)) + 0.01 * float(numpy.random.rand()) + 0.01 * random.random()

@term("discriminator", weight=0.5)
class learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.dropout = nn.Linear(8, 1), nn.Dropout(0.5)
    def forward(self, step):
        return self.head(self.dropout(step.feature("f_img", "r"))).square().mean()

@augment
class adaptive(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("p", torch.zeros(()))
    def after(self, step):
        self.p += 0.01 * step.logit("r").sigmoid().mean()
    def forward(self, images, rng):
        return images + self.p * torch.randn(images.shape, generator=rng, device=images.device)
"""


def run_of(*ideas: str, **train: Any) -> Run:
    """A run in which these are on."""
    run = run_with(TRAPS, settings(**train))
    return replace(run, settings=replace(run.settings, ideas={name: run.settings.ideas[name] for name in ideas}))


def trap_trainer(*ideas: str, seed: int = 0, **train: Any) -> Trainer:
    """At step 0."""
    return trainer_of(run_of(*ideas, **train), seed)


def first_weights(*ideas: str, seed: int = 0) -> Networks:
    run = run_of(*ideas)
    return networks_of(run, load_ideas(run), seed)
