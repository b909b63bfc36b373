"""What came out of a plan: its runs, their analysis, and the report. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.analysis.of_records import analyse_records
from harness.analysis.results import Analysis
from harness.claims import seen
from harness.reading import read
from harness.records import RunRecord
from harness.report import write as reports
from harness.roster import records, statuses
from harness.study.plan import Plan, scale_name
from harness.writing import write_json

Scale = dict[str, dict[str, float]]
"""What real images reach: row -> metric -> value."""


@dataclass(frozen=True)
class Outcome:
    """A plan's runs, whatever became of them, and what they say."""

    plan: Plan
    records: tuple[RunRecord, ...]
    analysis: Analysis


def gather(plan: Plan) -> Outcome:
    """Read the run folders and analyse them. Raises HarnessError when runs were measured differently."""
    study = plan.study
    read = records(study.root, plan.runs)
    found = tuple(replace(record, status=seen(record.folder, record.status)) for record in read)
    compared = [*found, *_twins(plan, found)]
    return Outcome(plan, found, analyse_records(compared, study.baseline, study.toggle_names, study.margins))


def _twins(plan: Plan, found: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs of cells that have the settings of another cell, which were trained once for both."""
    twins = [cell for cell in plan.cells if cell.same_as]
    return [
        replace(record, run=replace(record.run, cell=cell.name, toggles=cell.toggles))
        for cell in twins
        for record in found
        if record.run.cell == cell.same_as
    ]


def write(outcome: Outcome) -> Path:
    """The report, and grid.json, from which it takes the scale of the metrics and where everything came from."""
    write_grid(outcome)
    study = outcome.plan.study
    material = reports.gather(study, outcome.records, outcome.analysis)
    return reports.write_report(material, study.reports)


def write_grid(outcome: Outcome) -> None:
    """grid.json. Raises RecordError where what it is made from is damaged."""
    plan, root = outcome.plan, outcome.plan.study.root
    rows = read(scale_path(plan), Scale, "delete it, and it is measured again") or {}
    untrained = _untrained([record for record in outcome.records if record.run.cell == plan.study.baseline])
    told = {
        "sanity": {**rows, "untrained": untrained} if untrained else rows,
        "provenance": read(root / "provenance.json", dict[str, Any], "delete it") or {},
        "design": plan.design.as_dict(),
        "asked": asked(plan),
    }
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "grid.json", told)


def asked(plan: Plan) -> dict[str, Any]:
    """What a report tells of: it is up to date as long as this is what it was written for."""
    study = plan.study
    states = {name: f"{it.state} {it.attempt}" for name, it in statuses(study.root, plan.runs).items()}
    return {"states": states, "baseline": study.baseline, "margins": dict(study.margins)}


def scale_path(plan: Plan) -> Path:
    """Where the study keeps its copy of the scale of the metrics."""
    return plan.study.root / scale_name(plan.runs_of(plan.cell(plan.study.baseline))[0])


def _untrained(found: Sequence[RunRecord]) -> dict[str, float]:
    """Means over these runs of what was measured before their first step."""
    values: dict[str, list[float]] = {}
    for record in found:
        for point in record.points:
            for name, value in point.values.items() if point.step == 0 else ():
                values.setdefault(name.removeprefix("metrics/"), []).append(value)
    return {name: fmean(numbers) for name, numbers in values.items()}
