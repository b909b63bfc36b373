"""Where a grid stands, in words and estimates: what the live view and `harness status` say. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.runs.record import Run, State, Status

Statuses = Mapping[str, Status]
"""By run id."""
LOOKS: dict[State, tuple[str, str, str]] = {
    "running": ("▶", ">", "bold cyan"),
    "done": ("✔", "+", "green"),
    "pruned": ("✂", "/", "dim"),
    "diverged": ("↯", "~", "magenta"),
    "failed": ("✘", "x", "bold red"),
    "interrupted": ("■", "#", "yellow"),
    "pending": ("·", ".", "dim"),
}
"""State -> symbol, the same in ASCII, style; in the order of the caption."""


def run_seconds_left(run: Run, status: Status) -> float | None:
    """Seconds of training left at the newest speed; None before the first step has shown one."""
    if not status.images_per_s or not status.total_steps:
        return None
    images = (status.total_steps - status.step) * run.settings.train.batch
    return max(0.0, images / status.images_per_s)


def grid_seconds_left(runs: Sequence[Run], statuses: Statuses, slots: int) -> float | None:
    """Seconds until the last run ends: what each open run still needs, shared by the slots; None if nothing is known.

    Runs that have not begun are taken to need what the others need on average.
    """
    known = [(run, statuses.get(run.id, Status())) for run in runs]
    rest = {run.id: run_seconds_left(run, it) for run, it in known if it.state == "running"}
    whole = [it.seconds for _, it in known if it.state == "done" and it.seconds]
    whole += [it.seconds + (rest[run.id] or 0.0) for run, it in known if rest.get(run.id) is not None]
    if not whole:
        return None
    mean = sum(whole) / len(whole)
    waiting = sum(it.state in ("pending", "interrupted") for _, it in known)
    needs = [mean if seconds is None else seconds for seconds in rest.values()] + [mean] * waiting
    return max(max(needs), sum(needs) / slots) if needs else None


def counts(statuses: Sequence[Status]) -> str:
    """How many runs are in which state."""
    states = Counter(status.state for status in statuses)
    return f"{len(statuses)} runs: " + ", ".join(f"{states[state]} {state}" for state in LOOKS if states[state])


def losses(status: Status) -> str:
    """The newest losses, the generator's first: `G 12.3  D 1.4`."""
    return "  ".join(f"{name} {value:.3g}" for name, value in sorted(status.last.items(), reverse=True))
