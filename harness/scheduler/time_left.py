"""How long runs, and a whole grid, still take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from harness.runs.record import Run, Status

FOLLOW_S = 20.0
"""Seconds in which a time that is shown takes up most of a change of what was estimated."""


class Smoothed:
    """Times left as they are shown: they count down with the clock, and follow new estimates without jumping."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown: dict[str, tuple[float, float]] = {}

    def __call__(self, name: str, seconds: float | None) -> float | None:
        """What to show now for `name`, such as a run's id; `seconds`: the newest estimate, None if there is none."""
        if seconds is None:
            self._shown.pop(name, None)
            return None
        now = self._clock()
        before, left = self._shown.get(name, (now, seconds))
        expected = max(0.0, left - (now - before))
        shown = expected + (seconds - expected) * -math.expm1((before - now) / FOLLOW_S)
        self._shown[name] = now, shown
        return shown


def measured_at(total: int, snapshots: int) -> set[int]:
    """The steps at which a run of so many is measured, the untrained generator's among them."""
    return {round(total * part / snapshots) for part in range(snapshots + 1)}


def run_seconds_left(run: Run, status: Status) -> float | None:
    """Seconds of training at the newest speed, and of measuring as it last took; None before a step has shown one."""
    if run.settings.command.run and status.step and status.total_steps:
        return max(0.0, (status.total_steps - status.step) * status.seconds / status.step)
    if not status.images_per_s or not status.total_steps:
        return None
    images = (status.total_steps - status.step) * run.settings.train.batch
    times = [step > status.step for step in measured_at(status.total_steps, run.settings.snapshots)]
    return max(0.0, images / status.images_per_s) + (sum(times) + status.measuring) * status.measuring_s


def grid_seconds_left(runs: Sequence[Run], statuses: Mapping[str, Status], slots: int) -> float | None:
    """Seconds until the last run ends: what each open run still needs, shared by the slots; None if nothing is known.

    Runs that have not begun are taken to need what the others need on average. Where runs share GPUs, memory may hold
    fewer than there are slots: then it goes on with as many as there are now.
    """
    rows = [(run, statuses.get(run.id, Status())) for run in runs]
    running = [(it.seconds, run_seconds_left(run, it)) for run, it in rows if it.state == "running"]
    whole = [it.seconds for _, it in rows if it.state == "done" and it.seconds]
    whole += [seconds + left for seconds, left in running if left is not None]
    if not whole:
        return None
    mean = fmean(whole)
    waiting = sum(it.state in ("pending", "interrupted") for _, it in rows)
    needs = [mean if left is None else left for _, left in running] + [mean] * waiting
    if any(it.state == "running" and it.sharing for _, it in rows):
        slots = min(slots, len(running))
    return max(max(needs), sum(needs) / slots) if needs else None
