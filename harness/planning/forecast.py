"""What a plan would cost and what it could detect."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.design.power import detectable, share
from harness.errors import HarnessError
from harness.metrics.definitions import find_metric
from harness.metrics.names import recorded
from harness.planning.measured import MOST, Pace, Spread, finished, pace, spreads
from harness.planning.reasons import Reason, code_json, reasons
from harness.runs.identity import decisive
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.scheduler.slots import find_slots
from harness.settings import Settings
from harness.study.plan import Plan
from harness.study.schema import apply_toggles


@dataclass(frozen=True)
class Given:
    """What the user knows better than the finished runs."""

    seconds_per_kimg: float | None = None
    """Of one run on one slot."""
    sd: float | None = None
    """Of a run about its cell and seed, on the log scale of a distance: 0.05 is about 5 %."""


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
        """Seconds until the last run ends, on all slots."""
        by_id = {reason.run.id: reason for reason in self.reasons}
        queue = (by_id[run.id] for run in self.plan.queue(self.plan.runs))
        return wall_time((self.seconds(reason) * reason.left for reason in queue), self.slots)

    def as_dict(self) -> dict[str, Any]:
        """`Plan.as_dict`, of whose runs each also has "why" and "detail", and beside it

        "code": {"engine": {"training", "measuring"} of today, "runs": {id: the same of those that have begun},
                 "notes": [what other code has trained, measured or begun]}
        "cost": {"source": measured, other settings, given or null, "s_per_kimg", "runs", "slots", "seconds_total",
                 "seconds_left": on one slot, "wall_seconds_left": on all}
        "detects": [{"metric", "scale", "sd", "df", "runs", "source", "effect", "interaction": in residual sds}]
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
                "runs": self.pace.runs if self.pace else 0,
                "slots": self.slots,
                "seconds_total": self.pace and self.total,
                "seconds_left": self.pace and self.left,
                "wall_seconds_left": self.pace and self.wall,
            },
            "detects": [each.as_dict() for each in self.detects],
        }


def forecast(plan: Plan, given: Given) -> Forecast:
    """Measured from the plan's finished runs, else from other ones in the study's folder, unless it is given."""
    snapshot = plan.snapshot()
    why = reasons(plan, snapshot)
    speed, spread = _measured(plan, snapshot, why)
    if given.seconds_per_kimg:
        speed = Pace(given.seconds_per_kimg, {}, 0.0, 0, "given")
    if given.sd:
        metric = find_metric(recorded("fd", plan.study.settings.metrics.resnet))
        assert metric is not None
        spread = [Spread(metric, given.sd, 0, 0, "given")]
    resources = plan.study.resources
    try:
        count = len(find_slots(resources.slots, resources.runs_per_gpu, resources.gpus_per_run))
    except HarnessError:  # another machine must be meant, with as many as the study asks for
        count = resources.slots if isinstance(resources.slots, int) else 1
    first = {cell.name: cell.toggles for cell in plan.cells}
    twins = {cell.toggles: first[cell.same_as] for cell in plan.cells if cell.same_as}
    effects = detectable(plan.design.estimable, len(plan.design.cells), len(plan.study.design.seeds), twins)
    return Forecast(plan, why, speed, count, tuple(Detects(each, *effects) for each in spread))


def wall_time(seconds: Iterable[float], slots: int) -> float:
    """When the last run ends, if each in turn goes to the slot that is free first."""
    free = [0.0] * slots
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def _measured(plan: Plan, snapshot: Snapshot, found: Iterable[Reason]) -> tuple[Pace | None, list[Spread]]:
    """Runs of the study's other designs count as its own: only the toggles differ."""
    own = [reason.run for reason in found if reason.why == "done"]
    others: list[Run] = []
    if len(own) < MOST:

        @cache  # asked once for the runs of a cell
        def has_settings(toggles: tuple[str, ...], settings: Settings) -> bool:
            """Whether the study, with these toggles, has these settings."""
            try:
                return decisive(apply_toggles(plan.study, toggles)) == decisive(settings)
            except ValueError:  # a toggle that the study no longer has
                return False

        for run in snapshot.other_runs[:MOST]:
            (own if has_settings(run.toggles, run.settings) else others).append(run)
    done, rest = finished(plan.study.root, own), finished(plan.study.root, others)
    return (
        pace(done, "measured") or pace(rest, "other settings"),
        spreads(done, "measured") or spreads(rest, "other settings"),
    )
