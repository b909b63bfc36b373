"""What a script takes: the wall time of its process and the memory of all its processes, over all attempts."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.command.process import Script
from harness.scheduler.gpus import memory_of_processes

MEMORY_SECONDS = 1.0
"""Between two looks at the memory of a script's processes, after its first two seconds."""
GPU_SECONDS = 10.0
"""As `MEMORY_SECONDS`, for the memory that they hold of GPUs: nvidia-smi takes up to a second to tell."""


@dataclass(frozen=True)
class Usage:
    """What a script has taken so far."""

    seconds: float = 0.0
    """From the start of its program to its end, and not of what was measured after it."""
    resident_mb: float = 0.0
    """Most memory that its processes had at once, in MiB, as far as somebody looked; 0 if nobody did."""
    gpu_mb: float = 0.0
    """As `resident_mb`, on all GPUs together; 0 as well where nvidia-smi does not tell."""

    def then(self, other: Usage) -> Usage:
        """Of an attempt and the one after it."""
        most = max(self.resident_mb, other.resident_mb), max(self.gpu_mb, other.gpu_mb)
        return Usage(self.seconds + other.seconds, *most)


class Meter:
    """Looks at a script's processes now and then. `earlier` is what earlier attempts have taken."""

    def __init__(self, script: Script, earlier: Usage, has_gpu: bool) -> None:
        self._script, self._earlier, self._has_gpu = script, earlier, has_gpu
        self._looked = self._asked = 0.0
        """Seconds of the script at the last look at its memory, and at the last that of its GPUs."""
        self._resident = self._gpu = 0.0

    @property
    def usage(self) -> Usage:
        """Of all attempts."""
        return self._earlier.then(Usage(self._script.seconds, self._resident, self._gpu))

    def look(self) -> None:
        """Notice the memory of now, if it is time to."""
        now = self._script.seconds
        if now > 2 and now - self._looked < MEMORY_SECONDS:
            return
        self._looked, family = now, _family(self._script.pid)
        self._resident = max(self._resident, _resident_mb(family))
        if self._has_gpu and now > 1 and (not self._asked or now - self._asked > GPU_SECONDS):
            self._asked, held = now, memory_of_processes()
            self._gpu = max(self._gpu, sum(held.get(process.pid, 0.0) for process in family))


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started; none once it has ended."""
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _resident_mb(family: Sequence[psutil.Process]) -> float:
    """Of them together, a page that several have counted once; at least the largest peak that one of them ever had.

    Not the peak that `getrusage` tells: of a program it includes that of the process that has started it.
    """
    together, peak = 0.0, 0.0
    for process in family:
        with contextlib.suppress(psutil.Error, OSError, StopIteration):
            memory = process.memory_full_info()
            together += getattr(memory, "pss", 0) or memory.rss
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
            peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024)
    return max(together, peak) / 2**20
