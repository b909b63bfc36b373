"""What is said of a contrast, against scipy, statsmodels and hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from harness.analysis import statistics
from harness.analysis.costs import costs, equal_time, timing_noise
from harness.analysis.from_records import analyse_records
from harness.analysis.looks import Looks
from harness.runs.record import Point, Result
from synthetic import grid, record

rng = np.random.default_rng(11)
BASE = dict(enumerate(rng.normal(50, 2, 6)))
NAMES = ("a", "b", "c")


def analysed(records, margins=None, toggles=NAMES):
    return analyse_records(records, "origin", toggles, margins)


def shifted(by, spread, seed):
    draw = np.random.default_rng(seed)
    return {s: value + by + draw.normal(0, spread) for s, value in BASE.items()}


def scores(cells, metric="clip_score"):
    return grid({"origin": BASE, **cells}, metric)


class TestFormulas:
    def test_sign_flips_are_those_of_scipy(self):
        values = np.array([0.3, 1.2, -0.4, 0.9, 0.5])
        expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=10**4).pvalue
        assert statistics.sign_flip(values) == pytest.approx((expected, 2**-4))
        assert statistics.sign_flip(np.array([1.0, 2, 3])) == pytest.approx((0.25, 0.25))
        assert statistics.sign_flip(np.ones(1)) is None and statistics.sign_flip(np.ones(13)) is None

    def test_hedges_correction_is_the_exact_one(self):
        values = np.array([1.0, 2.5, 0.5, 1.5])
        d = values.mean() / values.std(ddof=1)
        # J(3) = gamma(3/2) / (sqrt(3/2) gamma(1)), which 1 - 3 / (4 df - 1) comes near to.
        exact = math.gamma(1.5) / math.sqrt(1.5)
        assert statistics.hedges(values) == pytest.approx(d * exact)
        assert exact == pytest.approx(1 - 3 / 11, abs=0.01)
        assert statistics.hedges(np.array([1.0, 2.0])) is None

    def test_own_interval_is_student_s(self):
        values = np.array([1.0, 2.5, 0.5])
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert statistics.paired_interval(values) == pytest.approx(tuple(expected))

    def test_intraclass_correlation_by_the_published_example(self):
        # Shrout & Fleiss 1979, table 2: six targets, four judges; ICC(3,1) = .71.
        ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
        assert statistics.intraclass(np.array(ratings, dtype=float)) == pytest.approx(0.71, abs=0.005)

    def test_lenth_by_hand(self):
        contrasts = np.array([0.1, -0.2, 0.3, -5.0, 0.2, 0.15, 10.0])
        # |c| sorted: .1 .15 .2 .2 .3 5 10; s0 = 1.5 * .2 = .3; those below .75 have the median .2, so PSE = .3.
        pse, margin, together = statistics.lenth(contrasts)
        assert pse == pytest.approx(0.3)
        assert margin == pytest.approx(0.3 * stats.t.ppf(0.975, 7 / 3))
        assert together == pytest.approx(0.3 * stats.t.ppf((1 + 0.95 ** (1 / 7)) / 2, 7 / 3))


class TestEquivalence:
    def test_two_one_sided_tests_are_those_of_statsmodels(self):
        variant = shifted(0.1, 0.3, 1)
        (_, cell) = analysed(scores({"a": variant}), {"clip_score": 0.8}, ("a",)).of("clip_score").cells
        ours, theirs = np.array(list(variant.values())), np.array(list(BASE.values()))
        assert cell.estimate.p_equivalent == pytest.approx(ttost_paired(ours, theirs, -0.8, 0.8)[0])

    def test_verdicts_are_told_apart(self):
        cells = {"a": shifted(0.02, 0.05, 1), "b": shifted(3, 0.05, 2), "c": shifted(0.1, 0.05, 3)}
        told = {c.cell: c.estimate for c in analysed(scores(cells), {"clip_score": 0.3}).of("clip_score").cells[1:]}
        assert {name: estimate.verdict for name, estimate in told.items()} == {
            "a": "equivalent",
            "b": "better",
            "c": "equivalent",
        }
        # c is surely above zero and surely below what matters: what does not matter is said first.
        assert told["c"].p_holm < 0.05
        without = {c.cell: c.estimate.verdict for c in analysed(scores(cells)).of("clip_score").cells[1:]}
        assert without == {"a": "inconclusive", "b": "better", "c": "better"}

    def test_a_margin_of_distances_is_in_per_cent_either_way(self):
        base = {s: 20 * math.exp(0.1 * s) for s in range(5)}
        near = {s: value * math.exp(0.045 + 0.001 * (-1) ** s) for s, value in base.items()}

        def verdict(margin):
            (_, cell) = analysed(grid({"origin": base, "a": near}), {"fd_emoji": margin}, ("a",)).of("fd_emoji").cells
            return cell.estimate.verdict

        assert [verdict(5.0), verdict(4.0)] == ["equivalent", "worse"]


class TestTwins:
    def test_a_toggle_that_changes_nothing_is_equivalent_and_lends_no_freedom(self):
        cells = {"b": shifted(1, 0.5, 2), "c": shifted(-1, 0.5, 3)}
        records = scores({"a": dict(BASE), **cells})
        for place, one in enumerate(records):  # a came to the weights of the origin
            cell = "origin" if one.run.cell == "a" else one.run.cell
            records[place] = replace(one, result=replace(one.result, weights=f"{cell} {one.run.seed}"))
        with_twin = analysed(records).of("clip_score")
        without = analysed(scores(cells)).of("clip_score")
        assert with_twin.cell("a").estimate.verdict == "equivalent"
        assert with_twin.effects[0].estimate.verdict == "equivalent"
        assert (with_twin.df, with_twin.residual_sd) == (without.df, pytest.approx(without.residual_sd))
        assert with_twin.cell("b").estimate.low == pytest.approx(without.cell("b").estimate.low)
        assert "same weights" in with_twin.cell("a").estimate.reason

    def test_equal_numbers_are_told_and_are_no_verdict(self):
        cells = {"b": shifted(1, 0.5, 2), "c": shifted(-1, 0.5, 3)}
        found = analysed(scores({"a": dict(BASE), **cells}))
        estimate = found.of("clip_score").cell("a").estimate
        assert (estimate.value, estimate.verdict) == (0, "inconclusive") and estimate.low < 0 < estimate.high
        assert found.of("clip_score").df == 5 * 3, "it is a cell as any other"
        assert [note.split(" have")[0] for note in found.notes] == ["origin and a"]


class TestUneven:
    def test_a_cell_that_spreads_unlike_the_rest_is_judged_by_itself(self):
        wild = {s: value + 10 * (-1) ** s for s, value in BASE.items()}
        cells = {"a": shifted(0, 0.1, 1), "b": shifted(0, 0.1, 2), "c": wild}
        result = analysed(scores(cells)).of("clip_score")
        assert result.uneven == ("c",)
        estimate = result.cell("c").estimate
        assert (estimate.low, estimate.high) == pytest.approx((estimate.own_low, estimate.own_high))
        assert not result.cell("a").estimate.uneven
        early = analyse_records(scores(cells), "origin", NAMES, looks=Looks(7, 8)).of("clip_score")
        assert early.cell("c").estimate.low is None and early.uneven == (), "there is no interval to speak of"


class TestEffects:
    def test_divergence_is_told_of_the_toggle_that_brings_it(self):
        cells = {"a": BASE, "b": shifted(1, 0.1, 1), "a+b": shifted(2, 0.1, 2)}
        records = scores(cells)
        for place in range(8, 10):  # two runs of a
            status = replace(records[place].status, state="diverged")
            records[place] = replace(records[place], status=status, result=None)
        effects = {e.toggle: e for e in analysed(records, toggles=("a", "b")).of("clip_score").effects}
        assert effects["a"].diverged == (2, 0) and effects["a"].estimate.verdict == "diverged"
        assert effects["b"].diverged == (0, 2) and effects["b"].estimate.verdict == "better"

    def test_an_effect_of_a_factorial_is_the_mean_over_seeds_of_its_contrast(self):
        cells = {"a": shifted(1, 0.4, 1), "b": shifted(1, 0.4, 2), "a+b": shifted(4, 0.4, 3)}
        result = analysed(scores(cells), toggles=("a", "b")).of("clip_score")
        own = [(cells["a"][s] + cells["a+b"][s] - BASE[s] - cells["b"][s]) / 2 for s in BASE]
        assert result.effects[0].estimate.by_seed == pytest.approx(own)
        assert result.effects[0].estimate.value == pytest.approx(np.mean(own))
        crossed = [(cells["a+b"][s] - cells["a"][s] - cells["b"][s] + BASE[s]) / 2 for s in BASE]
        assert result.interactions[0].estimate.value == pytest.approx(np.mean(crossed))
        assert result.df == 5 * 3

    def test_one_seed_gives_lenth_in_place_of_verdicts(self):
        one = {
            name: {0: values[0]}
            for name, values in {"a": shifted(1, 0.4, 1), "b": shifted(1, 0.4, 2), "a+b": shifted(4, 0.4, 3)}.items()
        }
        result = analysed(grid({"origin": {0: BASE[0]}, **one}, "clip_score"), toggles=("a", "b")).of("clip_score")
        assert {effect.estimate.verdict for effect in result.effects} == {"insufficient seeds"}
        assert result.lenth.names == ("a", "b", "a:b")
        assert result.lenth.values == pytest.approx([e.estimate.value for e in (*result.effects, *result.interactions)])


class TestControl:
    def test_seeds_of_the_baseline_alone_compare_it_with_itself_and_touch_nothing_else(self):
        more = {6: 49.0, 7: 52.0, 8: 50.5}
        cells = {"a": shifted(1, 0.3, 1)}
        plain = analysed(scores(cells), toggles=("a",)).of("clip_score")
        with_control = analysed(grid({"origin": {**BASE, **more}, **cells}, "clip_score"), toggles=("a",))
        result = with_control.of("clip_score")
        test = stats.ttest_ind(list(more.values()), list(BASE.values()), equal_var=False)
        assert result.control.seeds == (6, 7, 8) and with_control.seeds == tuple(BASE)
        assert result.control.p == pytest.approx(test.pvalue)
        assert (result.control.low, result.control.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
        assert result.control.value == pytest.approx(np.mean(list(more.values())) - np.mean(list(BASE.values())))
        assert result.cell("a") == plain.cell("a")
        assert plain.control is None


class TestCosts:
    def runs(self, cell, speed, end):
        points = tuple(
            Point(i, kimg, 0.0, {"metrics/fd_emoji": 80 * (end / 80) ** (kimg / 8)})
            for i, kimg in enumerate((0.0, 4.0, 8.0))
        )
        found = []
        for seed in (0, 1):
            one = record(cell, seed, {"fd_emoji": end})
            found.append(
                replace(one, points=points, result=Result(one.result.metrics, one.result.cards, {"s_per_kimg": speed}))
            )
        return found

    def test_a_slow_cell_is_read_where_the_baseline_s_time_ends(self):
        records = [*self.runs("origin", 10.0, 20.0), *self.runs("a", 20.0, 10.0), *self.runs("b", 5.0, 12.0)]
        assert [cost.ratio for cost in costs(records, "origin")] == [1.0, 2.0, 0.5]
        at = {c.cell: c.mean for c in equal_time(records, "origin", NAMES).of("fd_emoji").cells}
        # Half of the images of a curve that is straight in logarithms.
        assert at == pytest.approx({"origin": 20.0, "a": math.sqrt(80 * 10), "b": 12.0})

    def test_runs_that_do_not_say_how_they_were_measured_are_read_there_too(self):
        records = [*self.runs("origin", 10.0, 20.0), *self.runs("a", 20.0, 10.0)]
        silent = [replace(each, result=replace(each.result, cards={})) for each in records]
        at = {c.cell: c.mean for c in equal_time(silent, "origin", ("a",)).of("fd_emoji").cells}
        assert at == pytest.approx({"origin": 20.0, "a": math.sqrt(80 * 10)})

    def test_time_is_compared_seed_by_seed_and_not_with_a_control_of_another_day(self):
        control = [replace(r, run=replace(r.run, seed=7)) for r in self.runs("origin", 99.0, 20.0)[:1]]
        records = [*self.runs("origin", 10.0, 20.0), *self.runs("a", 11.0, 20.0), *control]
        found = costs(records, "origin")
        assert [(cost.runs, cost.ratio) for cost in found] == [(2, 1.0), (2, pytest.approx(1.1))]
        alike = [replace(cost, means={**cost.means, "gflops_per_step": 7.5}) for cost in found]
        assert timing_noise(alike) == pytest.approx(0.1)
        assert timing_noise(found) is None

    def test_runs_that_share_no_seed_are_compared_at_equal_time_too(self):
        records = [*self.runs("origin", 10.0, 20.0), *self.runs("a", 20.0, 10.0)]
        apart = [replace(r, run=replace(r.run, seed=place)) for place, r in enumerate(records)]
        assert [(cost.runs, cost.ratio) for cost in costs(apart, "origin")] == [(2, 1.0), (2, pytest.approx(2.0))]
        timed = equal_time(apart, "origin", ("a",)).of("fd_emoji")
        assert {c.cell: c.mean for c in timed.cells} == pytest.approx({"origin": 20.0, "a": math.sqrt(80 * 10)})
        assert not timed.cell("a").estimate.paired

    def test_cells_that_trained_alike_stay_so_unless_the_one_does_more(self):
        """Their times differ by chance, where they do the same work."""

        def told(flops):
            cells = {"origin": (10.0, 20.0, 7.5), "a": (10.2, 20.0, flops), "b": (11.0, 15.0, 9.0)}
            records = []
            for cell, (speed, end, gflops) in cells.items():
                for each in self.runs(cell, speed, end):
                    cost = {"s_per_kimg": speed, "gflops_per_step": gflops}
                    weights = f"{each.run.seed} {cell if cell == 'b' else ''}"
                    records.append(replace(each, result=replace(each.result, cost=cost, weights=weights)))
            result = equal_time(records, "origin", ("a", "b")).of("fd_emoji")
            return {each.toggle: each.estimate for each in result.effects}["a"], result.cell("a").mean, result.df

        alike, mean, df = told(7.501)
        assert (alike.alike, alike.verdict, mean, df) == (True, "equivalent", pytest.approx(20), 1)
        dearer, mean, df = told(8.0)
        assert not dearer.alike and mean == pytest.approx(20 * (80 / 20) ** (1 - 1 / 1.02)) and df == 2

    def test_without_speeds_or_curves_there_is_none(self):
        assert equal_time(scores({"a": BASE}), "origin", NAMES) is None
