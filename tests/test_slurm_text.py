"""What Slurm's programs print, read, and its words explained: as several versions write them."""

from __future__ import annotations

import math

import pytest

from harness.executors.executor import WorkerState
from harness.executors.slurm_text import partitions, seconds, why_waiting, worker_states


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("04:00:00", 14400),
        ("2-3", 2 * 86400 + 3 * 3600),
        ("2-03:30", 2 * 86400 + 3.5 * 3600),
        ("1-00:00:01", 86401),
        ("UNLIMITED", math.inf),
        ("infinite", math.inf),
        ("4h", None),
        ("n/a", None),
        ("", None),
        ("٣", None),
    ],
)
def test_times_as_slurm_writes_them(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


def test_states_are_read() -> None:
    text = """\
7_0|RUNNING|gpu[3-4]|2026-11-29T06:49:58|None
7_1|PENDING||N/A|Priority
7_2|COMPLETED|n1|2026-11-29T06:49:58|None
7_3|OUT_OF_MEMORY|n1|2026-11-29T06:49:58|OutOfMemory
7_4|COMPLETING|n2|2026-11-29T06:49:58|None
7_5|REQUEUE_HOLD||N/A|(launch failed requeued held)
7_6|NODE_FAIL|n1|2026-11-29T06:49:58|NodeDown
7_6|PENDING||2026-11-29T07:49:58|BeginTime
7_7|PENDING||2026-11-29T07:49:58|BeginTime
7_7|PREEMPTED|n2|2026-11-29T06:49:58|None
7_8|PENDING||N/A|ReqNodeNotAvail, UnavailableNodes:n[1-2]
7_9|NEW_STATE_OF_SLURM|n1|2026-11-29T06:49:58|None
"""
    states = worker_states(text)
    assert states["7_0"] == WorkerState("running", "gpu[3-4]")
    assert states["7_1"] == WorkerState("waiting", "", "Priority: jobs of others come first")
    assert states["7_2"] == WorkerState("gone", "n1")
    assert states["7_3"].reason.startswith("OUT_OF_MEMORY: it needed more memory") and states["7_3"].phase == "gone"
    assert states["7_4"] == WorkerState("running", "n2")
    assert states["7_5"] == WorkerState("waiting", "", "launch failed requeued held")
    begins = WorkerState("waiting", "", "BeginTime: for the time of its start, 2026-11-29T07:49:58")
    assert states["7_6"] == states["7_7"] == begins  # not the end of an earlier start
    assert states["7_8"].reason == "ReqNodeNotAvail: for nodes that are down, drained or reserved"
    assert states["7_9"].phase == "gone"
    assert worker_states("") == {}


FOR_EVER = """
    PartitionConfig PartitionTimeLimit PartitionNodeLimit AccountNotAllowed InvalidAccount InvalidQOS BadConstraints
    DependencyNeverSatisfied AssocMaxWallDurationPerJobLimit AssocMaxCpuPerJobLimit QOSMaxNodePerJob
    QOSMaxWallDurationPerJobLimit QOSMinGRES AssocGrpCPUMinutesLimit QOSGrpGRESMinutes JobHeldUser JobHeldAdmin
"""
A_WHILE = """
    Priority Resources BeginTime Licenses Reservation NodeDown PartitionDown PartitionInactive JobArrayTaskLimit
    AssocMaxJobsLimit AssocGrpCpuLimit AssocGrpGRES QOSMaxJobsPerUserLimit QOSMaxCpuPerUserLimit QOSGrpNodeLimit
"""


@pytest.mark.parametrize("word", (FOR_EVER + A_WHILE).split())
def test_reasons_are_explained(word: str) -> None:
    why, fix = why_waiting(word)
    assert why.startswith(f"{word}: ") and len(why) > len(word) + 10
    assert bool(fix) == (word in FOR_EVER.split())
    if fix:
        assert fix.startswith("this worker will wait for ever") and ";" in fix


def test_a_word_that_came_later_is_shown_as_it_is() -> None:
    assert why_waiting("SomethingNew") == ("SomethingNew", "")
    assert why_waiting("None") == ("", "")


def test_partitions_are_read() -> None:
    text = """\
gpu|gpu*|1-00:00:00|up|gpu:a100:4(S:0-1),gpu:v100:2|64+|512000+
gpu|gpu*|1-00:00:00|down|gpu:2|16|64000
cpu|cpu|infinite|up|(null)|8|16000
old|old|10:00|inact|gres:gpu:1|8|16000
"""
    gpu, cpu, old = partitions(text)
    assert (gpu.name, gpu.is_default, gpu.is_up, gpu.longest_s) == ("gpu", True, True, 86400)
    assert (gpu.gpus, gpu.cores, gpu.memory_mb) == (6, 64, 512000)
    assert (cpu.longest_s, cpu.gpus, cpu.is_default, cpu.is_up) == (math.inf, 0, False, True)
    assert str(cpu) == "cpu (nodes of up to 8 cores, 16,000 MB)"
    assert (old.is_up, old.longest_s) == (False, 600)
