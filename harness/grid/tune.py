"""A whole search of weights: trials until there are as many as asked for, then the best against those as written.

Torch is loaded in the fork server alone, from which every run's process comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.errors import HarnessError
from harness.exit_codes import FAILED_RUNS, STOPPED
from harness.grid.jobs import HEAVY, execute
from harness.grid.prepare import data_provenance, one_at_a_time, prepare, refuse_absent, rehearse, warn_of_shortage
from harness.report.search.answer import on_fresh_seeds
from harness.report.search.write import for_tracker, reported_searches, write_search
from harness.report.write import ReportIsKept, set_aside
from harness.runs.record import Run, Status
from harness.runs.snapshot import Snapshot
from harness.scheduler.live import LiveView
from harness.scheduler.ownership import SETTLED
from harness.scheduler.processes import nothing_to_save
from harness.scheduler.scheduler import Feed, Scheduler, Tick
from harness.scheduler.slots import Slot, described, find_slots
from harness.storage.caches import reads_of, register
from harness.study import search_space
from harness.study.schema import Study, Tuned
from harness.terminal.console import failure, note, shown, terminal
from harness.tracking import provenance
from harness.tracking.mirror import Mirror
from harness.tuning.findings import Findings, fresh_runs, gains, read_findings, with_importances
from harness.tuning.loop import Loop
from harness.tuning.profile import refuse_unfit, write_profile
from harness.tuning.search import Search, make_search
from harness.tuning.trials import Trials, storage_errors


@dataclass(frozen=True)
class TuneResult:
    """How one or several searches ended."""

    exit_code: int
    """The largest of them: 0 done, 3 with failed runs, 130 or 143 stopped by a signal, after checkpoints."""
    searches: tuple[Findings, ...] = ()
    """One for each cell, in order; empty when they were stopped."""
    applied: tuple[str, ...] = ()
    """What was written into the study file, and what was not and why, in words."""


def tune_cells(
    studies: Sequence[Study], *, slots: int | None = None, deadline: float = float("inf"), apply: bool = False
) -> TuneResult:
    """One search after another, each as far as it comes.

    `slots`: runs at the same time, by default the study's. `deadline`, of `time.monotonic`: no trial begins after it.
    `apply`: write the best weights into the study file.
    """
    for study in studies:
        if (name := study.resources.executor) != "local":
            place = study.places["resources.executor"]
            fix = "add --set resources.executor=local, or start this command in jobs of your own, which share trials"
            raise HarnessError(f"{place}: resources.executor: {name}, but a search trains where it is called; {fix}")
    # All are opened before the first runs, so that a mistake in the last one shows at once.
    found = [make_search(study) for study in studies]
    for study, search in zip(studies, found, strict=True):
        refuse_absent(study, [search.cell], {search.cell.name: search.fingerprints})
    opened = [Trials(search) for search in found]
    for study, trials in zip(studies, opened, strict=True) if apply else ():
        with storage_errors(trials.search):
            is_over = read_findings(trials).is_over
        if not is_over:  # of one that is over the text to paste is shown
            refuse_unfit(
                study, {each.name: each.high for each in trials.search.parameters}, _tuned(study, trials.search)
            )
    code, searched = 0, []
    for trials in opened:
        with storage_errors(trials.search):
            ended, findings = _tune(trials, slots, deadline)
        code = max(code, ended)
        if ended > STOPPED:
            return TuneResult(code)
        searched.append(findings)
    first = replace(searched[0], gains=gains(searched[0], searched[1:]))
    if first.gains:
        _publish(first, Mirror(first.search.study, first.search.study.root, all_runs(first)))
    applied = tuple(map(_apply, studies, searched)) if apply else ()
    return TuneResult(code, (first, *searched[1:]), applied)


def _tune(trials: Trials, slots: int | None, deadline: float) -> tuple[int, Findings]:
    """Carry on a search; the exit code and the findings.

    0 as far as it was asked for, 3 with failed runs, above 128 when stopped after checkpoints. Raises HarnessError.
    """
    nothing_to_save()
    search, study = trials.search, trials.search.study
    resources = study.resources
    wanted = resources.slots if slots is None else slots
    places = find_slots(wanted, resources.runs_per_gpu, resources.gpus_per_run)
    findings = read_findings(trials)
    runs = all_runs(findings)
    before = Snapshot(study.root, runs)
    before.refuse_damaged(runs)
    mirror = Mirror(study, study.root, runs)
    worker = _Worker(trials, places, runs)
    compared = all(before.status(run.id).state in SETTLED for run in fresh_runs(findings))
    is_complete = findings.is_over and compared and (study.reports / "report.md").exists()
    code = 0
    if is_complete:
        note(f"nothing to do: {search.tune.trials} trials of {search.cell.name} are done and compared")
    else:
        what = ", ".join(metric.title for metric in search.objectives)
        where = f"{len(places)} runs at a time on {described(places)}"
        note(f"{search.cell.name}: {findings.done} of {search.tune.trials} trials are done, {where}; {what}")
        worker.prepare()
        with mirror, LiveView(runs, study.root, places, terminal(error=True, live=True)) as view:
            code = worker.run(view.tick, deadline)
        findings = read_findings(trials)
    if code <= STOPPED:
        findings = with_importances(findings, trials)
    if code <= STOPPED and not is_complete:
        _publish(findings, mirror)
    problems = list(_problems(findings, worker.failed))
    for text in problems:
        failure(text)
    return code or (FAILED_RUNS if problems else 0), findings


def all_runs(findings: Findings) -> list[Run]:
    """Every run that a search has begun, and those that compare its best with what was written."""
    search = findings.search
    runs = [run for row in findings.trials if row.values for run in search.runs(row.values, row.number)]
    return [*runs, *fresh_runs(findings)]


class _Worker:
    """Carries out trials and the comparison on this machine's slots."""

    def __init__(self, trials: Trials, slots: Sequence[Slot], runs: list[Run]) -> None:
        self.search, self.trials, self.slots, self.runs = trials.search, trials, slots, runs
        self.root = trials.search.study.root
        self.failed: set[int] = set()

    def prepare(self) -> None:
        """Data and features for trials and for what is compared, once; what the disk must hold."""
        first = self.search.runs(self.search.written, 0)
        fresh = self.search.fresh_runs(self.search.written, "written") or first
        register(self.search.study, reads_of([*first, *fresh]))
        with one_at_a_time(self.root, "prepare"):
            prepare(self.root, (first[0], fresh[0]), self.slots)
            provenance.add(self.root / "provenance.json", self.search.study, data_provenance(first[0]))
            rehearse(self.root, first[:1], self.slots)
        left = self.trials.left() * len(first) + len(fresh)
        # Runs of trials to come have no ids yet; for the room that they take any will do.
        warn_of_shortage(self.root, [replace(first[0], id=f"{place}") for place in range(left)], self.slots)

    def run(self, show: Tick, deadline: float) -> int:
        """Trials, then, if these are all, the comparison; the exit code."""
        loop = Loop(self.search, self.trials, self.runs, deadline)
        statuses = dict(Snapshot(self.root, self.runs).statuses)

        def tick(now: Mapping[str, Status]) -> None:
            # Runs of another scheduler, and those that have joined since, are read as long as they may change.
            settled = {name for name, status in statuses.items() if status.state not in ("pending", "running")}
            elsewhere = [run for run in self.runs if run.id not in settled | now.keys()]
            statuses.update({**Snapshot(self.root, elsewhere).statuses, **now})
            loop.settle()
            show(statuses)

        try:
            code = self._run(loop, (), tick)
        finally:
            loop.drop_all()
        loop.sweep()
        self.failed = loop.failed
        findings = read_findings(self.trials)
        if code or not findings.is_over:
            return code
        fresh = fresh_runs(findings)
        begun = {run.id for run in self.runs}
        self.runs += [run for run in fresh if run.id not in begun]
        return self._run(Feed(), fresh, tick)

    def _run(self, feed: Feed, runs: Sequence[Run], tick: Tick) -> int:
        """The exit code, 0 unless somebody ended it."""
        retries = self.search.study.resources.retries
        scheduler = Scheduler(self.root, tuple(self.slots), execute, retries, HEAVY, feed=feed)
        scheduler.run(runs, tick)
        return scheduler.exit_code


def _publish(findings: Findings, mirror: Mirror) -> None:
    """The report, here and on MLflow's parent run."""
    folder = findings.search.study.reports
    name, is_done = {findings.search.name}, any(row.outcome == "done" for row in findings.trials)
    with one_at_a_time(findings.search.study.root, "report"):
        try:
            earlier = set_aside(folder, reported_searches(folder), name, name if is_done else set())
        except ReportIsKept as kept:
            note(str(kept))
            return
        if earlier:
            note(f"the report of another search that was in {shown(folder)} is now in {shown(earlier)}")
        path = write_search(findings, folder)
    note(f"report: {shown(path)}")
    mirror.finish(*for_tracker(findings), path.parent)


def _problems(findings: Findings, failed: Iterable[int]) -> Iterator[str]:
    """Why trials have no outcome, and what of the comparison gave no number."""
    search = findings.search
    for number in sorted(failed):
        runs = search.runs(findings.trials[number].values, number)
        yield f"trial {number} has failed runs: {_logs(findings, _without_number(findings, runs) or runs)}"
    first = findings.trials[0] if findings.trials else None
    if search.constraints and first and first.outcome == "diverged":
        what = "trial 0, which the constraints are measured against, has diverged"
        yield f"{what}; write other weights, or leave tune.constraints out"
    if bad := _without_number(findings, fresh_runs(findings)):
        yield f"{len(bad)} runs of the comparison gave no number: {_logs(findings, bad)}"


def _without_number(findings: Findings, runs: Sequence[Run]) -> list[Run]:
    snapshot = Snapshot(findings.search.study.root, runs)
    return [run for run in runs if snapshot.status(run.id).state in ("failed", "diverged")]


def _logs(findings: Findings, runs: Sequence[Run]) -> str:
    """Where to read what went wrong."""
    root = findings.search.study.root
    return ", ".join(f"{run.cell} seed {run.seed} (see {shown(root / run.id / 'log.txt')})" for run in runs)


def _apply(study: Study, findings: Findings) -> str:
    """Write the best weights into the study file, unless they are there already; what was done, in words."""
    cell = findings.search.cell.name
    if not findings.is_over or findings.best is None:
        return f"{cell}: {findings.done} of {study.tune.trials} trials are done; the weights are written when all are"
    if findings.best.number == 0:
        return f"{cell}: no trial was better than the weights as written; nothing is written"
    if "worse" in (verdicts := [verdict for verdict, _ in on_fresh_seeds(findings) if verdict]):
        return f"{cell}: under fresh seeds the weights found are worse than those as written; nothing is written"
    name = write_profile(study, findings.best.values, _tuned(study, findings.search))
    judged = f"under fresh seeds: {', '.join(verdicts)}" if verdicts else "not compared under fresh seeds"
    return f"{cell}: the weights are in the profile {name} ({judged}); harness run-grid {study.path.name} -p {name}"


def _tuned(study: Study, search: Search) -> dict[str, Tuned]:
    """What the study file is to say of the search."""
    return {search.cell.name: Tuned(study.tune.trials, ", ".join(search_space.objectives(study.tune)))}
