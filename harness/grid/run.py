"""A whole grid: what is missing is trained, everything is mirrored to MLflow, and the comparison is written.

Torch is loaded in the fork server alone, from which every run's process comes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from harness.analysis import export
from harness.analysis.results import Analysis
from harness.errors import HarnessError
from harness.exit_codes import FAILED_RUNS
from harness.grid.jobs import HEAVY, execute
from harness.grid.outcome import Outcome, gather, is_reported, write
from harness.grid.prepare import data_provenance, one_at_a_time, prepare, refuse_absent, rehearse, warn_of_shortage
from harness.grid.retrain import clear_outdated, finish_replacing, outdated, replace_finished, retraining
from harness.runs import initial
from harness.runs.lease import holder
from harness.runs.record import Run, state_of
from harness.runs.snapshot import Snapshot
from harness.scheduler.live import LiveView
from harness.scheduler.ownership import SETTLED
from harness.scheduler.processes import nothing_to_save
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot, described, find_slots
from harness.storage.caches import reads_of, register
from harness.study.plan import Plan, make_plan
from harness.study.schema import Study
from harness.terminal.console import failure, note, shown, terminal
from harness.tracking import mirror as tracking
from harness.tracking import provenance
from harness.tracking.mirror import Mirror

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GridResult:
    """How a grid ended."""

    exit_code: int
    """0 every run is done; 3 some have failed or diverged; 130 or 143 stopped by a signal, after checkpoints."""
    analysis: Analysis | None = None
    """None when it was stopped."""
    report: Path | None = None
    failures: tuple[str, ...] = ()
    """The runs without a result, each with the place of its log."""


def _refuse_no_folder(reports: Path) -> None:
    """Before anything is trained: what would keep the report from being written at the end."""
    found = next(place for place in (reports, *reports.parents) if os.path.lexists(place))
    if not found.is_dir():
        what = "a link to what is not there stands" if found.is_symlink() else "a file stands"
        raise HarnessError(f"{found}: {what} where the folder of the reports belongs; move it away")


def run_grid(
    study: Study, *, only: Sequence[str], slots: int | None, fail_fast: bool, retrain: bool = False
) -> GridResult:
    """Train every selected run that has no result, then compare.

    `retrain` trains anew what other code than today's has made; the old runs stay until the new ones have a result.
    Raises HarnessError.
    """
    nothing_to_save()
    whole = make_plan(study)
    refuse_absent(study, whole.cells, {cell.name: whole.runs_of(cell)[0].fingerprints for cell in whole.cells})
    plan = replace(whole, study=asked_for(whole, only))
    runs = plan.select(only)
    finish_replacing(study.root)
    snapshot = plan.snapshot()
    snapshot.refuse_damaged(runs)
    _refuse_no_folder(study.reports)
    places = find_slots(study.resources.slots if slots is None else slots, study.resources.runs_per_gpu)
    mirror = Mirror(study, study.root, plan.runs)
    failed = _retrain(plan, runs, snapshot, places, fail_fast) if retrain else 0
    if failed not in (0, FAILED_RUNS):
        return GridResult(failed)
    snapshot = plan.snapshot() if retrain else snapshot
    missing = [run for run in runs if snapshot.status(run.id).state not in SETTLED]
    if missing:
        where = f"{len(places)} at a time on {described(places)}"
        others = sorted({str(owner) for run in missing if (owner := holder(study.root / run.id))})
        shared = f"; shared with {', '.join(others)}" if others else ""
        note(f"{len(missing)} of {len(runs)} runs to do, {where}{shared}")
        scheduler = Scheduler(study.root, places, execute, study.resources.retries, HEAVY, fail_fast)
        code = _train(plan, runs, missing, scheduler, mirror)
        if code:
            return GridResult(code)
    else:
        note(f"nothing to do: all {len(runs)} runs of {study.name} have a result")
    outcome = _compared(plan, plan.snapshot() if missing else snapshot, mirror)
    if tracking.missing(study, study.root, plan.runs):
        mirror.catch_up()
    return _result(outcome, runs, failed)


def _compared(plan: Plan, snapshot: Snapshot, mirror: Mirror) -> Outcome:
    """The runs and what they say; the report is written, also to MLflow's parent run, unless it holds this already."""
    with one_at_a_time(plan.study.root, "report"):  # of several schedulers that end at once, one writes it
        outcome = gather(plan, snapshot)
        if is_reported(outcome):
            return outcome
        from harness.report.write import ReportIsKept  # only here, as in `write`

        try:
            path = write(outcome)
        except ReportIsKept as kept:  # what failed is told at the end
            note(str(kept))
        else:
            note(f"report: {shown(path)}")
            mirror.finish(export.numbers(outcome.analysis), export.tables(outcome.analysis), path.parent)
    return outcome


def asked_for(plan: Plan, only: Sequence[str]) -> Study:
    """The study of which these cells were asked for, in the plan's order; all of them are as none."""
    cells = {plan.cell(name).name for name in only}
    every = [cell.name for cell in plan.cells]
    return replace(plan.study, only=tuple(name for name in every if name in cells) if cells < set(every) else ())


def report(study: Study, only: Sequence[str] = ()) -> Path:
    """Write the report from the run folders and return its path. Raises HarnessError."""
    plan = make_plan(study)
    return write(gather(replace(plan, study=asked_for(plan, only))))


def _train(
    plan: Plan,
    runs: Sequence[Run],
    missing: Sequence[Run],
    scheduler: Scheduler,
    mirror: AbstractContextManager[object],
) -> int:
    """Train `runs`, of which `missing` have no result, and mirror them; the exit code, 0 if it came to its end."""
    study, root, slots = plan.study, scheduler.root, scheduler.slots
    initial.refuse_gone(root, missing)
    register(study, reads_of(plan.runs))
    with one_at_a_time(study.root, "prepare"):
        prepare(study.root, plan.runs_of(plan.cell(study.baseline))[:1], slots)
        provenance.add(study.root / "provenance.json", study, data_provenance(plan.runs[0]))
        rehearse(root, missing, slots)
    warn_of_shortage(root, missing, slots)
    with mirror, LiveView(runs, root, slots, terminal(error=True, live=True)) as view:
        scheduler.run(plan.queue(runs), view.tick)
    return scheduler.stop.exit_code


def _retrain(plan: Plan, runs: Sequence[Run], snapshot: Snapshot, slots: Sequence[Slot], fail_fast: bool) -> int:
    """Take anew what other code has made, whole runs from step 0; the exit code, 0 if all have a new result."""
    root = plan.study.root
    with retraining(root) as place:
        old = outdated(snapshot, runs)
        if not old:
            note("nothing to train anew: today's code has made all that there is")
            return 0
        begun = clear_outdated(place, old)
        missing = [run for run in old if begun.status(run.id).state not in SETTLED]
        note(f"{len(old)} of {len(runs)} runs are trained anew in {shown(place)}; the old ones stay until then")
        try:
            scheduler = Scheduler(place, tuple(slots), execute, plan.study.resources.retries, HEAVY, fail_fast)
            code = _train(plan, old, missing, scheduler, nullcontext())  # mirrored once it is in its place
        finally:
            done = replace_finished(root, old)
            note(f"{len(done)} of {len(old)} runs were replaced")
        left = [run for run in old if run not in done]
        for run in left if not code else ():
            failure(f"{run.cell} seed {run.seed}: not trained anew; see {shown(place / run.id / 'log.txt')}")
        return code or (FAILED_RUNS if left else 0)


def _result(outcome: Outcome, runs: Sequence[Run], code: int) -> GridResult:
    """The analysis and report of a grid that came to its end; the runs without a result, in words."""
    study, chosen = outcome.plan.study, {run.id for run in runs}
    failures = []
    for record in outcome.records:
        if record.run.id in chosen and state_of(record) != "done":
            log = study.root / record.run.id / "log.txt"
            more = f"see {shown(log)}" if log.exists() else "it was never started"
            failures.append(f"{record.run.cell} seed {record.run.seed}: {state_of(record)}; {more}")
    report = study.reports / "report.md"
    return GridResult(
        FAILED_RUNS if failures else code,
        outcome.analysis,
        report if report.exists() else None,
        tuple(failures),
    )
