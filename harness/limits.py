"""What this process may use of its machine: cores and memory, by its affinity and the limits of its control groups.

A container, a job of Slurm and a unit of systemd are control groups. Their processes are told of all cores and of the
whole memory of the machine; where they use more than their own, they are slowed down, or killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil

_SELF = Path("/proc/self")
_QUOTA = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
"""Files of version 2 and of version 1 of control groups: microseconds of all cores together in each so many."""
_MEMORY = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
_FREED_AT_NEED = ("inactive_file", "total_inactive_file")
"""Of memory.stat: copies of files, which make room for programs."""


class Memory(NamedTuple):
    """In bytes."""

    total: int
    available: int


def core_count() -> int:
    """Cores that this process may use: its affinity, and the quota of each control group if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu"):
        for names in _QUOTA:
            quota, period = _numbers(group, *names) or (-1, 1)
            cores = min(cores, quota // period) if quota > 0 else cores
    return max(1, cores)


def memory() -> Memory:
    """What this process has at most, and what of it is left: of the machine, or of a control group if that is less."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for group in _groups("memory"):
        for names, freed in zip(_MEMORY, _FREED_AT_NEED, strict=True):
            if numbers := _numbers(group, *names):
                limit, used = numbers
                total = min(total, limit)
                available = min(available, max(0, limit - used + _stat(group, freed)))
    return Memory(total, available)


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the control groups of this process that may have such limits, each before the one above it."""
    try:
        groups = [line.split(":", 2) for line in (_SELF / "cgroup").read_text(encoding="utf-8").splitlines()]
        mounts = (_SELF / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for mount in mounts:
        place, _, kind = mount.partition(" - ")
        root, point = place.split()[3:5]
        version, *_, options = kind.split()
        for _, names, path in groups:
            is_first = version == "cgroup" and controller in options.split(",") and controller in names.split(",")
            if is_first or (version == "cgroup2" and not names):
                group = PurePosixPath(path)  # in a container it may be written as the machine has it
                folder = Path(point, group.relative_to(root) if group.is_relative_to(root) else "")
                yield from (each for each in (folder, *folder.parents) if each.is_relative_to(point))


def _numbers(group: Path, *names: str) -> list[int]:
    """What stands in these two files, or in one; empty where one is missing or says `max`, which is no limit."""
    try:
        return [int(word) for name in names for word in (group / name).read_text(encoding="utf-8").split()]
    except (OSError, ValueError):
        return []


def _stat(group: Path, name: str) -> int:
    """One line of the statistics of its memory."""
    try:
        lines = map(str.split, (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    except OSError:
        return 0
    return next((int(value) for key, value in lines if key == name), 0)
