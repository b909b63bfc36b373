"""What a run costs: time, memory, parameters and arithmetic."""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.runs.record import Point

if TYPE_CHECKING:
    from harness.data.corpus import Batch
    from harness.training.trainer import Trainer

SECONDS_PER_KIMG = "training/s_per_kimg"
TRAINING_PEAK = "system/training_peak_megabytes"
MEASURING_PEAK = "system/measuring_peak_megabytes"
_STATUS, _CLEAR, _PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs"), "5"


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
    """Largest memory of this process since `forget_peak`, in MiB: of the GPU if one is in use, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):  # no Linux: the peak of the process's whole life
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """From here on `peak_memory_mb` is of what follows; where the system does not allow it, of all since the start."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        _CLEAR.write_text(_PEAK, encoding="ascii")


def million_parameters(networks: Iterable[nn.Module]) -> float:
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e6


def largest(points: Sequence[Point], name: str) -> float:
    """Of a value over all points, those of earlier attempts too; 0 when it was never logged."""
    return max((point.values.get(name, 0.0) for point in points), default=0.0)


def seconds_per_kimg(points: Sequence[Point]) -> float:
    """Median over the logged intervals but the first, which warms up. NaN-free: 0 when nothing was logged."""
    values = [point.values[SECONDS_PER_KIMG] for point in points if SECONDS_PER_KIMG in point.values]
    return statistics.median(values[1:] or values or [0.0])
