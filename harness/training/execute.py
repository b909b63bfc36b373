"""One run from its folder to its result: the only place where trainer, checkpoints and metrics meet."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from harness.metrics.measure import cards, measure, sanity
from harness.records import Point, Result, Run, RunFolder, write_json
from harness.running import worker
from harness.running.slots import Slot
from harness.study.settings import from_dict
from harness.training import checkpoint, cost
from harness.training.prepare import Prepared, prepare
from harness.training.trainer import Trainer

STATUS_SECONDS = 0.5
CHECKPOINT_SECONDS = 30.0
LOG_POINTS = 100


def execute(folder: Path, slot: Slot) -> None:
    """Train and measure the run in `folder`, from its newest checkpoint if there is one.

    Leaves result.json and generator.safetensors behind. Raises Diverged when a loss or image is no longer finite, and
    exits with `worker.INTERRUPTED` after a checkpoint when SIGTERM asked it to stop.
    """
    torch.set_num_threads(slot.threads)
    stop = _StopSignal()
    run_folder = RunFolder(folder)
    run = run_folder.run()
    prepared = prepare(from_dict(run.settings), slot.torch_device, run.fingerprints["data"])
    session = Session(run_folder, prepared, prepared.trainer(run.seed), run.id)
    if not session.train(stop):
        sys.exit(worker.INTERRUPTED)


class Session:
    """A run under way."""

    def __init__(self, folder: RunFolder, prepared: Prepared, trainer: Trainer, run_id: str) -> None:
        self.folder, self.prepared, self.trainer, self.run_id = folder, prepared, trainer, run_id
        self.settings = prepared.settings
        self.total = self.settings.total_steps
        parts = self.settings.train.snapshots
        self.snapshots = {round(self.total * part / parts) for part in range(parts + 1)}
        self.log_every = max(1, self.total // LOG_POINTS)
        self.clock = _Clock(folder.status().seconds)
        train = self.settings.train
        self.lazy = {"discriminator/r1": train.r1_interval, "generator/path_length": train.pl_interval}

    def train(self, stop: Callable[[], bool]) -> bool:
        """Go on from the newest checkpoint to the end. False if `stop` asked for an earlier one."""
        start = checkpoint.restore(self.trainer, self._checkpoints, self.run_id)
        self.folder.rewind(start)
        if start == 0:
            self.prepared.grid.write_real(self.folder.path / "samples")
            self._snapshot(0)
        self.folder.update(step=start, total_steps=self.total)
        self.logged = start
        for step in range(start, self.total):
            losses = self.trainer.step(step)
            self._after(step + 1, losses)
            if stop() and step + 1 < self.total:
                self._save(step + 1)
                return False
        self._finish()
        return True

    def _after(self, done: int, losses: dict[str, Tensor]) -> None:
        rare = {name: float(losses.pop(name)) for name in self.lazy if name in losses}
        if done % self.log_every == 0:
            self._log(done, losses)
        if rare := {name: value for name, value in rare.items() if self._first_of_interval(done, name)}:
            self._append(done, rare)
        if done in self.snapshots:
            self._snapshot(done)
        if self.clock.due("checkpoint", CHECKPOINT_SECONDS) or done == self.total:
            self._save(done)

    def _first_of_interval(self, done: int, name: str) -> bool:
        """Whether a regulariser that just took its step had not taken one yet in this logging interval."""
        step = done - 1
        return step // self.log_every != (step - self.lazy[name]) // self.log_every

    def _log(self, done: int, losses: dict[str, Tensor]) -> None:
        values = {name: float(value) for name, value in losses.items()}
        seconds, self.logged = self.clock.lap() / (done - self.logged), done
        values[cost.SECONDS_PER_KIMG] = seconds / self.settings.train.batch * 1000
        self._append(done, values | _system())
        if self.clock.due("status", STATUS_SECONDS):
            rate = self.settings.train.batch / seconds
            self.folder.update(step=done, images_per_s=rate, last=_totals(values), seconds=self.clock.total())

    def _snapshot(self, done: int) -> None:
        with self.clock.paused():
            averaged, prepared = self.trainer.networks.averaged, self.prepared
            values = measure(averaged, self.settings.generator.z_dim, prepared.manifest, prepared.references)
            prepared.grid.write(averaged, self.folder.path / "samples" / f"{done:09d}.png", prepared.device)
            self._append(done, {f"metrics/{name}": value for name, value in values.items()})

    def _append(self, done: int, values: dict[str, float]) -> None:
        self.folder.append(Point(done, done * self.settings.train.batch / 1000, time.time(), values))

    def _save(self, done: int) -> None:
        with self.clock.paused():
            checkpoint.save(self.trainer, self._checkpoints, done, self.run_id)
        self.folder.update(step=done, seconds=self.clock.total())

    def _finish(self) -> None:
        networks = self.trainer.networks
        path = self.folder.path / "generator.safetensors"
        checkpoint.write_tensors(path, dict(networks.averaged.state_dict()), {"run": self.run_id})
        measured = [point.values for point in self.folder.points() if point.step == self.total]
        metrics = {k.removeprefix("metrics/"): v for values in measured for k, v in values.items() if "metrics/" in k}
        self.folder.finish(Result(metrics, cards(self.prepared.manifest, self.prepared.references), self._cost()))

    def _cost(self) -> dict[str, float]:
        networks = self.trainer.networks
        memory = cost.peak_memory_mb()
        costs = {
            "s_per_kimg": cost.seconds_per_kimg(self.folder.points()),
            "seconds": self.clock.total(),
            "peak_memory_mb": memory,
            "generator_mparams": cost.million_parameters([networks.generator]),
            "discriminator_mparams": cost.million_parameters([networks.discriminator]),
        }
        try:
            costs["gflops_per_step"] = cost.gflops_per_step(self.prepared.trainer(self.trainer.seed))
        except torch.OutOfMemoryError:
            print("no memory for a second trainer: gflops_per_step is left out", file=sys.stderr)
        return costs

    @property
    def _checkpoints(self) -> Path:
        return self.folder.path / "checkpoint"


class _Clock:
    """Wall time of an attempt, of a logging interval without the pauses in it, and since something was last done."""

    def __init__(self, earlier: float) -> None:
        self._start = self._lap = time.perf_counter()
        self._earlier = earlier
        self._last: dict[str, float] = {"checkpoint": self._start}

    def total(self) -> float:
        """Seconds of all attempts so far."""
        return self._earlier + time.perf_counter() - self._start

    def lap(self) -> float:
        """Seconds since the last lap, pauses left out."""
        now = time.perf_counter()
        elapsed, self._lap = now - self._lap, now
        return elapsed

    def due(self, what: str, seconds: float) -> bool:
        """Whether `what` was last due at least so long ago."""
        now = time.perf_counter()
        if now - self._last.get(what, 0.0) < seconds:
            return False
        self._last[what] = now
        return True

    def paused(self) -> _Pause:
        return _Pause(self)


class _Pause:
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._entered = time.perf_counter()

    def __exit__(self, *_: Any) -> None:
        self._clock._lap += time.perf_counter() - self._entered


class _StopSignal:
    """Remembers that SIGTERM came; the loop looks after every step."""

    def __init__(self) -> None:
        self._stop = False
        signal.signal(signal.SIGTERM, self._set)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the scheduler's to handle

    def _set(self, *_: Any) -> None:
        self._stop = True

    def __call__(self) -> bool:
        return self._stop


def _system() -> dict[str, float]:
    """Named as MLflow names its system metrics."""
    process = psutil.Process()
    return {
        "system/process_memory_megabytes": process.memory_info().rss / 2**20,
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
    }


def _totals(values: dict[str, float]) -> dict[str, float]:
    return {player[0].upper(): values[f"{player}/total"] for player in ("generator", "discriminator")}


def measure_scale(run: Run, slot: Slot, path: Path) -> None:
    """Prepare data and features into the cache, and write the sanity rows of real images to `path` as JSON."""
    torch.set_num_threads(slot.threads)
    prepared = prepare(from_dict(run.settings), slot.torch_device, run.fingerprints["data"])
    write_json(path, sanity(prepared.corpus.dataset, prepared.manifest, prepared.references))
