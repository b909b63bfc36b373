"""What an interaction is told with: an idea's effect without the other and with it, as the means of cells have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from harness.analysis.results import InteractionResult, MetricResult
from harness.report.interactions import sentence

SEEDS = 6
Values = Callable[..., float]


def analysed(
    ideas: Sequence[str], cells: Iterable[tuple[Any, ...]], value: Values, levels: tuple[str, ...] = ()
) -> MetricResult:
    """Of runs with a spread of 0.1 in which a cell's mean is exactly its value."""
    noise, rows = np.random.default_rng(0), []
    for cell in cells:
        each = 0.1 * noise.standard_normal(SEEDS)
        for seed, extra in enumerate(each - each.mean()):
            rows.append([*cell, seed, 50 + seed + value(*cell) + extra])
    table = pd.DataFrame(rows, columns=[*ideas, "seed", "score"])
    return harness.analyse(table, columns=harness.CsvColumns(higher=("score",), levels=levels)).of("score")


def told(result: MetricResult, name: str) -> str:
    return sentence(result, found(result, name))


def found(result: MetricResult, name: str) -> InteractionResult:
    return next(each for each in result.interactions if each.aliases[0] == name)


def sides(result: MetricResult, name: str, idea: str) -> tuple[float | None, float | None]:
    without, joint = found(result, name).simple[idea]
    return without.value, joint.value


def test_of_a_full_factorial_they_are_the_differences_of_means():
    cells = list(product((0, 1), repeat=3))
    means = {cell: float(value) for cell, value in zip(cells, [0, 3, 1, 9, 2, 4, 30, 41], strict=True)}
    result = analysed("abc", cells, lambda *cell: means[cell])

    def effect(of: int, **given: int) -> float:
        kept = [cell for cell in cells if all(cell["abc".index(name)] == on for name, on in given.items())]
        return fmean(means[c] for c in kept if c[of]) - fmean(means[c] for c in kept if not c[of])

    assert sides(result, "a:b", "a") == pytest.approx((effect(0, b=0), effect(0, b=1)))
    assert sides(result, "a:b", "b") == pytest.approx((effect(1, a=0), effect(1, a=1)))
    assert sides(result, "b:c", "c") == pytest.approx((effect(2, b=0), effect(2, b=1)))


def test_beside_a_factor_of_three_levels():
    cells = [(a, tau) for a in (0, 1) for tau in (0.1, 0.5, 1.0)]
    result = analysed(["a", "tau"], cells, lambda a, tau: 30.0 * (a and tau == 1), levels=("tau=0.1",))
    assert sides(result, "a:tau=1", "a") == pytest.approx((0, 30), abs=1e-9)
    assert told(result, "a:tau=1") == "a and tau=1 only help together: a 0.00 without tau=1, +30.0 with it."


def test_without_a_cell_that_was_lost_they_are_of_the_cells_that_are_there():
    cells = [cell for cell in product((0, 1), repeat=3) if cell != (1, 1, 1)]
    result = analysed("abc", cells, lambda a, b, c: 30.0 * a * b)
    assert sides(result, "a:b", "a") == pytest.approx((0, 30), abs=1e-9)


def test_beside_pairs_that_are_not_of_the_same_cells():
    """The effect of c is over more pairs than its interaction with d is read from."""
    one = [tuple(int(i == j) for i in range(4)) for j in range(4)]
    less = [tuple(int(i != j) for i in range(4)) for j in range(4)]
    cells = [(0, 0, 0, 0), *one, *less, (1, 1, 1, 1), (1, 1, 0, 0)]
    result = analysed("abcd", cells, lambda a, b, c, d: -30.0 * (a and b and c and not d))
    assert sides(result, "c:d", "c") == pytest.approx((-30, 0), abs=1e-9)


def test_whatever_cells_there_are_they_are_the_effects_that_made_the_runs():
    """Of random sets of cells, also such as are read by least squares: the effects told are there, or none is told."""
    draws, told_of = np.random.default_rng(1), 0
    every = list(product((0, 1), repeat=5))
    for _ in range(40):
        cells = [every[0], *(every[i] for i in sorted(draws.choice(np.arange(1, 32), 17, replace=False)))]
        result = analysed("abcde", cells, lambda a, b, c, d, e: 30.0 * a * b - 20.0 * c * d + 7.0 * e)
        for each in result.interactions:
            for idea, pair in each.simple.items():
                assert all(idea in name for name in each.aliases), "of one pair, or of an idea with each other one"
                size = sum({"a:b": 30, "c:d": -20}.get(name, 0) for name in each.aliases)
                told_of += 1
                assert (pair[1].value or 0) - (pair[0].value or 0) == pytest.approx(size, abs=1e-9)
    assert told_of > 40


def test_a_change_of_all_is_a_number():
    rows = [
        (a, b, s, (20 if not (a and b) else 1e-9) * (1 + 0.01 * s * (1 + a)))
        for a in (0, 1)
        for b in (0, 1)
        for s in range(4)
    ]
    result = harness.analyse(pd.DataFrame(rows, columns=["a", "b", "seed", "fid"])).of("fid")
    assert told(result, "a:b").endswith("−100.0 % with it.")
