"""A run of the study's own training script, from its folder to its result: followed, stopped, measured as any run is.

The script takes the trainer's place and its images the generator's; all else is as in `harness.training.session`.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from harness import cache
from harness.code.engine import SCRIPT, Engine, loaded
from harness.command.images import Images
from harness.command.job import Job, captions_asked, job_of
from harness.command.lines import PREFIX, Line, MetricLines, Thinner
from harness.command.outcome import MOST_FILES, begin_line, changes, end_badly, files_below, last_lines
from harness.command.process import Script
from harness.command.usage import Meter, Usage
from harness.data import dataset as data
from harness.data.caption_counts import count_captions
from harness.data.dataset import Dataset
from harness.errors import DataError, HarnessError
from harness.exit_codes import INTERRUPTED, WHEN_ASKED
from harness.files import read_json, write_json
from harness.metrics.definitions import headlines
from harness.metrics.manifest import Manifest, make_manifest
from harness.metrics.measure import References, cards, load_references, measure, quantise, sanity
from harness.runs.folders import RunFolder, refuse_other
from harness.runs.lease import ClaimCheck
from harness.runs.record import Point, Result, Run
from harness.scheduler.failures import memory_kills
from harness.scheduler.slots import Slot
from harness.text import shortened
from harness.training import cost
from harness.training.clock import Clock
from harness.training.samples import GridColumns, grid_columns, save_row
from harness.training.session import SILENCE_SECONDS, STATUS_SECONDS
from harness.training.setup import refuse_other_inputs
from harness.training.signals import Signals, Stopped

loaded("measuring")  # hashed now, as the files may change while the grid is under way
POLL_SECONDS = 0.2


def execute(folder: Path, slot: Slot, claim: ClaimCheck) -> None:
    """As `harness.training.session.execute`, for a run with a command."""
    signals = Signals()
    torch.set_num_threads(slot.threads)
    run_folder = RunFolder(folder)
    if run_folder.result() is not None:
        return
    try:
        ScriptSession(run_folder, slot, claim, signals).carry_out()
    except Stopped:
        sys.exit(INTERRUPTED)


def measure_scale(run: Run, slot: Slot, path: Path) -> None:
    """As `harness.training.session.measure_scale`."""
    torch.set_num_threads(slot.threads)
    measuring = Measuring(run, slot.torch_device)
    clip, given = run.settings.metrics.clip, measuring.manifest.given
    for each in {(), given}:
        count_captions(run.fingerprints["data"], clip, with_torch=True, given=each)
    references = measuring.references
    write_json(path, sanity(measuring.dataset, measuring.manifest, references))


class Measuring:
    """What a script's images are measured with; networks are loaded when the first image is."""

    def __init__(self, run: Run, device: str) -> None:
        self._run, self._device = run, device
        self.dataset: Dataset = data.load(run.settings.data, cache.root(), run.fingerprints["data"])
        self.manifest: Manifest = make_manifest(self.dataset, run.settings)
        columns = grid_columns(self.dataset, run.settings.metrics.seed, self.manifest.given)
        there = [at for at, caption in enumerate(columns.captions) if caption is not None]
        self.columns = GridColumns(
            tuple(columns.ids[at] for at in there), tuple(columns.captions[at] for at in there), columns.real[there]
        )

    @cached_property
    def references(self) -> References:
        """Raises HarnessError where torch cannot use the device, or a network is not what was planned with."""
        if self._device == "cuda" and not torch.cuda.is_available():
            problem = f"nvidia-smi lists a GPU, but torch {torch.__version__} cannot use it"
            raise HarnessError(
                f"{problem}; update the driver, or set CUDA_VISIBLE_DEVICES= to measure on the processor"
            )
        references = load_references(self.dataset, self.manifest, self._device)
        refuse_other_inputs(self._run)
        return references


class ScriptSession:
    """The run under way. Before anything of it is written, `claim` is checked: another scheduler may have taken it."""

    def __init__(self, folder: RunFolder, slot: Slot, claim: ClaimCheck, signals: Signals) -> None:
        self.folder, self.slot, self.claim, self.signals = folder, slot, claim, signals
        self.run = folder.run()
        self.clock = Clock(folder.status().seconds)
        self.job: Job = job_of(self.run, folder.path.absolute())
        self.remarks: set[str] = set()
        """What we have printed into its output since it was started."""
        self.lines = MetricLines(self.job.metrics, self._tell)
        self.notes: Counter[str] = Counter()
        """What else it has left that was not used, or not as it is: what -> how much of it at once."""
        self.earlier = Counter(folder.status().script_notes if self.job.file.exists() else ())
        """The notes of earlier attempts."""
        self.thinner = Thinner(self.lines.leave_out)
        self.step, self.measured = 0, -1
        """The newest step that was reported, and the newest that was measured, which may be step 0."""
        self.total = folder.status().total_steps
        self.last: dict[str, float] = {}
        """The newest values, for those who watch."""
        self.usage = Usage(**read_json(self.job.usage)) if self.job.usage.exists() else Usage()
        self.meter: Meter | None = None
        """Of the script, once this attempt has started it."""
        self.has_begun = False
        """Whether this attempt has reported a step."""

    def carry_out(self) -> None:
        """The script to its end, then its images. Raises Stopped once the script has ended after SIGTERM."""
        with self.signals.breakable():
            self.measuring = Measuring(self.run, self.slot.torch_device)
            asked = captions_asked(self.measuring.dataset, self.measuring.manifest, self.measuring.columns)
        self.asked = len(asked)
        self._catch_up()
        if not self.job.ended.exists():
            self.job.write(asked)
            self._train()
        self._finish(Usage(**read_json(self.job.ended)))

    def _catch_up(self) -> None:
        """Bring points and status to where earlier attempts have come."""
        self.claim.check()
        here, goes_on = cost.hardware(self.slot.torch_device, self.slot.ranks), self.job.file.exists()
        self.folder.sweep()
        if not goes_on:
            self.folder.rewind(-1)
        self.folder.made_by(Engine(SCRIPT, loaded("measuring")), here, goes_on=goes_on)
        if not goes_on:
            self.measuring.columns.write_real(self.folder.path / "samples")
        points = self.folder.points()
        own = [point for point in points if any(name.startswith(PREFIX) for name in point.values)]
        for point in own:
            self.thinner.note(point)
        self.step = max((point.step for point in points), default=0)
        self.measured = max((p.step for p in points if any(n.startswith("metrics/") for n in p.values)), default=-1)
        for line in self.lines.catch_up(own[-1] if own else None):
            self._take(line)
        self._update()

    def _train(self) -> None:
        """Start the script and follow it to its end; a bad one ends this process."""
        log, before, kills = self.folder.path / "log.txt", files_below(self.job.study), memory_kills()
        if len(before) >= MOST_FILES:
            self._tell(
                f"more than {MOST_FILES:,} files lie beside the study: whether the script writes there is not told"
            )
        sys.stdout.flush()
        begin = log.stat().st_size if log.exists() else 0
        script = Script(self.job.words(), self.job.code, self.job.file)
        self.meter = Meter(script, self.usage, self.slot.torch_device == "cuda")
        try:
            code = self._follow(script, self.meter)
        except Stopped:
            code = script.stop()
            self._read(at_end=True)
            if code in WHEN_ASKED:
                raise
        finally:
            script.kill()
            self._update()
        if not self.job.folder.is_dir():
            fix = "the script may remove what it has made there, and not the folder"
            raise DataError(f"{self.job.folder}: is gone since the script was started; {fix}")
        refuse_other(self.folder.run(), self.run, self.folder.path)
        for told in self.lines.told_at_end():
            self._tell(told)
        if written := changes(before, files_below(self.job.study), self.job.study):
            what = "files outside its folder, written while it ran"
            fix = "if it was the script, runs get in each other's way: its own place is the folder of its job"
            self._note(what, len(written), f"{shortened(written)}; {fix}")
        if code:
            end_badly(code, log, last_lines(log, begin, self.remarks), memory_kills() > kills)
        write_json(self.job.ended, asdict(self.meter.usage), durable=True)
        self.signals.check()

    def _follow(self, script: Script, meter: Meter) -> int:
        """Read what it reports until it has ended; its exit code. Raises Stopped, and HarnessError after its time."""
        hours = self.run.settings.command.hours
        while (code := script.wait(POLL_SECONDS)) is None:
            meter.look()
            self._read()
            self.signals.check()
            if hours and meter.usage.seconds > hours * 3600:
                script.stop()
                self._read(at_end=True)
                fix = "raise it and ask again: the script is started again in the folder that it has now"
                raise HarnessError(f"the script has taken longer than command.hours = {hours:g}; {fix}")
            if self.clock.due("status", SILENCE_SECONDS):
                self._update()
        self._read(at_end=True)
        return code

    def _read(self, at_end: bool = False) -> None:
        """What it has reported since; its first step says from where this attempt goes on."""
        lines = self.lines.new(at_end)
        if lines and not self.has_begun:
            self.has_begun = True
            self._go_on_at(lines[0].step)
        for line in lines:
            self._take(line)
        if lines and self.clock.due("lines", STATUS_SECONDS):
            self._update()

    def _go_on_at(self, step: int) -> None:
        """Forget what is to be taken anew from that step on."""
        if step <= self.step and self.folder.points():
            self._tell(f"the script goes on at step {step}; it had reported {self.step} before")
            self.claim.check()
            self.folder.rewind(step - 1)
            self.thinner.forget(step)
            self.step, self.measured = step, min(self.measured, step - 1)

    def _take(self, line: Line) -> None:
        if line.step < self.step:
            self.lines.leave_out("a line whose step is below the one before", f"{line.step} after {self.step}")
            return
        self.step, self.total = line.step, line.total or self.total
        if 0 < self.total < line.step:
            self.lines.leave_out("a total that is below the step", f"{self.total} at step {line.step}")
            self.total = line.step
        if values := self.thinner.kept(line):
            self._append(values)
            self.last = {name.removeprefix(PREFIX): value for name, value in list(values.items())[:2]}
        if line.has_samples and line.step > self.measured:
            self._update()
            folder = self.job.samples / str(line.step)
            self._measure(Images(folder, self.asked, self.run.settings.data.resolution))
            shutil.rmtree(folder, ignore_errors=True)
        elif line.has_samples and self.has_begun:
            self.lines.leave_out("a snapshot of a step that was measured before", f"step {line.step}")

    def _measure(self, images: Images) -> dict[str, float]:
        """Measure, draw the sample grid, and add a point."""

        def generate(z: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            if self.clock.due("status", SILENCE_SECONDS):
                self._update()
            return images(z, h)

        manifest, count = self.measuring.manifest, len(self.measuring.columns.captions)
        self._update(measuring=True)
        with self.signals.breakable():
            values = measure(generate, 1, manifest, self.measuring.references)
        self.claim.check()
        if count:
            numbers = torch.arange(len(manifest.images), self.asked, dtype=torch.float32)[:, None]
            drawn = quantise(images(torch.zeros(count, 1), numbers))
            save_row(drawn, self.folder.path / "samples" / f"{self.step:09d}.png")
        for note, number in sorted(images.notes.items()):
            self._note(note, number, images.folder.name)
        if self.measured < self.step:
            peak = {cost.MEASURING_PEAK: cost.peak_memory_mb()}
            self._append({f"metrics/{name}": value for name, value in values.items()} | peak)
        self.measured = self.step
        self._update(measuring=False, scores=headlines(values, cards(manifest, self.measuring.references)))
        return values

    def _finish(self, usage: Usage) -> None:
        """The images of the end, measured, and last of all the result; `usage` is the script's."""
        if self.total > self.step:
            lacking = self.total - self.step
            self._note("steps of its total that it has not reported", lacking, f"it ended at {self.step}")
        self.total = self.step  # before it is measured: to a search, what is measured now is the end
        self._update()
        try:
            images = Images(self.job.samples, self.asked, self.run.settings.data.resolution)
            metrics = self._measure(images)
        except DataError:
            self.job.ended.unlink(missing_ok=True)  # asked again, the script may put right what it has left
            raise
        measured = {p.step for p in self.folder.points() if any(name.startswith("metrics/") for name in p.values)}
        if (lacking := self.run.settings.command.snapshots - len(measured)) > 0:
            self._note("snapshots of command.snapshots for which it left no images", lacking, "samples/STEP")
        found = cards(self.measuring.manifest, self.measuring.references)
        about = {name: {**card, "engine": loaded("measuring")} for name, card in found.items() if name in metrics}
        costs = {"seconds": self.clock.total(), "script_seconds": usage.seconds}
        costs["peak_memory_measuring_mb"] = cost.largest(self.folder.points(), cost.MEASURING_PEAK)
        memory = {"resident_memory_training_mb": usage.resident_mb, "peak_memory_training_mb": usage.gpu_mb}
        if self.slot.torch_device == "cpu":
            memory = {"peak_memory_training_mb": usage.resident_mb}
        costs |= {name: size for name, size in memory.items() if size}
        self._update()
        self.folder.finish(Result(metrics, about, costs, images.digest))

    def _note(self, what: str, number: int, where: str) -> None:
        """Tell it in the log, and for readers the most of any time."""
        self._tell(f"{number:,} {what}: {where}")
        self.notes[what] = max(number, self.notes.get(what, 0))

    def _append(self, values: dict[str, float]) -> None:
        self.claim.check()
        self.folder.append(Point(self.step, self.step * self.run.settings.step_size / 1000, time.time(), values))

    def _update(self, **changes: Any) -> None:
        if not self.folder.path.is_dir():
            raise DataError(f"{self.folder.path}: was deleted while the run was under way")
        self.claim.check()
        seconds = self.clock.total()
        changes |= {"script_notes": dict((self.earlier + self.lines.left_out) | self.notes), "seconds": seconds}
        self.folder.update(step=self.step, total_steps=self.total, last=self.last, **changes)
        if self.meter and self.job.folder.is_dir():
            write_json(self.job.usage, asdict(self.meter.usage))

    def _tell(self, sentence: str) -> None:
        self.remarks.add(sentence)
        begin_line(self.folder.path / "log.txt")
        print(sentence, flush=True)
