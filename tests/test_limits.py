"""Cores and memory of a process in a container, a job or a unit, as Linux tells them in files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from harness import limits
from harness.cli import doctor
from harness.limits import Memory
from harness.scheduler.slots import Slot
from harness.training.timing import free_mb

GIB = 2**30
Files = dict[str, str]
Pretend = Callable[[str, list[tuple[str, str]], Files], None]


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Be a process of these control groups on a machine of 64 cores and 100 GiB, of which 60 are free."""
    monkeypatch.setattr(limits, "_SELF", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=100 * GIB, available=60 * GIB))

    def pretended(groups: str, mounts: list[tuple[str, str]], files: Files) -> None:
        """`mounts`: (the group at its root, its kind) of `/m0`, `/m1`, ...; `files`: path below them -> text."""
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "cgroup").write_text(groups)
        lines = [
            f"3{number} 2 0:2{number} {root} {tmp_path}/m{number} rw,nosuid shared:9 - {kind}\n"
            for number, (root, kind) in enumerate(mounts)
        ]
        (tmp_path / "self" / "mountinfo").write_text("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + "".join(lines))
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return pretended


V2 = ("/", "cgroup2 cgroup2 rw,nsdelegate")
CPU, MEMORY = ("/", "cgroup cgroup rw,cpu,cpuacct"), ("/", "cgroup cgroup rw,memory")
STAT = f"anon 5\ninactive_file {GIB}\nactive_file 7\n"


def test_without_control_groups_all_of_the_machine_counts(pretend: Pretend) -> None:
    assert (limits.core_count(), limits.memory()) == (64, Memory(100 * GIB, 60 * GIB))
    pretend("0::/\n", [V2], {"m0/cpu.max": "max 100000\n", "m0/memory.max": "max\n", "m0/memory.current": "5\n"})
    assert (limits.core_count(), limits.memory()) == (64, Memory(100 * GIB, 60 * GIB))


def test_a_container_with_a_name_space_of_its_own_has_its_limits_at_the_root(pretend: Pretend) -> None:
    files = {"m0/cpu.max": "250000 100000\n", "m0/memory.max": f"{8 * GIB}\n", "m0/memory.current": f"{3 * GIB}\n"}
    pretend("0::/\n", [V2], files)
    assert (limits.core_count(), limits.memory()) == (2, Memory(8 * GIB, 5 * GIB))


def test_of_nested_groups_the_tightest_counts(pretend: Pretend) -> None:
    """As in a job of Slurm: the limit is above the group of the process, and files that are kept count as free."""
    job = "m0/slurmstepd.scope/job_7"
    files = {
        f"{job}/cpu.max": "400000 100000",
        f"{job}/memory.max": str(2 * GIB),
        f"{job}/memory.current": str(2 * GIB),
        f"{job}/memory.stat": STAT,
        f"{job}/step_0/cpu.max": "max 100000",
        f"{job}/step_0/memory.max": str(50 * GIB),
        f"{job}/step_0/memory.current": str(2 * GIB),
        f"{job}/step_1/cpu.max": "100000 100000",
    }
    pretend("0::/slurmstepd.scope/job_7/step_0\n", [V2], files)
    assert (limits.core_count(), limits.memory()) == (4, Memory(2 * GIB, GIB))


@pytest.mark.parametrize("root", ["/", "/docker/ab"])
def test_version_1_has_a_tree_for_each_kind(pretend: Pretend, root: str) -> None:
    """With the machine's own paths; a container without a name space of its own sees its group as the root."""
    inside = "docker/ab/" if root == "/" else ""
    files = {
        f"m0/{inside}cpu.cfs_quota_us": "50000",
        f"m0/{inside}cpu.cfs_period_us": "100000",
        f"m1/{inside}memory.limit_in_bytes": str(4 * GIB),
        f"m1/{inside}memory.usage_in_bytes": str(3 * GIB),
        f"m1/{inside}memory.stat": f"cache 9\ntotal_inactive_file {GIB}\n",
    }
    groups = "9:name=systemd:/\n4:memory:/docker/ab\n3:cpuset:/\n1:cpu,cpuacct:/docker/ab\n0::/\n"
    pretend(groups, [(root, CPU[1]), (root, MEMORY[1])], files)
    assert (limits.core_count(), limits.memory()) == (1, Memory(4 * GIB, 2 * GIB)), "half a core is one"


def test_version_1_without_limits(pretend: Pretend) -> None:
    files = {
        "m0/cpu.cfs_quota_us": "-1",
        "m0/cpu.cfs_period_us": "100000",
        "m1/memory.limit_in_bytes": "9223372036854771712",
        "m1/memory.usage_in_bytes": "5",
    }
    pretend("4:memory:/\n1:cpu,cpuacct:/\n", [CPU, MEMORY], files)
    assert (limits.core_count(), limits.memory()) == (64, Memory(100 * GIB, 60 * GIB))


def test_here_there_is_something() -> None:
    assert 1 <= limits.core_count() <= len(os.sched_getaffinity(0))
    total, available = limits.memory()
    assert 0 < available <= total <= psutil.virtual_memory().total


def test_the_doctor_and_what_is_timed_go_by_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory", lambda: Memory(2 * GIB, GIB))
    monkeypatch.setattr(limits, "core_count", lambda: 1)
    found = {finding.subject: finding.detail for finding in doctor._machine(None)}
    assert found["memory"].startswith("1.0 of 2.0 GiB free, as this container or job is limited; the machine has ")
    assert found["processor"].startswith("1 core for this process")
    assert free_mb(Slot(0, "cpu", 1)) == 1024
