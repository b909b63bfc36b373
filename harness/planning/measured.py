"""What finished runs say about those to come: seconds per kimg, and the spread between seeds."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np

from harness.analysis.estimates import noise_of
from harness.analysis.fit import fit
from harness.errors import RecordError
from harness.metrics.definitions import Metric, find_metric, metrics_of
from harness.metrics.names import recorded
from harness.runs.folders import RunFolder
from harness.runs.identity import decisive
from harness.runs.record import Result, Run
from harness.study.plan import Plan

MOST = 400
"""Finished runs that are read; more would change no digit that is shown."""
Source = Literal["measured", "other settings", "given"]
Finished = Sequence[tuple[Run, Result]]


@dataclass(frozen=True)
class Pace:
    """How long runs take on one slot."""

    s_per_kimg: float
    """Seconds per thousand images, mean over cells."""
    of_cell: Mapping[str, float]
    """The same of each cell that has a finished run."""
    beside: float
    """Seconds of a run that go elsewhere: loading and measuring."""
    runs: int
    """Finished runs that it is measured from."""
    source: Source

    def seconds(self, cell: str, kimg: float) -> float:
        """Of a whole run of the cell."""
        return self.of_cell.get(cell, self.s_per_kimg) * kimg + self.beside


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a run about its cell and seed, on the scale of the metric's analysis."""

    metric: Metric
    sd: float
    df: int
    """Degrees of freedom of `sd`; 0: it was given."""
    runs: int
    source: Source


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
        speed = result.cost.get("s_per_kimg", math.nan)
        if math.isfinite(speed) and speed > 0:
            by_cell.setdefault(run.cell, []).append(speed)
            training = speed * run.settings.train.kimg
            beside.append(max(0.0, result.cost.get("seconds", training) - training))
    if not beside:
        return None
    means = {cell: fmean(speeds) for cell, speeds in by_cell.items()}
    return Pace(fmean(means.values()), means, fmean(beside), len(beside), source)


def given_pace(s_per_kimg: float) -> Pace:
    return Pace(s_per_kimg, {}, 0.0, 0, "given")


def spreads(found: Finished, source: Source) -> list[Spread]:
    """Of every headline metric that the runs tell something about, in the table's order."""
    if not found:
        return []
    measured = []
    for metric in (row for row in metrics_of(found[0][1].cards) if row.headline):
        values = {
            (_cell(run), run.seed): result.metrics[metric.name]
            for run, result in found
            if math.isfinite(result.metrics.get(metric.name, math.nan))
        }
        spread = _spread(metric, values, source)
        if spread:
            measured.append(spread)
    return measured


def given_spread(plan: Plan, sd: float) -> list[Spread]:
    """Of the headline distance, whose logarithm is compared: `sd` is about a share of it."""
    metric = find_metric(recorded("fd", plan.study.settings.metrics.resnet))
    assert metric is not None
    return [Spread(metric, sd, 0, 0, "given")]


def _spread(metric: Metric, values: Mapping[tuple[str, int], float], source: Source) -> Spread | None:
    values = {key: value for key, value in values.items() if value > 0 or metric.scale == "raw"}
    cells = {cell: place for place, cell in enumerate(dict.fromkeys(cell for cell, _ in values))}
    seeds = {seed: place for place, seed in enumerate(dict.fromkeys(seed for _, seed in values))}
    table = np.full((len(seeds), len(cells)), math.nan)
    for (cell, seed), value in values.items():
        table[seeds[seed], cells[cell]] = value
    scaled = metric.scaled(table)
    found = fit(scaled, noise_of(metric, scaled))
    # Runs that are equal to the last digit say nothing about others.
    return Spread(metric, found.sd, found.df, len(values), source) if found.sd else None


def _cell(run: Run) -> str:
    """What has the same settings is one cell, whichever study named it."""
    return json.dumps(decisive(run.settings), sort_keys=True)
