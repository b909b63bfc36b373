"""Small analyses, for the tests of what is drawn from them, and a look into the drawings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from harness.analysis.analyse import analyse
from harness.analysis.from_records import analyse_records
from harness.analysis.results import Analysis, CellState, Estimate, MetricResult
from harness.analysis.table import Column, RunTable
from harness.design.contrasts import estimable
from harness.design.kinds import DesignCell, name_of
from harness.metrics.definitions import Metric, find_metric
from harness.report.figures import style
from harness.runs.record import RunRecord

FD, SCORE = find_metric("fd_emoji"), find_metric("clip_score")
assert FD and SCORE
EFFECTS = {"a": -0.2, "b": 0.1, "c": 0.05, "d": 0.03}
HOSTILE = ["<script>alert(1)</script>", "$x^2$", "--><b>&amp;", "a\nb\x07\ud800", "=cmd()", "…" * 300, "名前"]

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


def result(metric: Metric, toggles: Sequence[str], runs: Runs) -> MetricResult:
    """What these runs say about the metric."""
    cells = tuple(DesignCell(name_of(on, tuple(toggles), {}), on) for on in runs)
    every = [(place, seed, value) for place, on in enumerate(runs) for seed, value in runs[on].items()]
    place, seed, value = (np.array(column) for column in zip(*every, strict=True))
    column = Column(metric, value.astype(float), ("as the baseline",) * len(cells), (False,) * len(cells))
    table = RunTable(tuple(toggles), cells, place, seed, ("done",) * len(every), (column,))
    return analyse(table, "origin").metrics[0]


def runs(cells: Sequence[tuple[str, ...]], effects: Mapping[str, float], seeds: int = 3) -> Runs:
    """log value = 1 + the sum of what the cell's toggles do + 0.3 a seed; no noise."""
    return {on: {seed: math.exp(1 + sum(effects[t] for t in on) + 0.3 * seed) for seed in range(seeds)} for on in cells}


def plain() -> Analysis:
    """Each of four toggles alone and left out: distance and score without noise."""
    toggles = tuple(EFFECTS)
    down = runs(both(toggles), EFFECTS)
    score = {on: {seed: 60 - 4 * math.log(value) for seed, value in each.items()} for on, each in down.items()}
    return analysis(toggles, result(FD, toggles, down), result(SCORE, toggles, score))


def analysis(toggles: Sequence[str], *results: MetricResult) -> Analysis:
    """Of metrics with the same cells."""
    cells = tuple(CellState(cell.cell, cell.toggles, cell.states) for cell in results[0].cells)
    seeds = tuple(sorted({seed for cell in results[0].cells for seed in cell.seeds}))
    design = replace(estimable([cell.toggles for cell in cells], toggles), inestimable=())
    return Analysis("origin", tuple(toggles), seeds, cells, design, results)


def of_records(records: Sequence[RunRecord], toggles: Sequence[str]) -> Analysis:
    """Of made-up records, whose cells are named as designs name them."""
    whole = [replace(one, run=replace(one.run, toggles=members(one.run.cell, toggles))) for one in records]
    return analyse_records(whole, "origin", toggles)


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
    def drawing(*how: Any, **more: Any) -> Iterator[Figure]:
        with own(*how, **more) as figure:
            figures.append(figure)
            yield figure

    with monkeypatch.context() as patch:
        patch.setattr(style, "drawing", drawing)
        yield figures
