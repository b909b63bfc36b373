"""Where runs go: a slot is a place for one run at a time, a share of a GPU or of the processor, or several GPUs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError
from harness.scheduler.gpus import free_memory, listed_gpus, unusable_gpus, visible_gpus

_log = logging.getLogger(__name__)
CPU = "cpu"
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""`<quota> <period>` of the container in microseconds."""
FAULTS = 2
"""So many runs in a row that end with a fault of their GPU close it: it would go on to swallow runs, free at once."""


@dataclass(frozen=True)
class Slot:
    """A place for one run."""

    index: int
    """0, 1, ...: names the slot."""
    device: str
    """`cpu`, or the GPU as CUDA_VISIBLE_DEVICES writes it: an index, a UUID or a MIG id; several with commas."""
    threads: int
    """Threads that each process of the run may use."""
    ranks: int = 1
    """Processes that share a run: one for each of its GPUs, or as many on the processor."""

    def of_rank(self, rank: int) -> Slot:
        """What one of these processes has."""
        devices = self.device.split(",")
        return Slot(self.index, devices[rank % len(devices)], self.threads)

    @property
    def torch_device(self) -> Literal["cpu", "cuda"]:
        """The device inside the run's own process, which sees this slot's GPU and no other."""
        return "cpu" if self.device == CPU else "cuda"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the run's process; CUDA reads them once, before its first use."""
        visible = "" if self.device == CPU else self.device
        return {"CUDA_VISIBLE_DEVICES": visible, **thread_limits(self.threads)}


def thread_limits(threads: int) -> dict[str, str]:
    """Variables that OpenMP, MKL and OpenBLAS read when they are loaded."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


def find_slots(
    requested: int | Literal["auto"], runs_per_gpu: int, gpus_per_run: int = 1, cores: int | None = None
) -> tuple[Slot, ...]:
    """The slots of this machine: on GPUs when it has any that CUDA_VISIBLE_DEVICES allows, else on the processor.

    `auto`: every GPU `runs_per_gpu` times, or one slot a core. Fewer are spread over the GPUs, or get more threads.
    With several GPUs a run each slot has so many, or on the processor so many processes. `cores`: of this process's
    cores so many were granted; None: all. Raises HarnessError for numbers that do not fit the machine.
    """
    cores, listed = min(core_count(), cores or core_count()), listed_gpus()
    gpus = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), listed)
    if warning := unusable_gpus(listed):
        _log.warning("%s", warning)
    places = _places(gpus, gpus_per_run) if gpus else (CPU,)
    limit = len(places) * runs_per_gpu if gpus else max(1, cores // gpus_per_run)
    count = limit if requested == "auto" else requested
    if not 1 <= count <= limit:
        room = f"{len(gpus)} GPU(s) x {runs_per_gpu} run(s) per GPU" if gpus else f"{cores} core(s) and no GPU"
        each = f" for runs of {gpus_per_run} {'GPUs' if gpus else 'processes'} each" if gpus_per_run > 1 else ""
        more = "; raise resources.runs_per_gpu to share a GPU" if gpus and count > limit else ""
        problem = f"slots: {count} is not possible: this machine has {room}{each}"
        raise HarnessError(f"{problem}, so 1 to {limit} or auto{more}")
    threads = max(1, cores // (count * gpus_per_run))
    return tuple(Slot(index, places[index % len(places)], threads, gpus_per_run) for index in range(count))


def _places(gpus: Sequence[str], gpus_per_run: int) -> tuple[str, ...]:
    """The GPUs, so many together as a run takes; what is left over is told. Raises HarnessError."""
    if gpus_per_run > len(gpus):
        problem = f"resources.gpus_per_run: {gpus_per_run} is not possible: this machine has {len(gpus)} GPU(s)"
        raise HarnessError(f"{problem} that may be used, so 1 to {len(gpus)}; see CUDA_VISIBLE_DEVICES")
    if left := len(gpus) % gpus_per_run:
        problem = f"{len(gpus)} GPUs are no multiple of resources.gpus_per_run = {gpus_per_run}"
        _log.warning("%s: %d of them get no run (%s)", problem, left, ", ".join(gpus[-left:]))
    starts = range(0, len(gpus) - gpus_per_run + 1, gpus_per_run)
    return tuple(",".join(gpus[start : start + gpus_per_run]) for start in starts)


def core_count() -> int:
    """Cores that this process may use: its affinity, and its container's quota if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # without a cgroup, or with "max" for its quota
        quota, period = map(int, _CPU_MAX.read_text(encoding="utf-8").split())
        cores = min(cores, quota // period)
    return max(1, cores)


def described(slots: Sequence[Slot]) -> str:
    """The devices of slots in words: "the processor", or GPUs with their models."""
    devices = dict.fromkeys(device for slot in slots for device in slot.device.split(","))
    together = f", {slots[0].ranks} for each run" if slots[0].ranks > 1 else ""
    if set(devices) == {CPU}:
        return "the processor" + together.replace(" for", " processes for")
    gpus = listed_gpus()
    # Nothing is known of an index, as CUDA counts in an order of its own.
    models = {device: [gpu.name for gpu in gpus if gpu.has(device)] for device in devices}
    named = (f"{device} ({names[0]})" if len(names) == 1 else device for device, names in models.items())
    return ", ".join(named) + together


# Which free slot a run gets, and which devices get none any more.


class Devices:
    """The slots on devices that work."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.open = tuple(slots)
        self._faults: Counter[str] = Counter()

    def note_end(self, device: str, *, fault: bool) -> bool:
        """A run has ended there, with a fault of the device or well; whether that closes the device."""
        if not fault or device == CPU:
            del self._faults[device]
            return False
        self._faults[device] += 1
        before = self.open
        if self._faults[device] >= FAULTS:
            self.open = tuple(slot for slot in before if slot.device != device)
        return self.open != before


def free_slot(
    slots: Sequence[Slot], used: Mapping[Slot, bool], reserved: Collection[Slot], avoided: str = ""
) -> Slot | None:
    """A free slot on the least busy device, none on those of reserved slots.

    `used`: slot -> whether its run has taken its first steps. Until then nothing joins it on a GPU: how much memory it
    needs has not been seen. `avoided`: the device that comes last, since this run has met a fault there.
    """
    busy = Counter(slot.device for slot in used)
    closed = {slot.device for slot in reserved}
    closed |= {slot.device for slot, steady in used.items() if not steady and slot.device != CPU}
    left = [slot for slot in slots if slot not in used and slot.device not in closed]
    return min(left, key=lambda slot: (slot.device == avoided, busy[slot.device], slot.index), default=None)


def slot_of_its_own(slots: Sequence[Slot], used: Collection[Slot]) -> Slot | None:
    """A slot of a device that no run of ours is on, the one with the most free memory."""
    busy = {slot.device for slot in used}
    left = [slot for slot in slots if slot.device not in busy]
    if len({slot.device for slot in left}) < 2:
        return next(iter(left), None)
    memory = free_memory()

    def freest(slot: Slot) -> tuple[int, int]:
        return min(memory.get(device, 0) for device in slot.device.split(",")), -slot.index

    return max(left, key=freest)
