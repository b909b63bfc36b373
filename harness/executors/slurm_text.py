"""What Slurm's programs print, read; and its words for why a job waits or how it ended, in plain English."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness.executors.executor import Phase, WorkerState
from harness.text import quantity

STATE_FORMAT = "%i|%T|%N|%S|%r"
"""Of `squeue`: id, state, nodes, when it starts, reason."""
NODE_FORMAT = "%R|%P|%l|%a|%G|%c|%m"
"""Of `sinfo`, a line for each kind of node of each partition: name, name with * for the default, longest time, up or
down, GPUs, cores, memory in MB."""

_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
_RUNNING = frozenset(
    {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
)

_PASSES = {
    "Priority": "jobs of others come first",
    "Resources": "for nodes to become free",
    "BeginTime": "for the time of its start",
    "JobArrayTaskLimit": "for another worker of this job to end, as somebody has limited how many run at once",
    "Dependency": "for the job that resources.slurm.extra names",
    "Licenses": "for a licence to become free",
    "Reservation": "for the reservation to begin",
    "Cleaning": "for what the job left on a node to be removed",
    "ReqNodeNotAvail": "for nodes that are down, drained or reserved",
    "NodeDown": "for a node that is down",
    "PartitionDown": "for the partition to be opened again",
    "PartitionInactive": "for the partition to be opened again",
    "MaxMemPerLimit": "for memory",
    "FrontEndDown": "for a node that is down",
}
_NEVER = {
    "PartitionConfig": (
        "the partition does not admit this job: its account, its time or its size",
        "compare `scontrol show partition` with resources.slurm, above all account, qos and time",
    ),
    "PartitionTimeLimit": (
        "it asks for more time than the partition gives",
        "shorten resources.slurm.time; a worker is queued again at its end, so nothing is lost",
    ),
    "PartitionNodeLimit": (
        "it asks for more nodes than the partition gives, or the partition is closed",
        "name another resources.slurm.partition",
    ),
    "AccountNotAllowed": (
        "the partition is not open to this account",
        "correct resources.slurm.account or resources.slurm.partition",
    ),
    "InvalidAccount": ("the account is not valid", "correct resources.slurm.account"),
    "InvalidQOS": ("the quality of service is not valid", "correct resources.slurm.qos"),
    "QOSNotAllowed": (
        "the account or the partition does not allow this quality of service",
        "correct resources.slurm.qos",
    ),
    "BadConstraints": (
        "no node can ever have what it asks for",
        "ask for less in resources.slurm, or correct its constraint",
    ),
    "DependencyNeverSatisfied": ("the job that it waits for has failed", "leave the dependency out of extra"),
    "JobHeldUser": ("it is held", "`scontrol release` lets it go on"),
    "JobHeldAdmin": ("an administrator holds it", "ask them"),
    "JobHoldMaxRequeue": ("it was queued again too often", "look at its log, then `scontrol release` it"),
    "JobLaunchFailure": ("its node could not start it", "look at its log, then `scontrol release` it"),
    "ReservationDeleted": ("the reservation is gone", "leave the reservation out of resources.slurm.extra"),
}
"""Reason -> why, and what to do; left alone such a job waits for ever."""
_ENDS = {
    "CANCELLED": "it was cancelled",
    "TIMEOUT": "its time was over before it had written its checkpoints; raise resources.slurm.signal_s",
    "OUT_OF_MEMORY": "it needed more memory than it was given; raise resources.slurm.mem",
    "NODE_FAIL": "its node was lost",
    "PREEMPTED": "another job took its place",
    "BOOT_FAIL": "its node did not start",
    "DEADLINE": "its deadline had passed",
    "FAILED": "its log says why",
}


def worker_states(text: str) -> dict[str, WorkerState]:
    """By id, from what `squeue` prints with STATE_FORMAT."""
    states = {}
    for line in text.splitlines():
        name, _, rest = line.strip().partition("|")
        state, _, rest = rest.partition("|")
        node, _, rest = rest.partition("|")
        start, _, reason = rest.partition("|")
        if name not in states or _phase(state) != "gone":  # an earlier start of a requeued job comes first
            states[name] = _worker_state(state, node, start, reason.strip("()"))
    return states


def _phase(state: str) -> Phase:
    return "waiting" if state in _WAITING else "running" if state in _RUNNING else "gone"


def _worker_state(state: str, node: str, start: str, reason: str) -> WorkerState:
    phase = _phase(state)
    if phase == "running":
        return WorkerState(phase, node)
    if phase == "waiting":
        why, fix = why_waiting(reason)
        return WorkerState(phase, "", f"{why}, {start}" if reason == "BeginTime" else why, fix)
    if reason == "JobLaunchFailure":
        return WorkerState(
            *(phase, node, f"{state}: it ended before it began, as {node} could not open its log"),
            "put the study's folder where every node sees it under the same path",
        )
    return WorkerState(phase, node, f"{state}: {_ENDS[state]}" if state in _ENDS else "")


def why_waiting(reason: str) -> tuple[str, str]:
    """Slurm's reason with its meaning, and what to do if it will wait for ever, else an empty text."""
    word = re.split(r"[,:\s]", reason)[0]
    if word == "None":  # Slurm has not yet looked at it
        return "", ""
    if word in _NEVER:
        why, fix = _NEVER[word]
    elif word in _PASSES:
        why, fix = _PASSES[word], ""
    elif limit := re.fullmatch(r"(Assoc|QOS|Partition)(\w+)", word):
        why, fix = _of_limit(limit[1], limit[2])
    else:
        return reason, ""
    if fix:
        return f"{word}: {why}", f"this worker will wait for ever ({word}: {why}); {fix}"
    return f"{word}: {why}", ""


def _of_limit(owner: str, limit: str) -> tuple[str, str]:
    """The many reasons that are made of who sets a limit and what it limits, such as AssocGrpCpuLimit."""
    whose = {"Assoc": "account", "QOS": "quality of service", "Partition": "partition"}[owner]
    if "Minutes" in limit and "Per" not in limit:
        return f"the time that the {whose} may use is used up", "ask whoever grants it for more, or use another"
    if "PerJob" in limit or "WallDuration" in limit or limit.startswith(("MaxWall", "Min")):
        return f"it alone asks for more (or less) than the {whose} allows one job", "change resources.slurm"
    return f"the {whose} has as many jobs or as much of the machine as it may; it goes on when one of them ends", ""


@dataclass(frozen=True)
class Partition:
    """A part of a cluster, and the most that a node of it has."""

    name: str
    is_default: bool
    is_up: bool
    longest_s: float
    gpus: int
    cores: int
    memory_mb: int

    def __str__(self) -> str:
        gpus = f", {quantity(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{self.name} (nodes of up to {quantity(self.cores, 'core')}{gpus}, {self.memory_mb:,} MB)"


def partitions(text: str) -> list[Partition]:
    """From what `sinfo` prints with NODE_FORMAT, in its order."""
    rows: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        name, *fields = line.strip().split("|")
        rows.setdefault(name, []).append(fields)
    return [
        Partition(
            *(name, kinds[0][0].endswith("*"), any(up == "up" for _, _, up, *_ in kinds)),
            seconds(kinds[0][1]) or float("inf"),
            max(_gpus(gres) for *_, gres, _, _ in kinds),
            _most(cores for *_, cores, _ in kinds),
            _most(memory for *_, memory in kinds),
        )
        for name, kinds in rows.items()
    ]


def _gpus(gres: str) -> int:
    """`gpu:a100:4(S:0-1),gpu:v100:2` -> 6."""
    return sum(int(count) for count in re.findall(r"\bgpu(?::[^:,()]+)??:(\d+)", gres))


def _most(numbers: Iterable[str]) -> int:
    """Of nodes that differ sinfo writes the least with a plus: 16+."""
    return max(int(re.sub(r"\D", "", number) or 0) for number in numbers)


def seconds(time: str) -> float | None:
    """A time as Slurm writes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]].

    None for what is no time, infinity for no limit.
    """
    if time.upper() in ("UNLIMITED", "INFINITE"):
        return float("inf")
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time.strip(), re.ASCII)
    if not found:
        return None
    days, *rest = found.groups()
    first, second, third = (int(part or 0) for part in rest)
    if days is not None:
        return int(days) * 86400 + first * 3600 + second * 60 + third
    return first * 3600 + second * 60 + third if rest[2] is not None else first * 60 + second
