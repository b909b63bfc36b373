"""What came out of a plan: its runs, their analysis, and the report. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.analysis.from_records import analyse_records
from harness.analysis.results import Analysis
from harness.code.engine import today
from harness.files import read, write_json
from harness.report import write as reports
from harness.report.inputs import collect
from harness.runs.folders import records, statuses
from harness.runs.lease import live_status
from harness.runs.record import RunRecord, state_of
from harness.study.plan import Plan, scale_name
from harness.terminal.console import note, shown

Scale = dict[str, dict[str, float]]
"""What real images reach: row -> metric -> value."""


@dataclass(frozen=True)
class Outcome:
    """A plan's runs, whatever became of them, and what they say."""

    plan: Plan
    records: tuple[RunRecord, ...]
    analysis: Analysis


def gather(plan: Plan) -> Outcome:
    """Read the run folders and analyse them: of all cells, or of those asked for and the baseline.

    Raises HarnessError when runs were measured differently.
    """
    study = plan.study
    read = records(study.root, plan.runs)
    every = tuple(replace(record, status=live_status(record.folder, record.status)) for record in read)
    cells = {plan.cell(name).name for name in (*study.only, study.baseline)} if study.only else None
    found = tuple(record for record in every if cells is None or record.run.cell in _trained(plan, cells))
    compared = [one for one in (*found, *_twins(plan, found)) if cells is None or one.run.cell in cells]
    toggles = [name for name in study.toggle_names if any(name in one.run.toggles for one in compared)]
    names = study.toggle_names if cells is None else toggles
    return Outcome(plan, found, analyse_records(compared, study.baseline, names, study.margins))


def _trained(plan: Plan, cells: Set[str]) -> set[str]:
    """The cells whose runs stand for these: of cells with equal settings one is trained."""
    return {plan.cell(name).same_as or name for name in cells}


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
    """The report, and grid.json, from which it takes the scale of the metrics and where everything came from.

    Raises ReportIsKept where it has no result and would replace a report that has some.
    """
    study = outcome.plan.study
    finished = {record.run.id for record in outcome.records if state_of(record) == "done"}
    known = {record.run.id for record in outcome.records}
    earlier = reports.set_aside(study.reports, reports.reported_runs(study.reports), known, finished)
    if earlier:
        note(f"the report of other runs that was in {shown(study.reports)} is now in {shown(earlier)}")
    write_grid(outcome)
    return reports.write_report(collect(study, outcome.records, outcome.analysis), study.reports)


def write_grid(outcome: Outcome) -> None:
    """grid.json. Raises RecordError where what it is made from is damaged."""
    plan, root = outcome.plan, outcome.plan.study.root
    rows = read(scale_path(plan, outcome.records), Scale, "delete it, and it is measured again") or {}
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
    return {
        "engine": asdict(today()),
        "states": states,
        "baseline": study.baseline,
        "margins": dict(study.margins),
        "variant": list(study.variant),
    }


def scale_path(plan: Plan, found: Sequence[RunRecord] = ()) -> Path:
    """Where the study keeps its copy of the scale of the metrics: by the code that measured the baseline's runs."""
    run = plan.runs_of(plan.cell(plan.study.baseline))[0]
    codes = Counter(it.run.engine.measuring.rpartition("+")[2] for it in found if it.run.cell == run.cell and it.result)
    theirs = plan.study.root / scale_name(run, codes.most_common(1)[0][0] if codes else "")
    return theirs if theirs.exists() else plan.study.root / scale_name(run)


def _untrained(found: Sequence[RunRecord]) -> dict[str, float]:
    """Means over these runs of what was measured before their first step."""
    values: dict[str, list[float]] = {}
    for record in found:
        for point in record.points:
            for name, value in point.values.items() if point.step == 0 else ():
                values.setdefault(name.removeprefix("metrics/"), []).append(value)
    return {name: fmean(numbers) for name, numbers in values.items()}
