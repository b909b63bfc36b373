"""The trials that this process has under way: their runs, their values, and when one is given up. No torch here.

A trial is this process's while it holds the trial's claim. One that a process left behind, killed or stopped, is taken
over with its runs' checkpoints. A trial whose run failed stays as it is, for the next call to try again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial, Trial

from harness.runs.folders import RunFolder
from harness.runs.lease import Claim, holder
from harness.runs.record import Run, RunRecord, State, state_of
from harness.runs.snapshot import Snapshot
from harness.scheduler.feed import Feed
from harness.study import search_space
from harness.tuning.search import Search, mean
from harness.tuning.trials import Trials

UNPRUNED = 5
"""The first trials are carried to their end: what others are compared with, and importances are told from."""


@dataclass(eq=False)
class Mine:
    """A trial that this process has."""

    trial: Trial
    runs: list[Run]
    claim: Claim
    attempts: Mapping[str, int]
    """Of its runs, before this process had them: a failure of theirs is no answer."""
    reported: set[int]
    """Steps whose values the pruner knows."""
    lost: bool = False
    """Another process has taken it over."""

    @property
    def number(self) -> int:
        return self.trial.number


class Loop(Feed):
    """Feeds a scheduler with the runs of trials, and tells Optuna what became of them."""

    def __init__(self, search: Search, trials: Trials, runs: list[Run], deadline: float = float("inf")) -> None:
        self.search, self.trials, self.root = search, trials, search.study.root
        self.runs = runs
        """Every run that this process has begun; it grows."""
        self.deadline = deadline
        """Of `time.monotonic`: no trial begins after it."""
        self.failed: set[int] = set()
        """Trials whose runs could not be carried out."""
        self._mine: list[Mine] = []
        self._others: dict[int, Claim] = {}
        """Claims that others have, by trial: how long one has been silent is told by who has watched it."""
        self._unwanted: dict[str, State] = {}
        self._refused: set[str] = set()
        self._pruner = search_space.pruner(search.cell.settings, search.tune)

    @property
    def open(self) -> bool:
        """Whether there are trials to begin, to take over, or to wait for."""
        if self._is_late or self.stuck:
            return bool(self._mine) and not self.stuck
        if self._mine or self.trials.left():
            return True
        return any(trial.number not in self.failed for trial in self.trials.running())

    def more(self) -> Sequence[Run]:
        """The runs of a trial that nobody has any more, else of a new one."""
        self.settle()
        found = None if self._is_late else self._left_behind() or self._new()
        if found is None:
            return ()
        self._mine.append(found)
        known = {run.id for run in self.runs}
        self.runs += [run for run in found.runs if run.id not in known]
        return found.runs

    def unwanted(self) -> Mapping[str, State]:
        return self._unwanted

    def refused(self, name: str) -> None:
        self._refused.add(name)

    def settle(self) -> None:
        """Tell what has an outcome, the first trial first, and prune."""
        for mine in sorted(self._mine, key=lambda mine: mine.number):
            if self._settle(mine):
                self._mine.remove(mine)
                mine.claim.drop()

    def drop_all(self) -> None:
        """Let others have what is left in the middle."""
        for mine in self._mine:
            mine.claim.drop()
        self._mine.clear()

    def sweep(self) -> None:
        """Remove what dead processes left of trials that are over."""
        for trial in self.trials.finished():
            folder = trial_folder(self.root, self.search.identity, trial.number)
            if folder.exists() and holder(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)

    def _settle(self, mine: Mine) -> bool:
        """Whether the trial is over, or not this process's any more."""
        if mine.lost or self.trials.is_over(mine.number):  # this process slept, and another one has it
            return True
        found = self._records(mine)
        states = [state_of(record) for record in found]
        if "diverged" in states:
            return self._give_up(mine, "diverged")
        if any(self._has_failed(mine, record) for record in found):
            self.failed.add(mine.number)
            self._unwanted |= dict.fromkeys((run.id for run in mine.runs), "interrupted")
            return True
        hopeless = self._is_hopeless(mine, found)
        if all(state == "done" for state in states):
            if self.search.constraints and mine.number and self.trials.first() is None:
                return False
            results = [record.result.metrics for record in found if record.result]
            self.trials.complete(mine.trial, self.search.values(results))
            return True
        return hopeless and self._give_up(mine, "pruned")

    def _give_up(self, mine: Mine, outcome: str) -> bool:
        self.trials.give_up(mine.trial, outcome)
        self._unwanted |= dict.fromkeys((run.id for run in mine.runs), "pruned")
        return True

    def _has_failed(self, mine: Mine, record: RunRecord) -> bool:
        status = record.status
        fresh = status.attempt > mine.attempts[record.run.id]
        return record.run.id in self._refused or (fresh and state_of(record) == "failed")

    def _is_hopeless(self, mine: Mine, found: Sequence[RunRecord]) -> bool:
        """Whether the pruner gives the trial up; the first ones, by which others are judged, never."""
        for step, value in self._on_the_way(found).items():
            if step not in mine.reported:
                mine.reported.add(step)
                mine.trial.report(value, step)
                if mine.trial.should_prune() and mine.number >= UNPRUNED:
                    return True
        return False

    def _on_the_way(self, found: Sequence[RunRecord]) -> dict[int, float]:
        """Step of the pruner -> value: of each seed that is done, or of each snapshot that all seeds have measured."""
        if self._pruner == "none":
            return {}
        metric = self.search.objectives[0]
        if self._pruner == "wilcoxon":
            done = {step: record.result for step, record in enumerate(found) if state_of(record) == "done"}
            scaled = {}
            for step, result in done.items():
                if result:
                    self.search.check(result.metrics)
                    scaled[step] = float(metric.scaled(result.metrics[metric.name]))
            return {step: value for step, value in scaled.items() if step < len(found) - 1}
        measured = [_snapshots(RunFolder(record.folder), metric.name) for record in found]
        last = self.search.cell.settings.train.snapshots  # which is the result: there is nothing left to save
        steps = range(1, min(last, *map(len, measured)))
        return {step: mean(metric, [values[step] for values in measured]) for step in steps}

    def _records(self, mine: Mine) -> list[RunRecord]:
        """Of its runs, without their points."""
        now = Snapshot(self.root, mine.runs).statuses
        folders = [RunFolder(self.root / run.id) for run in mine.runs]
        return [
            RunRecord(run, now[run.id], folder.result() if now[run.id].state == "done" else None, (), folder.path)
            for run, folder in zip(mine.runs, folders, strict=True)
        ]

    @property
    def _is_late(self) -> bool:
        return time.monotonic() > self.deadline

    @property
    def stuck(self) -> bool:
        """Whether all that is left waits for a first trial that will not come."""
        if not self.search.constraints or self.trials.first() is not None:
            return False
        first = self.trials.all()[0]
        return first.state.is_finished() or 0 in self.failed

    def _left_behind(self) -> Mine | None:
        known = self.failed | {mine.number for mine in self._mine}
        for trial in self.trials.running():
            if trial.number not in known and (claim := self._claimed(trial.number)):
                if self._still_running(trial):
                    return self._taken(self.trials.again(trial), claim)
                claim.drop()
        return None

    def _still_running(self, trial: FrozenTrial) -> bool:
        """Whether it had no outcome when the claim was taken."""
        return any(found.number == trial.number for found in self.trials.running())

    def _new(self) -> Mine | None:
        trial = self.trials.ask()
        if trial is None:
            return None
        claim = self._claimed(trial.number)
        return self._taken(trial, claim) if claim else None

    def _claimed(self, number: int) -> Claim | None:
        folder = trial_folder(self.root, self.search.identity, number)
        folder.mkdir(parents=True, exist_ok=True)
        claim = self._others.pop(number, None) or Claim(folder, lambda: self._lose(number))
        if claim.take():
            return claim
        self._others[number] = claim
        return None

    def _lose(self, number: int) -> None:
        for mine in self._mine:
            mine.lost |= mine.number == number

    def _taken(self, trial: Trial, claim: Claim) -> Mine:
        runs = self.search.runs(trial.params, trial.number)
        before = Snapshot(self.root, runs).statuses
        attempts = {name: status.attempt - (status.state == "running") for name, status in before.items()}
        return Mine(trial, runs, claim, attempts, set(self.trials.all()[trial.number].intermediate_values))


def trial_folder(root: Path, identity: str, number: int) -> Path:
    """Where the claim of a trial lies."""
    return root / "trials" / f"{identity}-{number:05d}"


def _snapshots(folder: RunFolder, metric: str) -> list[float]:
    """What the run has measured so far, the untrained generator first."""
    points = folder.points() if folder.path.exists() else ()
    return [value for point in points if (value := point.values.get(f"metrics/{metric}")) is not None]
