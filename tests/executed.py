"""A run that trains for real on random images, its encoders and measurements replaced by cheap ones."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from harness.ideas.load import OwnIdeas
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck
from harness.runs.record import Run
from harness.scheduler.slots import Slot
from harness.training import session as module
from harness.training.trainer import Trainer
from runs import settings, trainer, weights

STEPS, SNAPSHOTS = 10, (0, 5, 10)
SETTINGS = settings("transform_w", r1_interval=3, pl_interval=2)
RUN = Run("0123456789ab", "study", "transform_w", 0, ("transform_w",), SETTINGS, {"data": "0" * 16})
Hook = Callable[[str], None]


class Grid:
    """In the place of the sample grid."""

    def write_real(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "real.png").write_bytes(b"real")

    def write(self, generate: Any, path: Path, device: str) -> None:
        path.write_bytes(weights(generate).numpy().tobytes())


def install(replace: Callable[[object, str, Any], None], hook: Hook = lambda what: None) -> None:
    """Put the cheap parts into the module by `replace(object, name, value)`; `hook(what)` is called amid each part."""

    def prepare(*_: Any) -> Any:
        hook("prepare")
        make = lambda seed: trainer(SETTINGS, seed)  # noqa: E731
        return SimpleNamespace(
            settings=SETTINGS,
            manifest=None,
            references=None,
            grid=Grid(),
            device="cpu",
            trainer=make,
            ideas=OwnIdeas(),
        )

    def measure(generate: Any, *_: Any) -> dict[str, float]:
        hook("measure")
        return {"fd": float(weights(generate).double().square().sum())}

    def gflops(_: Trainer) -> float:
        hook("gflops")
        return 1.0

    step = Trainer.step

    def stepped(self: Trainer, number: int) -> dict[str, torch.Tensor]:
        hook("step")
        return step(self, number)

    replace(module, "prepare", prepare)
    replace(module, "measure", measure)
    replace(module, "cards", lambda *_: {})
    replace(module.cost, "gflops_per_step", gflops)
    replace(Trainer, "step", stepped)


def execute(folder: Path, ranks: int = 1) -> int:
    """The exit code of the run in this process, and others if several share it."""
    RunFolder(folder).create(RUN)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        module.execute(folder, Slot(0, "cpu", 1, ranks), ClaimCheck(folder, ""))
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


class At:
    """A hook that does something in the midst of the n-th call of a part: `{("step", 0): act}` in the first step."""

    def __init__(self, acts: dict[tuple[str, int], Callable[[], None]]) -> None:
        self.acts, self.calls = acts, Counter[str]()

    def __call__(self, what: str) -> None:
        self.calls[what] += 1
        self.acts.get((what, self.calls[what] - 1), lambda: None)()


def calm() -> Iterator[None]:
    """Signals and threads as they were."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before, threads = {number: signal.getsignal(number) for number in numbers}, torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def long_work(number: int) -> None:
    """A signal, and then work that only an exception can end in time."""
    os.kill(os.getpid(), number)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.01)
    raise AssertionError("the signal did not end this work")


def left(folder: Path) -> dict[str, Any]:
    """All that a run leaves but times and machine load: points in order, newest state, generator, result, pictures."""
    run = RunFolder(folder)
    result = run.result()
    newest = max((folder / "checkpoint").glob("0*.safetensors"))
    assert result is not None
    return {
        "points": [(point.step, point.kimg, measured(point.values)) for point in run.points()],
        "state": (newest.name, newest.read_bytes()),
        "generator": (folder / "generator.safetensors").read_bytes(),
        "metrics": result.metrics,
        "samples": {path.name: path.read_bytes() for path in (folder / "samples").iterdir()},
        "names": sorted(path.name for path in folder.iterdir()),
    }


def measured(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not name.startswith(("training/", "system/"))}


def steps(folder: Path) -> list[int]:
    """Those whose states are there."""
    return sorted(int(path.name.split(".")[0]) for path in (folder / "checkpoint").glob("0*.safetensors"))
