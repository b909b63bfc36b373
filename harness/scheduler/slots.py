"""Where runs go: a slot is a place for one run at a time, a share of a GPU or of the processor, or several GPUs."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from harness.errors import HarnessError
from harness.limits import core_count
from harness.scheduler.gpus import free_memory, listed_gpus, unusable_gpus, visible_gpus
from harness.text import at_place, listed, quantity

_log = logging.getLogger(__name__)
CPU = "cpu"
MOST_ON_A_GPU = 8
"""Runs that share a GPU where memory alone decides: more of them gain nothing, and MPS has an end too."""
OPTION = "--slots"
"""Of a command; it takes a number alone, where `resources.slots` may be auto too."""
CORES_OF_A_RUN = 2
"""On a GPU: one for the thread that starts its kernels, one for the thread that reads the data."""


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
    mps: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Variables by which a run finds the daemon of MPS that was started for it; empty where there is none."""

    def of_rank(self, rank: int) -> Slot:
        """What one of these processes has."""
        devices = self.device.split(",")
        return Slot(self.index, devices[rank % len(devices)], self.threads, mps=self.mps)

    @property
    def torch_device(self) -> Literal["cpu", "cuda"]:
        """The device inside the run's own process, which sees this slot's GPU and no other."""
        return "cpu" if self.device == CPU else "cuda"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the run's process; CUDA reads them once, before its first use."""
        visible = "" if self.device == CPU else self.device
        return {"CUDA_VISIBLE_DEVICES": visible, **thread_limits(self.threads), **self.mps}


def thread_limits(threads: int) -> dict[str, str]:
    """Variables that OpenMP, MKL and OpenBLAS read when they are loaded."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


def find_slots(
    requested: int | Literal["auto"],
    runs_per_gpu: int | Literal["auto"],
    gpus_per_run: int = 1,
    cores: int | None = None,
    written: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Slot, ...]:
    """The slots of this machine: on GPUs when it has any that CUDA_VISIBLE_DEVICES allows, else on the processor.

    `auto`: every GPU `runs_per_gpu` times, or one slot a core. Fewer are spread over the GPUs, or get more threads.
    With several GPUs a run each slot has so many, or on the processor so many processes. With `runs_per_gpu` auto a
    GPU has as many slots as `most_on_a_gpu` allows, of which `GpuMemory` leaves free what there is no memory for.
    `cores`: of this process's cores so many were granted; None: all. `written`: dotted setting -> where it stands.
    Raises HarnessError for numbers that do not fit the machine.
    """
    cores, present = min(core_count(), cores or core_count()), listed_gpus()
    gpus = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), present)
    if warning := unusable_gpus(present):
        _log.warning("%s", warning)
    places = _places(gpus, gpus_per_run, written) if gpus else (CPU,)
    each_gpu = most_on_a_gpu(runs_per_gpu, len(places) * gpus_per_run, cores)
    limit = len(places) * each_gpu if gpus else max(1, cores // gpus_per_run)
    count = limit if requested == "auto" else requested
    if not 1 <= count <= limit:
        on_gpus = f"{quantity(len(gpus), 'GPU')} x {quantity(each_gpu, 'run')} per GPU"
        room = on_gpus if gpus else f"{quantity(cores, 'core')} and no GPU"
        each = f" for runs of {gpus_per_run} {'GPUs' if gpus else 'processes'} each" if gpus_per_run > 1 else ""
        more = "; raise resources.runs_per_gpu to share a GPU" if gpus and count > limit else ""
        problem = f"{at_place('resources.slots', written)}: {count} is not possible: this machine has {room}{each}"
        raise HarnessError(f"{problem}, so 1 to {limit}{' or auto' * takes_auto(written)}{more}")
    threads = max(1, cores // (count * gpus_per_run))
    return tuple(Slot(index, places[index % len(places)], threads, gpus_per_run) for index in range(count))


def takes_auto(places: Mapping[str, str]) -> bool:
    """Whether `auto` may stand where the number of slots was given."""
    return not places.get("resources.slots", "").startswith(OPTION)


def most_on_a_gpu(runs_per_gpu: int | Literal["auto"], gpus: int, cores: int) -> int:
    """Runs that may share each of so many GPUs, if there is memory for them; auto: as many as the cores can feed."""
    return max(1, min(MOST_ON_A_GPU, cores // (CORES_OF_A_RUN * gpus))) if runs_per_gpu == "auto" else runs_per_gpu


def _places(gpus: Sequence[str], gpus_per_run: int, places: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs, so many together as a run takes; what is left over is told. Raises HarnessError."""
    if gpus_per_run > len(gpus):
        room = f"this machine has {quantity(len(gpus), 'GPU')} that may be used"
        problem = f"{at_place('resources.gpus_per_run', places)}: {gpus_per_run} is not possible: {room}"
        raise HarnessError(f"{problem}, so 1 to {len(gpus)}; see CUDA_VISIBLE_DEVICES")
    if left := len(gpus) % gpus_per_run:
        problem = f"{len(gpus)} GPUs are no multiple of resources.gpus_per_run = {gpus_per_run}"
        _log.warning("%s: no run goes on %s", problem, listed(gpus[-left:]))
    starts = range(0, len(gpus) - gpus_per_run + 1, gpus_per_run)
    return tuple(",".join(gpus[start : start + gpus_per_run]) for start in starts)


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


# Which free slot a run gets.


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
