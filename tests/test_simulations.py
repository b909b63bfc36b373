"""Simulated studies: do intervals cover, verdicts err and tests see as often as they say? Minutes long."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.analyse import analyse
from harness.analysis.table import Column, RunTable
from harness.design.kinds import DesignCell
from harness.metrics.definitions import METRICS

STUDIES = 2000
SIX = tuple("abcdef")
ALONE = [(), *((t,) for t in SIX)]
BOTH = [*ALONE, SIX, *(tuple(o for o in SIX if o != t) for t in SIX)]
QUARTER = [
    tuple(t for t, s in zip(SIX, (a, b, c, d, a * b * c, b * c * d), strict=True) if s > 0)
    for a in (-1, 1)
    for b in (-1, 1)
    for c in (-1, 1)
    for d in (-1, 1)
]
NAMES = {"one-at-a-time": ALONE, "both": BOTH, "fractional": QUARTER}
FULL = [tuple(t for t, on in zip("abc", row, strict=True) if on) for row in itertools.product((0, 1), repeat=3)]
LOST = {"both": (BOTH, 8), "fractional": (QUARTER, 5), "full": (FULL, 6)}
"""Designs, and the place of a cell of which every run failed."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def table(cells, values, toggles=SIX):
    """A study of one metric from values [seeds, cells]."""
    seeds, count = values.shape
    named = tuple(DesignCell("+".join(cell) or "origin", cell) for cell in cells)
    column = Column(METRICS["clip_score"], values.ravel(), ("alike",) * count, (False,) * count)
    places = np.tile(np.arange(count), seeds)
    return RunTable(toggles, named, places, np.repeat(np.arange(seeds), count), ("done",) * values.size, (column,))


def noise(rng, seeds, cells, spread=1.0):
    """Runs that share a seed's luck, which is twice as large as their own."""
    return 60 + 2 * rng.normal(size=(seeds, 1)) + spread * rng.normal(size=(seeds, len(cells)))


def analysed(cells, values, margin=None):
    toggles = tuple(sorted({toggle for cell in cells for toggle in cell}))
    margins = {"clip_score": margin} if margin else None
    return analyse(table(cells, values, toggles), "origin", margins).of("clip_score")


def signs(cells, toggle):
    return np.array([1.0 if toggle in cell else -1.0 for cell in cells])


@pytest.mark.parametrize("design", NAMES)
def test_the_interval_of_a_main_effect_covers(design):
    cells, rng = NAMES[design], np.random.default_rng(1)
    covered = []
    for _ in range(STUDIES):
        values = noise(rng, 3, cells) + 0.4 * signs(cells, "a")
        estimate = analysed(cells, values).effects[0].estimate
        covered.append(estimate.low < 0.8 < estimate.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_with_one_variant_and_three_seeds_student_covers_and_what_people_use_in_its_place_does_not():
    cells, rng = [(), ("a",)], np.random.default_rng(2)
    covered = {"student": [], "z": [], "bootstrap": []}
    for _ in range(STUDIES):
        values = noise(rng, 3, cells) + np.array([0.0, 0.8])
        estimate = analyse(table(cells, values, ("a",)), "origin").of("clip_score").effects[0].estimate
        own = np.array(estimate.by_seed)
        reach = 1.96 * own.std(ddof=1) / math.sqrt(3)
        means = rng.choice(own, (1000, 3)).mean(axis=1)
        ends = {
            "student": (estimate.low, estimate.high),
            "z": (own.mean() - reach, own.mean() + reach),
            "bootstrap": tuple(np.percentile(means, [2.5, 97.5])),
        }
        for name, (low, high) in ends.items():
            covered[name].append(low < 0.8 < high)
    rates = {name: np.mean(found) for name, found in covered.items()}
    assert rates["student"] == pytest.approx(0.95, abs=0.015)
    assert rates["z"] == pytest.approx(0.81, abs=0.04)
    assert rates["bootstrap"] == pytest.approx(0.73, abs=0.05)


@pytest.mark.parametrize("design", NAMES)
def test_the_origin_against_itself_is_seldom_told_apart(design):
    """Over all effects of a study, and over all its cells."""
    cells, rng = NAMES[design], np.random.default_rng(3)
    wrong = {"effects": 0, "cells": 0, "interactions": 0}
    for _ in range(STUDIES):
        result = analysed(cells, noise(rng, 3, cells))
        told = {
            "effects": [effect.estimate.verdict for effect in result.effects],
            "cells": [cell.estimate.verdict for cell in result.cells if cell.estimate],
            "interactions": [each.estimate.verdict for each in result.interactions],
        }
        for family, verdicts in told.items():
            wrong[family] += any(verdict in ("better", "worse") for verdict in verdicts)
    assert max(wrong.values()) / STUDIES <= 0.05 + 0.015


def test_a_missing_run_biases_nothing():
    rng = np.random.default_rng(4)
    covered, values_seen = [], []
    for _ in range(STUDIES):
        values = noise(rng, 3, BOTH) + 0.4 * signs(BOTH, "a")
        values.flat[rng.choice(values.size, 3, replace=False)] = np.nan
        estimate = analysed(BOTH, values).effects[0].estimate
        if estimate.low is not None:
            covered.append(estimate.low < 0.8 < estimate.high)
            values_seen.append(estimate.value)
    assert len(covered) > 0.9 * STUDIES
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
    assert np.mean(values_seen) == pytest.approx(0.8, abs=0.05)


def test_what_differs_by_the_margin_is_seldom_called_equivalent_and_what_does_not_mostly_is():
    cells, rng = [(), ("a",)], np.random.default_rng(5)
    spread, seeds, margin = 0.3, 6, 0.8
    told = {0.8: [], 0.0: []}
    for true, found in told.items():
        for _ in range(STUDIES):
            values = noise(rng, seeds, cells, spread) + np.array([0.0, true])
            result = analyse(table(cells, values, ("a",)), "origin", {"clip_score": margin}).of("clip_score")
            found.append(result.effects[0].estimate.verdict == "equivalent")
    assert np.mean(told[0.8]) <= 0.05 + 0.015
    # Power of two one-sided tests at no difference, from the noncentral t of either side (Phillips 1990).
    error, df = spread * math.sqrt(2 / seeds), seeds - 1
    power = 2 * stats.nct.cdf(-stats.t.ppf(0.95, df), df, -margin / error) - 1
    assert np.mean(told[0.0]) == pytest.approx(power, abs=0.04)


def test_uneven_cells_do_not_break_the_promise():
    """One cell in fourteen spreads four times as much: its own verdicts, and those of the others, stay honest."""
    rng = np.random.default_rng(6)
    wrong = 0
    for _ in range(STUDIES):
        values = noise(rng, 5, BOTH)
        values[:, 3] += 4 * rng.normal(size=5)
        result = analysed(BOTH, values)
        wrong += any(cell.estimate.verdict in ("better", "worse") for cell in result.cells if cell.estimate)
    assert wrong / STUDIES <= 0.05 + 0.015


@pytest.mark.parametrize("design", LOST)
def test_the_interval_covers_where_a_whole_cell_is_lost(design):
    (cells, lost), rng = LOST[design], np.random.default_rng(7)
    covered = []
    for _ in range(STUDIES):
        values = noise(rng, 3, cells) + 0.4 * signs(cells, "a")
        values[:, lost] = np.nan
        found = [effect.estimate for effect in analysed(cells, values).effects]
        covered.append(
            [estimate.low < true < estimate.high for estimate, true in zip(found, [0.8, *[0] * 5], strict=False)]
        )
    rates = np.mean(covered, axis=0)
    print(f"coverage, {design} without {cells[lost]}: {np.round(rates, 3)}")
    assert rates == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("design", LOST)
def test_the_origin_against_itself_is_seldom_told_apart_where_a_whole_cell_is_lost(design):
    (cells, lost), rng = LOST[design], np.random.default_rng(8)
    wrong = {"effects": 0, "cells": 0, "interactions": 0}
    for _ in range(STUDIES):
        values = noise(rng, 3, cells)
        values[:, lost] = np.nan
        result = analysed(cells, values)
        told = {
            "effects": [effect.estimate.verdict for effect in result.effects],
            "cells": [cell.estimate.verdict for cell in result.cells if cell.estimate],
            "interactions": [each.estimate.verdict for each in result.interactions],
        }
        for family, verdicts in told.items():
            wrong[family] += any(verdict in ("better", "worse") for verdict in verdicts)
    print(f"false alarms, {design} without {cells[lost]}: { {k: v / STUDIES for k, v in wrong.items()} }")
    assert max(wrong.values()) / STUDIES <= 0.05 + 0.015


@pytest.mark.parametrize("design", LOST)
def test_a_change_of_one_margin_is_seldom_called_equivalent_where_a_whole_cell_is_lost(design):
    """The truth lies on the edge of the margin, of one toggle or of all: any such claim of a study is wrong."""
    (cells, lost), rng = LOST[design], np.random.default_rng(9)
    toggles = sorted({toggle for cell in cells for toggle in cell})
    margin = 0.8
    for moved in (toggles[:1], toggles):
        wrong = 0
        for _ in range(STUDIES):
            values = noise(rng, 3, cells, 0.3) + margin / 2 * sum(signs(cells, toggle) for toggle in moved)
            values[:, lost] = np.nan
            found = analysed(cells, values, margin).effects
            wrong += any(effect.estimate.verdict == "equivalent" for effect in found if effect.toggle in moved)
        print(f"false equivalence, {design} without {cells[lost]}, {len(moved)} at the margin: {wrong / STUDIES}")
        assert wrong / STUDIES <= 0.05 + 0.015


def test_rounded_numbers_are_called_equivalent_as_seldom_as_others():
    """A score in whole per cent under two seeds: equal numbers by chance are no proof of no change."""
    cells, rng = [(), ("a",), ("b",), ("c",)], np.random.default_rng(10)
    same, wrong = 0, 0
    for _ in range(STUDIES):
        values = np.round(noise(rng, 2, cells) + 0.4 * signs(cells, "a"))
        same += bool((values[:, 0] == values[:, 1]).all())
        wrong += analysed(cells, values, 0.8).effects[0].estimate.verdict == "equivalent"
    print(f"equal by rounding: {same / STUDIES}, called equivalent at one margin: {wrong / STUDIES}")
    assert same / STUDIES > 0.02 and wrong / STUDIES <= 0.05 + 0.015


def test_runs_that_share_no_seed_are_told_apart_as_seldom_and_covered_as_often():
    """Welch's t of two cells under seeds of their own, one of which spreads three times as much."""
    rng = np.random.default_rng(11)
    covered, wrong = [], 0
    for _ in range(STUDIES):
        values = np.full((10, 2), np.nan)
        values[:5, 0], values[5:, 1] = 60 + rng.normal(size=5), 60 + 3 * rng.normal(size=5)
        estimate = analysed([(), ("a",)], values).effects[0].estimate
        covered.append(estimate.low < 0 < estimate.high)
        wrong += estimate.verdict in ("better", "worse")
    print(f"unpaired: coverage {np.mean(covered)}, false alarms {wrong / STUDIES}")
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015) and wrong / STUDIES <= 0.05 + 0.015
