"""Made-up studies of toggles with planted effects, and the material of their reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.analysis.from_records import analyse_records
from harness.design.kinds import DesignConfig, Subset, expand
from harness.report.inputs import ReportInputs, collect
from harness.runs.record import Point, Result, Run, RunRecord, Status
from harness.settings import Settings
from harness.study.resources import Resources
from harness.study.schema import Study, StudyToggle, Tracking
from synthetic import CARD

Shift = Callable[[Subset], float]
"""Cell -> how far its log distance lies from the origin's."""
IDEAS = ("img_img_loss", "transform_w", "paired_contrast", "mix_logits")
HOSTILE = "<script>alert(1)</script>"
REPORTS = Path(__file__).parent.parent / "reports"
SHIPPED = ("emoji-both", "emoji-warm")
SHIPPED_SEARCHES = tuple(
    f"emoji-quick.tune-{cell}.train-kimg-16-train-snapshots-4-29fd4b" for cell in ("full", "origin")
)
"""Of `REPORTS`; the user's own stand beside them."""


def study_of(folder: Path, toggles: Sequence[str] = IDEAS, kind: str = "both", seeds: int = 3) -> Study:
    return Study(
        name="emoji",
        path=folder / "ablations.yaml",
        profile="quick",
        settings=Settings(),
        toggles=tuple(StudyToggle(name, {"loss.tau": 0.25}) for name in toggles),
        design=DesignConfig(kind=kind, seeds=tuple(range(seeds))),
        baseline="origin",
        resources=Resources(),
        tracking=Tracking(),
    )


def shift(cell: Subset) -> float:
    """transform_w helps, mix_logits harms a little, and two ideas help beside each other alone."""
    single = {"transform_w": -0.12, "mix_logits": 0.05}
    both = -0.15 if {"img_img_loss", "paired_contrast"} <= set(cell) else 0.0
    return sum(single.get(name, 0.0) for name in cell) + both


def records_of(study: Study, moved: Shift = shift, spread: float = 0.02) -> list[RunRecord]:
    """Every planned run of the study, done, with learning curves."""
    rng = np.random.default_rng(11)
    blocks = rng.normal(0, 0.08, size=len(study.design.seeds))
    cells = expand(study.design, study.toggle_names).cells
    return [
        _run(study, cell.name, cell.toggles, seed, moved(cell.toggles) + blocks[place] + rng.normal(0, spread))
        for cell in cells
        for place, seed in enumerate(study.design.seeds)
    ]


def _run(study: Study, cell: str, toggles: Subset, seed: int, log_distance: float) -> RunRecord:
    run = Run(f"{abs(hash_of(cell, seed)):012x}", study.name, cell, seed, toggles, Settings(), {"data": "d" * 16})
    points = tuple(
        Point(
            step,
            step / 50,
            0.0,
            {f"metrics/{k}": v for k, v in numbers(log_distance + 2 * 0.2 ** (step / 250)).items()},
        )
        for step in range(0, 1001, 250)
    )
    metrics = {name.removeprefix("metrics/"): value for name, value in points[-1].values.items()}
    speed = 12.5 * (1 + 0.3 * len(toggles))
    cost = {"s_per_kimg": speed, "seconds": 5 * speed, "peak_memory_mb": 650.0 + 10 * len(toggles)}
    status = Status(state="done", step=1000, total_steps=1000, attempt=1, seconds=61.0)
    return RunRecord(run, status, Result(metrics, {name: dict(CARD) for name in metrics}, cost), points)


def hash_of(cell: str, seed: int) -> int:
    return sum(ord(character) * 31**place for place, character in enumerate(cell)) * 1009 % 2**40 + seed


def numbers(log_distance: float) -> dict[str, float]:
    distance = float(25 * np.exp(log_distance))
    return {
        "fd_emoji": distance,
        "clip_score": 56.0 - 12 * log_distance,
        "kid_emoji": distance * 0.01 - 0.03,
        "recall": 0.45 - 0.2 * log_distance,
        "clip_score_seen": 76.0 - 9 * log_distance,
    }


def unfinished(record: RunRecord, state: str, error: str = "") -> RunRecord:
    """The run as it stands after something went wrong half way."""
    status = replace(record.status, state=state, step=500 if error else 0, error=error)
    return replace(record, result=None, status=status, points=record.points[:2] if error else ())


def material_of(study: Study, records: Sequence[RunRecord]) -> ReportInputs:
    margins = {"fd_emoji": 5.0, "clip_score": 1.0}
    return collect(study, records, analyse_records(records, study.baseline, study.toggle_names, margins))
