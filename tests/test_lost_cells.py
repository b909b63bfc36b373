"""A cell without a result costs what needs it and nothing else, and everything that is lacking says why."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from designs import FOUR, KINDS, cells_of, surface, table_of, without
from harness.analysis.analyse import analyse
from harness.analysis.export import as_json
from harness.analysis.from_records import analyse_records
from harness.analysis.statistics import holm
from harness.design.contrasts import estimable
from harness.design.kinds import DesignConfig, expand
from synthetic import CARD, grid, record

MAIN = {"a": 1.0, "b": -2.0, "c": 0.5, "d": 3.0}
PAIRS = {pair: 0.3 * (place + 1) for place, pair in enumerate(combinations(FOUR, 2))}


def study(kind, seeds=3, noise=1e-3, pairs=PAIRS, seed=0):
    cells, rng = cells_of(kind), np.random.default_rng(seed)
    values = (
        surface(cells, MAIN, pairs) + 5 * rng.normal(size=(seeds, 1)) + noise * rng.normal(size=(seeds, len(cells)))
    )
    return table_of(cells, 60 + values)


def read(table, baseline="origin", margins=None):
    return analyse(table, baseline, margins).metrics[0]


def effects(result):
    return {effect.toggle: effect for effect in result.effects}


class TestFactorials:
    @pytest.mark.parametrize("lost", ["origin", "a", "a+b", "a+b+c+d"])
    def test_effects_are_read_from_the_cells_that_are_left(self, lost):
        result = read(without(study("full", pairs={}), lost), "a+c" if lost == "origin" else "origin")
        for toggle, effect in effects(result).items():
            assert effect.estimate.value == pytest.approx(MAIN[toggle], abs=0.01), toggle
            assert effect.estimate.verdict in ("better", "worse") and effect.aliases == ()
            assert f"{lost} has no result: 3 of 3 runs failed" in effect.estimate.reason
        assert [each.estimate.value for each in result.interactions] == pytest.approx([0] * 6, abs=0.01)
        assert any(note.startswith(f"Without {lost}: an effect is") for note in result.notes)

    def test_interactions_of_a_full_design_need_no_more_than_their_foursomes(self):
        result = read(without(study("full", pairs={("a", "b"): 0.8}), "c+d"))
        told = {each.aliases: each.estimate.value for each in result.interactions}
        assert told == pytest.approx({(":".join(pair),): 0.8 * (pair == ("a", "b")) for pair in PAIRS}, abs=0.01)

    @pytest.mark.parametrize("lost", range(16))
    def test_a_large_fraction_keeps_its_clear_effects_and_groups(self, lost):
        """2^(6-2) has two cells more than effects and groups, so one may be missing."""
        six = tuple("abcdef")
        planned = [c.toggles for c in expand(DesignConfig(kind="fractional", generators=("E=ABC", "F=BCD")), six).cells]
        whole, left = estimable(planned, six), planned[:lost] + planned[lost + 1 :]
        tells = estimable(left, six, planned)
        assert [effect.aliases for effect in tells.effects] == [()] * 6
        assert {each.aliases for each in tells.interactions} == {each.aliases for each in whole.interactions}
        rng = np.random.default_rng(lost)
        size = dict(zip((*six, *combinations(six, 2)), rng.normal(size=21), strict=True))

        def value(cell):
            x = {t: 1 if t in cell else -1 for t in six}
            return sum(e / 2 * (x[k] if isinstance(k, str) else x[k[0]] * x[k[1]]) for k, e in size.items())

        for effect in tells.effects:
            assert sum(w * value(c) for c, w in effect.weights.items()) == pytest.approx(size[effect.toggle])
        for each in tells.interactions:
            expected = sum(size[tuple(n.lstrip("-").split(":"))] * (-1) ** n.startswith("-") for n in each.aliases)
            assert sum(w * value(c) for c, w in each.weights.items()) == pytest.approx(expected)

    def test_a_small_fraction_says_what_it_can_no_longer_tell(self):
        """2^(4-1) has no cell to spare: seven cells tell four effects, each with a share of interactions."""
        result = read(without(study("fractional", pairs={}), "a+b"))
        assert {t: e.estimate.value for t, e in effects(result).items()} == pytest.approx(MAIN, abs=0.01)
        assert all(len(effect.aliases) == 6 for effect in result.effects)
        assert all(each.estimate.value is None and each.estimate.reason for each in result.interactions)

    def test_a_fraction_that_lost_too_much_names_what_it_mixes(self):
        """Five cells tell four effects and no interaction, so each effect holds a share of some."""
        cells = cells_of("fractional")
        left = cells[:5]
        tells = estimable(left, FOUR, cells)
        effect = next(effect for effect in tells.effects if effect.toggle == "a")
        for pair in combinations(FOUR, 2):
            planted = surface(left, {}, {pair: 1.0})
            share = sum(effect.weights.get(cell, 0.0) * value for cell, value in zip(left, planted, strict=True))
            name = ":".join(pair)
            sign = 1 if name in effect.aliases else -1 if f"-{name}" in effect.aliases else 0
            assert sign == (0 if abs(share) < 1e-9 else np.sign(share)), name

    def test_all_cells_of_a_toggle_lost_leave_the_others(self):
        table = study("full", pairs={})
        for cell in (cell for cell in cells_of("full") if "a" in cell):
            table = without(table, "+".join(cell))
        found = effects(read(table))
        assert found["a"].estimate.value is None and "have no result" in found["a"].estimate.reason
        assert {t: found[t].estimate.value for t in "bcd"} == pytest.approx({t: MAIN[t] for t in "bcd"}, abs=0.01)

    def test_shares_of_all_need_every_cell(self):
        result = read(without(study("full"), "a+b"))
        assert {share.value for share in result.attribution.values()} == {None}
        assert all("a+b has no result" in share.reason for share in result.attribution.values())


class TestPairs:
    @pytest.mark.parametrize("kind", ["both", "one-at-a-time", "leave-one-out"])
    def test_what_does_not_need_the_cell_keeps_its_numbers(self, kind):
        table = study(kind, noise=0.3)
        whole = read(table)
        for lost in ("+".join(cell) for cell in cells_of(kind) if cell and cell != FOUR):
            left = read(without(table, lost))
            kept = 0
            for toggle, effect in effects(whole).items():
                tells = estimable(cells_of(kind), FOUR)
                needs = next(e.weights for e in tells.effects if e.toggle == toggle)
                if tuple(lost.split("+")) not in needs:
                    kept += 1
                    now = effects(left)[toggle].estimate
                    assert now.value == pytest.approx(effect.estimate.value, abs=1e-12)
                    assert now.by_seed == pytest.approx(effect.estimate.by_seed) and now.reason == ""
            assert kept >= 3

    def test_an_effect_at_both_ends_is_read_at_the_end_that_is_left(self):
        table = study("both", noise=0.3)
        found = effects(read(without(table, "b+c+d")))["a"]
        alone = read(table).cell("a").estimate
        assert (found.pairs, found.estimate.by_seed) == (1, pytest.approx(alone.by_seed))
        assert found.estimate.reason == "estimated from the other cells, as b+c+d has no result: 3 of 3 runs failed"

    @pytest.mark.parametrize("state", ["failed", "pending", "diverged"])
    def test_an_idea_whose_only_cell_is_lost_says_so(self, state):
        result = read(without(study("one-at-a-time"), "a", state))
        estimate = effects(result)["a"].estimate
        assert estimate.value is None
        assert estimate.verdict == ("diverged" if state == "diverged" else "insufficient seeds")
        assert f"a has no result: 3 of 3 runs {state}" in estimate.reason
        assert result.cell("a").estimate.reason.endswith(f"a has no result: 3 of 3 runs {state}")
        assert all(effects(result)[t].estimate.verdict in ("better", "worse") for t in "bcd")

    def test_a_family_counts_what_was_lost(self):
        result = read(without(study("one-at-a-time", noise=2), "a"))
        chances = [effect.estimate.p for effect in result.effects]
        assert chances.count(None) == 1
        assert [effect.estimate.p_holm for effect in result.effects] == holm(chances, 4)
        assert min(p for p in chances if p) * 4 == pytest.approx(min(e.estimate.p_holm or 1 for e in result.effects))

    def test_a_lost_baseline_is_the_reason_of_all(self):
        result = read(without(study("one-at-a-time"), "origin"))
        told = {estimate.reason for estimate in (e.estimate for e in (*result.effects, *result.cells)) if estimate}
        assert told == {"origin has no result: 3 of 3 runs failed"}
        assert read(without(study("leave-one-out"), "a+b+c+d")).effects[0].estimate.reason.startswith("a+b+c+d has no")

    def test_at_both_ends_a_lost_baseline_leaves_the_upper_end(self):
        found = effects(read(without(study("both"), "origin")))
        upper = {t: MAIN[t] + sum(v for pair, v in PAIRS.items() if t in pair) for t in FOUR}
        assert {t: found[t].estimate.value for t in FOUR} == pytest.approx(upper, abs=0.01)


class TestRunsOfAnotherKind:
    def test_a_metric_that_a_cell_lacks_costs_that_metric_alone(self):
        records = [record("origin", s, {"clip_score": 60.0 + s, "recall": 0.4 + s / 100}) for s in range(3)]
        records += [record("a", s, {"clip_score": 61.5 + 1.1 * s}) for s in range(3)]
        found = analyse_records(records, "origin", ("a",))
        assert found.of("clip_score").cell("a").estimate.value == pytest.approx(1.6)
        lost = found.of("recall").cell("a").estimate
        assert (lost.value, lost.reason) == (None, "a has no result: 3 of 3 runs finished without this metric")

    def test_what_was_measured_otherwise_is_called_so(self):
        records = grid({"origin": {0: 60.0, 1: 61.0}, "a": {0: 90.0, 1: 95.0}}, "clip_score_seen")
        for place in (2, 3):
            cards = {"clip_score_seen": {**CARD, "extractor": "x"}}
            records[place] = replace(records[place], result=replace(records[place].result, cards=cards))
        estimate = analyse_records(records, "origin", ("a",)).of("clip_score_seen").cell("a").estimate
        assert "a has no result: measured differently from origin" in estimate.reason

    def test_states_are_told_one_by_one(self):
        records = grid({"origin": {0: 60.0, 1: 61.0, 2: 59.0}}, "clip_score")
        records += [record("a", 0, None, "failed"), record("a", 1, None, "failed"), record("a", 2, None)]
        reason = analyse_records(records, "origin", ("a",)).of("clip_score").cell("a").estimate.reason
        assert reason == "a has no result: 1 of 3 runs pending, 2 of 3 runs failed"


class TestUnpaired:
    ours, theirs = [61.0, 63.5, 60.5, 64.0], [58.0, 59.5, 61.0]

    def records(self, first=10):
        cells = {"origin": dict(enumerate(self.theirs)), "a": {first + s: v for s, v in enumerate(self.ours)}}
        return grid(cells, "clip_score")

    def test_runs_that_share_no_seed_are_compared_by_welch(self):
        result = analyse_records(self.records(), "origin", ("a",)).of("clip_score")
        test = stats.ttest_ind(self.ours, self.theirs, equal_var=False)
        for estimate in (result.effects[0].estimate, result.cell("a").estimate):
            assert (estimate.paired, estimate.n, estimate.by_seed) == (False, 0, ())
            assert estimate.value == pytest.approx(np.mean(self.ours) - np.mean(self.theirs))
            assert estimate.p == pytest.approx(test.pvalue)
            assert (estimate.low, estimate.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
            assert "no seed is shared" in estimate.reason and "unpaired" in estimate.reason
        assert result.cell("origin").mean == pytest.approx(np.mean(self.theirs)) and result.control is None
        assert "unpaired" in result.notes[0]

    def test_it_is_told_in_json_and_on_the_terminal(self):
        from rich.console import Console

        from harness.report.terminal import print_comparison

        found = analyse_records(self.records(), "origin", ("a",))
        told = json.loads(json.dumps(as_json(found), allow_nan=False))["metrics"]["clip_score"]
        assert told["effects"][0]["paired"] is False and "unpaired" in told["effects"][0]["reason"]
        console = Console(width=100, record=True, file=io.StringIO())
        print_comparison(found, console)
        assert "unpaired" in console.export_text()

    def test_seeds_that_are_shared_are_used_and_the_rest_is_counted(self):
        result = analyse_records(self.records(first=1), "origin", ("a",)).of("clip_score")
        estimate = result.cell("a").estimate
        assert (estimate.paired, estimate.seeds) == (True, (1, 2))
        pairs = np.array(self.ours[:2]) - np.array(self.theirs[1:])
        assert estimate.value == pytest.approx(pairs.mean())
        assert estimate.p == pytest.approx(stats.ttest_1samp(pairs, 0).pvalue)
        assert result.notes == (
            "Runs whose seed no other cell has measured are left out of paired comparisons: 2 of a.",
        )
        assert result.control.seeds == (0,)

    def test_a_cell_without_any_other_is_not_said_to_lack_seeds_of_others(self):
        alone = grid({"origin": dict(enumerate(self.theirs))}, "clip_score")
        assert analyse_records(alone, "origin", ()).of("clip_score").notes == ()

    def test_one_cell_of_other_seeds_does_not_undo_the_pairs_of_the_others(self):
        cells = {"origin": {0: 60.0, 1: 62.0, 2: 59.0}, "a": {0: 61.0, 1: 63.2, 2: 60.1}, "b": {7: 65.0, 8: 66.0}}
        result = analyse_records(grid(cells, "clip_score"), "origin", ("a", "b")).of("clip_score")
        assert (result.cell("a").estimate.paired, result.cell("b").estimate.paired) == (True, False)
        assert effects(result)["b"].estimate.p == pytest.approx(
            stats.ttest_ind([65.0, 66.0], [60.0, 62.0, 59.0], equal_var=False).pvalue
        )

    def test_one_run_against_one_says_that_it_has_no_spread(self):
        result = analyse_records(grid({"origin": {0: 60.0}, "a": {1: 62.0}}, "clip_score"), "origin", ("a",))
        estimate = result.of("clip_score").cell("a").estimate
        assert (estimate.value, estimate.p, estimate.verdict) == (pytest.approx(2.0), None, "insufficient seeds")
        assert "one run has no spread" in estimate.reason


class TestReasons:
    def test_no_answer_is_without_one(self):
        """Over every design, with a cell lost, one seed, no spread: what has no value or interval says why."""
        for kind in KINDS:
            for seeds, noise in ((1, 1.0), (3, 0.0), (3, 1.0)):
                table = study(kind, seeds, noise, pairs={})
                for each in (table, *(without(table, cell.name) for cell in table.cells)):
                    result = read(each)
                    told = [e.estimate for e in (*result.effects, *result.interactions, *result.cells) if e.estimate]
                    for estimate in (*told, *result.attribution.values()):
                        assert estimate.low is not None or estimate.reason, (kind, seeds, noise)

    def test_one_seed_and_seeds_without_effect(self):
        cells = {"origin": {0: 30.0, 1: 30.0, 2: 30.0}, "a": {0: 25.0, 1: 25.0, 2: 25.0}}
        same = analyse_records(grid(cells), "origin", ("a",)).of("fd_emoji").cell("a").estimate
        assert same.verdict == "inconclusive" and "the seed seems to be unused" in same.reason
        one = analyse_records(grid({"origin": {0: 30.0}, "a": {0: 25.0}}), "origin", ("a",)).of("fd_emoji")
        assert one.cell("a").estimate.reason == "one seed has no spread to judge by"
        shifted = {cell: {s: v + s for s, v in seeds.items()} for cell, seeds in cells.items()}
        told = analyse_records(grid(shifted, "clip_score"), "origin", ("a",)).of("clip_score").cell("a").estimate
        assert "differ by the very same amount" in told.reason

    def test_a_side_with_one_run(self):
        records = grid({"origin": {0: 60.0}, "a": {0: 61.0, 1: 64.0}, "b": {0: 62.0, 1: 61.0}}, "clip_score")
        estimate = analyse_records(records, "origin", ("a", "b")).of("clip_score").cell("a").estimate
        assert (estimate.verdict, estimate.reason) == (
            "insufficient seeds",
            "one side of the comparison has a single seed",
        )


class TestProof:
    def test_a_report_s_own_runs_prove_that_two_cells_trained_alike(self, tmp_path):
        """Equal weights in runs.csv do; where they differ in a seed, one seed alone has them, or words stand there that
        mean none, nothing is proven."""
        from harness.analysis.csv_columns import CsvColumns
        from harness.analysis.from_csv import read_csv

        def verdict(*digests, first=None):
            rows = [f"0,{s},{30 + s},{first or f'w{s}'}\n1,{s},{30 + s},{digest}\n" for s, digest in enumerate(digests)]
            (tmp_path / "runs.csv").write_text("a,seed,fid,weights_sha256\n" + "".join(rows))
            found = analyse(read_csv(tmp_path / "runs.csv", CsvColumns())[0], "origin")
            return found.metrics[0].cell("a").estimate.verdict, len(found.notes + found.metrics[0].notes)

        assert verdict("w0", "w1", "w2") == ("equivalent", 0)
        assert verdict("w0", "w1", "other") == ("inconclusive", 1)
        for none in ("", "None", "nan", "-", "NA"):
            assert verdict(none, none, none, first=none) == ("inconclusive", 1)
        assert verdict("w0") == ("insufficient seeds", 0)

    def test_cells_of_the_same_settings_are_one_cell_even_under_one_seed(self):
        records = [*grid({"origin": {0: 30.0}, "b": {0: 28.0}}), record("a", 0, {"fd_emoji": 30.0})]
        records[-1] = replace(records[-1], run=replace(records[-1].run, id=records[0].run.id))
        result = analyse_records(records, "origin", ("a", "b")).of("fd_emoji")
        estimate = result.cell("a").estimate
        assert (estimate.verdict, estimate.value) == ("equivalent", 0) and "the same settings" in estimate.reason

    def test_a_run_that_only_one_of_two_equal_cells_finished_counts_once_for_both(self):
        cells = {"origin": {0: 30.0, 1: 31.0}, "a": {0: 30.0, 1: 31.0, 2: 29.0}, "b": {0: 28.0, 1: 28.8, 2: 27.5}}
        for place, one in enumerate(records := grid(cells, "clip_score")):
            weights = f"{'b' if one.run.cell == 'b' else ''}{one.run.seed}"
            records[place] = replace(one, result=replace(one.result, weights=weights))
        result = analyse_records(records, "origin", ("a", "b")).of("clip_score")
        plain = analyse_records(grid({"origin": cells["a"], "b": cells["b"]}, "clip_score"), "origin", ("b",))
        assert result.df == plain.of("clip_score").df == 2
        assert result.cell("b").estimate.p == pytest.approx(plain.of("clip_score").cell("b").estimate.p)
        records[5:] = grid({"b": {7: 28.0, 8: 28.8}}, "clip_score")
        (note,) = analyse_records(records, "origin", ("a", "b")).of("clip_score").notes
        assert "two cells that trained differently" in note


def test_cells_that_share_no_seed_are_read_through_one_that_shares_with_both():
    """origin and b meet in seeds 0 and 1, a and b in 2 and 3: a less origin is (a less b) less (origin less b)."""
    cells = {"origin": {0: 60.0, 1: 61.0}, "b": {0: 62.0, 1: 63.4, 2: 61.0, 3: 65.0}, "a": {2: 62.1, 3: 66.0}}
    result = analyse_records(grid(cells, "clip_score"), "origin", ("a", "b")).of("clip_score")
    estimate = result.cell("a").estimate
    assert estimate.value == pytest.approx(np.mean([1.1, 1.0]) + np.mean([2.0, 2.4]))
    assert (estimate.paired, estimate.n) == (True, 0) and "estimated through cells" in estimate.reason


def test_a_control_says_the_same_in_any_unit():
    cells = {"origin": {0: 60.0, 1: 61.0, 2: 59.5, 7: 60.4, 8: 62.0}, "a": {0: 62.0, 1: 63.4, 2: 61.0}}
    wanted = analyse_records(grid(cells, "recall"), "origin", ("a",)).of("recall").control
    for factor in (1e-305, 1e-9, 1e70):
        scaled = {cell: {s: v * factor for s, v in seeds.items()} for cell, seeds in cells.items()}
        found = analyse_records(grid(scaled, "recall"), "origin", ("a",)).of("recall").control
        assert found.p == pytest.approx(wanted.p) and found.low == pytest.approx(wanted.low * factor)
        assert found.value == pytest.approx(wanted.value * factor)


def test_a_claim_of_an_unpaired_comparison_counts_no_seeds():
    from harness.report.answer import agreeing_seeds

    cells = {"origin": dict(enumerate([58.0, 59.5, 58.4])), "a": {10 + s: v for s, v in enumerate([68.0, 69.5, 68.3])}}
    estimate = analyse_records(grid(cells, "clip_score"), "origin", ("a",)).of("clip_score").cell("a").estimate
    assert estimate.verdict == "better" and agreeing_seeds(estimate) == "unpaired"
