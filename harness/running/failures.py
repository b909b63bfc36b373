"""What can go wrong with a run, how it is recognised, and what is done about it. No torch here."""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass
from typing import Literal

from harness.errors import HarnessError

Failure = Literal["out_of_memory", "storage", "device", "killed", "lost_node", "data", "code"]

LONGEST_PAUSE_S = 60.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_AWAY = frozenset({errno.EIO, errno.ESTALE, errno.EROFS, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN})
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGSYS})


@dataclass(frozen=True)
class Policy:
    """What the scheduler does with a run that failed so."""

    exit_code: int
    """By which the run's process tells of it; 0 if it no longer can."""
    again: bool
    """Started again from its last checkpoint, as often as `resources.retries` allows."""
    advice: str
    """For the user, beside the run's last lines."""
    alone: bool = False
    """Then with a device to itself, the one with the most free memory."""


POLICIES: dict[Failure, Policy] = {
    "out_of_memory": Policy(5, True, "fewer runs at a time: resources.runs_per_gpu or --slots", alone=True),
    "storage": Policy(6, True, "make room (`harness gc`) or see to the file system"),
    "device": Policy(7, True, "the GPU or its driver reported a fault: nvidia-smi, dmesg"),
    "killed": Policy(0, True, "ended from outside"),
    "lost_node": Policy(0, True, "its machine fell silent"),
    "data": Policy(2, False, "put right what the message names"),
    "code": Policy(1, False, "the same settings fail again the same way; the traceback is in log.txt"),
}
"""In the order in which they are told. A divergence is a result, not a failure."""


def of_error(error: BaseException) -> Failure:
    """The class of an exception that ended a run; torch's are known by name, so that it is not loaded for them."""
    names = {kind.__name__ for kind in type(error).__mro__}
    number, text = getattr(error, "errno", None), str(error).lower()
    if isinstance(error, HarnessError):
        return "data"
    if names & {"MemoryError", "OutOfMemoryError"} or number == errno.ENOMEM:
        return "out_of_memory"
    if "out of memory" in text or "allocate memory" in text:
        return "out_of_memory"
    if number in _FULL | _AWAY or "no space left" in text:
        return "storage"
    if "AcceleratorError" in names or any(word in text for word in ("cuda error", "cudnn_status", "nccl error")):
        return "device"
    return "code"


def of_exit(code: int, memory_was_short: bool) -> Failure:
    """The class of a run by its process's exit code, minus the signal if it died of one.

    `memory_was_short`: the kernel ended processes for their memory while it ran.
    """
    if code >= 0 and code != 128 + signal.SIGTERM:
        return next((name for name, policy in POLICIES.items() if policy.exit_code == code != 0), "code")
    if -code == signal.SIGBUS:
        return "storage"  # a mapped file has lost its place on disk
    if -code in _CRASHES:
        return "code"
    return "out_of_memory" if memory_was_short and -code == signal.SIGKILL else "killed"


def pause_s(failures: int) -> float:
    """Seconds to wait after so many failures of a run: 1, 2, 4, ..."""
    return float(min(2 ** (failures - 1), LONGEST_PAUSE_S))


def memory_kills() -> int:
    """How many processes the kernel has ended for lack of memory since it started; 0 where it does not tell."""
    try:
        with open("/proc/vmstat", encoding="ascii") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
