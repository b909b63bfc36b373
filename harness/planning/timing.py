"""The pace of runs that nobody has trained yet: a few steps on trial, on this machine, beside each other as runs are.

The rule. A step of every cell is counted in GFLOP. Steps of the cell with the least and of the one with the most are
timed; the time of a step of the others lies between, or beyond, on the line through both. What is timed is kept in the
cache, and asked for again only where machine, packages, code or what a step computes has changed.

Layout of the cache: <cache>/timings/<hash>.json, one `Trials` each.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

from harness import cache
from harness.code.engine import loaded
from harness.data.dataset import without_split
from harness.data.packed import find_prepared
from harness.errors import HarnessError, RecordError
from harness.files import read, write_json
from harness.limits import core_count
from harness.metrics.captions import read_captions
from harness.planning.measured import CannotTime, Pace, SumOfIdeas, of_pace
from harness.runs.machine import versions
from harness.runs.record import Run
from harness.runs.scale import scale_name
from harness.scheduler.forkserver import EndedEarly, run_beside, warm_up
from harness.scheduler.slots import Slot, described
from harness.scheduler.time_left import measured_at
from harness.study.plan import Plan
from harness.terminal.console import note
from harness.text import duration, one_line, quantity, shortened
from harness.training.work import Counted, Steps, Timed, Trial, Work

_log = logging.getLogger(__name__)
COUNT_S, STEPS_S = 5.0, 6.0
"""Seconds in which cells are counted, and in which steps are taken."""
MOST_S = 90.0
"""After so long the processes are ended: nothing here is worth more."""
SHARE = 0.4
"""Of what large convolutions reach, that a training step reaches: measured at 0.3 to 0.6."""
OF_STEP = 1.5
"""A step with every regulariser, in steps with each at its share."""
OF_MEMORY = 0.8
"""Of the free memory, that trials take at most."""
BESIDE_MB = 2500.0
"""Of a process beside its training: torch, and a CLIP that measures, of which large ones have half as much."""


@dataclass(frozen=True)
class Trials:
    """What was counted and timed."""

    work: dict[str, Work]
    """By cell, of those that were counted."""
    steps: dict[str, Steps]
    """By cell, mean over processes; empty if none could be taken."""
    divisor: int
    """Steps had the batch of the study divided by this."""
    processes: int
    """So many took steps at the same time."""
    load: float
    """Of the machine before, in processes that wait for a core or have one."""
    gflops_per_s: float
    """Of large convolutions."""
    why_not: str = ""
    """Why the machine has no room or no time for a step."""
    start: float = 0.0
    generated: float = 0.0
    encoded: dict[str, float] | None = None
    distances: float = 0.0
    real_side: float = 0.0
    waited: float = 0.0
    data: str = ""
    """Fingerprint of the data; by it and by `code` the cache knows what no plan reads any more."""
    code: tuple[str, ...] = ()
    """That trains and that measures."""


def timed_pace(plan: Plan, slots: Sequence[Slot], preload: Sequence[str]) -> Pace:
    """The pace of the plan's runs by trials, on the slots that would train them. Raises CannotTime.

    `preload`: the modules that a grid's fork server imports, as it may come to serve one.
    """
    study = plan.study
    if study.settings.command.run:
        raise CannotTime("a script of the study's own trains, which no plan runs")
    if study.resources.executor != "local":
        raise CannotTime(f"the runs train elsewhere ({study.resources.executor})")
    if not slots:
        raise CannotTime("resources.slots, runs_per_gpu or gpus_per_run are not possible on this machine")
    beside = [slot for slot in slots if slot.device == slots[0].device]
    runs = [_without_code(plan.runs_of(cell)[0]) for cell in plan.cells if not cell.same_as]
    code = loaded("training"), loaded("measuring")
    path = cache.root() / "timings" / f"{_key(runs, beside, code)}.json"
    trials, load = _kept(path), os.getloadavg()[0]
    if trials is None or (trials.load > core_count() and load < trials.load / 2):  # the machine was busy then
        try:
            data = without_split(runs[0].fingerprints["data"])
            trials = replace(_trials(plan, runs, beside, preload), load=load, data=data, code=code)
        except Exception as error:  # whatever it is, the plan has its answer without
            _log.debug("the whole error", exc_info=True)
            kind = "" if isinstance(error, (HarnessError, EndedEarly)) else f"{type(error).__name__}: "
            raise CannotTime(one_line(f"{kind}{error}")) from None
        if trials.steps:  # else there may be room or time for some when it is asked again
            with contextlib.suppress(OSError):  # a cache that cannot be written: they are timed again
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, asdict(trials))
    return _pace(plan, trials, len(beside))


def _without_code(run: Run) -> Run:
    """The run without ideas of the study's own: a plan runs no code that a study brings."""
    return replace(run, settings=replace(run.settings, ideas={}), source={})


def _key(runs: Sequence[Run], slots: Sequence[Slot], code: Sequence[str]) -> str:
    """Of all that decides what is timed; how many real images there are is known once the data are prepared."""
    cells = {run.cell: of_pace(run.settings) for run in runs}
    here = [socket.gethostname(), versions(), described(slots), [(slot.threads, slot.ranks) for slot in slots]]
    identity = json.dumps([here, code, cells, _real(runs[0])], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _kept(path: Path) -> Trials | None:
    try:
        return read(path, Trials, "delete it, and steps are timed again")
    except RecordError:
        return None


def _trials(plan: Plan, runs: Sequence[Run], slots: Sequence[Slot], preload: Sequence[str]) -> Trials:
    """Count, choose, time. Raises what a process raises."""
    together = "" if len(slots) == 1 else f", {len(slots)} processes at a time"
    note(f"timing a few training steps on random images{together}: about 15 s; --no-timing leaves it out")
    warm_up(preload, slots[0].threads)
    # The baseline and the cell with most ideas come first, in case that the time is up.
    order = sorted(runs, key=lambda run: (run.cell != plan.study.baseline, -len(run.toggles)))
    dealt = [part for part in (order[place :: len(slots)] for place in range(len(slots))) if part]
    counted = run_beside(_count, [(part, slot, COUNT_S) for part, slot in zip(dealt, slots, strict=False)], MOST_S)
    work = {cell: each for one in counted for cell, each in one.work.items()}
    ends = sorted((run for run in runs if run.cell in work), key=lambda run: work[run.cell].gflops)
    chosen = (ends[0], ends[-1]) if len(ends) > 1 else (ends[0],)
    speed, free = fmean(one.gflops_per_s for one in counted), min(one.free_mb for one in counted)
    divisor, why_not = _divisor(chosen, work, speed, free / len(slots))
    trials = Trials(work, {}, divisor, len(slots), 0.0, speed, why_not)
    if why_not:
        return trials
    samples, real = plan.study.settings.metrics.samples, _real(runs[0])[1]
    asked = [(Trial(chosen, slot, divisor, STEPS_S, samples, real or samples),) for slot in slots]
    return _with_times(trials, run_beside(_time, asked, MOST_S))


def _count(runs: Sequence[Run], slot: Slot, seconds: float) -> Counted:
    from harness.training.timing import count_work

    return count_work(runs, slot, seconds)


def _time(trial: Trial) -> Timed:
    from harness.training.timing import time_steps

    return time_steps(trial)


def _real(run: Run) -> tuple[int, int]:
    """Real images in all, and those that the run's distances are against; 0 where the data are not here."""
    found = find_prepared(without_split(run.fingerprints["data"]), cache.root())
    if found is None:
        return 0, 0
    index = found[1]
    return index.images, index.held_out if run.settings.metrics.side == "held-out" else index.images - index.held_out


def _need_mb(work: Work, divisor: int) -> float:
    return work.activations_mb / divisor + work.weights_mb + BESIDE_MB


def _divisor(runs: Sequence[Run], work: Mapping[str, Work], gflops_per_s: float, free_mb: float) -> tuple[int, str]:
    """The least by which the batch is to be divided so that there is room and time for steps; why there is not."""
    settings, divisor = runs[0].settings, 1
    group = max(settings.discriminator.minibatch_std_group, settings.loss.group, 2)
    while True:
        need = max(_need_mb(work[run.cell], divisor) for run in runs)
        each = [OF_STEP * work[run.cell].gflops / divisor / (SHARE * gflops_per_s) for run in runs]
        if need > OF_MEMORY * free_mb:
            why = f"takes about {need / 1024:.1f} GiB, and each run has {free_mb / 1024:.1f} GiB"
        elif 2 * sum(each) > 4 * STEPS_S:  # one pass warms up, and one is timed
            why = f"takes about {duration(max(each))}"
        else:
            return divisor, ""
        if any(run.settings.train.batch % (2 * divisor * group) for run in runs):
            return divisor, f"a step of {quantity(settings.train.batch // divisor, 'image')} {why} here"
        divisor *= 2


def _with_times(trials: Trials, timed: Sequence[Timed]) -> Trials:
    """The mean over processes."""
    steps = {
        cell: Steps(fmean(one.cells[cell].seconds for one in timed), min(one.cells[cell].steps for one in timed))
        for cell in timed[0].cells
    }
    return replace(
        trials,
        steps=steps,
        start=fmean(one.start for one in timed),
        generated=fmean(one.generated for one in timed),
        encoded={path: fmean(one.encoded[path] for one in timed) for path in timed[0].encoded},
        distances=fmean(one.distances for one in timed),
        real_side=fmean(one.real_side for one in timed),
        waited=fmean(one.waited for one in timed),
    )


# From what was timed to what runs take.


def _pace(plan: Plan, trials: Trials, slots: int) -> Pace:
    gflops = _gflops(plan, trials.work)
    of_step = _seconds_of_steps(gflops, trials)
    of_cell = {cell.name: of_step[cell.same_as or cell.name] / cell.settings.train.batch * 1000 for cell in plan.cells}
    settings = plan.study.settings
    times = len(measured_at(settings.total_steps, settings.train.snapshots))
    beside = 2 * trials.start + times * _measuring(plan, trials)
    return Pace(
        fmean(of_cell.values()),
        of_cell,
        beside,
        0,
        "timed" if trials.steps else "estimated",
        _once(plan, trials, slots),
        tuple(_remarks(plan, trials, gflops)),
        SumOfIdeas.fit({cell.toggles: of_cell[cell.name] for cell in plan.cells}),
    )


def _gflops(plan: Plan, work: Mapping[str, Work]) -> dict[str, float]:
    """Cell -> GFLOP of a step; of cells that were not counted as if each idea added its own."""
    cells = {cell.name: cell.toggles for cell in plan.cells if not cell.same_as}
    others = SumOfIdeas.fit({toggles: work[name].gflops for name, toggles in cells.items() if name in work})
    return {name: work[name].gflops if name in work else others.of(toggles) for name, toggles in cells.items()}


def _seconds_of_steps(gflops: Mapping[str, float], trials: Trials) -> dict[str, float]:
    """Cell -> seconds of a step with the whole batch."""
    if not trials.steps:
        return {cell: each / (SHARE * trials.gflops_per_s) for cell, each in gflops.items()}
    least, most = min(trials.steps, key=gflops.__getitem__), max(trials.steps, key=gflops.__getitem__)
    low_s, high_s = (trials.steps[cell].seconds * trials.divisor for cell in (least, most))
    more = gflops[most] - gflops[least]
    if more <= 0 or high_s <= low_s:  # as good as alike
        return {cell: (low_s + high_s) / 2 for cell in gflops}
    slope = (high_s - low_s) / more
    return {cell: max(low_s / 2, low_s + slope * (each - gflops[least])) for cell, each in gflops.items()}


def _measuring(plan: Plan, trials: Trials) -> float:
    """Seconds of one measurement of a run."""
    if trials.encoded is None:
        return 0.0
    settings, encoded = plan.study.settings, trials.encoded
    count, captions = settings.metrics.samples, _captions(plan)
    networks = [path for path in encoded if path.startswith(("metrics.resnet", "metrics.more."))]
    of_captions = {settings.metrics.clip: encoded["metrics.clip"], settings.encoders.clip: encoded["encoders.clip"]}
    seconds = (count + captions) * trials.generated + captions * sum(of_captions.values())
    return seconds + sum(count * encoded[path] + trials.distances for path in networks)


def _captions(plan: Plan) -> int:
    """Images that the caption metrics are of, as in the manifest."""
    metrics, run = plan.study.settings.metrics, plan.runs[0]
    found = find_prepared(without_split(run.fingerprints["data"]), cache.root())
    asked = len(read_captions(metrics.captions)) or (found[1].held_out if found else metrics.samples // 4)
    asked = min(asked, metrics.samples)
    return asked * max(1, round(metrics.samples / 4 / asked)) if asked else 0


def _once(plan: Plan, trials: Trials, slots: int) -> float:
    """Seconds for the features of the real images and what the distances take of them, which all runs share."""
    run = plan.runs[0]
    there = (folder / scale_name(run) for folder in (plan.study.root, cache.root() / "scales"))
    if trials.encoded is None or any(path.exists() for path in there):
        return 0.0
    images, encoded = _real(run)[0], trials.encoded
    networks = sum(path.startswith(("metrics.resnet", "metrics.more.")) for path in encoded)
    # It has the threads of all slots.
    return images * sum(encoded.values()) / slots + networks * trials.real_side


def _remarks(plan: Plan, trials: Trials, gflops: Mapping[str, float]) -> list[str]:
    """How it was timed, and what that leaves out."""
    cells = [name for name in gflops if name in trials.work]
    remarks = []
    if trials.steps:
        steps = [each.steps for each in trials.steps.values()]
        what = "the first step" if not min(steps) else quantity(min(steps), "step")
        beside = f", {trials.processes} runs beside each other" if trials.processes > 1 else ""
        cells_timed = " and ".join(sorted(trials.steps, key=gflops.__getitem__))
        remarks.append(f"{what} of {cells_timed}{beside}; the others by their GFLOP per step")
        if trials.divisor > 1:
            batch = plan.study.settings.train.batch
            remarks.append(
                f"steps of {quantity(batch // trials.divisor, 'image')} were timed, for {batch} in proportion"
            )
    else:
        low, high = min(gflops.values()), max(gflops.values())
        remarks.append(
            f"not timed, as {trials.why_not}; an estimate: {low:,.0f} to {high:,.0f} GFLOP a step, at {SHARE:.0%} of "
            f"the {trials.gflops_per_s:,.0f} GFLOP/s of large convolutions; measuring is left out"
        )
    if trials.load > core_count():
        busy = f"other work kept the machine busy (load {trials.load:.1f} on {quantity(core_count(), 'core')})"
        less = f"without it runs take about {1 - trials.waited:.0%} of this" if trials.steps else "runs share it"
        remarks.append(f"{busy}: {less}")
    if len(cells) < len(gflops):
        remarks.append(f"{len(gflops) - len(cells)} of {len(gflops)} cells were not counted: their ideas add up")
    if own := sorted({idea for cell in plan.cells for idea in cell.settings.ideas}):
        remarks.append(f"without the work of {shortened(own)}: a plan runs no code of the study's own")
    return remarks
