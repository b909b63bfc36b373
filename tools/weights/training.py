"""What the four trainings share: the attack, the schedule, the averaged weights, the loop."""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Loss = Callable[[Tensor], Tensor]
StepLoss = Callable[[int], Tensor]
Log = Callable[[str], None]

HALF = slice(1, None, 2)
"""The images of a batch that are attacked."""


@dataclass(frozen=True)
class Recipe:
    """How long and how hard one encoder is trained."""

    name: str
    seed: int
    steps: int
    batch: int = 128
    learning_rate: float = 2e-3
    epsilon: float = 0.06
    """Largest perturbation of a pixel by the attack, in [-1,1] units."""
    junk: int = 0
    """Pictures of nothing in each batch, which no caption may resemble."""


def features(network: nn.Module, images: Tensor, config: Mapping[str, Any]) -> Tensor:
    """[N,3,S,S] in [0,1] -> the network's outputs [N,F] in float32, computed in bfloat16 where torch deems it safe."""
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    standard = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        outputs: Tensor = network(standard)
    return outputs.float()


def attack(images: Tensor, loss: Loss, epsilon: float, generator: torch.Generator) -> Tensor:
    """The images moved within a ball of radius at most `epsilon` to where `loss` grows: one signed step, random start.

    Each image has a radius of its own, between a third and the whole of `epsilon`.
    """
    radius = epsilon * (torch.rand(len(images), 1, 1, 1, generator=generator) * 2 + 1) / 3
    start = (torch.rand(images.shape, generator=generator) * 2 - 1) * radius
    moved = (images + start).clamp(-1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(moved), moved)
    change = (start + 1.25 * radius * gradient.sign()).clamp(-radius, radius)
    return (images + change).clamp(-1, 1)


def fit(network: nn.Module, recipe: Recipe, step_loss: StepLoss, log: Log) -> nn.Module:
    """Trains `network` in place by AdamW under one cosine; returns its exponentially averaged copy in eval mode."""
    matrices = [value for value in network.parameters() if value.ndim > 1]
    others = [value for value in network.parameters() if value.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    average = AveragedModel(network, avg_fn=_average, use_buffers=True)
    started = time.monotonic()
    for step in range(recipe.steps):
        loss = step_loss(step)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        if step % 100 == 0 or step == recipe.steps - 1:
            log(f"{recipe.name} step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f} s")
    return average.module.eval()


def _average(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """An exponential mean over 200 steps, shorter at first so that the untrained weights are forgotten."""
    keep = min(0.995, (1 + float(count)) / (10 + float(count)))
    return average + (1 - keep) * (current - average)


def _rate(step: int, steps: int) -> float:
    warm = max(steps // 20, 1)
    return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def keep_memory() -> None:
    """Asks glibc to keep freed memory: returning and faulting in each step's buffers takes a fifth of the time."""
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
