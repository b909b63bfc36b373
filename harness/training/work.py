"""What steps on trial show of a run's pace, in numbers that a process without torch can read and keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from harness.runs.record import Run
from harness.scheduler.slots import Slot

TEXTS = "texts"


class Work(NamedTuple):
    """Arithmetic and memory of a training step of a cell, counted without computing it."""

    gflops: float
    """Of one step, each regulariser at its share."""
    activations_mb: float
    """MiB that the largest part of a step keeps for its backward pass."""
    weights_mb: float
    """MiB of all weights, of their gradients and of Adam's means."""


class Counted(NamedTuple):
    """What one process has counted, and what it has to count on."""

    work: Mapping[str, Work]
    """By cell."""
    gflops_per_s: float
    """Of large convolutions, forward, beside the other processes: the most that can be had."""
    free_mb: float
    """MiB of the device that are free."""


@dataclass(frozen=True)
class Trial:
    """What one process is asked to time."""

    runs: tuple[Run, ...]
    """One of each cell, without code of the study's own; the first one is measured too."""
    slot: Slot
    divisor: int
    """Steps have the batch of the run, divided by this."""
    seconds: float
    """About so long it takes steps."""
    samples: int
    """Generated images that the distances are of."""
    real: int
    """Real ones."""


class Steps(NamedTuple):
    """Steps of a cell, timed."""

    seconds: float
    """Of one, each regulariser at its share."""
    steps: int
    """So many were timed; 0: only the first one, which also warms up."""


class Timed(NamedTuple):
    """What one process has timed."""

    cells: Mapping[str, Steps]
    start: float
    """Seconds until a run takes its first step."""
    generated: float
    """Seconds to generate one image to measure."""
    encoded: Mapping[str, float]
    """Setting of a frozen network -> its seconds per image; TEXTS -> seconds per caption of the guiding CLIP."""
    distances: float
    """Seconds that the distances of one network take between all images, `Trial.samples` against `Trial.real`."""
    real_side: float
    """Seconds for what they take of the real images alone."""
    waited: float
    """Share of the time of steps in which they waited for a core, which others had; 0 on a GPU."""
