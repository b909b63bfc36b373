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
from harness.scheduler.slots import CPU, Slot, described
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


def in_words(
    resources: Resources, slots: Sequence[Slot], memory: GpuMemory | None = None, cells: Collection[str] = ()
) -> str:
    """How many runs train at the same time and where; if memory decides, why. `cells`: of the runs that are to do."""
    if resources.runs_per_gpu != "auto" or slots[0].device == CPU:
        return f"{len(slots)} at a time on {described(slots)}"
    counts = Counter(slot.device for slot in slots)
    why = (memory or GpuMemory()).in_words(sorted(cells), ",".join(counts), max(counts.values()))
    return f"on {described(slots)}: {why}"
