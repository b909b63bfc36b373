"""A whole grid: what is missing is trained, everything is mirrored to MLflow, and the comparison is written.

Torch is loaded in the fork server alone, from which every run's process comes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.results import Analysis
from harness.errors import HarnessError
from harness.executors.executor import Executor
from harness.exit_codes import FAILED_RUNS
from harness.grid.outcome import Outcome, compare, gather, write
from harness.grid.placement import in_words, make_scheduler
from harness.grid.prepare import make_ready, one_at_a_time, refuse_absent, slots_of, with_slots
from harness.grid.retrain import clear_outdated, finish_replacing, outdated, replace_finished, retraining
from harness.grid.submit import Submission, make_workers_executor
from harness.grid.whole_seeds import ReportInBetween, WholeSeeds, showing
from harness.runs.device_kind import refuse_other_kind
from harness.runs.lease import holder
from harness.runs.record import SETTLED, Run, state_of
from harness.runs.snapshot import Snapshot
from harness.scheduler.live import LiveView
from harness.scheduler.ownership import ended_since
from harness.scheduler.processes import nothing_to_save
from harness.scheduler.scheduler import Scheduler, Tick
from harness.study import looks
from harness.study.plan import Plan, make_plan
from harness.study.schema import Study
from harness.terminal.console import failure, note, shown, terminal
from harness.text import quantity
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
    study, executor = _with_options(study, slots, retrain, detach, only)
    whole = make_plan(study)
    refuse_absent(study, whole.cells, {cell.name: whole.runs_of(cell)[0].fingerprints for cell in whole.cells})
    plan, runs = whole.narrowed(only), whole.select(only)
    finish_replacing(study.root)
    snapshot = plan.snapshot()
    snapshot.refuse_damaged(runs)
    _refuse_no_folder(study.reports)
    failed = _retrain(plan, runs, snapshot, fail_fast) if retrain else 0
    if failed not in (0, FAILED_RUNS):
        return GridResult(failed)
    call = _Call(plan, plan.snapshot() if retrain else snapshot, only, executor, detach, fail_fast)
    if (code := call.train()) or detach:
        return GridResult(code)
    plan, runs = call.plan, call.runs
    outcome = compare(plan, call.snapshot)
    if not (call.has_trained or retrain):
        note(f"nothing to do: every run of {study.name} has a result")
    if words := looks.in_words(plan.study, plan.runs):
        note(words)
    if tracking.missing(study, study.root, plan.runs):
        call.mirror.catch_up()
    return _result(outcome, runs, failed)


def seeds_to_add(plan: Plan, snapshot: Snapshot) -> int | None:
    """How many seeds are asked for next, where they are added until all is decided; None: no more.

    Each look at whole seeds is noted. Raises HarnessError.
    """
    study, asked = plan.study, len(plan.study.design.seeds)
    if study.design.max_seeds is None:
        return None
    analysis = gather(plan, snapshot).analysis
    taken = [
        (look.seeds, [(metric, effect) for metric, effects in look.undecided.items() for effect in effects])
        for look in analysis.looks or ()
    ]
    beyond = analysis.no_seed_decides
    looks.note_looks(study, plan.runs, taken, beyond)
    if not taken or not all({*left} - {*beyond} for _, left in taken) or taken[-1][0] < asked:
        return None  # nothing that seeds decide is left, or the newest seed is not whole and nobody trains it
    return asked + 1 if asked < study.design.max_seeds else None


def _with_options(
    study: Study, slots: int | None, retrain: bool, detach: bool, only: Sequence[str]
) -> tuple[Study, Executor | None]:
    """The study with these slots, if any, and its engine; raises HarnessError for what that cannot do."""
    for option, why in (
        (only and "--only", "the comparison of all cells decides whether one more is trained"),
        (detach and "--detach", "this call has to compare the seeds that are there before it asks for one more"),
    ):
        if option and study.design.max_seeds is not None:
            raise HarnessError(f"{option}: with design.seeds auto, {why}; leave it out, or set the number of seeds")
    study = with_slots(study, slots)
    executor = make_workers_executor(study, detach)
    if executor and retrain:
        place = study.places.get("resources.executor", "the default")
        raise HarnessError(
            f"--retrain: trains on this machine alone, and resources.executor is {executor.name} ({place}); "
            "add --executor local"
        )
    return study, executor


def report(study: Study, only: Sequence[str] = ()) -> Path:
    """Write the report from the run folders and return its path. Raises HarnessError."""
    plan = make_plan(study).narrowed(only)
    if words := looks.in_words(plan.study, plan.runs):
        note(words)
    with one_at_a_time(study.root, "report"):  # what a grid that ends meanwhile writes is not replaced by older news
        return write(gather(plan))


class _Call:
    """Has what is missing trained: once, or where seeds are added, once for each look at them."""

    def __init__(
        self,
        plan: Plan,
        snapshot: Snapshot,
        only: Sequence[str],
        executor: Executor | None,
        detach: bool,
        fail_fast: bool,
    ) -> None:
        self.plan, self.snapshot, self.only = plan, snapshot, only
        self.executor, self.detach, self.fail_fast = executor, detach, fail_fast
        # A run that failed before is tried again, once in a call.
        self.attempts = {name: status.ended_attempts for name, status in snapshot.statuses.items()}
        self.reports = ReportInBetween()
        self.mirror = Mirror(plan.study, plan.study.root, plan.runs)
        self.has_trained = False

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those that were asked for by now."""
        return self.plan.select(self.only)

    def train(self) -> int:
        """The exit code, 0 if it came to its end, or if detached. Raises HarnessError."""
        while True:
            if missing := [run for run in self.runs if not self._has_ended(run)]:
                self.has_trained = True
                if (code := self._train(missing)) or self.detach:
                    return code
                self.snapshot = self.plan.snapshot()
            has_failed = any(self.snapshot.status(run.id).state == "failed" for run in self.runs)
            seeds = None if self.fail_fast and has_failed else seeds_to_add(self.plan, self.snapshot)
            if seeds is None:
                self.reports.finish()
                return 0
            note(looks.in_words(self.plan.study, self.plan.runs))
            self.plan = self.plan.of_seeds(seeds)
            self.snapshot = self.plan.snapshot()
            self.reports.want(self.plan)

    def _has_ended(self, run: Run) -> bool:
        return ended_since(self.snapshot.status(run.id), self.attempts.get(run.id, 0))

    def _train(self, missing: Sequence[Run]) -> int:
        """The exit code, 0 if it came to its end."""
        plan, runs, resources, root = self.plan, self.runs, self.plan.study.resources, self.plan.study.root
        self.mirror, show = Mirror(plan.study, root, plan.runs), showing(WholeSeeds(plan, self.attempts), self.reports)
        if self.executor:
            return Submission(plan, self.executor, self.detach, self.fail_fast, show).train(runs, missing, self.mirror)
        slots = slots_of(plan.study)
        refuse_other_kind(root, missing, slots[0].torch_device)
        others = sorted({str(owner) for run in missing if (owner := holder(root / run.id))})
        shared = f"; shared with {', '.join(others)}" if others else ""
        options = {"fail_fast": self.fail_fast, "attempts_before": self.attempts}
        scheduler = make_scheduler(resources, root, slots, runs, **options)
        placed = in_words(resources, slots, scheduler.memory, {run.cell for run in missing})
        note(f"{len(missing)} of {quantity(len(runs), 'run')} to do, {placed}{shared}")
        make_ready(plan, root, missing, slots)
        return _schedule(plan, runs, scheduler, self.mirror, show)


def _schedule(
    plan: Plan,
    runs: Sequence[Run],
    scheduler: Scheduler,
    mirror: AbstractContextManager[object],
    show: Callable[[LiveView], Tick] = lambda view: view.tick,
) -> int:
    """The exit code, 0 if it came to its end."""
    with mirror, LiveView(runs, scheduler.root, scheduler.slots, terminal(error=True, live=True)) as view:
        scheduler.run(plan.queue(runs), show(view))
    return scheduler.stop.exit_code


def _retrain(plan: Plan, runs: Sequence[Run], snapshot: Snapshot, fail_fast: bool) -> int:
    """Take anew what other code has made, whole runs from step 0; the exit code, 0 if all have a new result."""
    root, resources = plan.study.root, plan.study.resources
    slots = slots_of(plan.study)
    with retraining(root) as place:
        old = outdated(snapshot, runs)
        if not old:
            note("nothing to train anew: today's code has made all that there is")
            return 0
        begun = clear_outdated(place, old)
        missing = [run for run in old if begun.status(run.id).state not in SETTLED]
        refuse_other_kind(place, missing, slots[0].torch_device)
        note(
            f"trained anew: {len(old)} of {quantity(len(runs), 'run')} in {shown(place)}; the old ones stay until then"
        )
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
