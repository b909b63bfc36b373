"""What a run costs: time, memory, parameters and arithmetic."""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.records import Point

if TYPE_CHECKING:
    from harness.data.corpus import Batch
    from harness.training.trainer import Trainer

SECONDS_PER_KIMG = "training/s_per_kimg"


def gflops_per_step(trainer: Trainer) -> float:
    """GFLOP of one training step, each regulariser at its share. Trains `trainer`: give it one to throw away."""
    train = trainer.settings.train
    batch = trainer.batch(0)
    parts = [(trainer.d_step, 1), (trainer.g_step, 1)]
    parts += [(trainer.r1_step, train.r1_interval)] if train.r1_gamma else []
    parts += [(trainer.path_step, train.pl_interval)] if train.pl_weight else []
    return sum(_flops(part, batch) / interval for part, interval in parts) / 1e9


def _flops(part: Callable[[Batch, int], object], batch: Batch) -> int:
    with FlopCounterMode(display=False) as counter:
        part(batch, 0)
    return int(counter.get_total_flops())


def peak_memory_mb() -> float:
    """Largest memory of this process so far, in MiB: of the GPU if one is in use, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def million_parameters(networks: Iterable[nn.Module]) -> float:
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e6


def seconds_per_kimg(points: Sequence[Point]) -> float:
    """Median over the logged intervals but the first, which warms up. NaN-free: 0 when nothing was logged."""
    values = [point.values[SECONDS_PER_KIMG] for point in points if SECONDS_PER_KIMG in point.values]
    return statistics.median(values[1:] or values or [0.0])
