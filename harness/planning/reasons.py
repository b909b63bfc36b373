"""Why each run of a plan would run, from what lies in the study's folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.code.engine import Engine, today, unlike
from harness.runs.identity import differences
from harness.runs.record import Run, Status
from harness.runs.snapshot import Snapshot
from harness.settings import Settings
from harness.study.plan import Plan
from harness.text import quantity, shortened

Why = Literal["new", "changed", "failed", "interrupted", "running", "done", "pruned", "diverged"]
WHYS: tuple[Why, ...] = ("done", "running", "interrupted", "failed", "changed", "new", "pruned", "diverged")
"""In the order in which they are shown."""
SHOWN = 3
"""Changed settings that are named before the rest is counted."""


@dataclass(frozen=True)
class Reason:
    """Why a run would run, or that it would not."""

    run: Run
    why: Why
    """changed: never run, but there is a run of the same cell and seed with other settings."""
    detail: str
    """The last line of the error, where it goes on, or which settings differ; may be empty."""
    status: Status
    engine: Engine | None = None
    """Which code trained and measured it; None before it has begun."""

    @property
    def label(self) -> str:
        return f"{self.run.cell} seed {self.run.seed}"

    @property
    def left(self) -> float:
        """Share of the training still to be done."""
        if self.why in ("done", "diverged"):
            return 0.0
        return 1 - self.status.step / self.status.total_steps if self.status.total_steps else 1.0


def reasons(plan: Plan, snapshot: Snapshot | None = None) -> tuple[Reason, ...]:
    """One for each run, in the plan's order."""
    snapshot = snapshot or plan.snapshot()
    statuses = {run.id: snapshot.current(run.id) for run in plan.runs}
    pending = [run for run in plan.runs if statuses[run.id].state == "pending"]
    changes = _changes(pending, snapshot.other_runs) if pending else {}
    made = []
    for run in plan.runs:
        status = statuses[run.id]
        step = f"step {status.step} of {status.total_steps}"
        why: Why = status.state if status.state != "pending" else "changed" if run.id in changes else "new"
        detail = {
            "changed": changes.get(run.id, ""),
            "failed": "".join(status.error.strip().splitlines()[-1:]),
            "interrupted": f"continues at {step}" if status.total_steps else "",
            "running": f"at {step}" if status.total_steps else "",
        }
        engine = snapshot.engine(run.id) if status.attempt else None
        made.append(Reason(run, why, detail.get(why, ""), status, engine))
    return tuple(made)


def by_other_code(found: Iterable[Reason]) -> Iterator[str]:
    """What other code than today's has trained, measured or begun: counted, named, and what can be done."""
    now = today()
    made = {reason.label: reason for reason in found if reason.engine}
    settled = {name: it.engine for name, it in made.items() if it.why in ("done", "diverged", "pruned") and it.engine}
    for what, names in unlike(settled, now).items():
        which = f"{quantity(len(names), 'run')} ({shortened(names)})"
        yield f"{what}: {which}; --retrain trains {'it' if len(names) == 1 else 'them'} anew"
    halted = {name: it for name, it in made.items() if it.why in ("interrupted", "failed") and it.status.step}
    begun = {name: it.engine for name, it in halted.items() if it.engine}
    names = [name for each in unlike(begun, now).values() for name in each]
    if names:
        which = f"{quantity(len(names), 'run')} ({shortened(names)})"
        yield f"begun by other code: {which}; run-grid continues them by today's, --retrain starts them anew"


def code_json(found: Sequence[Reason]) -> dict[str, Any]:
    """{"engine": {"training", "measuring"} of today, "runs": {id: the same of those begun}, "notes": [text]}"""
    begun = {reason.run.id: asdict(reason.engine) for reason in found if reason.engine}
    return {"engine": asdict(today()), "runs": begun, "notes": list(by_other_code(found))}


def _changes(runs: Sequence[Run], others: Iterable[Run]) -> dict[str, str]:
    """Run id -> how it differs from the most alike run of its cell and seed."""
    old: dict[tuple[str, int], list[Run]] = {}
    for run in others:
        old.setdefault((run.cell, run.seed), []).append(run)

    @functools.cache  # compared once for the runs of a cell
    def changed_settings(before: Settings, after: Settings) -> list[str]:
        """Each as `train.kimg 16 -> 8`."""
        return [f"{path} {_shown(one)} -> {_shown(other)}" for path, one, other in differences(before, after)]

    changes = {}
    for run in runs:
        unlike = []
        for other in old.get((run.cell, run.seed), ()):
            differing = sorted(name for name, _ in other.fingerprints.items() ^ run.fingerprints.items())
            content = [f"the content of {name}" for name in dict.fromkeys(differing)]
            unlike.append(changed_settings(other.settings, run.settings) + content)
        if unlike:
            changes[run.id] = shortened(min(unlike, key=len) or ["the code that computes results"], SHOWN)
    return changes


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)
