"""Looks: levels against published tables and a second way to compute them, and what a p over looks must keep to."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats
from typer.testing import CliRunner

from designs import KINDS, cells_of, table_of
from harness.analysis.analyse import analyse
from harness.analysis.export import as_json
from harness.analysis.looks import Looks
from harness.analysis.spending import nominal_levels, spent
from harness.cli.main import app
from harness.errors import HarnessError

LAN_DEMETS = {
    "O'Brien-Fleming": (
        (lambda t: 4 * special.ndtr(special.ndtri(0.0125) / np.sqrt(t))),
        (4.877, 3.357, 2.680, 2.290, 2.031),
    ),
    "Pocock": ((lambda t: 0.05 * np.log(1 + (math.e - 1) * t)), (2.438, 2.427, 2.410, 2.397, 2.386)),
}
"""Two-sided bounds of five looks at 5 %, by the spending functions of Lan and DeMets (1983)."""
CONSTANTS = {2: (2.178, 1.977), 3: (2.289, 2.004), 4: (2.361, 2.024), 5: (2.413, 2.040), 8: (2.512, 2.072)}
"""Looks -> C_P and C_B at 5 %: Jennison and Turnbull (2000), tables 2.1 and 2.3."""
CELLS = cells_of("one-at-a-time")
RULE = Looks(3, 8)
FIXED = "d77e3a722bf74cef"
"""Of the code from before there were looks, but for the aliases that effects name, which are more now."""


def passed(bounds, information, points=4001):
    """The chance that a Brownian motion has passed bounds +-b by each look: brute force on a wide, even grid."""
    reach = max(b * math.sqrt(t) for b, t in zip(bounds, information, strict=True)) + 8 * math.sqrt(max(information))
    grid = np.linspace(-reach, reach, points)
    step, density, before, chances = grid[1] - grid[0], None, 0.0, []
    for bound, time in zip(bounds, information, strict=True):
        kernel = stats.norm.pdf(grid, scale=math.sqrt(time - before))
        density = kernel if density is None else np.convolve(density, kernel, "same") * step
        # A bound between two points cuts the cell of the one next to it.
        inside = np.clip((bound * math.sqrt(time) - np.abs(grid)) / step + 0.5, 0, 1)
        chances.append(float((density * (1 - inside)).sum() * step))
        density, before = density * inside, time
    return np.cumsum(chances)


def study(seed, seeds=8, effects=(0.0, 3.0, -1.5, 0.0, 0.0)):
    rng = np.random.default_rng(seed)
    return 60 + 2 * rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, len(CELLS))) + np.array(effects)


def analysed(values, looks=RULE, margin=None):
    return analyse(table_of(CELLS, values), "origin", {"clip_score": margin} if margin else None, looks)


def effects(values, looks=RULE, margin=None):
    return [effect.estimate for effect in analysed(values, looks, margin).of("clip_score").effects]


class TestLevels:
    @pytest.mark.parametrize("kind", LAN_DEMETS)
    def test_five_looks_have_the_published_bounds(self, kind):
        spending, bounds = LAN_DEMETS[kind]
        levels = nominal_levels(range(1, 6), spending(np.arange(1, 6) / 5)[:, None])
        assert -special.ndtri(levels[:, 0] / 2) == pytest.approx(bounds, abs=6e-4)

    @pytest.mark.parametrize("looks", CONSTANTS)
    def test_what_the_published_constants_spend_gives_the_constants_back(self, looks):
        times = range(1, looks + 1)
        pocock, obrien_fleming = CONSTANTS[looks]
        for bounds in ([pocock] * looks, [obrien_fleming * math.sqrt(looks / time) for time in times]):
            spends = passed(bounds, times)
            assert spends[-1] == pytest.approx(0.05, abs=1e-4)
            levels = nominal_levels(times, spends[:, None])[:, 0]
            assert -special.ndtri(levels / 2) == pytest.approx(bounds, abs=2e-3)

    @pytest.mark.parametrize("rate", [0.05, 0.05 / 6, 0.05 / 40])
    @pytest.mark.parametrize("df", [1, 6, 10**9])
    def test_the_levels_of_the_rule_spend_its_rate(self, rate, df):
        """Also between the rates that are integrated, with the information that the degrees of freedom leave."""
        seeds = np.arange(3, 9)
        freedom = (seeds - 1) * df
        levels = np.array([RULE.nominal(count, rate, df) for count in seeds])
        spends = passed(-special.ndtri(levels / 2), seeds * freedom / (freedom + 3))
        assert spends == pytest.approx(rate * spent(seeds, 8), rel=3e-3)
        assert spent([8], 8) == 1.0

    def test_before_the_first_look_nothing_is_spent(self):
        assert RULE.nominal(2, 0.05, 6) == 0.0

    @pytest.mark.parametrize(("first", "most"), [(2, 3), (3, 8), (3, 20)])
    def test_a_p_over_looks_is_the_rate_whose_level_it_is_and_never_less_than_its_nominal_p(self, first, most):
        rule, nominal = Looks(first, most), np.geomspace(1e-12, 1, 200)
        for seeds in range(first, most + 1):
            p = rule.p(seeds, nominal, 4)
            assert (np.diff(p) >= 0).all() and (p >= nominal).all() and p[-1] == 1
            for rate in (1e-4, 0.011, 0.05, 0.6):
                assert rule.p(seeds, rule.nominal(seeds, rate, 4), 4) == pytest.approx(rate)
            assert (rule.one_sided_p(seeds, nominal, 4) >= nominal).all()

    def test_one_look_is_the_test_of_a_fixed_number_of_seeds(self):
        rule, p = Looks(5, 5), np.array([1e-12, 0.01, 0.0499, 0.7, 1.0])
        assert (rule.p(5, p, 6) == p).all() and (rule.one_sided_p(5, p, 6) == p).all()
        assert rule.nominal(5, 0.05, 6) == 0.05

    @pytest.mark.parametrize(("first", "most"), [(1, 8), (5, 3), (3, 65), (0, 0)])
    def test_a_rule_that_makes_no_sense_is_refused(self, first, most):
        with pytest.raises(HarnessError, match="first <= most"):
            Looks(first, most)


class TestAnalysis:
    def test_with_one_look_all_is_as_with_a_fixed_number_of_seeds(self):
        values = study(1, 5)
        for one, fixed in zip(effects(values, Looks(5, 5), 2.0), effects(values, None, 2.0), strict=True):
            names = ("value", "low", "high", "p", "p_holm", "p_equivalent", "verdict", "own_low", "own_high", "by_seed")
            assert [getattr(one, name) for name in names] == [getattr(fixed, name) for name in names]

    def test_without_looks_nothing_is_said_of_them(self):
        text = json.dumps(as_json(analysed(study(1), None)))
        assert "look" not in text and "decided" not in text

    def test_an_analysis_of_a_fixed_number_of_seeds_is_what_it_was_before_there_were_looks(self):
        """Every design, one seed to five, with lost runs and a margin, to six digits of every number."""
        found = []
        for kind in KINDS:
            cells = cells_of(kind)
            for seeds in (1, 2, 3, 5):
                rows, columns = np.meshgrid(np.arange(seeds), np.arange(len(cells)), indexing="ij")
                values = 60 + 2 * np.sin(rows + 1) + np.sin(7 * rows + 3 * columns**2 + 1)
                values[(5 * rows + columns) % 11 == 3] = np.nan
                for margins in (None, {"clip_score": 1.5}):
                    found.append(as_json(analyse(table_of(cells, values), "origin", margins)))
        text = json.dumps(json.loads(json.dumps(found), parse_float=lambda digits: f"{float(digits):.6g}"))
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == FIXED

    @pytest.mark.parametrize("seed", range(4))
    def test_p_is_the_smallest_of_all_looks_and_holm_corrects_it_over_the_family(self, seed):
        """By hand: Student's t of every difference at every look, with the residual of the additive model."""
        values, rates = study(seed), []
        for seeds in range(3, 9):
            part = values[:seeds]
            residuals = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
            df = (seeds - 1) * (len(CELLS) - 1)
            error = math.sqrt((residuals**2).sum() / df * 2 / seeds)
            change = (part[:, 1:] - part[:, :1]).mean(axis=0)
            nominal = 2 * stats.t.sf(np.abs(change) / error, df)
            rates.append(
                np.where(change * (values[:, 1:] - values[:, :1]).mean(axis=0) > 0, RULE.p(seeds, nominal, 4), 1)
            )
        p = np.min(rates, axis=0)
        found = effects(values)
        assert [estimate.p for estimate in found] == pytest.approx(p)
        corrected, least = {}, 0.0
        for rank, place in enumerate(np.argsort(p)):
            least = corrected[place] = max(least, min(1.0, (len(p) - rank) * p[place]))
        assert [estimate.p_holm for estimate in found] == pytest.approx([corrected[place] for place in range(len(p))])
        reach = stats.t.isf(RULE.nominal(8, 0.05, 4) / 2, df) * error
        assert [it.high - it.value for it in found] == pytest.approx([reach] * len(p))

    @pytest.mark.parametrize("seed", range(6))
    def test_a_verdict_stays_unless_the_effect_turns_round_and_is_of_the_look_that_made_it(self, seed):
        values, first = study(seed), {}
        for seeds in range(3, 9):
            for place, estimate in enumerate(effects(values[:seeds])):
                if estimate.verdict in ("better", "worse"):
                    first.setdefault(place, seeds)
                assert estimate.decided_after == first.get(place)
        analysis = analysed(values)
        assert [look.seeds for look in analysis.looks] == [3, 4, 5, 6, 7, 8]
        for look in analysis.looks:
            names = [effect.toggle for effect in analysis.of("clip_score").effects]
            open_ = [name for place, name in enumerate(names) if first.get(place, 99) > look.seeds]
            assert list(look.undecided["clip_score"]) == open_
        assert [name for _, name in analysis.undecided] == list(analysis.looks[-1].undecided["clip_score"])

    def test_a_claim_is_withdrawn_when_the_effect_points_the_other_way(self):
        values = study(0, effects=(0, 0, 0, 0, 0))
        values[:3, 1] += 8
        assert effects(values[:3])[0].verdict == "better"
        values[3:, 1] -= 12
        later = effects(values)[0]
        assert later.value < 0 and later.verdict != "better"

    def test_units_decide_nothing(self):
        values = study(2)
        for ours, theirs in zip(effects(values, margin=2.0), effects(1000 * values - 7, margin=2000.0), strict=True):
            assert (ours.p, ours.p_holm, ours.p_equivalent) == pytest.approx(
                (theirs.p, theirs.p_holm, theirs.p_equivalent), rel=1e-6
            )
            assert (ours.verdict, ours.decided_after) == (theirs.verdict, theirs.decided_after)

    def test_equivalence_is_decided_by_looks_too(self):
        found = effects(study(3, effects=(0, 0, 0, 0, 0)), margin=6.0)
        assert {estimate.verdict for estimate in found} == {"equivalent"}
        assert {estimate.decided_after for estimate in found} <= {3, 4}

    def test_what_pretends_that_the_seeds_were_fixed_is_left_out(self):
        found = effects(study(1))
        assert all(it.sign_flip is None and it.own_low is not None for it in found)
        wider = effects(study(1), None)
        assert all(
            it.high - it.low > 1.05 * fixed.high - 1.05 * fixed.low for it, fixed in zip(found, wider, strict=True)
        )
        assert all(
            it.own_high - it.own_low > fixed.own_high - fixed.own_low for it, fixed in zip(found, wider, strict=True)
        )

    @pytest.mark.parametrize("seeds", [1, 2])
    def test_before_the_first_look_there_are_values_and_no_tests(self, seeds):
        analysis = analysed(study(1, seeds))
        result = analysis.of("clip_score")
        assert analysis.looks == () and len(analysis.undecided) == 4 and result.lenth is None
        for estimate in (effect.estimate for effect in result.effects):
            assert estimate.value is not None and estimate.verdict == "insufficient seeds"
            assert {estimate.p, estimate.low, estimate.own_low} == {None}
            assert estimate.reason == "nothing is tested before the first look, which is after 3 seeds"

    def test_a_lost_run_keeps_its_seed_and_a_run_that_is_not_over_keeps_it_out(self):
        values = study(4, 5)
        values[3, 2] = np.nan  # failed
        table = table_of(CELLS, values)
        assert analyse(table, "origin", None, RULE).seeds == (0, 1, 2, 3, 4)
        last = np.flatnonzero((table.seed == 3) & (table.cell == 2)).item()
        states = tuple("running" if place == last else state for place, state in enumerate(table.states))
        analysis = analyse(replace(table, states=states), "origin", None, RULE)
        assert analysis.seeds == (0, 1, 2) and len(analysis.notes) == 1
        assert "seeds 3 (4 of 5 cells) and 4 (5 of 5 cells)" in analysis.notes[0]
        assert sum(sum(cell.states.values()) for cell in analysis.cells) == 15

    def test_before_a_seed_is_whole_there_is_no_number_and_it_is_said_why(self):
        table = table_of(CELLS, study(4, 3))
        waits = table.seed == 0
        states = tuple(
            "running" if wait and place == 2 else "done" for wait, place in zip(waits, table.cell, strict=True)
        )
        analysis = analyse(replace(table, states=states), "origin", {"clip_score": 1.0}, RULE)
        assert analysis.seeds == () and analysis.looks == () and len(analysis.undecided) == 4
        estimate = analysis.of("clip_score").effects[0].estimate
        assert estimate.value is None and estimate.reason == "origin and a have no result: no seed is whole yet"
        assert json.dumps(as_json(analysis)) and "0 (4 of 5 cells), 1 (5 of 5 cells)" in analysis.notes[0]

    def test_seeds_beyond_the_most_are_left_out_and_counted(self):
        analysis = analysed(study(4, 8), Looks(3, 6))
        assert analysis.seeds == (0, 1, 2, 3, 4, 5) and "10 runs under further seeds are left out" in analysis.notes[0]
        assert [it.p for it in effects(study(4, 8), Looks(3, 6))] == [
            it.p for it in effects(study(4, 8)[:6], Looks(3, 6))
        ]

    def test_the_control_is_compared_with_the_seeds_before_the_first_look_alone(self):
        values = np.vstack([study(5, 6), study(6, 3)])
        values[6:, 1:] = np.nan
        control = restricted(table_of(CELLS, values), np.flatnonzero(np.isfinite(values)))
        found = analyse(control, "origin", None, RULE).of("clip_score").control
        ours, theirs = values[6:, 0], values[:3, 0]
        assert found.first == 3 and found.value == pytest.approx(ours.mean() - theirs.mean())
        assert found.p == pytest.approx(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)


def restricted(table, rows):
    """The table with these runs alone."""
    columns = tuple(replace(column, values=column.values[rows]) for column in table.columns)
    states = tuple(table.states[row] for row in rows)
    return replace(table, cell=table.cell[rows], seed=table.seed[rows], states=states, columns=columns)


class TestCommand:
    def csv(self, folder: Path) -> Path:
        lines = [",".join(["seed", *"abcd", "clip_score"])]
        for seed, row in enumerate(study(1)):
            lines += [
                f"{seed},{','.join(str(int(toggle in cell)) for toggle in 'abcd')},{value}"
                for cell, value in zip(CELLS, row.tolist(), strict=True)
            ]
        path = folder / "results.csv"
        path.write_text("\n".join(lines))
        return path

    def test_results_from_elsewhere_are_read_under_the_rule(self, tmp_path):
        done = CliRunner().invoke(app, ["analyze", str(self.csv(tmp_path)), "--looks", "3..8", "--json"])
        found = json.loads(done.stdout)
        assert done.exit_code == 0 and (found["looks"]["first"], found["looks"]["most"]) == (3, 8)
        assert found["looks"]["spent"]["8"] == pytest.approx(0.05) and len(found["looks"]["so_far"]) == 6
        ours = [effect["p_holm"] for effect in found["metrics"]["clip_score"]["effects"]]
        assert ours == pytest.approx([estimate.p_holm for estimate in effects(study(1))])

    @pytest.mark.parametrize("looks", ["", "8", "8..3", "0..5", "3..999", "3-8", "a..b", "3..8..9"])
    def test_nonsense_is_refused(self, tmp_path, looks):
        done = CliRunner().invoke(app, ["analyze", str(self.csv(tmp_path)), "--looks", looks])
        assert isinstance(done.exception, HarnessError)  # which ends with exit code 2
        assert str(done.exception).startswith(f"--looks {looks}: ") and "such as 3" in str(done.exception)


def test_equivalence_is_withdrawn_once_the_change_is_as_large_as_the_margin():
    """Decided after three seeds, when nothing was there; what came then is three margins wide."""
    values = study(5, seeds=20, effects=(0.0,) * 5)
    values -= values[:, 1:2] - values[:, :1] - 0.2 * np.random.default_rng(0).normal(size=(20, 1))
    early = effects(values[:3], Looks(3, 20), 8.0)[0]
    assert early.verdict == "equivalent" and early.decided_after == 3
    values[3:, 1] += 24.0
    late = effects(values, Looks(3, 20), 8.0)[0]
    assert late.low > 8.0 and late.verdict == "better" and late.decided_after > 3
    within = effects(values[:4], Looks(3, 20), 8.0)[0]
    assert abs(within.value) < 8.0 and within.verdict == "equivalent", "a change within the margin keeps its verdict"
