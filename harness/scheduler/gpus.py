"""The GPUs of this machine, as nvidia-smi and the driver list them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

LIST_TIMEOUT_S = 30
_GPU_LINE = re.compile(r"^GPU \d+: (?P<name>.*) \(UUID: (?P<uuid>GPU-[^)\s]+)\)")
_MIG_LINE = re.compile(r"^\s+MIG .*\(UUID: (?P<uuid>MIG-[^)]+)\)")
_UUID = re.compile(r"GPU-[0-9a-f-]+")
_DRIVER = Path("/proc/driver/nvidia/gpus")
"""One folder a GPU, from the driver itself."""
_NODES = Path("/dev")
_NO_GPU = ("", "-1", "none", "NoDevFiles")
"""What stands in CUDA_VISIBLE_DEVICES where no GPU, or none from here on, is to be used."""
_FIELDS = "uuid,memory.free,memory.total,compute_mode,mig.mode.current"


@dataclass(frozen=True)
class Gpu:
    """One GPU that nvidia-smi lists."""

    uuid: str
    instances: tuple[str, ...] = ()
    """MIG ids, if the GPU is cut into instances: then only they can be used."""
    name: str = ""
    """Its model."""

    def has(self, device: str) -> bool:
        """Whether a UUID or MIG id, or the beginning of one, names it or an instance of it."""
        return any(name.startswith(device) for name in (self.uuid, *self.instances))


@dataclass(frozen=True)
class Card:
    """What nvidia-smi says of the state of a GPU, or of one of its MIG instances."""

    free_mib: int
    """Memory that nobody uses."""
    total_mib: int
    compute_mode: str = ""
    """`Default`; `Exclusive_Process`: one process, which may be a daemon of MPS; `Prohibited`: none."""
    mig: str = ""
    """`Enabled`, `Disabled`, or `[N/A]` where the GPU has no MIG."""

    @property
    def is_exclusive(self) -> bool:
        return "exclusive" in self.compute_mode.lower()


def listed_gpus() -> tuple[Gpu, ...]:
    """Every GPU by UUID, as the index order of CUDA is not that of nvidia-smi; without it, as the driver tells them."""
    if gpus := parse_listing(_ask_nvidia_smi("-L")):
        return gpus
    for path in sorted(_DRIVER.glob("*/information")):
        try:
            lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
        except OSError:
            continue
        fields = {name.strip(): value.strip() for name, _, value in lines}
        if _UUID.fullmatch(uuid := fields.get("GPU UUID", "")):  # question marks until the driver has looked
            gpus += (Gpu(uuid, name=fields.get("Model", "")),)
    return gpus


def _ask_nvidia_smi(*arguments: str) -> str:
    """What it prints; empty where it is missing or fails."""
    try:
        answer = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=LIST_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def memory_of_processes() -> dict[int, float]:
    """Process -> MiB that it holds of all GPUs; empty where nvidia-smi does not tell, as in many containers."""
    held: dict[int, float] = {}
    answer = _ask_nvidia_smi("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
    for pid, _, size in (line.partition(",") for line in answer.splitlines()):
        if pid.strip().isdecimal() and size.strip().isdecimal():  # else [N/A]
            held[int(pid)] = held.get(int(pid), 0.0) + float(size)
    return held


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

    Like CUDA, entries from the first unknown one on are ignored, so that `-1` and `NoDevFiles` mean none. Each becomes
    a UUID or MIG id, but for an index of which it is not certain which GPU CUDA counts so.
    """
    if inherited is None:
        return tuple(device for gpu in gpus for device in gpu.instances or (gpu.uuid,))
    return tuple(dict.fromkeys(names[0] for _, names in takewhile(all, _entries(inherited, gpus))))


def is_index(device: str) -> bool:
    """Whether that is a GPU by its number in CUDA's order."""
    return device.isascii() and device.isdecimal()


def _entries(inherited: str, gpus: Sequence[Gpu]) -> list[tuple[str, tuple[str, ...]]]:
    """Each entry of CUDA_VISIBLE_DEVICES with the devices that it names, of which CUDA takes the first."""
    return [(entry, _named(entry, gpus)) for entry in map(str.strip, inherited.split(","))]


def _named(entry: str, gpus: Sequence[Gpu]) -> tuple[str, ...]:
    if not is_index(entry):
        named = [gpu for gpu in gpus if entry.startswith(("GPU-", "MIG-")) and gpu.has(entry)]
    elif int(entry) < len(gpus) and not _counts_like_nvidia_smi(gpus):
        return (entry,)
    else:
        named = list(gpus[int(entry) :])
    if not named:
        return ()
    gpu = named[0]
    return tuple(name for name in gpu.instances if name.startswith(entry)) or gpu.instances or (gpu.uuid,)


def _counts_like_nvidia_smi(gpus: Sequence[Gpu]) -> bool:
    """Whether CUDA gives the GPUs the indices of nvidia-smi: it begins with the fastest unless it is told otherwise."""
    if len(gpus) == 1:
        return True
    if any(gpu.instances for gpu in gpus):
        return False
    by_bus = os.environ.get("CUDA_DEVICE_ORDER", "").upper() == "PCI_BUS_ID"
    models = {gpu.name for gpu in gpus}
    return by_bus or (len(models) == 1 and "" not in models)


def unusable_gpus(listed: Sequence[Gpu]) -> str:
    """What to know of GPUs that this machine has, or was asked for, and that no run is put on; empty if of none."""
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    entries = [] if inherited is None else _entries(inherited, listed)
    if entries and entries[0][0] in _NO_GPU:
        return ""
    nodes = sorted(path.name for path in _NODES.glob("nvidia[0-9]*"))
    if not listed and nodes:
        missing = "is not there" if shutil.which("nvidia-smi") is None else "lists none: run it to see why"
        return f"this machine has {', '.join(nodes)} in {_NODES}, but nvidia-smi {missing}; runs go on the processor"
    used, told = visible_gpus(inherited, listed), list[str]()
    if wrong := [entry for entry, names in entries if not names and entry not in _NO_GPU][:1]:
        place = f"{', '.join(used)} alone" if used else "the processor"
        told.append(
            f"{wrong[0]} names no GPU here (nvidia-smi -L), and CUDA ignores it and what follows: runs go on {place}"
        )
    for entry, (first, *others) in takewhile(all, entries):
        if left := [name for name in others if name not in used]:
            told.append(
                f"{entry} is cut into MIG instances, of which CUDA sees {first} alone; name {', '.join(left)} too"
            )
    return f"CUDA_VISIBLE_DEVICES={inherited}: {'; '.join(told)}" if told else ""


def cards() -> dict[str, Card]:
    """State of every GPU by UUID, and of every MIG instance by its id; nothing where nobody tells."""
    answer = _ask_nvidia_smi(f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits")
    rows = [[part.strip() for part in line.split(",")] for line in answer.splitlines()]
    found = {
        uuid: Card(int(free), int(total), mode, mig)
        for uuid, free, total, mode, mig in (row for row in rows if len(row) == _FIELDS.count(",") + 1)
        if free.isdecimal() and total.isdecimal()
    }
    if any(row[-1] == "Enabled" for row in rows):
        found |= _instances(_ask_nvidia_smi("-q", "-x"), parse_listing(_ask_nvidia_smi("-L")))
    return found


def _instances(text: str, listed: Sequence[Gpu]) -> Iterator[tuple[str, Card]]:
    """Of each MIG instance its id and state, from nvidia-smi's XML, which has them in the order of its list."""
    try:
        gpus = {gpu.findtext("uuid", "").strip(): gpu for gpu in ET.fromstring(text).iter("gpu")}
    except ET.ParseError:
        return
    for gpu in listed:
        entry = gpus.get(gpu.uuid)
        devices = [] if entry is None else entry.findall("mig_devices/mig_device")
        for name, device in zip(gpu.instances, devices, strict=False):
            free, total = (device.findtext(f"fb_memory_usage/{what}", "").split()[:1] for what in ("free", "total"))
            if entry is not None and free and total and free[0].isdecimal() and total[0].isdecimal():
                yield name, Card(int(free[0]), int(total[0]), entry.findtext("compute_mode", "").strip(), "Enabled")


def card_of(device: str, found: Mapping[str, Card]) -> Card | None:
    """The state of a slot's device, of several the one with the least free; None where nobody tells it.

    So it is with an index: it is one only where CUDA may count otherwise than nvidia-smi.
    """
    states = [found[part] for part in device.split(",") if part in found]
    return min(states, key=lambda state: state.free_mib) if len(states) == device.count(",") + 1 else None


def free_memory() -> dict[str, int]:
    """MiB that nobody uses on every GPU, by UUID, and on every MIG instance; as `cards` tells it."""
    return {name: card.free_mib for name, card in cards().items()}
