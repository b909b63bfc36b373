"""Studies whose seeds are added, and training that takes no time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.analyse import analyse
from harness.analysis.from_records import table_of
from harness.analysis.looks import Looks
from harness.design.kinds import CONTROL_AFTER_AUTO
from harness.grid import outcome as outcomes
from harness.grid import run as grid
from harness.grid.outcome import write_grid
from harness.runs.folders import RunFolder
from harness.runs.record import Result, Run
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from harness.study import looks
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from synthetic import record

STUDY = """
study: added
toggles: [mix_logits, transform_w]
design: {include: [full], seeds: auto, max_seeds: 6}
margins: {fd: 5}
"""
Numbers = Callable[[Run], float | None]
"""The metric of a run; None: it fails."""


def planned(folder: Path, *overrides: str, text: str = STUDY) -> Plan:
    (folder / "added.yaml").write_text(text)
    return make_plan(load_study(folder / "added.yaml", None, overrides))


def numbers(effects: Mapping[str, float], spread: float = 0.02, seed: int = 1) -> Numbers:
    """Log distances: what the toggles do, what runs of a seed share, and a residual."""

    def number(run: Run) -> float:
        share, own = (
            np.random.default_rng([seed, run.seed, sum(map(ord, what))]).normal() for what in ("all", run.cell)
        )
        return math.exp(sum(effects.get(name, 0.0) for name in run.toggles) + 0.1 * share + spread * own)

    return number


CLEAR = numbers({"mix_logits": -0.5, "transform_w": 0.5})
ALIKE = numbers({}, spread=0.03)
"""Differences that are neither seen nor within the margin for sure."""


class Trained:
    """In the place of training: each run ends as `numbers` says. Who was asked for is noted."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.same: set[str] = set()
        """Cells whose training makes no use of the seed: each run of them is that of seed 0."""
        self.asked: list[list[tuple[str, int]]] = []
        self.stop_after: int | None = None
        """So many runs, as by Ctrl-C; None: never."""

    def __call__(self, plan: Plan, runs: Sequence[Run], scheduler: Scheduler, mirror: Any, show: Any = None) -> int:
        self.asked.append([])
        before = scheduler.attempts_before
        for run in plan.queue(runs):
            folder = RunFolder(scheduler.root / run.id)
            status = folder.status()
            if status.state == "done" or (status.state == "failed" and status.attempt > before.get(run.id, 0)):
                continue
            if self.stop_after is not None and self.stop_after == 0:
                return 130
            self.stop_after = None if self.stop_after is None else self.stop_after - 1
            self.asked[-1].append((run.cell, run.seed))
            folder.create(run)
            value = self.numbers(replace(run, seed=0) if run.cell in self.same else run)
            folder.update(state="failed" if value is None else "running", attempt=status.attempt + 1)
            if value is not None:
                folder.finish(Result({"fd": value}, {}, {}, run.cell if run.cell in self.same else run.id))
                folder.update(state="done", step=10, total_steps=10)
        return 0

    @property
    def seeds(self) -> list[int]:
        """All that were asked for."""
        return sorted({seed for call in self.asked for _, seed in call if seed < CONTROL_AFTER_AUTO})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Numbers], Trained]:
    def written(outcome: outcomes.Outcome) -> Path:
        """The report without its figures."""
        write_grid(outcome)
        folder = outcome.plan.study.reports
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("report.md", "report.html"):
            (folder / name).write_text(outcome.plan.study.title)
        return folder / "report.md"

    def trained(numbers: Numbers) -> Trained:
        stand_in = Trained(numbers)
        monkeypatch.setattr(grid, "_schedule", stand_in)
        return stand_in

    monkeypatch.setattr(outcomes, "write", written)
    monkeypatch.setattr(grid, "make_ready", lambda *_: None)
    monkeypatch.setattr(grid, "slots_of", lambda *_: [Slot(0, "cpu", 1)])
    monkeypatch.setattr(grid.tracking, "missing", lambda *_: False)
    return trained


def one_line(text: str) -> str:
    return " ".join(text.split())


MIDDLING = numbers({"mix_logits": -0.12, "transform_w": 0.13}, spread=0.06)


def stops_at(plan: Plan, number: Numbers) -> int:
    """The first look at which nothing is undecided, each look by an analysis of its own."""
    for count in range(3, 7):
        records = [
            replace(record(run.cell, run.seed, {"fd": number(run) or 0.0}), run=run)
            for run in plan.of_seeds(count).runs
        ]
        table = table_of(records, plan.study.ideas)
        if not analyse(table, "origin", plan.study.margins, Looks(3, 6)).undecided:
            return count
    return 6


def looks_at(plan: Plan) -> tuple[looks.Look, ...]:
    return looks.read_looks(plan.study.root, {run.id for run in plan.runs})
