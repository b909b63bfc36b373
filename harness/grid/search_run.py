"""Trials of a search, and the comparison at its end, carried out on this machine's slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.grid.placement import make_scheduler
from harness.grid.prepare import data_provenance, one_at_a_time, prepare, rehearse, warn_of_shortage
from harness.runs.record import Run, Status
from harness.runs.snapshot import Snapshot
from harness.scheduler.processes import Stop
from harness.scheduler.scheduler import Feed, Tick
from harness.scheduler.slots import Slot
from harness.storage.caches import reads_of, register
from harness.tracking import provenance
from harness.tuning.findings import Findings, fresh_runs, read_findings
from harness.tuning.loop import Loop
from harness.tuning.trials import Trials


def all_runs(findings: Findings) -> list[Run]:
    """Every run that a search has begun, and those that compare its best with what was written."""
    search = findings.search
    runs = [run for row in findings.trials if row.values for run in search.runs(row.values, row.number)]
    return [*runs, *fresh_runs(findings)]


def make_search_ready(trials: Trials, slots: Sequence[Slot]) -> None:
    """Data and features for trials and for what is compared, once; what the disk must hold."""
    search = trials.search
    root = search.study.root
    first = search.runs(search.written, 0)
    fresh = search.fresh_runs(search.written, "written") or first
    register(search.study, reads_of([*first, *fresh]))
    with one_at_a_time(root, "prepare"):
        prepare(root, (first[0], fresh[0]), slots)
        provenance.add(root / "provenance.json", search.study, "tune", data_provenance(first[0]))
        rehearse(root, first[:1], slots)
    left = trials.left() * len(first) + len(fresh)
    # Runs of trials to come have no ids yet; for the room that they take any will do.
    warn_of_shortage(root, [replace(first[0], id=f"{place}") for place in range(left)], slots)


@dataclass
class SearchRun:
    """Carries out trials and the comparison."""

    trials: Trials
    slots: Sequence[Slot]
    runs: list[Run]
    """The runs of the search that have begun; the list grows."""
    attempts: dict[str, int] | None = None
    """Of a worker: run id -> attempts before its job was made, 0 for a run that is not in it. What has failed since
    then is not tried again, and runs of the comparison that others have are left to them."""
    failed: set[int] = field(default_factory=set, init=False)
    """Trials whose runs could not be carried out."""
    started: dict[str, Run] = field(default_factory=dict, init=False)
    """The runs that this has started, by id."""
    stop: Stop = field(default_factory=Stop, init=False)
    """Who asked for an end of what is under way, if anybody did."""

    def run(self, show: Tick, deadline: float) -> int:
        """Trials, then, if these are all, the comparison; the exit code. No trial begins after `deadline`, of
        `time.monotonic`.
        """
        root = self.trials.search.study.root
        loop = Loop(self.trials.search, self.trials, self.runs, deadline, self.attempts)
        statuses = dict(Snapshot(root, self.runs).statuses)

        def tick(now: Mapping[str, Status]) -> None:
            # Runs of another scheduler, and those that have joined since, are read as long as they may change.
            settled = {name for name, status in statuses.items() if status.state not in ("pending", "running")}
            elsewhere = [run for run in self.runs if run.id not in settled | now.keys()]
            statuses.update({**Snapshot(root, elsewhere).statuses, **now})
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
        """The exit code, 0 unless somebody ended it or no device is left."""
        search, is_worker = self.trials.search, self.attempts is not None
        before = self.attempts if self.attempts is not None else {}
        if is_worker:
            for run in runs:
                before.setdefault(run.id, 0)
        scheduler = make_scheduler(
            search.study.resources,
            search.study.root,
            tuple(self.slots),
            self.runs,
            feed=feed,
            waits=not (is_worker and runs),
            attempts_before=before,
        )
        self.stop, scheduler.started = scheduler.stop, self.started
        scheduler.run(runs, tick)
        return scheduler.exit_code
