"""Searches of loss weights and their findings, made without Optuna and without training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.analysis.from_records import analyse_records
from harness.analysis.results import Analysis
from harness.metrics.definitions import Metric, find_metric
from harness.runs.record import Result, Run, RunRecord, Status
from harness.settings import Settings
from harness.study import search_space
from harness.study.plan import PlannedCell
from harness.study.schema import TuneConfig
from harness.tuning.findings import TUNED, WRITTEN, Findings, TrialRow
from harness.tuning.search import Search
from reported import study_of
from synthetic import CARD

ITD, ITC, TAU = "loss.weights.generator.itd", "loss.weights.generator.itc", "loss.tau"
D_ITD, GAMMA = "loss.weights.discriminator.itd", "train.r1_gamma"


def metric(name: str) -> Metric:
    found = find_metric(name)
    assert found is not None
    return found


def search_of(
    folder: Path, *, cell: str = "full", constraints: Mapping[str, float] | None = None, **tune: Any
) -> Search:
    """Over the five settings active in the source's own objective: itd 5, itc 10, D itd 5, tau 0.5, gamma 10."""
    given = {"objective": "fd", "trials": 4, "constraints": dict(constraints or {})} | tune
    config = TuneConfig(cell=cell, **given)
    asked = [{"fd": "fd_emoji", "kid": "kid_emoji"}.get(name, name) for name in search_space.objectives(config)]
    return Search(
        study=replace(study_of(folder), tune=config, searched_cell=cell),
        cell=PlannedCell(cell, (), Settings()),
        parameters=search_space.parameters(Settings(), config),
        objectives=tuple(map(metric, asked)),
        constraints=tuple((metric(name), margin) for name, margin in config.constraints.items()),
        fingerprints={"data": "d" * 16},
    )


def trial(search: Search, number: int, measured: Mapping[str, float], factor: float = 1.0, **changes: Any) -> TrialRow:
    """Done when it measured something, else pruned; all weights are `factor` times those written."""
    values = {each.name: float(f"{each.written * factor:.4g}") for each in search.parameters}
    outcome = "done" if measured else "pruned"
    return replace(TrialRow(number, outcome, values, dict(measured), {}, {}, 60.0), **changes)


def findings_of(search: Search, trials: Sequence[TrialRow], best: int | None = None, **changes: Any) -> Findings:
    """The best is the trial of that number."""
    chosen = next((row for row in trials if row.number == best), None)
    return replace(Findings(search, tuple(trials), chosen), **changes)


def four(folder: Path, **tune: Any) -> Findings:
    """Four trials: as written 5.0, one at 4.0 that is the best, one pruned, one diverged."""
    search = search_of(folder, **tune)
    rows = [
        trial(search, 0, {"fd_emoji": 5.0}),
        trial(search, 1, {"fd_emoji": 4.0}, 2.0),
        trial(search, 2, {}, 0.5, intermediate={1: 9.0}, seconds=20.0),
        trial(search, 3, {}, 3.0, outcome="diverged", seconds=5.0),
    ]
    return findings_of(search, rows, best=1)


def compared(
    written: Mapping[str, Sequence[float]],
    factors: Mapping[str, Sequence[float]],
    margins: Mapping[str, float] | None = None,
) -> Analysis:
    """Metric -> the values of the weights as written, and what those found are of them, by seed."""
    count = len(next(iter(written.values())))
    records = []
    for place in range(count):
        own = {name: values[place] for name, values in written.items()}
        tuned = {name: value * factors[name][place] for name, value in own.items()}
        records += [_record(WRITTEN, (), 20_000 + place, own), _record(TUNED, (TUNED,), 20_000 + place, tuned)]
    return analyse_records(records, WRITTEN, (TUNED,), margins or {})


def _record(cell: str, toggles: tuple[str, ...], seed: int, metrics: Mapping[str, float]) -> RunRecord:
    run = Run(f"{cell[:6]}{seed:06d}", "emoji", cell, seed, toggles, Settings(), {"data": "d" * 16})
    good = all(map(math.isfinite, metrics.values()))
    result = Result(dict(metrics), {name: dict(CARD) for name in metrics}, {"seconds": 61.0}) if good else None
    return RunRecord(run, Status(state="done" if good else "diverged", total_steps=1000), result)


def better(**more: Any) -> Analysis:
    """Tuning lowers the distance by a fifth in five seeds, with hardly any spread."""
    return compared({"fd_emoji": [5.0, 5.5, 4.8, 5.2, 5.1]}, {"fd_emoji": [0.80, 0.81, 0.79, 0.80, 0.805]}, **more)
