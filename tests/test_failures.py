"""What went wrong with a run: recognised from its exception, its exit code, its signal; and what is done about it."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fakes
from fakes import make_run
from harness.errors import DataError, RecordError
from harness.runs.folders import RunFolder
from harness.runs.lease import holder
from harness.runs.record import Status
from harness.scheduler import scheduler as module
from harness.scheduler.failures import POLICIES, Failure, of_error, of_exit, pause_s
from harness.scheduler.slots import Slot

SLOTS = (Slot(0, "cpu", 1), Slot(1, "cpu", 1))


class SafetensorError(Exception):
    """As safetensors raises it: with the text of the system alone."""


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (DataError("cat.png: not an image"), "data"),
        (RecordError("run.json: not a run"), "data"),
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:73] DefaultCPUAllocator: can't allocate memory"),
            "out_of_memory",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "storage"),
        (OSError(errno.EFBIG, "File too large"), "storage"),
        (OSError(errno.ESTALE, "Stale file handle"), "storage"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "storage"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "device"),
        (torch.AcceleratorError("unspecified launch failure"), "device"),
        (ValueError("upside down"), "code"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "code"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_exceptions(error: Exception, failure: Failure) -> None:
    assert of_error(error) == failure


HINT = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable "
    "device-side assertions.\n"
)
"""What torch adds to each error of CUDA; that it speaks of assertions and capture says nothing of the error."""


@pytest.mark.parametrize(
    ("failure", "texts"),
    [
        (
            "out_of_memory",
            (
                "CUDA error: out of memory",
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
                "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
                "cuFFT error: CUFFT_ALLOC_FAILED",
                "CUDA error: CURAND_STATUS_ALLOCATION_FAILED",
                "GET was unable to find an engine to execute this computation",
                "FIND was unable to find an engine to execute this computation",
                "Unable to find a valid cuDNN algorithm to run convolution",
                'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":830, please report',
                "expandable_segments: memory mapping failed with OOM on device 0",
                "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried",
                "std::bad_alloc",
                "HIP out of memory. Tried to allocate 20.00 MiB",
            ),
        ),
        (
            "device",
            (
                "No CUDA GPUs are available",
                "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
                "NumCudaDevices() that might have already set an error? Error 802: system not yet initialized",
                "CUDA driver initialization failed, you might not have a CUDA gpu.",
                "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable",
                "CUDA error: unknown error",
                "CUDA error: uncorrectable ECC error encountered",
                "CUDA error: uncorrectable NVLink error detected during the execution",
                "CUDA error: an illegal memory access was encountered",
                "CUDA error: misaligned address",
                "CUDA error: an illegal instruction was encountered",
                "CUDA error: hardware stack error",
                "CUDA error: invalid program counter",
                "CUDA error: unspecified launch failure",
                "CUDA error: the launch timed out and was terminated",
                "CUDA error: invalid device ordinal",
                "CUDA error: all CUDA-capable devices are busy or unavailable",
                "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
                "CUDA error: no CUDA-capable device is detected",
                "CUDA error: device kernel image is invalid",
                "CUDA error: no kernel image is available for execution on the device",
                "CUDA error: MPS client failed to connect to the MPS control daemon or the MPS server",
                "CUDA error: CUDA driver version is insufficient for CUDA runtime version",
                "CUDA driver error: unknown error",
                "The NVIDIA driver on your system is too old (found version 11040).",
                "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
                "Torch not compiled with CUDA enabled",
                "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`",
                "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
                "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
                "NCCL Error 1: unhandled cuda error",
                "Failed to initialize NVML: Driver/library version mismatch",
            ),
        ),
        (
            "code",
            (
                "CUDA error: device-side assert triggered",
                "CUDA error: invalid argument",
                "CUDA error: invalid configuration argument",
                "CUDA error: operation not permitted when stream is capturing",
                "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm( handle, opa, opb)`",
                "cuDNN error: CUDNN_STATUS_BAD_PARAM",
                "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in",
                "Cannot re-initialize CUDA in forked subprocess.",
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
                "Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same",
                "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)",
            ),
        ),
    ],
)
def test_what_cuda_and_its_libraries_say(failure: Failure, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert of_error(RuntimeError(text)) == failure, text
        assert of_error(RuntimeError(text + HINT)) == failure, text
        error = ValueError("a layer failed")
        error.__cause__ = RuntimeError(text)
        assert of_error(error) == failure, "raised from it"


def test_an_accelerators_error_needs_no_prefix() -> None:
    assert of_error(torch.AcceleratorError("unspecified launch failure" + HINT)) == "device"
    assert of_error(torch.AcceleratorError("device-side assert triggered" + HINT)) == "code"
    assert of_error(torch.AcceleratorError("out of memory" + HINT)) == "out_of_memory"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_what_torch_says_where_no_gpu_is_tells_of_the_device() -> None:
    with pytest.raises((RuntimeError, AssertionError)) as caught:
        torch.zeros(1, device="cuda")
    assert of_error(caught.value) == "device"


def test_a_users_mistake_stays_one_whatever_it_was_raised_from() -> None:
    error = DataError("cat.png: cannot be read")
    error.__cause__ = MemoryError()
    assert of_error(error) == "data"


@pytest.mark.parametrize(
    ("code", "short", "failure"),
    [
        (1, False, "code"),
        (2, False, "data"),
        (255, False, "code"),
        (143, False, "killed"),
        (-signal.SIGKILL, False, "killed"),
        (-signal.SIGKILL, True, "out_of_memory"),
        (-signal.SIGTERM, True, "killed"),
        (-signal.SIGSEGV, False, "code"),
        (-signal.SIGBUS, False, "storage"),
    ],
)
def test_exit_codes(code: int, short: bool, failure: Failure) -> None:
    assert of_exit(code, short) == failure


def test_every_class_that_a_process_can_tell_has_its_own_exit_code() -> None:
    told = {name: policy.exit_code for name, policy in POLICIES.items() if policy.exit_code}
    assert len(set(told.values())) == len(told) and not set(told.values()) & {0, 4, 130, 143}
    assert all(of_exit(code, False) == name for name, code in told.items())


def test_pauses_double_up_to_a_minute() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 7, 8, 100)] == [1, 2, 4, 60, 60, 60]


def ended(root: Path, cell: str, retries: int = 0) -> tuple[Status, int]:
    """How a run of that cell ends, and how often it was executed."""
    run = make_run(cell)
    fakes.scheduler(root, SLOTS, retries).run([run], lambda statuses: None)
    folder = RunFolder(root / run.id)
    return folder.status(), fakes.calls(folder.path)


@pytest.mark.parametrize(
    ("cell", "failure", "again"),
    [
        ("fail", "code", False),
        ("unusable", "data", False),
        ("empty", "code", False),
        ("segfault", "code", False),
        ("memory", "out_of_memory", True),
        ("storage", "storage", True),
        ("mute", "storage", True),
        ("device", "device", True),
        ("thrown", "device", True),
        ("killed", "killed", True),
    ],
)
def test_what_a_run_dies_of_and_whether_it_is_tried_again(
    tmp_path: Path, cell: str, failure: Failure, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "pause_s", lambda failures: 0.01)
    status, calls = ended(tmp_path, cell, retries=1)
    assert (status.state, status.failure, calls) == ("failed", failure, 1 + again)


def test_a_run_that_somebody_terminates_goes_on(tmp_path: Path) -> None:
    status, calls = ended(tmp_path, "terminated", retries=1)
    assert (status.state, status.failure, calls) == ("done", "", 2)


def test_a_pause_comes_before_the_next_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def pause(failures: int) -> float:
        asked.append(failures)
        return 1.5

    monkeypatch.setattr(module, "pause_s", pause)
    monkeypatch.setattr(module, "TICK_S", 0.05)
    waited = 0
    run = make_run("flaky")

    def tick(found: dict[str, Status]) -> None:
        nonlocal waited
        waited += found[run.id].state == "pending" and found[run.id].attempt == 1

    fakes.scheduler(tmp_path, SLOTS, 1).run([run], tick)  # type: ignore[arg-type]
    assert asked == [1] and waited >= 10


@pytest.mark.parametrize("fail_fast", [False, True])
def test_fail_fast_stops_the_others_with_checkpoints(tmp_path: Path, fail_fast: bool) -> None:
    runs = [make_run(cell) for cell in ("sleep", "late", "ok-1", "ok-2")]

    def tick(found: dict[str, Status]) -> None:
        if found[runs[3].id].state == "done":
            raise KeyboardInterrupt

    scheduler = fakes.scheduler(tmp_path, SLOTS, 0, fail_fast=fail_fast)
    start: Callable[[], object] = lambda: scheduler.run(runs, tick)  # type: ignore[arg-type] # noqa: E731
    if fail_fast:
        start()
    else:
        with pytest.raises(KeyboardInterrupt):
            start()
    states = {run.cell: RunFolder(tmp_path / run.id).status().state for run in runs}
    rest = "pending" if fail_fast else "done"
    assert states == {"sleep": "interrupted", "late": "failed", "ok-1": rest, "ok-2": rest}
    assert (tmp_path / runs[0].id / "checkpoint").exists()
    assert scheduler.stop.exit_code == 0


GPUS = (Slot(0, "broken", 1), Slot(1, "sound", 1))


def test_a_broken_gpu_is_closed_and_the_grid_finishes_on_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "pause_s", lambda failures: 0.01)
    runs = [make_run("picky", seed) for seed in range(8)]
    scheduler = fakes.scheduler(tmp_path, GPUS, 1)
    states = scheduler.run(runs, lambda statuses: None)
    assert set(states.values()) == {"done"} and scheduler.exit_code == 0
    places = [line.split()[1] for path in tmp_path.glob("*/calls") for line in path.read_text().splitlines()]
    assert places.count("0") == 2, "two runs met the fault, and no more were sent there"
    assert caplog.text.count("broken is closed: 2 runs in a row met a fault of it") == 1


def test_without_a_gpu_that_works_the_grid_ends_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "pause_s", lambda failures: 0.01)
    runs = [make_run("device", seed) for seed in range(5)]
    scheduler = fakes.scheduler(tmp_path, (Slot(0, "one", 1), Slot(1, "two", 1)), retries=9)
    states = scheduler.run(runs, lambda statuses: None)
    assert scheduler.exit_code == 3 and "no device is left" in caplog.text
    assert sorted(states.values()) == ["failed"] + ["pending"] * 4
    statuses = [RunFolder(tmp_path / run.id).status() for run in runs]
    assert sum(status.attempt for status in statuses) == 4, "two a device"
    assert {status.failure for status in statuses if status.attempt} == {"device"}
    assert all(holder(tmp_path / run.id) is None for run in runs), "others may have them"


def test_a_fault_that_is_no_device_of_its_own_closes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pause_s", lambda failures: 0.01)
    runs = [make_run(f"fail-{number}") for number in range(4)] + [make_run("ok")]
    scheduler = fakes.scheduler(tmp_path, (Slot(0, "one", 1),), 0)
    states = scheduler.run(runs, lambda statuses: None)
    assert states[runs[-1].id] == "done" and scheduler.exit_code == 0
