"""What a plan would cost and what it could detect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from harness.analysis.looks import Looks
from harness.design.kinds import FIRST_LOOK
from harness.design.power import detectable, share
from harness.errors import HarnessError
from harness.metrics.definitions import find_metric
from harness.metrics.names import recorded
from harness.planning.added_seeds import AddedSeeds, added_seeds
from harness.planning.measured import (
    MOST,
    CannotTime,
    Finished,
    Pace,
    Spread,
    finished,
    of_pace,
    pace,
    spreads,
    wall_time,
)
from harness.planning.reasons import Reason, code_json, reasons
from harness.runs.identity import decisive
from harness.runs.machine import processor
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.scheduler.gpus import listed_gpus
from harness.scheduler.slots import Slot, find_slots
from harness.settings import Settings
from harness.study.plan import Plan
from harness.study.schema import apply_toggles

_SLOWEST = 1e9
"""Seconds of a thousand images that may be said: 30 years."""
_WIDEST = 10.0
"""Spread that may be said, a factor of 22,000 from run to run: what follows from it is still a finite number."""

Trial = Callable[[Plan, Sequence[Slot]], Pace]
"""Times steps of the plan's cells on these slots. May raise CannotTime."""


@dataclass(frozen=True)
class Given:
    """What the user knows better than the finished runs."""

    seconds_per_kimg: float | None = None
    """Of one run on one slot."""
    sd: float | None = None
    """Of a run about its cell and seed, on the log scale of a distance: 0.05 is about 5 %."""

    def __post_init__(self) -> None:
        """Raises HarnessError."""
        for option, value, most in (
            ("--seconds-per-kimg", self.seconds_per_kimg, _SLOWEST),
            ("--sd", self.sd, _WIDEST),
        ):
            if value is not None and not 0 < value <= most:
                raise HarnessError(f"{option} {value:g}: must be greater than 0, and at most {most:,.0f}")


@dataclass(frozen=True)
class Detects:
    """The smallest effects of a metric that are found with 80 % probability."""

    spread: Spread
    effect: float | None
    """Of one toggle, in residual sds; None below two seeds."""
    interaction: float | None

    def shown(self, effect: float) -> str:
        """An effect in residual sds as the change that it is: `9.1 %`, or `0.8 points`."""
        size = effect * self.spread.sd
        if self.spread.metric.scale == "log":
            return f"{100 * share(size):.2g} %" if share(size) < 10 else f"a factor of {share(size) + 1:.2g}"
        return f"{size:.2g} {self.spread.metric.unit}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """JSON, see `Forecast.as_dict`."""
        spread, metric = self.spread, self.spread.metric
        measured = {"sd": spread.sd, "df": spread.df, "runs": spread.runs, "source": spread.source}
        effects = {"effect": self.effect, "interaction": self.interaction}
        return {"metric": metric.name, "scale": metric.scale, **measured, **effects}


@dataclass(frozen=True)
class Forecast:
    """A plan with what it would cost and what it could detect."""

    plan: Plan
    reasons: tuple[Reason, ...]
    pace: Pace | None
    """None: no run has finished, and nobody said."""
    slots: int
    detects: tuple[Detects, ...]
    """Headline metrics; empty if nothing is known of their spread."""
    why_untimed: str = ""
    """Why no steps could be timed, where the pace is unknown and they should have been."""
    added: AddedSeeds | None = None
    """What seeds that are added come to; None where their number is fixed."""

    def seconds(self, reason: Reason) -> float:
        """Of the whole run on one slot; 0 if the pace is unknown."""
        return self.pace.seconds(reason.run.cell, reason.run.settings.length) if self.pace else 0.0

    @property
    def total(self) -> float:
        """Seconds of all runs, on one slot."""
        return sum(self.seconds(reason) for reason in self.reasons)

    @property
    def left(self) -> float:
        """Seconds of what is not done, on one slot."""
        return sum(self.seconds(reason) * reason.left for reason in self.reasons)

    @property
    def wall(self) -> float:
        """Seconds until the last run ends, on all slots, with what comes before the first one."""
        by_id = {reason.run.id: reason for reason in self.reasons}
        queue = (by_id[run.id] for run in self.plan.queue(self.plan.runs))
        return self.wall_of([self.seconds(reason) * reason.left for reason in queue])

    def wall_of(self, seconds: Sequence[float]) -> float:
        """Seconds until the last of these runs ends, on all slots, with what comes before the first one."""
        runs = wall_time(seconds, self.slots)
        return runs + self.pace.once if self.pace and runs else runs

    def as_dict(self) -> dict[str, Any]:
        """`Plan.as_dict`, of whose runs each also has "why" and "detail", and beside it

        "code": {"engine": {"training", "measuring"} of today, "runs": {id: the same of those that have begun},
                 "notes": [what other code has trained, measured or begun]}
        "cost": {"source": measured, other settings, elsewhere (on another machine), given, timed (steps, here),
                 estimated (from their arithmetic) or null, "s_per_kimg": mean over cells, "s_per_kimg_of": {cell: its
                 own}, "runs": finished ones that it is measured from, "slots", "seconds_total", "seconds_left": on one
                 slot, "seconds_before": the first run, for what all share, "wall_seconds_left": on all slots, with
                 that, "remarks": [how steps were timed and what that leaves out, or why they could not be]}
        "detects": [{"metric", "scale", "sd", "df", "runs", "source", "effect", "interaction": in residual sds}]
        "added_seeds": see `AddedSeeds`, or null
        """
        made = self.plan.as_dict({reason.run.id: reason.status.state for reason in self.reasons})
        for row, reason in zip(made["runs"], self.reasons, strict=True):
            row |= {"why": reason.why, "detail": reason.detail}
        return {
            **made,
            "code": code_json(self.reasons),
            "cost": {
                "source": self.pace and self.pace.source,
                "s_per_kimg": self.pace and self.pace.s_per_kimg,
                "s_per_kimg_of": dict(self.pace.of_cell) if self.pace else {},
                "runs": self.pace.runs if self.pace else 0,
                "slots": self.slots,
                "seconds_total": self.pace and self.total,
                "seconds_left": self.pace and self.left,
                "seconds_before": self.pace and self.pace.once,
                "wall_seconds_left": self.pace and self.wall,
                "remarks": [*self.pace.remarks] if self.pace else [self.why_untimed] if self.why_untimed else [],
            },
            "detects": [each.as_dict() for each in self.detects],
            "added_seeds": self.added and self.added.as_dict(),
        }


def forecast(plan: Plan, given: Given, trial: Trial | None = None) -> Forecast:
    """Measured from the plan's finished runs, else from other ones in the study's folder, unless it is given.

    `trial` is asked where no finished run here took steps such as the plan's.
    """
    snapshot = plan.snapshot()
    why = reasons(plan, snapshot)
    resources, why_untimed = plan.study.resources, ""
    try:
        slots = find_slots(resources.slots, resources.least_per_gpu, resources.gpus_per_run)
        count = len(slots)
    except HarnessError:  # another machine must be meant, with as many as the study asks for
        slots, count = (), resources.slots if isinstance(resources.slots, int) else 1
    done, rest = _finished(plan, snapshot, why)
    speed, spread = _pace_here(plan, slots, done, rest), spreads(done, "measured") or spreads(rest, "other settings")
    if given.seconds_per_kimg:
        speed = Pace(given.seconds_per_kimg, {}, 0.0, 0, "given")
    elif speed is None and trial:
        try:
            speed = trial(plan, slots)
        except CannotTime as error:
            why_untimed = str(error)
    speed = speed or pace(done, "elsewhere") or pace(rest, "other settings")
    if given.sd:
        metric = find_metric(recorded("fd", plan.study.settings.metrics.resnet))
        assert metric is not None
        spread = [Spread(metric, given.sd, 0, 0, "given")]
    first = {cell.name: cell.toggles for cell in plan.cells}
    twins = {cell.toggles: first[cell.same_as] for cell in plan.cells if cell.same_as}
    most = plan.study.design.max_seeds
    can, cells = plan.design.estimable, len(plan.design.cells)
    if most is None:
        effects = detectable(can, cells, len(plan.study.design.seeds), twins)
    else:  # by the test of the last look alone: those before it find a little more
        effects = detectable(can, cells, most, twins, partial(Looks(FIRST_LOOK, most).nominal, most))
    added = None if most is None else added_seeds(plan, twins, spread, speed, count)
    return Forecast(plan, why, speed, count, tuple(Detects(each, *effects) for each in spread), why_untimed, added)


def _finished(plan: Plan, snapshot: Snapshot, found: Iterable[Reason]) -> tuple[Finished, Finished]:
    """Runs with the study's settings, and others in its folder: those of its other designs count as its own, as only
    the toggles differ.
    """
    done = [reason.run.id for reason in found if reason.why == "done"][:MOST]
    planned = [one for run_id in done if (one := snapshot.finished(run_id))]
    alike: list[Run] = []
    others: list[Run] = []
    if len(planned) < MOST:

        @cache  # asked once for the runs of a cell
        def has_settings(toggles: tuple[str, ...], settings: Settings) -> bool:
            """Whether the study, with these toggles, has these settings."""
            try:
                return decisive(apply_toggles(plan.study, toggles)) == decisive(settings)
            except ValueError:  # a toggle that the study no longer has
                return False

        for run in snapshot.other_runs[:MOST]:
            (alike if has_settings(run.toggles, run.settings) else others).append(run)
    root = plan.study.root
    return [*planned, *finished(root, alike)][:MOST], finished(root, others)


def _pace_here(plan: Plan, slots: Sequence[Slot], done: Finished, rest: Finished) -> Pace | None:
    """Of runs that took steps such as the plan's on a device such as those here; None where there are none."""
    here = done, rest
    if plan.study.resources.executor == "local":
        models = _models(slots)
        here = [row for row in done if _is_of(row[0], models)], [row for row in rest if _is_of(row[0], models)]
    if measured := pace(here[0], "measured"):
        return measured
    planned = [of_pace(cell.settings) for cell in plan.cells] if here[1] else []
    return pace([row for row in here[1] if of_pace(row[0].settings) in planned], "other settings")


def _models(slots: Sequence[Slot]) -> list[str]:
    """Of the devices of these slots; empty where none is known."""
    if not slots:
        return []
    return [processor()] if slots[0].torch_device == "cpu" else [gpu.name for gpu in listed_gpus() if gpu.name]


def _is_of(run: Run, models: Sequence[str]) -> bool:
    """Whether the run was trained by a device of one of these models, as far as is known."""
    return not run.machines or not models or any(run.machines[-1].device.endswith(model) for model in models)
