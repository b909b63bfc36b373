"""Analyses by hand, for the tests of what is drawn from them, and a look into the drawings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from harness.analysis.results import (
    Analysis,
    CellResult,
    CellState,
    Design,
    Effect,
    Estimate,
    InteractionResult,
    MetricResult,
)
from harness.design.contrasts import estimable
from harness.design.kinds import name_of
from harness.metrics.definitions import Metric, find
from harness.records import RunRecord, state_of
from harness.report.figures import style

Runs = Mapping[tuple[str, ...], Mapping[int, float]]
"""Toggles that are on -> seed -> value."""


def estimate(value: float | None = None, by_seed: Sequence[float] = (), **changes: Any) -> Estimate:
    """Of these seeds, with an interval two wide to either side unless told."""
    ends = (value - 2, value + 2) if value is not None and len(by_seed) > 1 else (None, None)
    given: dict[str, Any] = {"low": ends[0], "high": ends[1], "verdict": "inconclusive", "improved": 0}
    given |= dict.fromkeys(
        ("p", "p_holm", "p_equivalent", "own_low", "own_high", "sign_flip", "sign_flip_least", "d_z")
    )
    return Estimate(value=value, seeds=tuple(range(len(by_seed))), by_seed=tuple(by_seed), **(given | changes))


def contrast(metric: Metric, weights: Mapping[tuple[str, ...], float], runs: Runs) -> Estimate:
    """The contrast within each seed that has all its cells; verdicts by whether the interval of t = 2 excludes 0."""
    seeds = sorted(set.intersection(*(set(runs.get(cell, {})) for cell in weights))) if weights else []
    scaled = math.log if metric.scale == "log" else float
    found = np.array([sum(w * scaled(runs[cell][seed]) for cell, w in weights.items()) for seed in seeds])
    if not len(found):
        return estimate(verdict="diverged")
    to_shown = (lambda x: 100 * math.expm1(x)) if metric.scale == "log" else float
    mean = float(found.mean())
    error = float(found.std(ddof=1) / math.sqrt(len(found)) * 2.5) if len(found) > 1 else math.nan
    good = -1 if metric.better == "lower" else 1
    improved = int((good * found > 0).sum())
    if len(found) < 2:
        return estimate(to_shown(mean), [to_shown(x) for x in found], improved=improved, verdict="insufficient seeds")
    verdict = "inconclusive" if abs(mean) < error else "better" if good * mean > 0 else "worse"
    ends = {"low": to_shown(mean - error), "high": to_shown(mean + error)}
    return estimate(to_shown(mean), [to_shown(x) for x in found], improved=improved, verdict=verdict, **ends)


def result(metric: Metric, toggles: Sequence[str], runs: Runs, **changes: Any) -> MetricResult:
    """What these runs say about the metric, with the contrasts of their design."""
    said = estimable(list(runs), toggles)
    effects = [Effect(e.toggle, contrast(metric, e.weights, runs), e.pairs, e.aliases, (0, 0)) for e in said.effects]
    found = [InteractionResult(i.aliases, i.toggle, contrast(metric, i.weights, runs)) for i in said.interactions]
    cells = [_cell(metric, on, toggles, runs) for on in runs]
    given: dict[str, Any] = {"attribution": {}, "residual_sd": None, "df": 0, "seed_correlation": None, "uneven": ()}
    given |= {"margin": None, "control": None, "lenth": None} | changes
    return MetricResult(metric, tuple(cells), tuple(effects), tuple(found), **given)


def _cell(metric: Metric, on: tuple[str, ...], toggles: Sequence[str], runs: Runs) -> CellResult:
    seeds, values = tuple(sorted(runs[on])), tuple(runs[on][seed] for seed in sorted(runs[on]))
    mean = float(np.mean(values)) if values else None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    difference = contrast(metric, {on: 1.0, (): -1.0}, runs) if on else None
    name = name_of(on, tuple(toggles), {})
    return CellResult(name, on, seeds, values, mean, sd, {"done": len(values)}, difference, None)


def analysis(toggles: Sequence[str], *results: MetricResult) -> Analysis:
    """Of metrics with the same cells."""
    cells = tuple(CellState(cell.cell, cell.toggles, cell.states) for cell in results[0].cells)
    seeds = tuple(sorted({seed for cell in results[0].cells for seed in cell.seeds}))
    basis = estimable([cell.toggles for cell in cells], toggles).basis
    return Analysis("origin", tuple(toggles), seeds, cells, Design(basis, "", (), 1.0), results)  # type: ignore[arg-type]


def of_records(records: Sequence[RunRecord], toggles: Sequence[str], names: Sequence[str]) -> Analysis:
    """Of run records whose cells are named as the designs do, for these metrics."""
    cells = {record.run.cell: members(record.run.cell, toggles) for record in records}
    results = []
    for name in names:
        metric = find(name)
        assert metric
        runs: dict[tuple[str, ...], dict[int, float]] = {on: {} for on in cells.values()}
        for record in records:
            if state_of(record) == "done" and record.result:
                runs[cells[record.run.cell]][record.run.seed] = record.result.metrics[name]
        results.append(result(metric, toggles, runs))
    states = {cell: Counter(state_of(r) for r in records if r.run.cell == cell) for cell in cells}
    told = tuple(CellState(cell, on, states[cell]) for cell, on in cells.items())
    return Analysis("origin", tuple(toggles), (), told, Design("pairs", "", (), 1.0), tuple(results))


def members(cell: str, toggles: Sequence[str]) -> tuple[str, ...]:
    if cell in ("origin", "full"):
        return () if cell == "origin" else tuple(toggles)
    if cell.startswith("full-minus-"):
        return tuple(toggle for toggle in toggles if toggle != cell.removeprefix("full-minus-"))
    return tuple(cell.split("+"))


def factorial(toggles: Sequence[str]) -> list[tuple[str, ...]]:
    return [on for size in range(len(toggles) + 1) for on in combinations(tuple(toggles), size)]


def both(toggles: Sequence[str]) -> list[tuple[str, ...]]:
    whole = tuple(toggles)
    alone = [(toggle,) for toggle in toggles]
    return [(), *alone, whole, *(tuple(name for name in toggles if name != toggle) for toggle in toggles)]


def texts(svg: Path) -> list[str]:
    """What is written in a drawing, in order; an SVG of shapes keeps it as comments."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8"), flags=re.DOTALL)


@contextmanager
def watched(monkeypatch: Any) -> Iterator[list[Figure]]:
    """The figures that are drawn meanwhile."""
    figures: list[Figure] = []
    own = style.drawing

    @contextmanager
    def drawing(stem: Path) -> Iterator[Figure]:
        with own(stem) as figure:
            figures.append(figure)
            yield figure

    with monkeypatch.context() as patch:
        patch.setattr(style, "drawing", drawing)
        yield figures
