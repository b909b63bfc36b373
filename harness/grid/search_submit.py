"""A search whose trials are carried out by workers that an engine starts, which share them as several calls would.

Whoever asks again joins the workers that are there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from harness.code.engine import today
from harness.databases import is_sqlite
from harness.errors import HarnessError
from harness.executors.executor import Executor
from harness.executors.job import AskedSearch, AskedStudy, Job, JobRuns
from harness.executors.live import LiveJob, live_jobs
from harness.grid.search_run import make_search_ready
from harness.grid.submit import Watch, make_workers_executor, refuse_unready, start_workers, tell_of
from harness.masking import masked, remember
from harness.runs.record import SETTLED, Run, Status
from harness.runs.snapshot import Snapshot
from harness.scheduler.slots import find_slots
from harness.terminal.console import note
from harness.text import quantity
from harness.tuning.findings import Findings, fresh_runs, read_findings
from harness.tuning.search import Search
from harness.tuning.trials import STORAGE, Trials, storage_address, storage_source


@dataclass(frozen=True)
class SearchSubmission:
    """How a search is handed to an engine."""

    search: Search
    executor: Executor
    until: float | None
    """Unix time after which no trial begins."""
    apply: bool
    """Write the best weights into the study file."""
    detach: bool
    """Return once workers are submitted."""

    def train(self, trials: Trials, findings: Findings, runs: list[Run], mirror: AbstractContextManager[object]) -> int:
        """Have workers carry out what is left; the exit code, 0 once they have, or if detached.

        `runs`: those that have begun; the list grows. Raises HarnessError before anything is submitted.
        """
        study = self.search.study
        jobs = [job for job in live_jobs(study.root) if job.job.search and job.job.search.name == self.search.name]
        for job in jobs:
            tell_of(job)
        if not any(self._is_covered_by(job) for job in jobs):
            jobs.append(self._submit(trials, findings, runs))
        again = study.command("tune")
        if self.detach:
            note(f"`{study.command('status')}` shows their workers, `{again}` waits for them")
            return 0
        return Watch(study, jobs, FollowedSearch(trials, runs, jobs), again).follow(mirror)

    def _is_covered_by(self, job: LiveJob) -> bool:
        """Whether the job's workers do all that is asked for."""
        asked = job.job.search
        assert asked
        lasts = asked.until is None or (self.until is not None and self.until <= asked.until)
        return lasts and asked.trials >= self.search.tune.trials and asked.apply >= (self.apply and self.detach)

    def _submit(self, trials: Trials, findings: Findings, runs: Sequence[Run]) -> LiveJob:
        search, study = self.search, self.search.study
        refuse_unready(self.executor, study)
        make_search_ready(trials, find_slots(1, 1))
        left = {name: it for name, it in Snapshot(study.root, runs).statuses.items() if it.state not in SETTLED}
        asked = AskedSearch(
            search.name,
            search.tune.trials,
            masked(storage_address(search)),
            self.until,
            self.apply and self.detach,
            {name: status.ended_attempts for name, status in left.items() if status.ended_attempts},
        )
        workers = study.resources.workers
        if self.executor.name != "folder":
            workers = min(workers, max(1, trials.left() * len(search.seeds), len(fresh_runs(findings)), len(left)))
        by = AskedStudy(str(study.path), study.profile, study.overrides, ())
        job = Job(by, study.resources, workers, today(), search=asked)
        return start_workers(study, self.executor, job, JobRuns((), {}), in_words(findings))


def submission(search: Search, deadline: float, apply: bool, detach: bool) -> SearchSubmission | None:
    """None where the search is carried out by this call itself. `deadline`: of `time.monotonic`.

    Raises HarnessError for what workers elsewhere cannot do.
    """
    study = search.study
    executor = make_workers_executor(study, detach)
    if executor is None:
        return None
    address = storage_address(search)
    source = storage_source(search)
    if address and is_sqlite(address):
        fix = "leave it out, which takes a file in the folder of runs, or name a server"
        raise HarnessError(f"{source}: SQLite's file can be used on one machine only, not by workers; {fix}")
    remember(address)
    if search.tune.storage and masked(address) != address:
        fix = f"leave it out, and give the address in the variable {STORAGE}"
        raise HarnessError(f"{source}: holds a password, which would lie in the job's folder too; {fix}")
    until = None if deadline == float("inf") else time.time() + deadline - time.monotonic()
    return SearchSubmission(search, executor, until, apply, detach)


class FollowedSearch:
    """A search as its storage and the folders of its runs tell of it, until its jobs have ended."""

    def __init__(self, trials: Trials, runs: list[Run], jobs: Sequence[LiveJob]) -> None:
        self.trials, self.runs, self.jobs = trials, runs, jobs
        self.root = trials.search.study.root
        self.statuses: dict[str, Status] = {}
        self.has_failed = False
        self._numbers: set[int] = set()

    @property
    def is_open(self) -> bool:
        return not all(job.folder.has_ended for job in self.jobs)

    def read(self) -> None:
        """The runs of trials that have begun since, and the states of all that may have changed."""
        search, present = self.trials.search, {run.id for run in self.runs}
        fresh: list[Run] = []
        begun = self.trials.all()
        for trial in begun:
            if trial.number not in self._numbers and len(trial.params) == len(search.parameters):
                self._numbers.add(trial.number)
                fresh += search.runs(trial.params, trial.number)
        if sum(trial.state.is_finished() for trial in begun) >= search.tune.trials:
            fresh += fresh_runs(read_findings(self.trials))
        self.runs += [run for run in fresh if run.id not in present]
        settled = {name for name, status in self.statuses.items() if status.state in (*SETTLED, "pruned")}
        self.statuses.update(Snapshot(self.root, [run for run in self.runs if run.id not in settled]).statuses)

    @property
    def left(self) -> str:
        findings = read_findings(self.trials)
        if findings.is_over:
            return "the comparison has runs without a result"
        return f"without an outcome: {quantity(findings.search.tune.trials - findings.done, 'trial')}"


def in_words(findings: Findings) -> str:
    """How far a search is, and what it improves."""
    search = findings.search
    what = ", ".join(metric.title for metric in search.objectives)
    return f"{search.cell.name}: {findings.done} of {search.tune.trials} trials are done; {what}"


def with_failed_runs(findings: Findings) -> set[int]:
    """The trials that have no outcome since a run of theirs has failed."""
    search, failed = findings.search, set()
    for row in findings.trials:
        if row.outcome == "unfinished" and row.values:
            runs = search.runs(row.values, row.number)
            states = Snapshot(search.study.root, runs).statuses.values()
            if any(status.state == "failed" for status in states):
                failed.add(row.number)
    return failed
