"""What came out of a plan: its runs, their analysis, and the report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.analysis import export
from harness.analysis.from_records import analyse_records
from harness.analysis.looks import Looks
from harness.analysis.results import Analysis
from harness.code.engine import today
from harness.errors import RecordError
from harness.files import read, write_json
from harness.grid.prepare import one_at_a_time
from harness.report.provenance import resolved
from harness.runs.lease import live_status
from harness.runs.record import RunRecord, state_of
from harness.runs.scale import read_scale, scale_name
from harness.runs.snapshot import Snapshot
from harness.study.looks import read_looks
from harness.study.plan import Plan
from harness.terminal.console import note, shown
from harness.tracking.ledger import Report
from harness.tracking.parent_run import ask_for_report


@dataclass(frozen=True)
class Outcome:
    """A plan's runs, whatever became of them, and what they say."""

    plan: Plan
    records: tuple[RunRecord, ...]
    analysis: Analysis
    snapshot: Snapshot
    """What these are from."""


def gather(plan: Plan, snapshot: Snapshot | None = None) -> Outcome:
    """Analyse the runs of all cells, or of those asked for and the baseline.

    Raises HarnessError when runs were measured differently.
    """
    study, snapshot = plan.study, snapshot or plan.snapshot()
    records = tuple(replace(record, status=live_status(record.folder, record.status)) for record in snapshot.records)
    cells = [plan.cell(name) for name in (*study.only, study.baseline)] if study.only else plan.cells
    # Of cells with equal settings one is trained, whose runs stand for the others too.
    trained = {cell.same_as or cell.name for cell in cells}
    records = tuple(record for record in records if record.run.cell in trained)
    names = {cell.name for cell in cells}
    compared = [record for record in records if record.run.cell in names]
    compared += [
        replace(record, run=replace(record.run, cell=cell.name, toggles=cell.toggles))
        for cell in cells
        if cell.same_as
        for record in records
        if record.run.cell == cell.same_as
    ]
    used = {name for record in compared for name in record.run.toggles}
    ideas = [name for name in study.ideas if not study.only or name in used]
    factors = [factor for factor in study.factors if set(ideas) & set(factor.ideas)]
    most = study.design.max_seeds
    looks = None if most is None else Looks(most=most)
    analysis = analyse_records(compared, study.baseline, ideas, study.margins, factors, looks=looks)
    return Outcome(plan, records, analysis, snapshot)


def compare(plan: Plan, snapshot: Snapshot) -> Outcome:
    """What the runs say. The report is written, unless it holds this already or has results that these lack."""
    study = plan.study
    with one_at_a_time(study.root, "report"):  # of several schedulers that end at once, one writes it
        outcome = gather(plan, snapshot)
        if is_reported(outcome):
            return outcome
        from harness.report.write import ReportIsKept  # only here, as in `write`

        try:
            path = write(outcome)
        except ReportIsKept as kept:  # what failed is told at the end
            note(str(kept))
            return outcome
        note(f"report: {shown(path)}")
    return outcome


def report_key(plan: Plan, snapshot: Snapshot) -> dict[str, Any]:
    """All that decides what a report says: it is up to date as long as this is what it was written for.

    As grid.json gives it back. A report of an earlier version was written for less, and is written anew.
    """
    study, statuses = plan.study, snapshot.statuses
    key = {
        "engine": asdict(today()),
        # A run that was trained anew has an id, a state and an attempt as before.
        "states": {name: f"{status.state} {status.attempt} {status.updated}" for name, status in statuses.items()},
        # No name is in a run's id: those of toggles and levels can change, and change places.
        "study": resolved(study),
        "ideas": study.ideas,
        "margins": dict(study.margins),
        "tuned": {cell: asdict(search) for cell, search in study.tuned.items()},
        "variant": study.variant,
        "file": study.path.name,
        "looks": [asdict(look) for look in read_looks(study.root, statuses)],
    }
    as_written: dict[str, Any] = json.loads(json.dumps(key))
    return as_written


def is_reported(outcome: Outcome) -> bool:
    """Whether a report is there that says what one would say that is written now."""
    study = outcome.plan.study
    files = (study.root / "grid.json", study.reports / "report.md", study.reports / "report.html")
    if not all(file.exists() for file in files):
        return False
    try:
        written = read(study.root / "grid.json", dict[str, Any], "delete it") or {}
    except RecordError:  # then it is written anew
        return False
    return bool(written.get("asked") == report_key(outcome.plan, outcome.snapshot))


def write(outcome: Outcome, *, page_alone: bool = False) -> Path:
    """The report, and grid.json, from which it takes the scale of the metrics and where everything came from.

    `page_alone`: of it only report.html and what programs read, while runs train. MLflow is to show it when something
    is sent next. Raises ReportIsKept where it has no result and would replace a report that has some.
    """
    # Only here: it loads what draws figures, which takes as long as all else of a call that finds nothing to do.
    from harness.report import write as reports
    from harness.report.answer import as_note
    from harness.report.inputs import collect

    study, analysis = outcome.plan.study, outcome.analysis
    finished = {record.run.id for record in outcome.records if state_of(record) == "done"}
    every = {record.run.id for record in outcome.records}
    earlier = reports.set_aside(study.reports, "run", reports.reported_runs(study.reports), every, finished)
    if earlier:
        note(f"the report of other runs that was in {shown(study.reports)} is now in {shown(earlier)}")
    write_grid(outcome, whole=not page_alone)
    inputs = collect(study, outcome.records, analysis)
    write_files = reports.write_page if page_alone else reports.write_report
    path = write_files(inputs, study.reports)
    headlines: list[tuple[str, str]] = [(result.metric.name, result.metric.better) for result in analysis.headlines]
    asked = Report(
        summary=export.numbers(analysis), tables=export.tables(analysis), note=as_note(inputs), headlines=headlines
    )
    ask_for_report(study, study.root, asked, study.reports)
    return path


def write_grid(outcome: Outcome, whole: bool = True) -> None:
    """grid.json. `whole`: a whole report is written with it, which then is up to date.

    Raises RecordError where what it is made from is damaged.
    """
    plan, root = outcome.plan, outcome.plan.study.root
    rows = read_scale(scale_path(plan, outcome.records))
    untrained: dict[str, list[float]] = {}
    for record in outcome.records:
        for point in record.points if record.run.cell == plan.study.baseline else ():
            for name, value in point.values.items() if point.step == 0 else ():
                untrained.setdefault(name.removeprefix("metrics/"), []).append(value)
    if untrained:
        rows = {**rows, "untrained": {name: fmean(values) for name, values in untrained.items()}}
    content = {
        "sanity": rows,
        "provenance": read(root / "provenance.json", dict[str, Any], "delete it") or {},
        "design": plan.design.as_dict(),
        "asked": report_key(plan, outcome.snapshot) if whole else {},
    }
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "grid.json", content)


def scale_path(plan: Plan, records: Sequence[RunRecord] = ()) -> Path:
    """Where the study keeps its copy of the scale of the metrics: by the code that measured the baseline's runs."""
    run = plan.runs_of(plan.cell(plan.study.baseline))[0]
    # Of several codes that went on with one run the last one measured it.
    engines = Counter(
        record.run.engine.measuring.rpartition("+")[2]
        for record in records
        if record.run.cell == run.cell and record.result
    )
    theirs = plan.study.root / scale_name(run, engines.most_common(1)[0][0] if engines else "")
    return theirs if theirs.exists() else plan.study.root / scale_name(run)
