"""Trainers on random images with cheap fixed encoders, for tests of the training step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.batches import Corpus
from harness.data.dataset import Dataset
from harness.data.features import CaptionFeatures
from harness.frozen_networks import encoders_read
from harness.models import toggles
from harness.models.build import Shapes, build
from harness.models.objective import Kind
from harness.rng import torch_generator
from harness.settings import EncoderConfig, Settings, TrainConfig
from harness.training.trainer import Trainer
from tiny import TINY

M, R, F, S = 40, 8, 8, 12  # images, pixels, CLIP and ResNet widths
BASE = Settings(
    generator=TINY.generator,
    discriminator=TINY.discriminator,
    train=TrainConfig(batch=4, kimg=0.04, snapshots=2, ema_kimg=0.01),
    encoders=EncoderConfig(crop=0.125, pixel_noise=0.05),
)


def _units(draw: np.random.Generator, *shape: int) -> Any:
    rows = draw.standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def corpus(resnet: bool = True) -> Corpus:
    """M random images with two captions each."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (M, 3, R, R), dtype=np.uint8)
    captions = tuple((f"picture {index}", f"image {index}") for index in range(M))
    dataset = Dataset("random", images, captions, np.arange(M - 4), np.arange(M - 4, M), "0" * 16, "nobody")
    text = CaptionFeatures(_units(draw, 2 * M, F), np.arange(0, 2 * M, 2))
    frozen = {"f_c": _units(draw, M, F)}
    return Corpus(dataset, text, frozen | {"f_res": _units(draw, M, S)} if resnet else frozen)


@dataclass
class Counted:
    """A frozen linear encoder that counts the images it is shown."""

    outputs: int
    seen: list[int] = field(default_factory=list)
    size: int = R

    def __post_init__(self) -> None:
        weight = np.random.default_rng(self.outputs).standard_normal((3 * R * R, self.outputs))
        self.weight = torch.from_numpy(weight).float()

    def image(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return images.flatten(1) @ self.weight


def settings(*names: str, **train: Any) -> Settings:
    toggled = toggles.apply(BASE, names)
    return replace(toggled, train=replace(toggled.train, **train))


def trainer(chosen: Settings, seed: int = 0) -> Trainer:
    networks = build(chosen, Shapes(R, F), lambda name: torch_generator(seed, f"init {name}"))
    guides: dict[Kind, Counted] = {"f_c": Counted(F), "f_res": Counted(S)}
    return Trainer(chosen, networks, corpus("encoders.resnet" in encoders_read(chosen)), guides, seed)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([torch.zeros(0), *(parameter.detach().flatten().cpu() for parameter in network.parameters())])
