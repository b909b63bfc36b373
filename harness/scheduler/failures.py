"""What can go wrong with a run, how it is recognised, and what is done about it."""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass
from typing import Literal

from harness.errors import FULL, HarnessError

Failure = Literal["out_of_memory", "storage", "device", "killed", "lost_node", "data", "code"]

LONGEST_PAUSE_S = 60.0
SCRIPT_ERROR = "error: the script "
"""The line begins so by which a run's process tells how its script has ended, before it ends itself."""
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
    "out_of_memory": Policy(
        5,
        True,
        "fewer runs at a time (--slots, or on GPUs resources.runs_per_gpu), smaller batches, or more GPUs for each: "
        "resources.gpus_per_run",
        alone=True,
    ),
    "storage": Policy(6, True, "make room (`harness gc`) or see to the file system"),
    "device": Policy(7, True, "the GPU or its driver reported a fault: nvidia-smi, dmesg"),
    "killed": Policy(0, True, "ended from outside, as it seems"),
    "lost_node": Policy(0, True, "its machine fell silent"),
    "data": Policy(2, False, "put right what the message names"),
    "code": Policy(1, False, "the same settings fail again the same way; what was printed is in log.txt"),
}
"""In the order in which they are shown. A divergence is a result, not a failure."""

_MEMORY = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "with oom on device",
    "cudaerrormemoryallocation",
    "alloc_failed",  # of cuBLAS, cuDNN, cuFFT, cuSOLVER, cuSPARSE: also of a library's first handle
    "allocation_failed",  # of cuRAND
    "insufficient_resources",  # of cuSPARSE
    "unable to find an engine to execute",  # cuDNN has a plan for each of ours: there is no room for its workspace
    "unable to find a valid cudnn algorithm",
    "valid cudnn algorithm to run",
    "nvml_success ==",  # torch asks NVML who has the memory that it just failed to get, and falls over the answer
)
_CODE = (
    "device-side assert triggered",  # a kernel's own check, of an index perhaps: as wrong on every device
    "invalid argument",
    "invalid configuration argument",
    "invalid resource handle",
    "invalid pitch argument",
    "invalid copy direction",
    "too many resources requested for launch",
    "too many blocks in cooperative launch",
    "stream is capturing",  # this and the next three: a graph that was recorded wrongly
    "error during capture",
    "capture sequence",
    "capturing stream",
    "re-initialize cuda in forked",
    "status_not_supported",
    "status_bad_param",
    "status_invalid_value",
    "status_invalid_enum",
)
"""What a GPU's libraries say of a call that would fail the same way on any device."""
_DEVICE = (
    "cuda error",
    "cuda driver",  # "CUDA driver error", "... initialization failed", "... version is insufficient"
    "cuda unknown error",
    "cuda-capable device",
    "no cuda gpus are available",
    "cudagetdevicecount",
    "no nvidia driver",
    "nvidia driver on your system is too old",
    "not compiled with cuda",
    "driver shutting down",
    "invalid device ordinal",
    "fallen off the bus",
    "uncorrectable ecc",
    "uncorrectable nvlink",
    "illegal memory access",
    "misaligned address",
    "unspecified launch failure",
    "no kernel image is available",  # another GPU may be of a kind that this torch was built for
    "can't initialize nvml",
    "failed to initialize nvml",
    "nccl error",
    "hip error",
    "cudnn error",
    "cudnn_status_",
    "cublas_status_",
    "cusolver_status_",
    "cusparse_status_",
    "curand_status_",
    "cufft_",
)
_OF_NEIGHBOURS = (
    "device-side assert triggered",
    "cuda error: an illegal",
    "misaligned address",
    "unspecified launch failure",
    "mps server",
    "mps client",
)
"""MPS tells all runs that it serves of what one of them did."""
_MPS_UNUSABLE = (
    "failed to connect to the mps",
    "mps server is not ready",
    "resources required to create mps client",
    "resources required to support device connections",
)
_BY_TEXT: dict[Failure, tuple[str, ...]] = {"out_of_memory": _MEMORY, "code": _CODE, "device": _DEVICE}
"""Words of torch, of CUDA's runtime and of its libraries, in small letters; the first that fits decides."""


def of_error(error: BaseException) -> Failure:
    """The class of an exception that ended a run, or of the one that it was raised from."""
    if isinstance(error, HarnessError):
        return "data"
    names = {kind.__name__ for kind in type(error).__mro__}  # of torch's exceptions, so that it is not loaded for them
    number, text = getattr(error, "errno", None), str(error).lower()
    if names & {"MemoryError", "OutOfMemoryError"} or number == errno.ENOMEM:
        return "out_of_memory"
    if number in FULL | _AWAY or "no space left" in text:
        return "storage"
    failure = of_text(f"cuda error: {text}" if "AcceleratorError" in names else text)
    return of_error(error.__cause__) if failure == "code" and error.__cause__ else failure


def of_text(text: str) -> Failure:
    """The class of what a library said, "code" when it does not tell of memory or of a device."""
    small = text.lower()
    return next((failure for failure, words in _BY_TEXT.items() if any(word in small for word in words)), "code")


def may_be_of_neighbours(text: str) -> bool:
    """Whether what a run died of under MPS may have been the fault of another run that it served."""
    return any(word in text.lower() for word in _OF_NEIGHBOURS)


def is_mps_unusable(text: str) -> bool:
    """Whether a run could not be served by MPS at all."""
    return any(word in text.lower() for word in _MPS_UNUSABLE)


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
