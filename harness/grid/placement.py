"""How runs are laid on this machine's slots, as the study's resources say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from harness.grid.jobs import HEAVY, execute
from harness.runs.record import Run
from harness.scheduler.memory import GpuMemory, held_before
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import CPU, Slot
from harness.study.resources import Resources


def make_scheduler(
    resources: Resources, root: Path, slots: Sequence[Slot], runs: Sequence[Run], **options: Any
) -> Scheduler:
    """One that trains runs of the folder `root`; `runs` are those that may tell what memory theirs need.

    `options`: the other fields of `Scheduler`.
    """
    memory = None
    if resources.runs_per_gpu == "auto" and any(slot.device != CPU for slot in slots):
        memory = GpuMemory(held_before(root, runs, slots[0].ranks))
    mps = resources.mps == "auto"
    return Scheduler(root, tuple(slots), execute, resources.retries, HEAVY, memory=memory, mps=mps, **options)


def at_a_time(
    resources: Resources, slots: Sequence[Slot], memory: GpuMemory | None = None, cells: Collection[str] = ()
) -> str:
    """How many runs train at the same time, and where memory decides why; `cells`: of the runs that are to be done."""
    if resources.runs_per_gpu != "auto" or slots[0].device == CPU:
        return f"{len(slots)} at a time"
    memory = memory or GpuMemory()
    counts = Counter(slot.device for slot in slots)
    return memory.in_words(sorted(cells), ",".join(counts), max(counts.values()))
