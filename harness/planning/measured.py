"""What finished runs say about those to come: seconds per kimg, and the spread between seeds."""

from __future__ import annotations

import contextlib
import heapq
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np

from harness.analysis.sample import Sample
from harness.analysis.statistics import Floats
from harness.analysis.table import Column, RunTable
from harness.design.kinds import DesignCell
from harness.errors import RecordError
from harness.frozen_networks import encoders_read
from harness.metrics.cards import kernel_first
from harness.metrics.definitions import Metric, metrics_of
from harness.runs.folders import RunFolder
from harness.runs.identity import decisive
from harness.runs.record import Result, Run, State
from harness.settings import Settings

MOST = 400
"""Finished runs that are read; more would change no digit that is shown."""
_NOT_OF_PACE = ("train.kimg", "train.snapshots", "train.lr", "train.beta", "train.ema_", "metrics.seed", "loss.tau",
                "loss.terms.")  # fmt: skip
"""What dotted settings begin with whose values change no step's time; of terms it counts whether they are on."""
Source = Literal["measured", "other settings", "elsewhere", "given", "timed", "estimated"]
Finished = Sequence[tuple[Run, Result]]


@dataclass(frozen=True)
class SumOfIdeas:
    """A number of any cell: what the cell without ideas has, and what each idea adds."""

    base: float
    of_idea: Mapping[str, float]

    @classmethod
    def fit(cls, cells: Mapping[tuple[str, ...], float]) -> SumOfIdeas:
        """By least squares over these cells, by their ideas; what they do not tell apart is shared alike."""
        ideas = list(dict.fromkeys(idea for cell in cells for idea in cell))
        on, values = np.array([[idea in cell for idea in ideas] for cell in cells], float), np.array([*cells.values()])
        added = np.linalg.lstsq(on - on.mean(0), values - values.mean(), rcond=None)[0]
        return cls(float(values.mean() - on.mean(0) @ added), dict(zip(ideas, added.tolist(), strict=True)))

    def of(self, ideas: Iterable[str]) -> float:
        """Of the cell with these ideas; none of which nothing is known adds anything."""
        return self.base + sum(self.of_idea.get(idea, 0.0) for idea in ideas)


@dataclass(frozen=True)
class Pace:
    """How long runs take on one slot."""

    s_per_kimg: float
    """Seconds per thousand images, or of a whole script, mean over cells."""
    of_cell: Mapping[str, float]
    """The same of each cell that has a finished run."""
    beside: float
    """Seconds of a run that go elsewhere: loading and measuring."""
    runs: int
    """Finished runs that it is measured from."""
    source: Source
    once: float = 0.0
    """Seconds before the first run, for what all runs share and nobody has computed yet."""
    remarks: tuple[str, ...] = ()
    """How it was timed, and what that leaves out."""
    of_others: SumOfIdeas | None = None
    """Seconds per thousand images of cells of other designs; None: they take what the others take on average."""

    def seconds(self, cell: str, length: float, ideas: Iterable[str] = ()) -> float:
        """Of a whole run of the cell of these ideas; `length` as in its settings."""
        other = self.of_others.of(ideas) if self.of_others else self.s_per_kimg
        return self.of_cell.get(cell, other) * length + self.beside


class CannotTime(Exception):
    """Why steps cannot be timed here; the message is for the reader of the plan."""


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a run about its cell and seed, on the scale of the metric's analysis."""

    metric: Metric
    sd: float
    df: int
    """Degrees of freedom of `sd`; 0: it was given."""
    runs: int
    source: Source


def of_pace(settings: Settings) -> dict[str, Any]:
    """What of the settings decides how long a step, or to measure an image, takes."""
    flat = decisive(settings) | {path: settings.flat[path] for path in encoders_read(settings) if path in settings.flat}
    terms = sorted(path for path in flat if path.startswith("loss.terms."))
    left = {path: value for path, value in flat.items() if not path.startswith(_NOT_OF_PACE)}
    return left | {"terms": terms, "metrics.more": list(settings.metrics.more)}


def finished(root: Path, runs: Iterable[Run]) -> list[tuple[Run, Result]]:
    """The first `MOST` of these runs that have a result, with it."""
    found: list[tuple[Run, Result]] = []
    for run in runs:
        if len(found) == MOST:
            break
        with contextlib.suppress(RecordError):  # `status` and the report tell of a damaged one
            if result := RunFolder(root / run.id).result():
                found.append((run, result))
    return found


def pace(found: Finished, source: Source) -> Pace | None:
    """From the cost of finished runs; None if none of them has one."""
    by_cell: dict[str, list[float]] = {}
    beside = []
    for run, result in found:
        speed = result.cost.get("script_seconds" if run.settings.command.run else "s_per_kimg", math.nan)
        if math.isfinite(speed) and speed > 0:
            by_cell.setdefault(run.cell, []).append(speed)
            training = speed * run.settings.length
            beside.append(max(0.0, result.cost.get("seconds", training) - training))
    if not beside:
        return None
    means = {cell: fmean(speeds) for cell, speeds in by_cell.items()}
    return Pace(fmean(means.values()), means, fmean(beside), len(beside), source)


def spreads(found: Finished, source: Source) -> list[Spread]:
    """Of every metric that decides and that the runs tell something about, in the order of reports."""
    if not found:
        return []
    measured = []
    cards = found[0][1].cards
    metrics = kernel_first(metrics_of(cards), cards)
    table = _table(found, metrics)
    seeds = tuple(dict.fromkeys(table.seed.tolist()))
    for column in table.columns:
        values = column.metric.scaled(table.matrix(column, seeds))
        fit = Sample(column.metric, seeds, values, None, table.twins).fit
        if fit.sd:  # runs that are equal to the last digit say nothing about others
            measured.append(Spread(column.metric, fit.sd, fit.df, int(np.isfinite(values).sum()), source))
    return measured


def _table(found: Finished, metrics: Sequence[Metric]) -> RunTable:
    """These runs; what has the same settings is one cell, whichever study named it."""
    one_each = {(run.seed, json.dumps(decisive(run.settings), sort_keys=True)): (run, it) for run, it in found}
    cells = list(dict.fromkeys(cell for _, cell in one_each))
    results = [result for _, result in one_each.values()]
    done: State = "done"
    return RunTable(
        toggles=(),
        cells=tuple(DesignCell(cell, ()) for cell in cells),
        cell=np.array([cells.index(cell) for _, cell in one_each]),
        seed=np.array([seed for seed, _ in one_each]),
        states=(done,) * len(one_each),
        columns=tuple(Column(metric, _usable(metric, results), (), ()) for metric in metrics),
        trained=tuple((run.id, result.weights) for run, result in one_each.values()),
    )


def _usable(metric: Metric, results: Sequence[Result]) -> Floats:
    """What the metric's scale can show of its values, NaN elsewhere."""
    values = np.array([result.metrics.get(metric.name, math.nan) for result in results])
    least = 0.0 if metric.scale == "log" else -math.inf
    return np.where(np.isfinite(values) & (values > least), values, math.nan)


def wall_time(seconds: Iterable[float], slots: int) -> float:
    """When the last run ends, if each in turn goes to the slot that is free first."""
    free = [0.0] * slots
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)
