"""The trials that this process carries out: their runs, their values, and when one is pruned.

A trial is this process's while it holds the trial's claim. One whose process was killed or stopped is taken over,
and its runs go on from their checkpoints. A trial whose run failed stays as it is, and the next call tries it again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from harness.runs.folders import RunFolder
from harness.runs.lease import Claim, holder
from harness.runs.record import Run, RunRecord, State, state_of
from harness.runs.snapshot import Snapshot
from harness.scheduler.scheduler import Feed
from harness.study import search_space
from harness.tuning.search import Search, mean
from harness.tuning.trials import Trials

UNPRUNED = 5
"""The first trials are never pruned: the others are compared with them, and importances need whole trials."""


@dataclass(eq=False)
class ActiveTrial:
    """A trial that this process carries out."""

    trial: Trial
    runs: list[Run]
    claim: Claim
    attempts: Mapping[str, int]
    """Run id -> attempts before this process took the trial, or before its job was made."""
    reported: set[int]
    """Steps whose values the pruner has."""
    lost: bool = False
    """Another process has taken it over."""


class Loop(Feed):
    """Feeds a scheduler with the runs of trials, and tells Optuna what became of them."""

    def __init__(
        self,
        search: Search,
        trials: Trials,
        runs: list[Run],
        deadline: float = float("inf"),
        attempts: dict[str, int] | None = None,
    ) -> None:
        self.search, self.trials, self.root = search, trials, search.study.root
        self.attempts = attempts
        """Of a worker: run id -> attempts before its job was made, 0 for a run that is not in it; a failure since then
        counts, whichever worker met it. None: failures of other processes do not count."""
        self.runs = runs
        """Every run that this process has begun; the list grows."""
        self.deadline = deadline
        """Of `time.monotonic`: no trial begins after it."""
        self.failed: set[int] = set()
        """Trials whose runs could not be carried out."""
        self._active: list[ActiveTrial] = []
        self._others: dict[int, Claim] = {}
        """Trial -> a claim that another process has. It is kept because it counts how long the other one is silent."""
        self._unwanted: dict[str, State] = {}
        self._refused: set[str] = set()
        self._pruner = search_space.pruner(search.cell.settings, search.tune)

    @property
    def open(self) -> bool:
        """Whether there are trials to begin, to take over, or to wait for."""
        if self._is_late or self.stuck:
            return bool(self._active) and not self.stuck
        if self._active or self.trials.left():
            return True
        return any(trial.number not in self.failed for trial in self.trials.running())

    def more(self) -> Sequence[Run]:
        """The runs of a trial whose process is gone, else of a new trial."""
        self.settle()
        active = None if self._is_late else self._resumed() or self._new()
        if active is None:
            return ()
        self._active.append(active)
        begun = {run.id for run in self.runs}
        self.runs += [run for run in active.runs if run.id not in begun]
        if self.attempts is not None:
            self.settle()
        return active.runs if active in self._active else ()

    def unwanted(self) -> Mapping[str, State]:
        return self._unwanted

    def refused(self, name: str) -> None:
        self._refused.add(name)

    def settle(self) -> None:
        """Report the trials that have an outcome to Optuna, by number, and prune."""
        for active in sorted(self._active, key=lambda active: active.trial.number):
            if self._settle(active):
                self._active.remove(active)
                active.claim.drop()

    def drop_all(self) -> None:
        """Give back the claims of unfinished trials, so that others can go on with them."""
        for active in self._active:
            active.claim.drop()
        self._active.clear()

    def sweep(self) -> None:
        """Remove the claims that dead processes left of finished trials."""
        for trial in self.trials.all():
            folder = trial_folder(self.root, self.search.identity, trial.number)
            if trial.state.is_finished() and folder.exists() and holder(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)

    def _settle(self, active: ActiveTrial) -> bool:
        """Whether the trial has an outcome, or is not this process's any more."""
        # Of a process that was asleep, another one may have taken the trial over, and end it at any moment.
        if active.lost or self.trials.is_over(active.trial.number):
            return True
        try:
            return self._has_ended(active)
        except UpdateFinishedTrialError:
            return True

    def _has_ended(self, active: ActiveTrial) -> bool:
        """Report what is known of the trial; whether that is its outcome."""
        records = self._records(active)
        states = [state_of(record) for record in records]
        if "diverged" in states:
            return self._give_up(active, "diverged")
        # A failure from before does not count: the run is tried again.
        failed = {record.run.id for record in records if state_of(record) == "failed"}
        begun = {record.run.id for record in records if record.status.attempt > active.attempts[record.run.id]}
        if self._refused & {run.id for run in active.runs} or failed & begun:
            self.failed.add(active.trial.number)
            self._unwanted |= dict.fromkeys((run.id for run in active.runs), "interrupted")
            return True
        is_pruned = self._is_pruned(active, records)
        if all(state == "done" for state in states):
            if self.search.constraints and active.trial.number and self.trials.first() is None:
                return False
            results = [record.result.metrics for record in records if record.result]
            self.trials.complete(active.trial, self.search.values(results))
            return True
        return is_pruned and self._give_up(active, "pruned")

    def _give_up(self, active: ActiveTrial, outcome: str) -> bool:
        self.trials.give_up(active.trial, outcome)
        self._unwanted |= dict.fromkeys((run.id for run in active.runs), "pruned")
        return True

    def _is_pruned(self, active: ActiveTrial, records: Sequence[RunRecord]) -> bool:
        """Report new intermediate values; whether the pruner then gives the trial up."""
        for step, value in self._intermediate(records).items():
            if step not in active.reported:
                active.reported.add(step)
                active.trial.report(value, step)
                if active.trial.should_prune() and active.trial.number >= UNPRUNED:
                    return True
        return False

    def _intermediate(self, records: Sequence[RunRecord]) -> dict[int, float]:
        """Step of the pruner -> value.

        For wilcoxon a step is a seed that is done, for the others a snapshot that all seeds have measured: k of n is
        what was measured nearest to k/n of all steps. The last one is left out: it is the result, and nothing can be
        saved after it.
        """
        metric = self.search.objectives[0]
        if self._pruner == "none":
            return {}
        if self._pruner == "wilcoxon":
            done = [step for step, record in enumerate(records) if state_of(record) == "done"]
            results = {step: result.metrics for step in done if (result := records[step].result)}
            for each in results.values():
                self.search.check(each)
            last = len(records) - 1
            return {step: float(metric.scaled(each[metric.name])) for step, each in results.items() if step < last}
        asked = self.search.cell.settings.snapshots
        measured = [_by_snapshot(record, f"metrics/{metric.name}", asked) for record in records]
        steps = [step for step in range(1, asked) if all(step in values for values in measured)]
        return {step: mean(metric, [values[step] for values in measured]) for step in steps}

    def _records(self, active: ActiveTrial) -> list[RunRecord]:
        """Records of its runs, without their points."""
        now = Snapshot(self.root, active.runs).statuses
        folders = [RunFolder(self.root / run.id) for run in active.runs]
        return [
            RunRecord(run, now[run.id], folder.result() if now[run.id].state == "done" else None, (), folder.path)
            for run, folder in zip(active.runs, folders, strict=True)
        ]

    @property
    def _is_late(self) -> bool:
        return time.monotonic() > self.deadline

    @property
    def stuck(self) -> bool:
        """Whether constraints wait for a first trial that will never have values."""
        if not self.search.constraints or self.trials.first() is not None:
            return False
        first = self.trials.all()[0]
        return first.state.is_finished() or 0 in self.failed

    def _resumed(self) -> ActiveTrial | None:
        passed_over = self.failed | {active.trial.number for active in self._active}
        for trial in self.trials.running():
            if trial.number not in passed_over and (claim := self._claimed(trial.number)):
                # Its outcome may have been reported between the look at it and the claim.
                if not self.trials.is_over(trial.number):
                    return self._begun(self.trials.resume(trial), claim)
                claim.drop()
        return None

    def _new(self) -> ActiveTrial | None:
        trial = self.trials.ask()
        if trial is None:
            return None
        claim = self._claimed(trial.number)
        return self._begun(trial, claim) if claim else None

    def _claimed(self, number: int) -> Claim | None:
        def mark_lost() -> None:
            for active in self._active:
                active.lost |= active.trial.number == number

        folder = trial_folder(self.root, self.search.identity, number)
        folder.mkdir(parents=True, exist_ok=True)
        claim = self._others.pop(number, None) or Claim(folder, mark_lost)
        if claim.take():
            return claim
        self._others[number] = claim
        return None

    def _begun(self, trial: Trial, claim: Claim) -> ActiveTrial:
        runs = self.search.runs(trial.params, trial.number)
        before = Snapshot(self.root, runs).statuses
        attempts = {name: status.ended_attempts for name, status in before.items()}
        if self.attempts is not None:
            attempts = {run.id: self.attempts.setdefault(run.id, 0) for run in runs}
        return ActiveTrial(trial, runs, claim, attempts, set(self.trials.all()[trial.number].intermediate_values))


def _by_snapshot(record: RunRecord, name: str, asked: int) -> dict[int, float]:
    """Which of the `asked` snapshots -> the value measured first nearest to it; 0 is the untrained generator.

    Not by their order: a script may leave fewer than asked, and elsewhere.
    """
    total, values = record.status.total_steps, dict[int, float]()
    for point in RunFolder(record.folder).points() if total else ():
        if (value := point.values.get(name)) is not None:
            values.setdefault(round(asked * point.step / total), value)
    return values


def trial_folder(root: Path, identity: str, number: int) -> Path:
    """The folder that holds the claim of a trial."""
    return root / "trials" / f"{identity}-{number:05d}"
