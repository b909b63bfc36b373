"""What a worker does whose job is a search of weights: trials, as one more call of `harness tune` would.

The workers share the trials through the search's storage. They wait for the last trials of others, which they take over
if those die and after which the comparison is theirs to share; of that they leave to others what these have. The one
that ends last writes the report.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from harness.errors import HarnessError
from harness.executors.job import AskedSearch, JobFolder
from harness.exit_codes import FAILED_RUNS
from harness.grid.prepare import one_at_a_time
from harness.grid.search_outcome import apply_best, publish, without_number
from harness.grid.search_run import SearchRun, all_runs
from harness.grid.worker_ticks import Follower
from harness.masking import masked
from harness.runs.device_kind import refuse_other_kind
from harness.runs.lease import holder
from harness.runs.record import FINAL, Run
from harness.runs.snapshot import Snapshot
from harness.scheduler.live import LiveView
from harness.scheduler.ownership import ended_since
from harness.scheduler.slots import Slot
from harness.terminal.console import note, terminal
from harness.text import quantity
from harness.tuning.findings import Findings, fresh_runs, read_findings, with_importances
from harness.tuning.loop import trial_folder
from harness.tuning.search import Search, make_search
from harness.tuning.trials import STORAGE, Trials, storage_address, storage_errors


def work_on_search(folder: JobFolder, asked: AskedSearch, slots: Sequence[Slot], number: int) -> int:
    """Take trials until there are as many as asked for, and runs of the comparison; the exit code as of `work`."""
    study = folder.study()
    search = make_search(study)
    if search.name != asked.name:
        fix = "`harness cancel` ends its workers; ask for the search again"
        raise HarnessError(f"{folder.path}: the study's data or code were changed since this job was made; {fix}")
    go_over_to_storage(search, asked)
    trials, attempts = Trials(search), dict(asked.attempts)
    deadline = float("inf") if asked.until is None else time.monotonic() + asked.until - time.time()
    with storage_errors(search):
        runs = all_runs(read_findings(trials))
        statuses = Snapshot(study.root, runs).statuses
        left = [run for run in runs if statuses[run.id].state not in FINAL]
        refuse_other_kind(study.root, left, slots[0].torch_device)
        work, mine = SearchRun(trials, slots, [], attempts), list[Run]()
        with LiveView(mine, folder.root, slots, terminal(error=True, live=True)) as view:
            code = work.run(Follower(folder, work, view, mine).tick, deadline)
        findings = read_findings(trials)
        compared = {run.id for run in fresh_runs(findings)}
        bad = [run for run in without_number(findings, list(work.started.values())) if run.id in compared]
        failed = f"failed: {quantity(len(work.failed), 'trial')} and {quantity(len(bad), 'run')} of the comparison"
        note(f"worker {number} ends: it started {quantity(len(work.started), 'run')}; {failed}")
        if code:
            return code
        with one_at_a_time(folder.root, "closing"):
            if not folder.has_ended and _is_over(trials, findings, attempts):
                findings = with_importances(findings, trials)
                publish(findings)
                folder.end()
                if asked.apply:
                    note(apply_best(study, findings))
    return FAILED_RUNS if work.failed or bad or (findings.is_over and not findings.has_result) else 0


def go_over_to_storage(search: Search, asked: AskedSearch) -> None:
    """See to it that the trials are looked for where the job's other workers have them. Raises HarnessError."""
    if not asked.storage:
        os.environ.pop(STORAGE, None)
    elif (here := masked(storage_address(search))) != asked.storage:
        given = f"is {here} here" if here else "is not set here"
        fix = f"start the worker with {STORAGE} as it was where the job was made"
        raise HarnessError(f"{STORAGE}: {given}, and the trials of this job are in {asked.storage}; {fix}")


def _is_over(trials: Trials, findings: Findings, attempts: Mapping[str, int]) -> bool:
    """Whether no worker has anything left to do: what is open has failed, or was not to begin any more."""
    search = trials.search
    root = search.study.root
    if any(holder(trial_folder(root, search.identity, trial.number)) for trial in trials.running()):
        return False
    fresh = fresh_runs(findings) if findings.is_over else []
    statuses = Snapshot(root, fresh).statuses
    return all(ended_since(statuses[run.id], attempts.get(run.id, 0)) and not holder(root / run.id) for run in fresh)
