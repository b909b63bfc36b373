"""No answer depends on the unit or the zero of a metric, nor on what all runs of a seed have in common."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from designs import DISTANCE, FOUR, KINDS, SCORE, cells_of, table_of
from fuzz import examples
from harness.analysis import statistics
from harness.analysis.analyse import analyse
from harness.analysis.fit import fit
from harness.analysis.from_records import analyse_records
from harness.errors import HarnessError
from harness.report import wording
from synthetic import grid

FREE = (
    "p",
    "p_holm",
    "p_equivalent",
    "sign_flip",
    "sign_flip_least",
    "d_z",
    "n",
    "improved",
    "uneven",
    "paired",
    "verdict",
)
SEEDS_ALIKE = re.compile("(every seed gave the same numbers|all seeds differ by the very same amount)[^;]*")
SIZED = ("value", "low", "high", "own_low", "own_high")


def answers(table, margin=None):
    """All estimates by name, and the rest that is free of units."""
    result = analyse(table, "origin", {table.columns[0].metric.name: margin} if margin else None).metrics[0]
    found = {f"effect {effect.toggle}": effect.estimate for effect in result.effects}
    found |= {f"cell {cell.cell}": cell.estimate for cell in result.cells if cell.estimate}
    found |= {f"{each.aliases} {each.toggle}": each.estimate for each in result.interactions}
    found |= {f"part {name}": share for name, share in result.attribution.items()}
    correlations = [cell.correlation for cell in result.cells]
    return result, found, correlations


def same(before, after, factor=1.0, rel=1e-6, loss=0.0):
    """`loss`: what rounding may move a difference by, in the unit of `after`."""
    (old, olds, _), (new, news, _) = before, after
    assert olds.keys() == news.keys() and old.df == new.df
    assert old.notes == new.notes
    if old.residual_sd is None:
        assert new.residual_sd is None
    else:
        assert new.residual_sd == pytest.approx(abs(factor) * old.residual_sd, rel=rel, abs=loss)
    for name, was in olds.items():
        now = news[name]
        # Whether seeds do not differ, or all by the same amount, is told by what they have in common.
        assert SEEDS_ALIKE.sub("no spread", was.reason) == SEEDS_ALIKE.sub("no spread", now.reason), name
        for key in FREE:
            one, other = getattr(was, key), getattr(now, key)
            one = -one if key == "d_z" and one is not None and factor < 0 else one
            assert other == (pytest.approx(one, rel=1e-3, abs=1e-9) if isinstance(one, float) else one), (name, key)
        swapped = dict(zip(SIZED, ("value", "high", "low", "own_high", "own_low"), strict=True))
        for key in SIZED:
            one, other = getattr(was, key), getattr(now, key if factor > 0 else swapped[key])
            assert other == (None if one is None else pytest.approx(factor * one, rel=rel, abs=loss)), (name, key)


STUDY = st.tuples(
    st.sampled_from(list(KINDS)),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["smooth", "whole", "constant", "no spread"]),
    st.floats(0, 0.4),
)


def drawn(study):
    """Cells and values [seeds, cells] about 0, of a size about 1, some of them missing."""
    kind, seeds, seed, sort, missing = study
    cells, rng = cells_of(kind), np.random.default_rng(seed)
    noise = rng.normal(size=(seeds, len(cells)))
    values = {
        "smooth": 2 * rng.normal(size=(seeds, 1)) + rng.normal(size=len(cells)) + noise,
        "whole": np.round(2 * noise),
        "constant": np.full(noise.shape, 3.0),
        "no spread": np.round(4 * rng.normal(size=(seeds, 1))) + np.round(4 * rng.normal(size=len(cells))),
    }[sort]
    return cells, np.where(rng.random(values.shape) < missing, np.nan, values)


QUICK = settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZES = st.sampled_from([1e-305, 1e-60, 3e-9, 0.7, 12345.6, 1e70])


@given(STUDY, SIZES, st.booleans())
@pytest.mark.fuzz
@QUICK
def test_the_unit_changes_numbers_alone(study, factor, turned):
    cells, values = drawn(study)
    factor = -factor if turned else factor
    metric = replace(SCORE, better="lower") if turned else SCORE
    same(
        answers(table_of(cells, values), 0.5),
        answers(table_of(cells, factor * values, metric), 0.5 * abs(factor)),
        factor,
        loss=1e-12 * abs(factor),
    )


@given(STUDY, st.sampled_from([1.0, -300.1, 1e6, 1e10]), st.integers(0, 99))
@pytest.mark.fuzz
@QUICK
def test_what_all_runs_of_a_seed_share_changes_nothing(study, offset, seed):
    cells, values = drawn(study)
    shifts = offset * np.random.default_rng(seed).integers(0, 3, size=(len(values), 1)) + offset
    before, after = answers(table_of(cells, values), 0.5), answers(table_of(cells, values + shifts), 0.5)
    same_within(before, after, values, shifts)


def same_within(before, after, values, shifts):
    """Whatever is read within seeds; what is compared unpaired has the seeds in it."""
    if not any(estimate.value is not None and not estimate.paired for estimate in before[1].values()):
        same(before, after, rel=1e-4, loss=1e-4 if np.abs(shifts).max() > 1e9 else 1e-7)


@given(STUDY, st.sampled_from([1e-305, 3e-9, 0.7, 12345.6, 1e70]))
@pytest.mark.fuzz
@QUICK
def test_the_unit_of_a_distance_changes_nothing(study, factor):
    cells, values = drawn(study)
    ratios = np.exp(0.1 * values)
    same(
        answers(table_of(cells, ratios, DISTANCE), 5.0),
        answers(table_of(cells, factor * ratios, DISTANCE), 5.0),
        rel=1e-6,
        loss=1e-9,
    )


class TestKnown:
    base = np.array([[5.0, 2.1, 4.9], [6.2, 3.0, 6.4], [4.1, 1.3, 4.2], [5.5, 2.2, 5.1]])

    @pytest.mark.parametrize("factor", [1.0, 1e-9, 1e-300, 1e90])
    @pytest.mark.parametrize("offset", [0.0, 1e5, 1e10, 1e13])
    def test_the_p_of_least_squares_whatever_the_unit(self, factor, offset):
        cells = [(), ("a",), ("b",)]
        wanted = answers(table_of(cells, self.base, toggles=("a", "b")))[1]["effect a"]
        found = answers(table_of(cells, (self.base + offset) * factor, toggles=("a", "b")))[1]["effect a"]
        assert found.p == pytest.approx(wanted.p, rel=0.05 if offset > 1e12 else 1e-3)
        assert (found.verdict, found.improved) == (wanted.verdict, wanted.improved) == ("worse", 0)

    def test_spread_below_what_the_numbers_can_hold_is_none(self):
        """1e17 + 1 is 1e17: what differs here is rounding."""
        cells = [(), ("a",), ("b",)]
        result, found, _ = answers(table_of(cells, self.base + 1e17, toggles=("a", "b")))
        assert result.residual_sd is None and found["effect a"].verdict == "inconclusive"

    def test_two_sizes_in_one_table(self):
        """A metric that is large in one seed does not drown the others."""
        values = self.base.copy()
        values[0] += 1e12
        assert fit(values).sd == pytest.approx(fit(self.base).sd, rel=1e-3)

    def test_a_fit_of_the_smallest_numbers(self):
        one, other = fit(self.base), fit(self.base * 2.0**-1000)
        assert other.sd == one.sd * 2.0**-1000 and other.df == one.df
        assert other.means == pytest.approx(one.means * 2.0**-1000, rel=1e-12, abs=0)

    def test_means_and_spreads_of_tiny_numbers_are_shown(self):
        cells = [(), ("a",)]
        result = answers(table_of(cells, self.base[:, :2] * 1e-200, toggles=("a",)))[0]
        assert result.cells[0].sd == pytest.approx(self.base[:, 0].std(ddof=1) * 1e-200)
        assert result.cells[1].correlation == pytest.approx(np.corrcoef(self.base[:, 0], self.base[:, 1])[0, 1])
        assert result.seed_correlation == pytest.approx(statistics.intraclass(self.base[:, :2]))

    @pytest.mark.parametrize("value", [0.0, -1.0])
    def test_a_distance_without_a_logarithm_is_refused_with_its_run(self, value):
        records = grid({"origin": {0: 10.0, 1: 9.0}, "a": {0: 9.0, 1: value}})
        with pytest.raises(HarnessError, match=rf"fd_emoji of a, seed 1 is {value:g}.*must be above 0"):
            analyse_records(records, "origin", ("a",))

    def test_a_margin_in_the_metric_s_own_unit(self):
        cells = [(), ("a",)]
        near = np.array([[5.0, 5.01], [6.0, 6.02], [4.0, 4.0], [5.5, 5.49]])
        for factor in (1.0, 1e-9, 1e9):
            found = answers(table_of(cells, near * factor, toggles=("a",)), 0.5 * factor)[1]["cell a"]
            assert found.verdict == "equivalent" and found.p_equivalent < 0.05


class TestFormulas:
    def test_welch_is_that_of_scipy_in_any_unit(self):
        from scipy import stats

        ours, theirs = np.array([1.0, 2.5, 0.5, 3.0]), np.array([2.0, 4.5, 5.0])
        test = stats.ttest_ind(ours, theirs, equal_var=False)
        for factor in (1.0, 1e-290, 1e90):
            value, error, df = statistics.welch([ours * factor, theirs * factor], [1.0, -1.0])
            assert (value / error, df) == (pytest.approx(test.statistic), pytest.approx(test.df))

    def test_ties_of_sign_flips_are_ties_in_any_unit(self):
        """0.1 + 0.2 is 0.3, whatever the machine makes of it: two of eight flips reach what was seen by a tie."""
        values = np.array([0.1, 0.2, -0.3])
        for factor in (1.0, 1e-12, 1e-200, 1e50, 7.3):
            assert statistics.sign_flip(values * factor)[0] == 1.0
        assert statistics.sign_flip(np.array([1e-20, 2e-20, 4e-20])) == (0.25, 0.25)

    def test_what_has_no_spread_has_no_standardised_effect(self):
        assert statistics.hedges(np.full(4, 0.1)) is None
        assert statistics.hedges(np.array([1e-200, 2e-200, 4e-200])) == pytest.approx(
            statistics.hedges(np.array([1.0, 2.0, 4.0]))
        )
        assert statistics.pearson(np.array([1.0, 2, 3]), np.full(3, 7.0)) is None

    def test_contrasts_that_are_mostly_nothing_have_no_error_to_be_held_against(self):
        assert statistics.lenth(np.array([0.0, 0, 0, 0, 5.0])) is None
        values = np.array([0.1, -0.2, 0.3, -5.0, 0.2, 0.15, 10.0])
        tiny = statistics.lenth(values * 1e-200)
        assert np.array(tiny) * 1e200 == pytest.approx(np.array(statistics.lenth(values)))

    def test_a_huge_t_has_a_p_of_nothing_and_a_verdict(self):
        cells = [(), ("a",)]
        values = np.array([[1.0, 1e30], [2.0, 1.1e30], [3.0, 1.2e30], [2.5, 0.9e30], [1.5, 1.05e30]])
        found = answers(table_of(cells, values, toggles=("a",)))[1]["cell a"]
        assert found.verdict == "better" and 0 <= found.p < 1e-4


def test_every_design_here_is_of_the_kind_it_says():
    from harness.design.contrasts import estimable

    bases = {kind: estimable(cells_of(kind), FOUR).basis for kind in KINDS}
    assert bases == {
        "one-at-a-time": "pairs",
        "leave-one-out": "pairs",
        "both": "pairs",
        "full": "orthogonal",
        "fractional": "orthogonal",
        "fraction and one more": "pairs",
        "regression": "regression",
    }


class TestWords:
    """What is shown is never rounded to nothing."""

    metric = replace(SCORE, unit="", name="mse")

    @pytest.mark.parametrize(
        ("mean", "sd", "told"),
        [
            (5e-9, 3e-10, "5.00e−09 ± 3.00e−10"),
            (1e10 + 5.2, 0.31, "10000000005.20 ± 0.31"),
            (26.7, 1.6, "26.7 ± 1.6"),
            (5.13, 0.001, "5.1300 ± 0.0010"),
            (5.0, 1e-9, "5.0000000000 ± 0.0000000010"),
            (3e13, 1e12, "3.00e+13 ± 1.00e+12"),
            (-4e5, 12.0, "−400000 ± 12"),
            (0.0, 0.0, "0.00 ± 0.00"),
        ],
    )
    def test_a_mean_and_its_spread(self, mean, sd, told):
        cell = answers(table_of([(), ("a",)], np.ones((2, 2)), toggles=("a",)))[0].cells[0]
        assert wording.mean_sd(self.metric, replace(cell, mean=mean, sd=sd)) == told

    def test_a_change(self):
        assert wording.signed(self.metric, -3e-9) == "−3.00e−09"
        assert wording.interval(self.metric, -3e-9, 2e-9) == "−3.00e−09 to +2.00e−09"
        assert wording.signed(self.metric, 0.0) == "0.00"


def test_a_cell_that_shares_its_runs_adds_nothing_to_what_a_plan_detects():
    """Its toggle changes nothing, so the plan is that of the other toggles alone."""
    from harness.design.contrasts import estimable
    from harness.design.power import detectable, minimum_detectable

    cells = cells_of("one-at-a-time")
    can = estimable(cells, FOUR)
    found = detectable(can, len(cells), 3, {("d",): ()})[0]
    assert found == pytest.approx(minimum_detectable((2 / 3) ** 0.5, 2 * 3, 0.05 / 3))
    assert found > detectable(can, len(cells), 3)[0]
