"""What a design can detect: against the noncentral t, statsmodels and a simulation."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from harness.analysis.looks import Looks
from harness.design.design import Design
from harness.design.kinds import DesignConfig
from harness.design.power import detectable, minimum_detectable

SIX = tuple("abcdef")


@pytest.mark.parametrize("df", [2, 3, 7, 26, 126])
@pytest.mark.parametrize("family", [1, 6, 15])
def test_the_power_at_the_detectable_effect_is_80_per_cent(df: int, family: int) -> None:
    effect = minimum_detectable(0.3, df, 0.05 / family)
    critical = stats.t.isf(0.025 / family, df)
    assert stats.nct.sf(critical, df, effect / 0.3) == pytest.approx(0.8, abs=2e-4)
    assert minimum_detectable(0.6, df, 0.05 / family) == pytest.approx(2 * effect)


def test_it_agrees_with_statsmodels_on_a_paired_t_test() -> None:
    found = TTestPower().solve_power(nobs=8, alpha=0.05, power=0.8)
    assert minimum_detectable(1 / math.sqrt(8), 7) == pytest.approx(found, rel=1e-4)


def test_a_simulated_study_finds_the_detectable_effect_four_times_in_five() -> None:
    """One of three toggles at its detectable size, tested with the residual of all cells."""
    design, seeds, sd = Design(DesignConfig(), ("a", "b", "c")), 3, 0.05
    effect, _ = detectable(design.estimable, 4, seeds)
    assert effect is not None
    rng = np.random.default_rng(7)
    runs = rng.normal(0, 1, (20000, 1, seeds)) + sd * rng.normal(size=(20000, 4, seeds))
    runs[:, 1] += effect * sd
    means = runs.mean(axis=2, keepdims=True)
    left = runs - means - runs.mean(axis=1, keepdims=True) + runs.mean(axis=(1, 2), keepdims=True)
    spread = np.sqrt((left**2).sum(axis=(1, 2)) / (3 * 2))
    t = (means[:, 1, 0] - means[:, 0, 0]) / (spread * math.sqrt(2 / seeds))
    found = np.mean(np.abs(t) > stats.t.isf(0.025 / 3, 6))
    assert found == pytest.approx(0.8, abs=0.01)


def test_at_equal_runs_a_factorial_has_less_variance_by_half_of_k_plus_one() -> None:
    """64 cells once against 7 cells with 64 / 7 seeds each: 3.5 times."""
    once = Design(DesignConfig(kind="full"), SIX).estimable.effects[0].weights
    single = Design(DesignConfig(), SIX).estimable.effects[0].weights
    variances = [sum(w**2 for w in weights.values()) for weights in (once, single)]
    assert variances[1] / (64 / 7) / variances[0] == pytest.approx(3.5)


def test_one_seed_and_a_design_without_interactions_detect_nothing() -> None:
    full, single = Design(DesignConfig(kind="full"), SIX), Design(DesignConfig(), SIX)
    assert detectable(full.estimable, 64, 1) == (None, None)
    effect, interaction = detectable(single.estimable, 7, 3)
    assert effect is not None and interaction is None
    more, _ = detectable(single.estimable, 7, 6)
    assert more is not None and more < effect


@pytest.mark.parametrize(("most", "toggles"), [(8, SIX), (6, ("a", "b"))])
def test_seeds_that_are_added_find_it_four_times_in_five_by_the_last_look(most: int, toggles: tuple[str, ...]) -> None:
    """By the rule itself, simulated: no less often, and a little more, as looks before the last find it too."""
    cells, family, rule = len(toggles) + 1, len(toggles), Looks(3, most)
    can = Design(DesignConfig(), toggles).estimable
    fixed, _ = detectable(can, cells, most)
    effect, _ = detectable(can, cells, most, None, partial(rule.nominal, most))
    assert fixed is not None and effect is not None and effect > 1.05 * fixed
    runs = np.random.default_rng(7).normal(size=(4000, most, cells))
    runs[:, :, 1] += effect
    least = np.ones(len(runs))
    for seeds in range(3, most + 1):
        within = runs[:, :seeds] - runs[:, :seeds].mean(axis=2, keepdims=True)
        means = within.mean(axis=1)
        df = (seeds - 1) * (cells - 1)
        spread = np.sqrt(((within - means[:, None]) ** 2).sum(axis=(1, 2)) / df)
        t = (means[:, 1] - means[:, 0]) / (spread * math.sqrt(2 / seeds))
        least = np.minimum(least, rule.p(seeds, 2 * stats.t.sf(np.abs(t), df), cells - 1))
    assert 0.79 < np.mean(family * least < 0.05) < 0.9
