"""Simulated studies whose seeds are added until the effects are decided: do they keep their promise? Minutes long."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.analyse import analyse
from harness.analysis.looks import Looks
from test_simulations import NAMES, SIX, STUDIES, noise, table

MOST = 8
LOST = {"every run finished": 0.0, "a tenth of the runs lost": 0.1}
CLAIMED = ("better", "worse")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def study(rng, cells, effects, lost=0.0, spread=1.0, most=MOST):
    """[most seeds, cells] with additive effects of the toggles, in spreads of a run."""
    on = np.array([[toggle in cell for toggle in SIX] for cell in cells], dtype=float)
    values = noise(rng, most, cells, spread) + on @ np.asarray(effects, dtype=float)
    values.flat[rng.choice(values.size, round(lost * values.size), replace=False)] = np.nan
    return values


def effects_of(cells, values, seeds, margin=None):
    """After so many seeds, of as many at most as there are values."""
    rule = Looks(3, len(values))
    toggles = tuple(sorted({toggle for cell in cells for toggle in cell}))
    margins = {"clip_score": margin} if margin else None
    result = analyse(table(cells, values[:seeds], toggles), "origin", margins, rule).of("clip_score")
    return [effect.estimate for effect in result.effects]


def stopped(cells, values, margin=None):
    """How many seeds are trained until all effects are decided, and the estimates of that look."""
    most = len(values)
    found = effects_of(cells, values, most, margin)
    decided = [estimate.decided_after for estimate in found]
    if None in decided or max(decided) == most:
        return most, found
    found = effects_of(cells, values, max(decided), margin)
    assert None not in [estimate.decided_after for estimate in found]
    return max(decided), found


def claims(cells, values, verdicts=CLAIMED, margin=None):
    """The effects that have one of these verdicts at any look: what was claimed after 3 may be withdrawn later."""
    most = len(values)
    looks = [effects_of(cells, values, seeds, margin) for seeds in (3, (3 + most) // 2, most)]
    return {place for found in looks for place, estimate in enumerate(found) if estimate.verdict in verdicts}


def covered(found, true):
    return [it.low < effect < it.high for it, effect in zip(found, true, strict=True) if it.low is not None]


def own_spread(cells):
    """Standard deviation of an effect's own values by seed, in spreads of a run."""
    effects = table(cells, np.zeros((2, len(cells)))).estimable.effects
    return math.sqrt(sum(weight**2 for weight in effects[0].weights.values()))


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("design", NAMES)
def test_no_idea_that_changes_nothing_is_claimed_at_any_look(design, lost):
    """Where none of six changes anything, and where three of them do."""
    cells, rng = NAMES[design], np.random.default_rng(21)
    for planted in ([0] * 6, [2, -2, 1, 0, 0, 0]):
        wrong, inside = 0, []
        for _ in range(STUDIES):
            values = study(rng, cells, planted, LOST[lost])
            wrong += any(not planted[place] for place in claims(cells, values))
            inside += covered(stopped(cells, values)[1], planted)
        print(f"{design}, {lost}, effects {planted}: false alarms {wrong / STUDIES}, coverage {np.mean(inside):.4f}")
        assert wrong / STUDIES <= 0.05 + 0.015
        assert np.mean(inside) >= 0.935


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("design", NAMES)
@pytest.mark.parametrize("spread", ["a run", "an effect by seed"])
def test_clear_effects_need_fewer_seeds_and_their_intervals_cover(design, lost, spread):
    """Six effects of two spreads: of a run about its cell and seed, or of the effect's own values by seed."""
    cells, rng = NAMES[design], np.random.default_rng(22)
    true = [2.0 * (own_spread(cells) if spread == "an effect by seed" else 1.0)] * 6
    seeds, inside, shown = [], [], []
    for _ in range(STUDIES):
        count, found = stopped(cells, study(rng, cells, true, LOST[lost]))
        seeds.append(count)
        shown += [it.value / true[0] for it in found if it.value is not None]
        inside += covered(found, true)
    saved = 1 - np.mean(seeds) / MOST
    rates = f"coverage at the last look {np.mean(inside):.4f}, effect shown {np.mean(shown):.3f} of the true one"
    print(f"{design}, {lost}, spread of {spread}: saved {saved:.3f}, {rates}")
    assert 0.98 < np.mean(shown) < 1.1
    assert np.mean(inside) >= 0.935
    # One at a time, a difference of two runs spreads 1.4 times as much as a run: without any correction, neither for
    # looks nor for six ideas, the rule would save 0.38 there, and 0.27 without that for ideas.
    # A lost run of the origin costs six differences at once.
    stricter = (design, spread) == ("one-at-a-time", "a run")
    assert saved >= ((0.15 if LOST[lost] else 0.2) if stricter else 0.35)


@pytest.mark.parametrize("lost", LOST)
def test_where_eight_seeds_decide_too_little_at_most_twelve_save_more(lost):
    """One at a time, six effects of two spreads of a run, and none."""
    cells, rng, most = NAMES["one-at-a-time"], np.random.default_rng(25), 12
    seeds, inside, undecided, wrong = [], [], 0, 0
    for _ in range(STUDIES):
        count, found = stopped(cells, study(rng, cells, [2] * 6, LOST[lost], most=most))
        seeds.append(count)
        inside += covered(found, [2] * 6)
        undecided += None in [it.decided_after for it in found]
        wrong += bool(claims(cells, study(rng, cells, [0] * 6, LOST[lost], most=most)))
    saved = 1 - np.mean(seeds) / most
    rates = f"coverage {np.mean(inside):.4f}, false alarms {wrong / STUDIES}, all decided {1 - undecided / STUDIES:.3f}"
    print(f"at most {most} seeds, {lost}: saved {saved:.3f}, {rates}")
    assert saved >= 0.35
    assert undecided / STUDIES <= 0.1
    assert wrong / STUDIES <= 0.05 + 0.015
    assert np.mean(inside) >= 0.935


@pytest.mark.parametrize("toggles", [1, 2, 6])
def test_the_error_of_one_comparison_is_kept_with_few_cells_too(toggles):
    """The fewer cells, the less is known of the spread at the first looks."""
    cells, rng = [(), *((toggle,) for toggle in SIX[:toggles])], np.random.default_rng(23)
    wrong, inside = 0, []
    for _ in range(2 * STUDIES):
        values = study(rng, cells, [0] * 6)
        wrong += bool(claims(cells, values))
        inside += covered(stopped(cells, values)[1], [0] * toggles)
    print(f"{toggles} toggles: false alarms {wrong / 2 / STUDIES}, coverage {np.mean(inside):.4f}")
    assert wrong / 2 / STUDIES <= 0.05 + 0.01
    assert np.mean(inside) >= 0.94


@pytest.mark.parametrize("moved", [1, 6])
def test_a_change_of_one_margin_is_seldom_called_equivalent_at_any_look(moved):
    cells, rng, margin = NAMES["one-at-a-time"], np.random.default_rng(24), 0.8
    wrong, inside, seeds = 0, [], []
    for _ in range(STUDIES):
        true = [margin if place < moved else 0 for place in range(6)]
        values = study(rng, cells, true, spread=0.3)
        wrong += any(place < moved for place in claims(cells, values, ("equivalent",), margin))
        count, found = stopped(cells, values, margin)
        seeds.append(count)
        inside += covered(found, true)
    rates = f"false equivalence {wrong / STUDIES}, coverage {np.mean(inside):.4f}, seeds {np.mean(seeds):.2f}"
    print(f"{moved} of six at the margin: {rates}")
    assert wrong / STUDIES <= 0.05 + 0.015
    assert np.mean(inside) >= 0.935
