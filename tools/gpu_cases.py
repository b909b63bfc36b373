"""What `tools.gpu_check` tries: small networks for exact gradients, and the published sizes on random images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from harness.data.batches import Corpus
from harness.data.dataset import Dataset
from harness.data.features import CaptionFeatures
from harness.models import toggles
from harness.models.build import Shapes, build
from harness.models.encoders.frozen import Clip, Preparation, Resnet
from harness.models.generator import Generator
from harness.rng import torch_generator
from harness.settings import Settings
from harness.study.load import load_study
from harness.training.trainer import Trainer

STUDY = Path("ablations.yaml")


def gradients(device: str, dtype: torch.dtype, compute: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """Of a loss, of R1 and of path length, on small networks without pixel noise; equal inputs on every device."""
    size, rng = 32, torch.Generator().manual_seed(0)
    g, d = _small_networks(size, device, dtype)
    shapes = ((8, g.z_dim), (8, 64), (8, 3, size, size), (8, 3, size, size))
    z, h, y, x = (torch.randn(shape, generator=rng, dtype=torch.float64).to(device, dtype) for shape in shapes)

    def imagine() -> tuple[torch.Tensor, torch.Tensor]:
        ws = g.mapping(z)[:, None].repeat(1, g.layers, 1)
        return ws, g.synthesis(ws, h, _no_noise(device, dtype), compute)

    d(imagine()[1], compute).b.sum().backward()
    of = {"first": [p.grad for p in (*g.parameters(), *d.parameters())]}
    g.zero_grad()
    d.zero_grad()
    _of_squares(d(x.requires_grad_(True), compute).b.sum(), x)
    of["R1"] = [p.grad for p in d.parameters()]
    ws, images = imagine()
    _of_squares((images * y).sum(), ws)
    of["path length"] = [p.grad for p in g.parameters()]
    return {
        part: torch.cat([p.double().flatten().cpu() for p in gradients if p is not None])
        for part, gradients in of.items()
    }


def _small_networks(size: int, device: str, dtype: torch.dtype) -> tuple[Generator, Any]:
    settings, narrow = Settings(), dict[str, Any](channel_base=2048, channel_max=64)
    settings = replace(
        settings,
        generator=replace(settings.generator, noise=False, **narrow),
        discriminator=replace(settings.discriminator, **narrow),
    )
    networks = build(settings, Shapes(size, 64), lambda name: torch_generator(0, name))
    return networks.generator.to(device, dtype), networks.discriminator.to(device, dtype)


def _no_noise(device: str, dtype: torch.dtype) -> Any:
    return lambda shape, **options: torch.zeros(tuple(shape), device=device, dtype=dtype)


def _of_squares(value: torch.Tensor, leaf: torch.Tensor) -> None:
    """Gradients of the squared gradient of `value` in `leaf`."""
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
    gradient.square().sum().backward()  # type: ignore[no-untyped-call]


def train(trainer: Trainer, steps: Iterable[int]) -> Trainer:
    for step in steps:
        trainer.step(step)
    return trainer


def settings_of(size: int, cell: str, precision: str, small: bool) -> Settings:
    """Of a shipped profile, or the published ones; parts are taken by their functions."""
    shipped = {64: "standard", 16: "quick"}.get(size)
    settings = load_study(STUDY, shipped).settings if shipped else Settings()
    settings = with_training(settings, precision=precision, graphs="off")
    if small:
        narrow: dict[str, Any] = {"channel_base": 128}
        settings = replace(
            settings,
            data=replace(settings.data, resolution=16),
            generator=replace(settings.generator, **narrow),
            discriminator=replace(settings.discriminator, **narrow),
            train=replace(settings.train, batch=4),
        )
    return toggles.apply(settings, toggles.TOGGLES) if cell == "full" else settings


def with_training(settings: Settings, **values: Any) -> Settings:
    return replace(settings, train=replace(settings.train, **values))


def apart(one: Trainer, other: Trainer, steps: int) -> float:
    """How far the generators' weights are apart after so many steps, relative to their size."""
    weights = [
        torch.cat([p.detach().double().flatten() for p in train(each, range(steps)).networks.generator.parameters()])
        for each in (one, other)
    ]
    return float((weights[0] - weights[1]).norm() / weights[0].norm())


def in_two_passes(x: torch.Tensor) -> torch.Tensor:
    """As `blur(x, 2)`: first along the rows, then along the columns."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device, dtype=x.dtype) / 8.0
    channels = x.shape[1]
    x = F.conv2d(x, taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4), padding=(0, 2), groups=channels)
    return F.conv2d(x, taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1), padding=(2, 0), groups=channels)


def unit(count: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = np.random.default_rng(count).standard_normal((count, width)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def guides(device: str) -> dict[str, Any]:
    """The networks of the profile `paper`, with random weights."""
    import open_clip
    import timm

    card = Preparation(224, (0.5,) * 3, (0.25,) * 3, "bicubic")
    clip = Clip(open_clip.create_model("ViT-B-32"), card, open_clip.get_tokenizer("ViT-B-32"), "random")
    resnet = Resnet(timm.create_model("resnet50", num_classes=0), card, 2048, "random")
    return {"f_c": clip.to(device), "f_res": resnet.to(device)}


def published(settings: Settings, networks: dict[str, Any], device: str, images: int) -> Trainer:
    """A trainer with the published sizes, on random images."""
    count, size = images, settings.data.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8)
    captions = tuple((f"{place}",) for place in range(count))
    dataset = Dataset("random", pixels, captions, np.arange(count - 8), np.arange(count - 8, count), "0" * 16, "")
    frozen = {"f_c": unit(count, 512)} | ({"f_res": unit(count, 2048)} if settings.loss.resnet_guided else {})
    corpus = Corpus(dataset, CaptionFeatures(unit(count, 512), np.arange(count)), frozen)
    own = build(settings, Shapes(size, 512), lambda name: torch_generator(0, name))
    for network in vars(own).values():
        network.to(device)
    return Trainer(settings, own, corpus, {kind: networks[kind] for kind in frozen}, 0)
