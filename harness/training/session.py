"""One run from its folder to its result: the only place where trainer, checkpoints and metrics meet."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from harness.code.engine import ROOTS, Engine, loaded
from harness.data.caption_counts import count_captions
from harness.exit_codes import INTERRUPTED
from harness.files import write_json
from harness.ideas.load import load_ideas
from harness.metrics.definitions import headlines
from harness.metrics.measure import cards, measure, sanity
from harness.runs.device_kind import IN_WORDS, begun_on, refuse_to_go_on
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck
from harness.runs.record import Point, Result, Run
from harness.scheduler.slots import Slot
from harness.scheduler.time_left import measured_at
from harness.training import checkpoint, cost, warm_start
from harness.training.checkpoint import digest, of_generator, write_tensors
from harness.training.clock import Clock
from harness.training.ranks import unit_of
from harness.training.setup import Prepared, prepare, refuse_other_inputs
from harness.training.signals import Signals, Stopped
from harness.training.team import Orders, Team
from harness.training.trainer import Trainer

for part in ROOTS:
    loaded(part)  # hashed now, as the files may change while the grid is under way
ENGINE = Engine(loaded("training"), loaded("measuring"))
LOG_POINTS = 100
"""A run's log has about so many points, however long it is."""
STATUS_SECONDS = 0.5
"""Shortest time between two updates of the status by the log."""
SILENCE_SECONDS = 30.0
"""Longest time without an update of the status, whether the run trains or is measured."""
CHECKPOINTS = "checkpoint"
"""The folder of training states, in the run's."""
CHECKPOINT_SECONDS = 30.0
"""Time from one checkpoint to the next."""
CHECKPOINT_SHARE = 0.01
"""Checkpoints take at most this share of a run's time: those that take long to write are written less often."""


def execute(folder: Path, slot: Slot, claim: ClaimCheck) -> None:
    """Train and measure the run in `folder`, from its newest checkpoint if there is one, unless it has its result.

    Leaves generator.safetensors and, last of all, result.json behind. Raises Diverged when a loss or image is no longer
    finite, ClaimLost when another scheduler has taken the run over, OSError when the disk is full; exits with
    `INTERRUPTED` after a checkpoint when SIGTERM asked it to stop.
    """
    signals = Signals()
    torch.set_num_threads(slot.threads)
    run_folder = RunFolder(folder)
    if run_folder.result() is not None:
        return
    run = run_folder.run()
    refuse_to_go_on(folder, run, slot.torch_device)
    with Team(slot, folder, partial(follow, run, folder)) as team:
        try:
            with signals.breakable():
                prepared = prepare(run.settings, slot.torch_device, run.fingerprints["data"], load_ideas(run))
                trainer = prepared.trainer(run.seed)
                refuse_other_inputs(run)
                trainer.ranks = team.meet(unit_of(run.settings))
            Session(run_folder, claim, prepared, trainer, team, signals).train()
        except Stopped:
            sys.exit(INTERRUPTED)


def follow(run: Run, folder: Path, orders: Orders) -> None:
    """The part in the run of a process other than its own: it takes the same steps, and writes nothing."""
    orders.wait()  # what rank 0 has computed is in the cache now
    torch.set_num_threads(orders.slot.threads)
    prepared = prepare(run.settings, orders.slot.torch_device, run.fingerprints["data"], load_ideas(run))
    trainer = prepared.trainer(run.seed)
    trainer.ranks = orders.meet(unit_of(run.settings))
    for what, step in orders:
        if what == "step":
            trainer.step(step)
        elif what == "compare":
            trainer.ranks.refuse_drift(checkpoint.fingerprint(trainer))
        elif step:
            checkpoint.load_step(trainer, folder / CHECKPOINTS, step, run.id)
        else:
            warm_start.begin(trainer, run)


def measure_scale(run: Run, slot: Slot, path: Path) -> None:
    """Prepare data and features into the cache, and write the sanity rows of real images to `path` as JSON."""
    torch.set_num_threads(slot.threads)
    settings, data = run.settings, run.fingerprints["data"]
    prepared = prepare(settings, slot.torch_device, data)
    for clip in (settings.encoders.clip, settings.metrics.clip):
        for given in {(), prepared.manifest.given}:
            count_captions(data, clip, with_torch=True, given=given)  # plans read it, and load no torch
    refuse_other_inputs(run)
    write_json(path, sanity(prepared.corpus.dataset, prepared.manifest, prepared.references))


class Session:
    """A run under way. Before anything is written, `claim` is checked: another scheduler may have taken the run."""

    def __init__(
        self,
        folder: RunFolder,
        claim: ClaimCheck,
        prepared: Prepared,
        trainer: Trainer,
        team: Team,
        signals: Signals,
    ) -> None:
        self.folder, self.claim, self.signals = folder, claim, signals
        self.prepared, self.trainer, self.team = prepared, trainer, team
        self.settings, self.run_id = prepared.settings, folder.run().id
        self.checkpoints = folder.path / CHECKPOINTS
        train = self.settings.train
        self.total = self.settings.total_steps
        self.snapshots = measured_at(self.total, train.snapshots)
        self.log_every = max(1, self.total // LOG_POINTS)
        self.lazy = {"discriminator/r1": train.r1_interval, "generator/path_length": train.pl_interval}
        self.lazy |= {f"{idea.player}/{idea.name}": idea.every for idea in prepared.ideas.of("penalty")}
        self.clock = Clock(folder.status().seconds)
        self.pause = CHECKPOINT_SECONDS
        self.done = self.saved = self.logged = 0
        """Steps that are taken, in the newest checkpoint, and in the log."""
        self.shown = 0
        """The step by which an attempt has taken every kind of step, and has reached its largest memory."""
        self.training_peak = self.held_memory = 0.0

    def train(self) -> None:
        """Go on from the newest checkpoint to the end. Raises Stopped, after a checkpoint, on SIGTERM."""
        self._resume()
        try:
            if self.done in self.snapshots and not self._is_measured():
                self._snapshot()
            while self.done < self.total:
                self.signals.check()
                self._step()
            self._finish()
        except Stopped:
            if self.done > self.saved:
                self._save()
            raise

    def _resume(self) -> None:
        """Bring trainer, points and status to where the newest checkpoint is."""
        self.claim.check()
        self.done = self.saved = self.logged = checkpoint.restore(self.trainer, self.checkpoints, self.run_id)
        self.folder.sweep()
        self.folder.rewind(self.done or -1)
        run = self.folder.run()
        began, here = run.engine, cost.hardware(self.prepared.device, self.trainer.ranks.count)
        self.folder.made_by(began.then(ENGINE) if self.done else ENGINE, here, goes_on=self.done > 0)
        if self.done and began != ENGINE:
            print(f"goes on at step {self.done} by other code than it was begun by", file=sys.stderr)
        if self.done and begun_on(run) is None:
            where = f"on {IN_WORDS[self.prepared.device]}; an earlier version began it, and did not note on what"
            print(f"goes on at step {self.done} {where}", file=sys.stderr)
        if self.done == 0:
            for line in warm_start.begin(self.trainer, self.folder.run()):
                print(line)
            self.prepared.grid.write_real(self.folder.path / "samples")
        self.team.order("begin", self.done)
        self._refuse_drift()
        ranks, before = self.trainer.ranks.count, self.folder.status().ranks
        if self.done and ranks != before:
            now = f"{ranks} process{'es' * (ranks > 1)}"
            print(f"goes on at step {self.done} in {now}, {before} before: the same but for rounding")
        self.shown = self.done + max(self.lazy.values())
        cost.forget_peak()
        self._update(step=self.done, total_steps=self.total, ranks=ranks)

    def _is_measured(self) -> bool:
        """Whether the snapshot of this step was taken before the run was stopped."""
        points = (point for point in self.folder.points() if point.step == self.done)
        return any(name.startswith("metrics/") for point in points for name in point.values)

    def _step(self) -> None:
        self.team.order("step", self.done)
        step, losses = self.done, self.trainer.step(self.done)
        self.done += 1
        # A lazy regulariser may miss the step that is logged: of each logging interval, its first loss is.
        taken = {name: losses.pop(name) for name in self.lazy if name in losses}
        every = self.log_every
        lazy = {n: float(loss) for n, loss in taken.items() if step // every != (step - self.lazy[n]) // every}
        if self.done % self.log_every == 0:
            self._log(losses)
        elif self.done == self.shown or self.clock.due("status", SILENCE_SECONDS):
            self._show(losses, self.clock.since_lap() / (self.done - self.logged))
        if lazy:
            self._append(lazy)
        if self.done in self.snapshots:
            self._snapshot()
        asked, due = self.signals.wants_checkpoint(), self.clock.due("checkpoint", self.pause)
        if asked or due or self.done == self.total:
            self._save()

    def _log(self, losses: dict[str, Tensor]) -> None:
        """A point of the log: losses, time, and the memory and load of the process as MLflow names them."""
        seconds, self.logged = self.clock.lap() / (self.done - self.logged), self.done
        self._note_training_peak()
        costs = {
            cost.SECONDS_PER_KIMG: seconds / self.settings.train.batch * 1000,
            cost.TRAINING_PEAK: self.training_peak,
            "system/process_memory_megabytes": psutil.Process().memory_info().rss / 2**20,
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
        }
        self._append({name: float(value) for name, value in losses.items()} | costs)
        if self.clock.due("status", STATUS_SECONDS):
            self._show(losses, seconds)

    def _show(self, losses: dict[str, Tensor], seconds: float) -> None:
        """Where the run stands, at so many seconds a step; no point of it is written."""
        totals = {"G": float(losses["generator/total"]), "D": float(losses["discriminator/total"])}
        rate = self.settings.train.batch / seconds
        self._note_training_peak()
        held = {"memory_mib": self.held_memory} if self.done >= self.shown else {}  # by every kind of step
        self._update(step=self.done, images_per_s=rate, last=totals, seconds=self.clock.total(), **held)

    def _note_training_peak(self) -> None:
        self.training_peak = max(self.training_peak, cost.peak_memory_mb())
        self.held_memory = max(self.held_memory, cost.held_memory_mib())

    def _snapshot(self) -> None:
        """Measure the averaged generator and draw its sample grid."""

        def sign_of_life(*_: Any) -> None:
            if self.clock.due("status", SILENCE_SECONDS):
                self._update(step=self.done, seconds=self.clock.total())

        averaged, prepared = self.trainer.networks.averaged, self.prepared
        self.trainer.finite.check()
        self._note_training_peak()
        cost.forget_peak()
        self.trainer.graphs.make_room()
        began = self.clock.total()
        self._update(step=self.done, seconds=began, measuring=True)
        hook = averaged.register_forward_pre_hook(sign_of_life)  # before each batch of images
        with self.clock.paused():
            with self.signals.breakable():
                values = measure(averaged, self.settings.generator.z_dim, prepared.manifest, prepared.references)
            hook.remove()
            self.claim.check()
            prepared.grid.write(averaged, self.folder.path / "samples" / f"{self.done:09d}.png", prepared.device)
            measured = {f"metrics/{name}": value for name, value in values.items()}
            self._append(measured | {cost.MEASURING_PEAK: cost.peak_memory_mb()})
        cost.forget_peak()
        about = cards(prepared.manifest, prepared.references)
        self._update(measuring=False, scores=headlines(values, about), measuring_s=self.clock.total() - began)

    def _append(self, values: dict[str, float]) -> None:
        self.trainer.finite.check()
        self.claim.check()
        self.folder.append(Point(self.done, self.done * self.settings.train.batch / 1000, time.time(), values))

    def _update(self, **changes: Any) -> None:
        self.claim.check()
        self.folder.update(**changes)

    def _save(self) -> None:
        """A checkpoint of this step, after the points that it covers are on the disk."""
        self.trainer.finite.check()
        self.claim.check()
        started = time.perf_counter()
        with self.clock.paused():
            self._refuse_drift()
            self.folder.secure()
            checkpoint.save(self.trainer, self.checkpoints, self.done, self.run_id)
        self.saved = self.done
        self.pause = max(CHECKPOINT_SECONDS, (time.perf_counter() - started) / CHECKPOINT_SHARE)
        self._update(step=self.done, seconds=self.clock.total())

    def _refuse_drift(self) -> None:
        """What is saved must be what every rank has. Raises RuntimeError."""
        if self.trainer.ranks.count > 1:
            self.team.order("compare")
            self.trainer.ranks.refuse_drift(checkpoint.fingerprint(self.trainer))

    def _finish(self) -> None:
        """The generator's file and, last of all, the result."""
        self.trainer.graphs.release()
        self.claim.check()
        weights = {k: v.detach().cpu().contiguous() for k, v in self.trainer.networks.averaged.state_dict().items()}
        meta = {"run": self.run_id} | of_generator(self.settings.generator)
        write_tensors(self.folder.path / "generator.safetensors", weights, meta)
        measured = [point.values for point in self.folder.points() if point.step == self.total]
        metrics = {k.removeprefix("metrics/"): v for values in measured for k, v in values.items() if "metrics/" in k}
        about = {
            name: {**card, "engine": ENGINE.measuring}
            for name, card in cards(self.prepared.manifest, self.prepared.references).items()
            if name in metrics  # R-precision is nothing where every caption fits every image
        }
        result = Result(metrics, about, self._costs(), digest(weights, {}))
        self._update(memory_mib=max(self.held_memory, cost.held_memory_mib()))
        self.claim.check()
        self.folder.finish(result)

    def _costs(self) -> dict[str, float]:
        networks, points = self.trainer.networks, self.folder.points()
        costs = {
            "s_per_kimg": cost.seconds_per_kimg(points),
            "seconds": self.clock.total(),
            "peak_memory_training_mb": cost.largest(points, cost.TRAINING_PEAK),
            "peak_memory_measuring_mb": cost.largest(points, cost.MEASURING_PEAK),
            "generator_mparams": cost.million_parameters(networks.generator),
            "discriminator_mparams": cost.million_parameters(networks.discriminator),
        }
        try:
            with self.signals.breakable():
                costs["gflops_per_step"] = cost.gflops_per_step(self.prepared.trainer(self.trainer.seed))
        except torch.OutOfMemoryError:
            print("no memory for a second trainer: gflops_per_step is left out", file=sys.stderr)
        return costs
