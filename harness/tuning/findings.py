"""What a search has found so far, from Optuna's storage and the run folders."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.importance import get_param_importances as importances_of
from optuna.trial import FrozenTrial, TrialState

from harness.analysis.from_records import analyse_records
from harness.analysis.results import Analysis
from harness.runs.lease import holder
from harness.runs.record import Run, RunRecord, state_of
from harness.runs.snapshot import Snapshot
from harness.tuning.loop import trial_folder
from harness.tuning.search import Search, searches
from harness.tuning.trials import OUTCOME, Trials, measured

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
    """Cells `tuned` and `written` under fresh seeds, by what a report asks for; None until both have a run."""
    gains: tuple[Gain, ...] = ()
    """Over other cells that were searched too."""

    @property
    def done(self) -> int:
        """Trials that have an outcome."""
        return sum(row.outcome in ("done", "pruned", "diverged") for row in self.trials)

    @property
    def is_over(self) -> bool:
        return self.done >= self.search.tune.trials


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
    found = Findings(search, rows, _best(search, front), front if len(search.objectives) > 1 else ())
    return replace(found, comparison=_comparison(found))


def with_importances(found: Findings, trials: Trials) -> Findings:
    """These take a second or two."""
    return replace(found, importances=_importances(found, trials))


def fresh_runs(found: Findings) -> list[Run]:
    """The runs of the comparison at the end, by seed; none while there is nothing to compare.

    Where nothing was better than the weights as written, these still have runs if other cells are searched: what one
    cell gains over another is compared by them.
    """
    search = found.search
    if found.best is None:
        return []
    if found.best.number == 0:
        shared = len(searches(replace(search.study, searched_cell=""))) > 1
        return search.fresh_runs(search.written, WRITTEN) if shared else []
    pairs = zip(search.fresh_runs(search.written, WRITTEN), search.fresh_runs(found.best.values, TUNED), strict=True)
    return [run for pair in pairs for run in pair]


def _row(search: Search, trial: FrozenTrial) -> TrialRow:
    values = search.exact(trial.params) if len(trial.params) == len(search.parameters) else {}
    runs = search.runs(values, trial.number) if values else []
    seconds = sum(status.seconds for status in Snapshot(search.study.root, runs).statuses.values())
    outcome = trial.user_attrs.get(OUTCOME, "diverged") if trial.state.is_finished() else _state(search, trial)
    return TrialRow(
        trial.number,
        outcome,
        values,
        measured(trial),
        trial.intermediate_values,
        trial.constraints,
        seconds,
    )


def _state(search: Search, trial: FrozenTrial) -> Outcome:
    held = holder(trial_folder(search.study.root, search.identity, trial.number))
    return "running" if held and trial.state == TrialState.RUNNING else "unfinished"


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


def _importances(found: Findings, trials: Trials) -> dict[str, dict[str, dict[str, float]]]:
    """By two evaluators, which answer different questions: what explains variance, and what sets good trials apart."""
    if sum(row.outcome == "done" for row in found.trials) < LEAST:
        return {}
    evaluators: dict[str, BaseImportanceEvaluator] = {
        "fANOVA": FanovaImportanceEvaluator(seed=0),
        "PED-ANOVA": PedAnovaImportanceEvaluator(),
    }
    return {
        metric.name: {label: shares for label, each in evaluators.items() if (shares := _shares(trials, each, place))}
        for place, metric in enumerate(found.search.objectives)
    }


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


def _comparison(found: Findings) -> Analysis | None:
    told = Snapshot(found.search.study.root, fresh_runs(found)).records
    cells = {record.run.cell for record in told if record.status.state == "done"}
    if cells != {WRITTEN, TUNED}:
        return None
    compared = [
        replace(record, run=replace(record.run, toggles=(TUNED,) if record.run.cell == TUNED else ()))
        for record in told
    ]
    return analyse_records(compared, WRITTEN, (TUNED,), found.search.study.margins)


def gains(found: Findings, others: Sequence[Findings]) -> tuple[Gain, ...]:
    """What the cell of one search gains over the cells of the others, as far as their runs under fresh seeds are done.

    Compared twice, with the weights as written and with the weights found for each: what is there before and gone
    after came from the weights.
    """
    gained = []
    for other in others:
        written, tuned = (_compared(found, other, kind) for kind in (WRITTEN, TUNED))
        if written and tuned:
            cells = found.search.cell.name, other.search.cell.name
            gained.append(Gain(*cells, (found.done, other.done), written, tuned))
    return tuple(gained)


def _compared(found: Findings, other: Findings, kind: str) -> Analysis | None:
    cell, baseline = found.search.cell.name, other.search.cell.name
    ours, theirs = list(_records(found, kind, (cell,))), list(_records(other, kind, ()))
    if not all(any(state_of(record) == "done" for record in each) for each in (ours, theirs)):
        return None
    return analyse_records([*theirs, *ours], baseline, (cell,), found.search.study.margins)


def _records(found: Findings, kind: str, toggles: tuple[str, ...]) -> Iterator[RunRecord]:
    """The cell's runs under fresh seeds. Where no trial was better, the tuned weights are those as written."""
    search, best = found.search, found.best
    is_written = kind == WRITTEN or best is None or best.number == 0
    values = search.written if is_written or best is None else best.values
    for record in Snapshot(search.study.root, search.fresh_runs(values, kind)).records:
        yield replace(record, run=replace(record.run, cell=search.cell.name, toggles=toggles))
