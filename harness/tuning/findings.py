"""What a search has found so far, from Optuna's storage and the run folders."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.importance import get_param_importances as importances_of
from optuna.trial import FrozenTrial, TrialState

from harness.analysis.from_records import analyse_records
from harness.analysis.results import Analysis
from harness.runs.lease import holder
from harness.runs.record import SETTLED, Run, RunRecord, State, state_of
from harness.runs.snapshot import Snapshot
from harness.tuning.loop import trial_folder
from harness.tuning.search import Search, searches
from harness.tuning.trials import MEASURED, OUTCOME, Trials

Outcome = Literal["done", "pruned", "diverged", "running", "unfinished"]
WRITTEN, TUNED = "written", "tuned"
"""The cells of the comparison at the end."""
ENOUGH = 30
"""With fewer trials, importances are only indicative."""
LEAST = 4
"""With fewer measured trials, there are no importances."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialRow:
    """A trial, as a table shows it."""

    number: int
    outcome: Outcome
    """unfinished: no process works on it; the next call continues it."""
    values: Mapping[str, float]
    """Dotted setting -> the value that its runs were trained with."""
    measured: Mapping[str, float]
    """Recorded metric -> mean over the trial's seeds; empty unless done."""
    intermediate: Mapping[int, float]
    """Step of the pruner -> the value of the objective that was reported to it."""
    excess: Mapping[str, float]
    """Constraint -> by how much more than its margin it is worse than the first trial; satisfied where <= 0."""
    seconds: float
    """Of training and measuring, summed over its runs and their attempts."""

    @property
    def is_candidate(self) -> bool:
        """Whether it may be called the best."""
        return self.outcome == "done" and all(excess <= 0 for excess in self.excess.values())


@dataclass(frozen=True)
class Gain:
    """What a cell gains over another under fresh seeds: does tuning explain it?"""

    cell: str
    over: str
    trials: tuple[int, int]
    """With an outcome, in the search of each."""
    written: Analysis
    """Both with the weights as written."""
    tuned: Analysis
    """Both with the best weights of their own searches."""


@dataclass(frozen=True)
class Findings:
    """A search and its trials."""

    search: Search
    trials: tuple[TrialRow, ...]
    """By number; the first has the weights as written."""
    best: TrialRow | None = None
    """None while no trial is done."""
    front: tuple[TrialRow, ...] = ()
    """Of several objectives: the candidates that no other is better than in all, by the first objective."""
    importances: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """Recorded objective -> evaluator (fANOVA, PED-ANOVA) -> dotted setting -> share, the largest first."""
    comparison: Analysis | None = None
    """Cells `tuned` and `written` under fresh seeds, by what a report asks for; None while there is no number."""
    fresh: Mapping[str, Mapping[State, int]] = field(default_factory=dict)
    """`tuned` and `written` -> state -> how many of its runs under fresh seeds; empty without anything to compare."""
    gains: tuple[Gain, ...] = ()
    """Over other cells that were searched too."""

    @property
    def done(self) -> int:
        """Trials that have an outcome."""
        return sum(row.outcome in ("done", "pruned", "diverged") for row in self.trials)

    @property
    def is_over(self) -> bool:
        return self.done >= self.search.tune.trials

    @property
    def has_result(self) -> bool:
        return any(row.outcome == "done" for row in self.trials)


def read_findings(trials: Trials) -> Findings:
    """All of a search as it is now, but the importances."""
    search = trials.search
    rows = tuple(_row(search, trial) for trial in trials.all() if trial.state != TrialState.WAITING)
    pareto = {trial.number for trial in trials.study.best_trials}
    front = tuple(
        sorted(
            (row for row in rows if row.is_candidate and row.number in pareto),
            key=lambda row: (_losses(search, row)[0], row.number),
        )
    )
    findings = Findings(search, rows, _best(search, front), front if len(search.objectives) > 1 else ())
    if findings.best is None or findings.best.number == 0:
        return findings
    tuned, written = _records(findings, TUNED, TUNED, (TUNED,)), _records(findings, WRITTEN, WRITTEN)
    fresh = {kind: Counter(map(state_of, each)) for kind, each in ((TUNED, tuned), (WRITTEN, written))}
    return replace(findings, comparison=_compared(tuned, written, search.study.margins), fresh=fresh)


def with_importances(findings: Findings, trials: Trials) -> Findings:
    """What the settings explain, by two evaluators: of the variance, and of what sets good trials apart.

    They take a second or two.
    """
    if sum(row.outcome == "done" for row in findings.trials) < LEAST:
        return findings
    evaluators: dict[str, BaseImportanceEvaluator] = {
        "fANOVA": FanovaImportanceEvaluator(seed=0),
        "PED-ANOVA": PedAnovaImportanceEvaluator(),
    }
    importances = {
        metric.name: {label: shares for label, each in evaluators.items() if (shares := _shares(trials, each, place))}
        for place, metric in enumerate(findings.search.objectives)
    }
    return replace(findings, importances=importances)


def fresh_runs(findings: Findings) -> list[Run]:
    """The runs of the comparison at the end, by seed; none while there is nothing to compare.

    Where nothing was better than the weights as written, these still have runs if other cells are searched: what one
    cell gains over another is compared by them.
    """
    search, best = findings.search, findings.best
    if best is None:
        return []
    written = search.fresh_runs(search.written, WRITTEN)
    if best.number == 0:
        return written if len(searches(replace(search.study, searched_cell=""))) > 1 else []
    return [run for pair in zip(written, search.fresh_runs(best.values, TUNED), strict=True) for run in pair]


def _row(search: Search, trial: FrozenTrial) -> TrialRow:
    values = search.exact(trial.params) if len(trial.params) == len(search.parameters) else {}
    runs = search.runs(values, trial.number) if values else []
    seconds = sum(status.seconds for status in Snapshot(search.study.root, runs).statuses.values())
    if trial.state.is_finished():
        outcome: Outcome = trial.user_attrs.get(OUTCOME, "diverged")
    else:
        held = holder(trial_folder(search.study.root, search.identity, trial.number))
        outcome = "running" if held and trial.state == TrialState.RUNNING else "unfinished"
    measured = trial.user_attrs.get(MEASURED, {})
    return TrialRow(trial.number, outcome, values, measured, trial.intermediate_values, trial.constraints, seconds)


def _losses(search: Search, row: TrialRow) -> tuple[float, ...]:
    """Each objective on its scale, so that lower is better."""
    signs = {"lower": 1.0, "higher": -1.0}
    return tuple(signs[m.better] * float(m.scaled(row.measured[m.name])) for m in search.objectives)


def _best(search: Search, front: Sequence[TrialRow]) -> TrialRow | None:
    """The row nearest to the best value of every objective, distances being shares of each objective's range."""
    if not front:
        return None
    losses = np.array([_losses(search, row) for row in front])
    spread = np.ptp(losses, axis=0)
    gaps = (losses - losses.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    return front[int(np.square(gaps).sum(axis=1).argmin())]


def _shares(trials: Trials, evaluator: BaseImportanceEvaluator, place: int) -> dict[str, float]:
    """Empty where the evaluator can say nothing, such as of an objective that never changed."""
    objectives = trials.search.objectives
    sign = 1.0 if objectives[place].better == "lower" else -1.0  # PED-ANOVA takes lower targets for better ones
    target = (lambda trial: sign * float(trial.values[place])) if len(objectives) > 1 else None
    try:
        with warnings.catch_warnings(action="ignore"):  # about the direction, which the sign has put right
            return importances_of(trials.study, evaluator=evaluator, target=target)
    except (ValueError, RuntimeError) as error:
        _log.debug("no importance by %s: %s", type(evaluator).__name__, error)
        return {}


def gains(findings: Findings, others: Sequence[Findings]) -> tuple[Gain, ...]:
    """What the cell of one search gains over the cells of the others, as far as their runs under fresh seeds are done.

    Compared twice, with the weights as written and with the weights found for each: what is there before and gone
    after came from the weights.
    """
    gained = []
    cell, margins = findings.search.cell.name, findings.search.study.margins
    for other in others:
        over = other.search.cell.name
        written, tuned = (
            _compared(_records(findings, kind, cell, (cell,)), _records(other, kind, over), margins)
            for kind in (WRITTEN, TUNED)
        )
        if written and tuned:
            gained.append(Gain(cell, over, (findings.done, other.done), written, tuned))
    return tuple(gained)


def _records(findings: Findings, kind: str, cell: str, toggles: tuple[str, ...] = ()) -> list[RunRecord]:
    """Of the runs under fresh seeds, as runs of this cell. Where no trial was better, tuned weights are as written."""
    search, best = findings.search, findings.best
    values = best.values if kind == TUNED and best and best.number else search.written
    records = Snapshot(search.study.root, search.fresh_runs(values, kind)).records
    return [replace(record, run=replace(record.run, cell=cell, toggles=toggles)) for record in records]


def _compared(ours: Sequence[RunRecord], theirs: Sequence[RunRecord], margins: Mapping[str, float]) -> Analysis | None:
    """None until both cells have a run that is done or diverged, and one of them a number."""
    states = [{state_of(record) for record in each} for each in (ours, theirs)]
    if not all(SETTLED & each for each in states) or not any("done" in each for each in states):
        return None
    return analyse_records([*theirs, *ours], theirs[0].run.cell, (ours[0].run.cell,), margins)
