"""The GPUs of this machine, as nvidia-smi and the driver list them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
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

    Like CUDA, entries from the first unknown one on are ignored, so that `-1` and `NoDevFiles` mean none.
    """
    if inherited is None:
        return tuple(device for gpu in gpus for device in gpu.instances or (gpu.uuid,))

    def is_known(entry: str) -> bool:
        if entry.isdigit():
            return int(entry) < len(gpus)
        return entry.startswith(("GPU-", "MIG-")) and any(gpu.has(entry) for gpu in gpus)

    return tuple(dict.fromkeys(takewhile(is_known, map(str.strip, inherited.split(",")))))


def unusable_gpus(listed: Sequence[Gpu]) -> str:
    """What to know of GPUs that this machine has and that no run can be put on; empty if there are none."""
    nodes = sorted(path.name for path in _NODES.glob("nvidia[0-9]*"))
    if listed or not nodes or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return ""
    missing = "is not there" if shutil.which("nvidia-smi") is None else "lists none: run it to see why"
    return f"this machine has {', '.join(nodes)} in {_NODES}, but nvidia-smi {missing}; runs go on the processor"


def free_memory() -> dict[str, int]:
    """MiB that nobody uses on every GPU, by UUID and by index; nothing where nvidia-smi does not tell."""
    answer = _ask_nvidia_smi("--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits")
    rows = [[part.strip() for part in line.split(",")] for line in answer.splitlines()]
    return {
        name: int(free)
        for index, uuid, free in (row for row in rows if len(row) == 3)
        if free.isdigit()
        for name in (index, uuid)
    }
