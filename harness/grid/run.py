"""A whole grid: what is missing is trained, everything is mirrored to MLflow, and the comparison is written.

Torch is loaded in the fork server alone, from which every run's process comes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.analysis.results import Analysis
from harness.errors import HarnessError
from harness.executors.executor import Executor
from harness.exit_codes import FAILED_RUNS
from harness.grid.outcome import Outcome, compare, gather, write
from harness.grid.placement import at_a_time, make_scheduler
from harness.grid.prepare import make_ready, refuse_absent, with_slots
from harness.grid.retrain import clear_outdated, finish_replacing, outdated, replace_finished, retraining
from harness.grid.submit import Submission, make_workers_executor
from harness.runs.device_kind import refuse_other_kind
from harness.runs.lease import holder
from harness.runs.record import Run, state_of
from harness.runs.snapshot import Snapshot
from harness.scheduler.live import LiveView
from harness.scheduler.ownership import SETTLED
from harness.scheduler.processes import nothing_to_save
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import described, find_slots
from harness.study.plan import Plan, make_plan
from harness.study.schema import Study
from harness.terminal.console import failure, note, shown, terminal
from harness.tracking import mirror as tracking
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
    study: Study,
    *,
    only: Sequence[str],
    slots: int | None,
    fail_fast: bool,
    retrain: bool = False,
    detach: bool = False,
) -> GridResult:
    """Train every selected run that has no result, then compare.

    `retrain` trains anew what other code than today's has made; the old runs stay until the new ones have a result.
    `detach` returns once the runs are submitted to the study's executor. Raises HarnessError.
    """
    nothing_to_save()
    study, executor = _with_options(study, slots, retrain, detach)
    whole = make_plan(study)
    refuse_absent(study, whole.cells, {cell.name: whole.runs_of(cell)[0].fingerprints for cell in whole.cells})
    plan, runs = whole.narrowed(only), whole.select(only)
    finish_replacing(study.root)
    snapshot = plan.snapshot()
    snapshot.refuse_damaged(runs)
    _refuse_no_folder(study.reports)
    mirror = Mirror(study, study.root, plan.runs)
    failed = _retrain(plan, runs, snapshot, fail_fast) if retrain else 0
    if failed not in (0, FAILED_RUNS):
        return GridResult(failed)
    snapshot = plan.snapshot() if retrain else snapshot
    missing = [run for run in runs if snapshot.status(run.id).state not in SETTLED]
    if missing:
        train = Submission(plan, executor, detach, fail_fast).train if executor else partial(_train, plan, fail_fast)
        if (code := train(runs, missing, mirror)) or detach:
            return GridResult(code)
    else:
        note(f"nothing to do: all {len(runs)} runs of {study.name} have a result")
    outcome = compare(plan, plan.snapshot() if missing else snapshot)
    if tracking.missing(study, study.root, plan.runs):
        mirror.catch_up()
    return _result(outcome, runs, failed)


def _with_options(study: Study, slots: int | None, retrain: bool, detach: bool) -> tuple[Study, Executor | None]:
    """The study with these slots, if any, and its engine; raises HarnessError for what that cannot do."""
    executor = make_workers_executor(study, detach)
    if executor and retrain:
        place = study.places.get("resources.executor", "the default")
        raise HarnessError(
            f"--retrain: trains on this machine alone, and resources.executor is {executor.name} ({place}); "
            "add --executor local"
        )
    return with_slots(study, slots), executor


def report(study: Study, only: Sequence[str] = ()) -> Path:
    """Write the report from the run folders and return its path. Raises HarnessError."""
    return write(gather(make_plan(study).narrowed(only)))


def _train(
    plan: Plan, fail_fast: bool, runs: Sequence[Run], missing: Sequence[Run], mirror: AbstractContextManager[object]
) -> int:
    """Train `runs`, of which `missing` have no result, on this machine; the exit code, 0 if it came to its end."""
    resources, root = plan.study.resources, plan.study.root
    slots = find_slots(resources.slots, resources.runs_per_gpu, resources.gpus_per_run)
    refuse_other_kind(root, missing, slots[0].torch_device)
    others = sorted({str(owner) for run in missing if (owner := holder(root / run.id))})
    shared = f"; shared with {', '.join(others)}" if others else ""
    scheduler = make_scheduler(resources, root, slots, runs, fail_fast=fail_fast)
    count = at_a_time(resources, slots, scheduler.memory, {run.cell for run in missing})
    note(f"{len(missing)} of {len(runs)} runs to do, {count} on {described(slots)}{shared}")
    make_ready(plan, root, missing, slots)
    return _schedule(plan, runs, scheduler, mirror)


def _schedule(plan: Plan, runs: Sequence[Run], scheduler: Scheduler, mirror: AbstractContextManager[object]) -> int:
    """The exit code, 0 if it came to its end."""
    with mirror, LiveView(runs, scheduler.root, scheduler.slots, terminal(error=True, live=True)) as view:
        scheduler.run(plan.queue(runs), view.tick)
    return scheduler.stop.exit_code


def _retrain(plan: Plan, runs: Sequence[Run], snapshot: Snapshot, fail_fast: bool) -> int:
    """Take anew what other code has made, whole runs from step 0; the exit code, 0 if all have a new result."""
    root, resources = plan.study.root, plan.study.resources
    slots = find_slots(resources.slots, resources.runs_per_gpu, resources.gpus_per_run)
    with retraining(root) as place:
        old = outdated(snapshot, runs)
        if not old:
            note("nothing to train anew: today's code has made all that there is")
            return 0
        begun = clear_outdated(place, old)
        missing = [run for run in old if begun.status(run.id).state not in SETTLED]
        refuse_other_kind(place, missing, slots[0].torch_device)
        note(f"{len(old)} of {len(runs)} runs are trained anew in {shown(place)}; the old ones stay until then")
        try:
            make_ready(plan, place, missing, slots)
            scheduler = make_scheduler(resources, place, slots, old, fail_fast=fail_fast)
            code = _schedule(plan, old, scheduler, nullcontext())  # mirrored once it is in its place
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
            more = f"see {shown(log)}" if log.exists() else record.status.reason or "it was never started"
            failures.append(f"{record.run.cell} seed {record.run.seed}: {state_of(record)}; {more}")
    report = study.reports / "report.md"
    return GridResult(
        FAILED_RUNS if failures else code,
        outcome.analysis,
        report if report.exists() else None,
        tuple(failures),
    )
