"""Stand-ins for a training: functions that a scheduler can execute, and the plan to execute them for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from harness.errors import DataError, Diverged
from harness.ideas.read import CodeError
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck
from harness.runs.record import Point, Result, Run
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from harness.settings import DataConfig, Settings, TrainConfig
from harness.terminal import progress

SETTINGS = Settings(data=DataConfig(resolution=32), train=TrainConfig(kimg=0.16, batch=16))
TOTAL_STEPS = 10


def make_run(cell: str, seed: int = 0) -> Run:
    """A planned run whose cell's name tells `act` what to do."""
    run_id = f"{cell}{seed}".encode().hex()[-12:].rjust(12, "0")
    return Run(run_id, "emoji", cell, seed, (cell,), SETTINGS, {"data": "d" * 64, "clip": "c" * 64})


def scheduler(root: Path, slots: tuple[Slot, ...], retries: int, **options: Any) -> Scheduler:
    """One that executes `act`. All of a process come from one fork server, so all ask it for the same modules."""
    return Scheduler(root, slots, act, retries, ("colorsys",), **options)


def act(folder: Path, slot: Slot, claim: ClaimCheck) -> None:
    """Do what the cell is named after, and count in `calls` how often the run was executed."""
    with (folder / "calls").open("a") as file:
        file.write(f"{os.getpid()} {slot.index}\n")
    what = RunFolder(folder).run().cell.split("-")[0]
    if what == "eager":
        eager(folder, claim)
    else:
        globals()[what](folder, slot)


def calls(folder: Path) -> int:
    path = folder / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def ok(folder: Path, slot: Slot) -> None:
    """Write points and a result."""
    print("training on", slot.device)
    for step in range(1, TOTAL_STEPS + 1):
        write_point(folder, step)
    RunFolder(folder).update(step=TOTAL_STEPS, total_steps=TOTAL_STEPS, seconds=1.0, images_per_s=160.0)
    finish(folder)


def finish(folder: Path) -> None:
    RunFolder(folder).finish(Result({"kid": 0.25}, {"kid": {"samples": 64}}, {"seconds": 1.0}))


def slow(folder: Path, slot: Slot) -> None:
    for step in range(TOTAL_STEPS + 1):
        RunFolder(folder).update(step=step, total_steps=TOTAL_STEPS)
        time.sleep(0.3)
    finish(folder)


def steady(folder: Path, slot: Slot) -> None:
    """Two seconds of work, after a step that shows."""
    RunFolder(folder).update(step=1, total_steps=TOTAL_STEPS, images_per_s=1.0)
    time.sleep(2)
    finish(folder)


def environment(folder: Path, slot: Slot) -> None:
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    lines = [f"{name}={os.environ[name]}" for name in names]
    lines += [f"session={os.getsid(0) == os.getpid()}", f"preloaded={'colorsys' in sys.modules}"]
    lines += [f"server={os.getppid()}"]
    (folder / "environment").write_text("\n".join(lines))
    finish(folder)


def survived(folder: Path, slot: Slot) -> None:
    """Be done, with a child that ends between the look for children and the signal to them."""
    with subprocess.Popen(["true"]) as child:
        ended = psutil.Process(child.pid)
    psutil.Process.children = lambda *_, **__: [ended]  # type: ignore[method-assign]
    finish(folder)


def empty(folder: Path, slot: Slot) -> None:
    """End well, with no result."""


def memory(folder: Path, slot: Slot) -> None:
    raise MemoryError("no room for a tensor")


def storage(folder: Path, slot: Slot) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(folder / "checkpoint"))


def mute(folder: Path, slot: Slot) -> None:
    """As storage, with no room for the log either."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.dup2(full, 2)
    print("nobody reads this")
    storage(folder, slot)


def device(folder: Path, slot: Slot) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def picky(folder: Path, slot: Slot) -> None:
    """Meet a fault on the GPU called "broken", and be done elsewhere."""
    if slot.device == "broken":
        device(folder, slot)
    finish(folder)


def thrown(folder: Path, slot: Slot) -> None:
    """As C++ ends a process after an exception that nobody caught, long after the words that tell why."""
    print(
        "terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: unspecified launch failure"
    )
    print("\n".join(f"frame #{number}: <unknown function>" for number in range(20)), flush=True)
    os.kill(os.getpid(), signal.SIGABRT)


def terminated(folder: Path, slot: Slot) -> None:
    """What an operator's `kill` leads to: a checkpoint and exit 143, though the scheduler asked for nothing."""
    if not (folder / "checkpoint").exists():
        (folder / "checkpoint").write_text("here")
        sys.exit(143)
    finish(folder)


def save(folder: Path, slot: Slot) -> None:
    """End well on SIGUSR1."""
    saved: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: saved.append(number))
    RunFolder(folder).update(step=1, total_steps=TOTAL_STEPS)
    while not saved:
        time.sleep(0.02)
    finish(folder)


def fail(folder: Path, slot: Slot) -> None:
    print("about to fail")
    raise ValueError("the data is upside down")


def late(folder: Path, slot: Slot) -> None:
    """Fail once another run has made a step."""
    while not any(RunFolder(path.parent).status().step for path in folder.parent.glob("*/status.json")):
        time.sleep(0.02)
    fail(folder, slot)


def unusable(folder: Path, slot: Slot) -> None:
    raise DataError("cat.png: not an image")


def diverge(folder: Path, slot: Slot) -> None:
    raise Diverged("step 7: the generator's loss is nan")


def killed(folder: Path, slot: Slot) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(folder: Path, slot: Slot) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def nameless(folder: Path, slot: Slot) -> None:
    """Die of a real-time signal that has no name."""
    os.kill(os.getpid(), signal.SIGRTMIN + 11)


def flaky(folder: Path, slot: Slot) -> None:
    """Fail after a checkpoint at step 5, then continue from it."""
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        checkpoint.write_text("5")
        raise RuntimeError("CUDA out of memory")
    RunFolder(folder).update(step=int(checkpoint.read_text()) + 5)
    finish(folder)


def sleep(folder: Path, slot: Slot) -> None:
    """Step for ever; on SIGTERM write a checkpoint and exit 143."""

    def leave(*_: object) -> None:
        (folder / "checkpoint").write_text("here")
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)
    RunFolder(folder).update(step=1, total_steps=TOTAL_STEPS)
    while True:
        time.sleep(0.02)


def eager(folder: Path, claim: ClaimCheck) -> None:
    """Write points for ever, each as far as the run is still this process's."""
    for step in range(1, 100_000):
        claim.check()
        write_point(folder, step)
        time.sleep(0.005)


def brood(folder: Path, slot: Slot) -> None:
    """Like sleep, with a process of its own that ignores SIGTERM."""
    child = subprocess.Popen([sys.executable, "-c", STUBBORN])
    (folder / "child").write_text(str(child.pid))
    sleep(folder, slot)


def stubborn(folder: Path, slot: Slot) -> None:
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    RunFolder(folder).update(step=1)
    time.sleep(LONG_S)


def touch(path: Path) -> None:
    path.touch()


def count_to_three() -> None:
    progress._LINE_S = 0.0
    with progress.counted("counting", 3) as advance:
        for _ in range(3):
            advance(1)
            time.sleep(0.2)


def refuse() -> None:
    raise DataError("no such data")


def refuse_code() -> None:
    raise CodeError(["ideas.py:3: a mistake"], [(0, "ideas.txt is no .py file")])


def read_half_a_file() -> None:
    raise EOFError("the file ends early")


class Unsendable(Exception):
    """An error that no process can send to another."""

    def __reduce__(self) -> str:
        raise TypeError("no")


class Unreadable(Exception):
    """An error that another process could not make again."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} {where}")


def raise_unreadable() -> None:
    raise Unreadable("lost", "there")


def raise_unsendable() -> None:
    raise Unsendable("here")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave_a_thread() -> int:
    """One that a process would wait for before it ends."""
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return 7


def linger(path: str) -> None:
    """Leave the process id at `path`, whole, and stay."""
    Path(f"{path}.part").write_text(str(os.getpid()))
    Path(f"{path}.part").rename(path)
    time.sleep(LONG_S)


LONG_S = 1000
"""Longer than any test waits, so that a process of these ends because it was killed."""
STUBBORN = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep({LONG_S})"


def point(step: int, **values: float) -> Point:
    """Training point `step`, at 16 images a step, with a time that tells attempts apart by nothing."""
    return Point(step, step * 0.016, 1_700_000_000.0 + step, values or {"generator/total": float(step), "lr": 0.5})


def write_point(folder: Path, step: int) -> None:
    RunFolder(folder).append(point(step))
