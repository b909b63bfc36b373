"""How long runs, and a whole grid, still take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from harness.runs.record import Run, Status


def run_seconds_left(run: Run, status: Status) -> float | None:
    """Seconds of training left at the newest speed; None before the first step has shown one."""
    if run.settings.command.run and status.step and status.total_steps:
        return max(0.0, (status.total_steps - status.step) * status.seconds / status.step)
    if not status.images_per_s or not status.total_steps:
        return None
    images = (status.total_steps - status.step) * run.settings.train.batch
    return max(0.0, images / status.images_per_s)


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
