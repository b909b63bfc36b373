"""Where runs go: a slot is a place for one run at a time, a share of a GPU or of the processor."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError

_log = logging.getLogger(__name__)
CPU = "cpu"
LIST_TIMEOUT_S = 30
_GPU_LINE = re.compile(r"^GPU \d+: (?P<name>.*) \(UUID: (?P<uuid>GPU-[^)\s]+)\)")
_UUID = re.compile(r"GPU-[0-9a-f-]+")
_DRIVER = Path("/proc/driver/nvidia/gpus")
"""One folder a GPU, from the driver itself."""
_NODES = Path("/dev")
_MIG_LINE = re.compile(r"^\s+MIG .*\(UUID: (?P<uuid>MIG-[^)]+)\)")


@dataclass(frozen=True)
class Slot:
    """A place for one run."""

    index: int
    """0, 1, ...: names the slot."""
    device: str
    """`cpu`, or the GPU as CUDA_VISIBLE_DEVICES writes it: an index, a UUID or a MIG id."""
    threads: int
    """Threads that the run may use."""

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


def find_slots(requested: int | Literal["auto"], runs_per_gpu: int) -> tuple[Slot, ...]:
    """The slots of this machine: on GPUs when it has any that CUDA_VISIBLE_DEVICES allows, else on the processor.

    `auto`: every GPU `runs_per_gpu` times, or one slot a core. Fewer are spread over the GPUs, or get more threads.
    Raises HarnessError for a number that does not fit the machine.
    """
    cores, listed = core_count(), listed_gpus()
    gpus = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), listed)
    if warning := unusable_gpus(listed):
        _log.warning("%s", warning)
    places, limit = (gpus, len(gpus) * runs_per_gpu) if gpus else ((CPU,), cores)
    count = limit if requested == "auto" else requested
    if not 1 <= count <= limit:
        room = f"{len(gpus)} GPU(s) x {runs_per_gpu} run(s) per GPU" if gpus else f"{cores} core(s) and no GPU"
        more = "; raise resources.runs_per_gpu to share a GPU" if gpus and count > limit else ""
        raise HarnessError(f"slots: {count} is not possible: this machine has {room}, so 1 to {limit} or auto{more}")
    threads = max(1, cores // count)
    return tuple(Slot(index, places[index % len(places)], threads) for index in range(count))


def core_count() -> int:
    """Cores that this process may use: its affinity, and its container's quota if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota(Path("/sys/fs/cgroup/cpu.max"), cores)))


def _quota(path: Path, otherwise: int) -> int:
    """Whole cores granted by a cgroup's `<quota> <period>` file; `otherwise` without file or limit."""
    try:
        quota, period = path.read_text(encoding="utf-8").split()
        return otherwise if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):
        return otherwise


@dataclass(frozen=True)
class Gpu:
    """One GPU that nvidia-smi lists."""

    uuid: str
    instances: tuple[str, ...] = ()
    """MIG ids, if the GPU is cut into instances: then only they can be used."""
    name: str = ""
    """Its model."""

    @property
    def devices(self) -> tuple[str, ...]:
        return self.instances or (self.uuid,)


def listed_gpus() -> tuple[Gpu, ...]:
    """Every GPU by UUID, as the index order of CUDA is not that of nvidia-smi; without it, as the driver tells them."""
    return parse_listing(_ask_nvidia_smi("-L") or "") or _of_driver(_DRIVER)


def _ask_nvidia_smi(*arguments: str) -> str | None:
    """What it prints; None where it is missing or fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    try:
        answer = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=LIST_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None


def _of_driver(folder: Path) -> tuple[Gpu, ...]:
    found = []
    for path in sorted(folder.glob("*/information")):
        try:
            lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
        except OSError:
            continue
        fields = {name.strip(): value.strip() for name, _, value in lines}
        if _UUID.fullmatch(uuid := fields.get("GPU UUID", "")):  # question marks until the driver has looked
            found.append(Gpu(uuid, name=fields.get("Model", "")))
    return tuple(found)


def unusable_gpus(listed: Sequence[Gpu]) -> str:
    """What to know of GPUs that this machine has and that no run can be put on; empty if there are none."""
    nodes = sorted(path.name for path in _NODES.glob("nvidia[0-9]*"))
    if listed or not nodes or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return ""
    missing = "is not there" if shutil.which("nvidia-smi") is None else "lists none: run it to see why"
    return f"this machine has {', '.join(nodes)} in {_NODES}, but nvidia-smi {missing}; runs go on the processor"


def described(slots: Sequence[Slot]) -> str:
    """The devices of slots in words: "the processor", or GPUs with their models."""
    devices = dict.fromkeys(slot.device for slot in slots)
    if set(devices) == {CPU}:
        return "the processor"
    gpus = listed_gpus()
    return ", ".join(f"{device} ({name})" if (name := _model(device, gpus)) else device for device in devices)


def _model(device: str, gpus: Sequence[Gpu]) -> str:
    """Of a device as CUDA_VISIBLE_DEVICES writes it; empty for an index, as CUDA counts in an order of its own."""
    fitting = [gpu for gpu in gpus if any(name.startswith(device) for name in (gpu.uuid, *gpu.instances))]
    return fitting[0].name if len(fitting) == 1 else ""


def free_memory() -> dict[str, int]:
    """MiB that nobody uses on every GPU, by UUID and by index; nothing where nvidia-smi does not tell."""
    answer = _ask_nvidia_smi("--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits") or ""
    rows = [[part.strip() for part in line.split(",")] for line in answer.splitlines()]
    return {
        name: int(free)
        for index, uuid, free in (row for row in rows if len(row) == 3)
        if free.isdigit()
        for name in (index, uuid)
    }


def parse_listing(text: str) -> tuple[Gpu, ...]:
    """GPUs and MIG instances from the output of `nvidia-smi -L`."""
    gpus: list[Gpu] = []
    for line in text.splitlines():
        if match := _GPU_LINE.match(line):
            gpus.append(Gpu(match["uuid"], name=match["name"]))
        elif gpus and (match := _MIG_LINE.match(line)):
            gpus[-1] = replace(gpus[-1], instances=(*gpus[-1].instances, match["uuid"]))
    return tuple(gpus)


def visible_gpus(inherited: str | None, gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """The devices that an inherited CUDA_VISIBLE_DEVICES leaves, as CUDA reads it; all when it is not set.

    Like CUDA, entries from the first unknown one on are ignored, so that `-1` and `NoDevFiles` mean none.
    """
    if inherited is None:
        return tuple(device for gpu in gpus for device in gpu.devices)
    kept: dict[str, None] = {}
    for entry in (part.strip() for part in inherited.split(",")):
        if not _is_known(entry, gpus):
            break
        kept[entry] = None
    return tuple(kept)


def _is_known(entry: str, gpus: Sequence[Gpu]) -> bool:
    if entry.isdigit():
        return int(entry) < len(gpus)
    names = [name for gpu in gpus for name in (gpu.uuid, *gpu.instances)]
    return entry.startswith(("GPU-", "MIG-")) and any(name.startswith(entry) for name in names)


# Which free slot a run gets, and which devices get none any more.

FAULTS = 2
"""So many runs in a row that end with a fault of their GPU close it: it would go on to swallow runs, free at once."""


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
        was_open = any(slot.device == device for slot in self.open)
        if self._faults[device] >= FAULTS:
            self.open = tuple(slot for slot in self.open if slot.device != device)
        return was_open and self._faults[device] >= FAULTS


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
    return max(left, key=lambda slot: (memory.get(slot.device, 0), -slot.index))
