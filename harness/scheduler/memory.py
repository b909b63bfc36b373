"""How many runs a GPU has memory for: by what runs of their cells have held on it, and by what is free now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RecordError
from harness.runs.folders import RunFolder
from harness.runs.record import Run, Status
from harness.scheduler.gpus import Card, card_of, cards, listed_gpus
from harness.text import quantity

CONTEXT_MIB = 600
"""Of a process beside what torch holds for it: CUDA's context, cuDNN, cuBLAS; 300 to 600 on today's GPUs."""
GROWTH = 1.2
"""What a run may need of what it has held: blocks that lie badly, and what comes later than its first steps."""
ALLOCATED = 1.25
"""What torch holds of what its tensors take, where a record has only the latter."""
OTHER_CELL = 1.5
"""What a cell that has not been trained here may need of what the largest other cell has held."""
SPARE_MIB = 1024
"""Left over on each GPU."""
ASK_S = 15.0
"""Seconds until a GPU that had no room is asked again, while nothing has changed on it."""
_TRIES = 3
"""Finished runs of a cell that are read, until one tells of memory."""


@dataclass(frozen=True)
class Held:
    """The memory that torch has held for a run of a cell on a GPU."""

    mib: float
    run: str
    """Which run it was: `origin seed 0`."""

    @property
    def need_mib(self) -> float:
        """Of a process that trains such a run."""
        return self.mib * GROWTH + CONTEXT_MIB


class GpuMemory:
    """What runs need, as far as it is known, and whether a GPU has room for one more."""

    def __init__(self, held: Mapping[str, Held] | None = None) -> None:
        """`held`: by cell, of runs that were trained before (see `held_before`)."""
        self.held = dict(held or {})
        self._refused: dict[str, tuple[object, float]] = {}

    def learn(self, run: Run, status: Status) -> bool:
        """Note what a run holds by now; whether that is the first that is known of its cell."""
        before = self.held.get(run.cell)
        if status.memory_mib > (before.mib if before else 0.0):
            self.held[run.cell] = Held(status.memory_mib, f"{run.cell} seed {run.seed}")
        return before is None and run.cell in self.held

    def need_mib(self, cell: str) -> float | None:
        """Of a run of this cell; None while nothing is known of any."""
        if cell in self.held:
            return self.held[cell].need_mib
        return max((each.need_mib * OTHER_CELL for each in self.held.values()), default=None)

    def has_room(self, run: Run, device: str, beside: Sequence[tuple[Run, Status]]) -> bool:
        """Whether a run may start on a GPU on which these runs of ours are.

        On a GPU without one it may, whatever others have there: nothing better is to be had.
        """
        if not beside:
            return True
        need, needs = self.need_mib(run.cell), [self.need_mib(other.cell) for other, _ in beside]
        if need is None or None in needs:
            return False
        now = (run.cell, [(other.id, status.attempt, status.memory_mib) for other, status in beside])
        before, asked = self._refused.get(device, (None, 0.0))
        if before == now and time.monotonic() - asked < ASK_S:
            return False
        card = card_of(device, cards())
        # What the others have taken is no longer free; what they may still take is to be left to them.
        growth = sum(
            max(0.0, (each or 0.0) - (status.memory_mib + CONTEXT_MIB if status.memory_mib else 0.0))
            for each, (_, status) in zip(needs, beside, strict=True)
        )
        if card is not None and card.free_mib - SPARE_MIB - growth >= need:
            return True
        self._refused[device] = (now, time.monotonic())
        return False

    def fitting(self, cells: Iterable[str], card: Card | None) -> int | None:
        """How many runs of the largest of these cells fit into what is free on a GPU, at least 1; None: not known."""
        needs = [self.need_mib(cell) for cell in cells]
        if card is None or not needs or None in needs:
            return None
        return max(1, int((card.free_mib - SPARE_MIB) / max(each or 0.0 for each in needs)))

    def in_words(self, cells: Sequence[str], device: str, most: int) -> str:
        """How many runs share a GPU, and why. `most`: slots that it has."""
        card = card_of(device, cards())
        fitting = self.fitting(cells, card)
        if card is None:
            return "1 run a GPU, as nobody tells its memory"
        if most == 1:
            return "1 run a GPU, as resources.slots or the cores allow"
        if fitting is None:
            return f"each GPU has 1 run until it has shown its memory, then as many as fit, {most} at most"
        largest = max(cells, key=lambda cell: self.need_mib(cell) or 0.0)
        need, known = self.need_mib(largest) or 0.0, self.held.get(largest)
        source = f"{largest}, measured by {known.run}" if known else f"{largest}, estimated from other cells"
        room = f"{card.free_mib / 1024:.1f} GiB free"
        bound = f", the most that may share one, though {fitting} would fit" if fitting > most else ""
        return f"{quantity(min(fitting, most), 'run')} a GPU{bound}; {need / 1024:.1f} GiB each ({source}), {room}"


def held_before(root: Path, runs: Iterable[Run], ranks: int) -> dict[str, Held]:
    """Cell -> memory that finished runs have held on a GPU of the models that are here, so many of them a run."""
    models = {gpu.name for gpu in listed_gpus()} - {""}
    found: dict[str, Held] = {}
    tries: dict[str, int] = {}
    for run in runs if models else ():
        folder = RunFolder(root / run.id)
        if run.cell in found or tries.get(run.cell, 0) == _TRIES or not (folder.path / "result.json").exists():
            continue
        tries[run.cell] = tries.get(run.cell, 0) + 1
        with contextlib.suppress(RecordError):  # `status` and the report tell of a damaged one
            machines, status, result = folder.run().machines, folder.status(), folder.result()
            prefix = f"{ranks} x " if ranks > 1 else ""
            here = [each for each in machines if any(each.device.startswith(prefix + model) for model in models)]
            if not machines or len(here) < len(machines) or result is None:
                continue
            tensors = max(result.cost.get(f"peak_memory_{what}_mb", 0.0) for what in ("training", "measuring"))
            if mib := status.memory_mib or tensors * ALLOCATED:
                found[run.cell] = Held(mib, f"{run.cell} seed {run.seed}")
    return found
